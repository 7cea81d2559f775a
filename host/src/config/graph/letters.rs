//! Where dead letters go and come from: one sink and one source more, which the host itself adds to a pipeline where it
//! keeps state.
//!
//! Owns the name of both, the edges into the sink, of every source, stage and sink whose refused records nobody else reads,
//! and those out of the source, to every stage and sink. Invariants: with the sink there, no refused record is only
//! counted, unless its stage says so; whoever refused a letter can be given it back.

use std::path::{Path, PathBuf};

use super::{
    super::{
        Breaker, GiveUp, Loaded, OnError, Then, Watermark, codes,
        diagnostic::Flaw,
        pipeline::{DeadLetters, Retry},
    },
    Consumer, Edge, Graph, Input, Output, Port, Producer, Sink, Source, WhenFull,
};
use crate::{
    batch::Limit,
    codec::{Format, Stamp},
    unit::{Size, Span},
};

/// Name of the sink, and of the source.
pub const LETTERS: &str = "dead_letters";

/// Bytes of letters that are read at once, and one letter more.
const PAGE: Size = Size(16 << 20);

/// What an edge of refused records holds: few are expected, and who sends more waits.
const CAPACITY: Limit = Limit { records: 1024, bytes: 1 << 20 };

/// Where a pipeline's dead letters lie and how much of them is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// Folder of the host's state.
    pub state: PathBuf,
    /// Folder of the log, relative to that.
    pub folder: PathBuf,
    /// How long a letter is kept at least.
    pub keep: Span,
    /// Most bytes.
    pub max: Size,
}

impl Letters {
    /// Folder of the letters of a pipeline, relative to that of the state.
    pub fn folder(pipeline: &str) -> PathBuf {
        ["logs", "letters", pipeline].iter().collect()
    }
}

/// What becomes of refused records where a stage does not say.
pub(super) fn default_of(state: Option<&Path>) -> OnError {
    if state.is_some() { OnError::DeadLetter } else { OnError::Stop }
}

/// Finds stages and sinks that want letters, sinks that want an outbox, and stages that want to hold less in memory than
/// they have, where nothing can be kept.
pub(super) fn need_state(loaded: &Loaded, state: Option<&Path>, flaws: &mut Vec<Flaw>) {
    let (stages, sinks) = (&loaded.pipeline.stages, &loaded.pipeline.sinks);
    let written = stages.iter().filter_map(|(name, stage)| Some((name, stage.on_error.as_ref()?)));
    for (name, on_error) in written.filter(|(_, on_error)| state.is_none() && on_error.value == OnError::DeadLetter) {
        let message =
            format!("the stage `{}` wants dead letters, and with `state: none` there is no place for them", name.value);
        let flaw = Flaw::at(codes::NO_STATE, &on_error.span, message);
        flaws.push(flaw.cure("name a folder with `--state`, or write `on_error: stop` or `on_error: drop`"));
    }
    for (name, sink) in loaded.pipeline.sinks.iter().filter(|(_, sink)| state.is_none() && sink.has_outbox()) {
        let Some(outbox) = &sink.outbox else { continue };
        let message =
            format!("the sink `{}` wants an outbox, and with `state: none` there is no place for it", name.value);
        let flaw = Flaw::at(codes::NO_STATE, &outbox.span, message);
        flaws.push(flaw.cure("name a folder with `--state`, or take `outbox` out"));
    }
    for (name, stage) in stages.iter().filter(|_| state.is_none()) {
        let Some(memory) = stage.state.as_ref().and_then(|groups| groups.memory.as_ref()) else { continue };
        let message = format!(
            "groups of the stage `{}` may leave memory, and with `state: none` they cannot lie elsewhere",
            name.value
        );
        let flaw = Flaw::at(codes::NO_STATE, &memory.span, message);
        flaws.push(flaw.cure("name a folder with `--state`, or take `memory` out"));
    }
    let froms = stages.iter().map(|(_, stage)| &stage.from).chain(sinks.iter().map(|(_, sink)| &sink.from));
    let read: Vec<&str> = froms.flat_map(|from| from.0.iter().map(|from| from.value.as_str())).collect();
    let of_breaker = |breaker: &'_ Breaker| (breaker.then.value == Then::DeadLetter).then(|| breaker.then.span.clone());
    let of_stages = stages.iter().filter_map(|(name, stage)| {
        let keeps = stage.on_error.as_ref().is_none_or(|on_error| on_error.value == OnError::DeadLetter);
        Some((name, of_breaker(&stage.breaker)?, keeps && state.is_some()))
    });
    let of_sinks = sinks.iter().flat_map(|(name, sink)| {
        let retry = sink.retry.as_ref().filter(|retry| retry.then.value == GiveUp::DeadLetter);
        let wants = of_breaker(&sink.breaker).into_iter().chain(retry.map(|retry| retry.then.span.clone()));
        wants.map(move |span| (name, span, state.is_some()))
    });
    for (name, span, is_kept) in of_stages.chain(of_sinks) {
        let name = &name.value;
        if !is_kept && !read.contains(&format!("{name}.refused").as_str()) {
            let message = format!("`{name}` wants dead letters, and there is no place for them");
            let flaw = Flaw::at(codes::NO_STATE, &span, message);
            flaws.push(flaw.cure(format!("name a folder with `--state`, or read `{name}.refused`")));
        }
    }
}

impl Graph {
    /// The same graph with a sink for what nobody else reads of what its parts refuse, kept below `state`, and a source that
    /// gives it back.
    pub fn with_letters(self, terms: &DeadLetters, state: &Path) -> Self {
        let letters =
            Letters { state: state.to_owned(), folder: PathBuf::new(), keep: terms.keep, max: terms.max.value };
        self.lettered(Some(letters))
    }

    /// The same with letters on these terms, in a folder of its own.
    pub(super) fn lettered(mut self, letters: Option<Letters>) -> Self {
        let Some(letters) = letters else { return self };
        self.add_replays();
        let sources = (0..self.sources.len()).map(Producer::Source);
        let kept = |at: &usize| self.stages.get(*at).is_some_and(|stage| stage.on_error == OnError::DeadLetter);
        let stages = (0..self.stages.len()).filter(kept).map(Producer::Stage);
        let sinks = (0..self.sinks.len()).map(Producer::Sink);
        let is_unread = |from: &Producer| !self.out_of(*from).any(|edge| edge.port == Port::Refused);
        let senders: Vec<Producer> = sources.chain(stages).chain(sinks).filter(is_unread).collect();
        let to = Consumer::Sink(self.sinks.len());
        let edge = |(input, from)| Edge {
            from,
            port: Port::Refused,
            to,
            input,
            capacity: CAPACITY,
            when_full: WhenFull::Block,
        };
        self.edges.extend(senders.into_iter().enumerate().map(edge));
        let output = Output::DeadLetters(Letters { folder: Letters::folder(&self.name), ..letters });
        let (name, breaker) = (LETTERS.to_owned(), Breaker::default());
        self.sinks.push(Sink { name, output, format: Format::Raw, retry: Retry::default(), breaker, asked: None });
        self
    }

    /// Adds the source of letters that are replayed: its reader of number `n` is stage `n`, or behind the stages a sink.
    fn add_replays(&mut self) {
        let from = Producer::Source(self.sources.len());
        let stages = (0..self.stages.len()).map(Consumer::Stage);
        let consumers: Vec<Consumer> = stages.chain((0..self.sinks.len()).map(Consumer::Sink)).collect();
        for (number, to) in consumers.into_iter().enumerate() {
            let (port, input) = (Port::Named(number), Self::into(self, to).count());
            self.edges.push(Edge { from, port, to, input, capacity: CAPACITY, when_full: WhenFull::Block });
        }
        self.edges.sort_by_key(|edge| (edge.to, edge.input));
        self.sources.push(Source {
            name: LETTERS.to_owned(),
            input: Input::Letters,
            format: Format::Raw,
            stamp: Stamp::default(),
            watermark: Watermark::default(),
            rate: None,
            max_record: PAGE,
            ids: false,
        });
    }

    /// The same graph without the source of letters that are replayed, as people think of it.
    pub(super) fn without_replays(mut self) -> Self {
        let is_replays = |source: &Source| source.input == Input::Letters;
        if let Some(at) = self.sources.iter().position(is_replays) {
            // It is the last one, and its edges are the last of each consumer: no other number changes.
            self.sources.remove(at);
            self.edges.retain(|edge| edge.from != Producer::Source(at));
        }
        self
    }

    /// The readers of the source of letters that take what was refused by the part of this name: itself, or those that a
    /// source sends to.
    pub fn takers(&self, name: &str) -> Vec<usize> {
        let number = |to: Consumer| match to {
            Consumer::Stage(at) => at,
            Consumer::Sink(at) => self.stages.len() + at,
        };
        if let Some(at) = self.sources.iter().position(|source| source.name == name) {
            let main = self.out_of(Producer::Source(at)).filter(|edge| edge.port == Port::Main);
            return main.map(|edge| number(edge.to)).collect();
        }
        let stage = self.stages.iter().position(|stage| stage.name == name).map(Consumer::Stage);
        let sink = || self.sinks.iter().position(|sink| sink.name == name).map(Consumer::Sink);
        stage.or_else(sink).map(number).into_iter().collect()
    }

    /// The graph as its file has it, and the terms of its letters.
    pub(super) fn without_letters(self) -> (Self, Option<Letters>) {
        let mut whole = self.without_replays();
        let letters = match whole.sinks.last().map(|sink| &sink.output) {
            Some(Output::DeadLetters(letters)) => letters.clone(),
            _ => return (whole, None),
        };
        whole.sinks.pop();
        let gone = Consumer::Sink(whole.sinks.len());
        whole.edges.retain(|edge| edge.to != gone);
        (whole, Some(letters))
    }
}
