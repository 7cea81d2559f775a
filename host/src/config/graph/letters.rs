//! Where dead letters go: one sink more, which the host itself adds to a pipeline where it keeps state.
//!
//! Owns the name of that sink and the edges into it: of every source, stage and sink whose refused records nobody else
//! reads. Invariant: with the sink there, no refused record is only counted, unless its stage says so.

use std::path::{Path, PathBuf};

use super::{
    super::{
        Breaker, GiveUp, Loaded, OnError, Then, codes,
        diagnostic::Flaw,
        pipeline::{DeadLetters, Retry},
    },
    Consumer, Edge, Graph, Output, Port, Producer, Sink, WhenFull,
};
use crate::{
    batch::Limit,
    codec::Format,
    unit::{Size, Span},
};

/// Name of the sink.
pub const LETTERS: &str = "dead_letters";

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
    /// The same graph with a sink for what nobody else reads of what its parts refuse, kept below `state`.
    pub fn with_letters(self, terms: &DeadLetters, state: &Path) -> Self {
        let letters =
            Letters { state: state.to_owned(), folder: PathBuf::new(), keep: terms.keep, max: terms.max.value };
        self.lettered(Some(letters))
    }

    /// The same with letters on these terms, in a folder of its own.
    pub(super) fn lettered(mut self, letters: Option<Letters>) -> Self {
        let Some(letters) = letters else { return self };
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

    /// The graph as its file has it, and the terms of its letters.
    pub(super) fn without_letters(mut self) -> (Self, Option<Letters>) {
        let letters = match self.sinks.last().map(|sink| &sink.output) {
            Some(Output::DeadLetters(letters)) => letters.clone(),
            _ => return (self, None),
        };
        self.sinks.pop();
        let gone = Consumer::Sink(self.sinks.len());
        self.edges.retain(|edge| edge.to != gone);
        (self, Some(letters))
    }
}
