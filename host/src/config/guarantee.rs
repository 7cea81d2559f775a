//! What is guaranteed to arrive at each sink, whatever falls.
//!
//! Owns the rule by which it follows from the sources and the sink of each path. It must not know how it is kept.
//! Invariant: nothing is promised that a kill at the worst moment could break.
//!
//! | source | after a fall | | sink | what was written since the last commit |
//! |---|---|---|---|---|
//! | seeks | gives the same records again | | takes back | is cut off |
//! | is resent | whoever had no answer sends again | | plain | stays, and comes again |
//! | forgets | what was not committed is gone | | outbox | was never sent: what is sent has been committed |

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    codes,
    diagnostic::Flaw,
    graph::{Consumer, Edge, Graph, Input, Output, Port, Producer, Sink, WhenFull},
    load::Loaded,
};
use crate::{sink::http::Requests, source::journal::Answer, unit::Span};

/// How often each record counts at a sink, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// It may be lost or come twice.
    BestEffort,
    /// It may be lost, and never comes twice.
    AtMostOnce,
    /// It is never lost, and may come twice.
    AtLeastOnce,
    /// It is never lost; where it comes twice, it comes under a key by which the receiver knows it again, if it remembers
    /// keys for so long.
    EffectivelyOnce,
    /// It is never lost, and never comes twice.
    ExactlyOnce,
}

impl Guarantee {
    /// The same in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::BestEffort => "best effort",
            Self::AtMostOnce => "at most once",
            Self::AtLeastOnce => "at least once",
            Self::EffectivelyOnce => "effectively once",
            Self::ExactlyOnce => "exactly once",
        }
    }
}

/// What a sink can be asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// No record is lost.
    AtLeastOnce,
    /// No record is lost, and none counts twice at a receiver that knows keys again.
    EffectivelyOnce,
    /// No record is lost, and none comes twice.
    ExactlyOnce,
}

impl Asked {
    /// The weakest guarantee that is enough.
    pub fn least(self) -> Guarantee {
        match self {
            Self::AtLeastOnce => Guarantee::AtLeastOnce,
            Self::EffectivelyOnce => Guarantee::EffectivelyOnce,
            Self::ExactlyOnce => Guarantee::ExactlyOnce,
        }
    }
}

/// The guarantee of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guaranteed {
    /// Name of the sink.
    pub sink: String,
    /// What holds there.
    pub guarantee: Guarantee,
    /// What keeps it from being exactly once.
    pub because: Vec<String>,
}

/// What a fall may do to a record on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Risk {
    loses: bool,
    doubles: bool,
}

/// The guarantees of the sinks of `graph` that its file names; `is_kept` says whether the host keeps state.
pub fn guarantees(graph: &Graph, is_kept: bool) -> Vec<Guaranteed> {
    let named = graph.sinks.iter().enumerate().filter(|(_, sink)| !matches!(sink.output, Output::DeadLetters(_)));
    named.map(|(at, sink)| of(graph, at, sink.name.clone(), is_kept)).collect()
}

/// Adds a flaw for each sink of `graph`, which `loaded` comes to, that asks for more than can be had; `is_kept` says whether
/// the host keeps state.
pub(super) fn check(loaded: &Loaded, graph: &Graph, is_kept: bool, flaws: &mut Vec<Flaw>) {
    let had = guarantees(graph, is_kept);
    for ((name, sink), had) in loaded.pipeline.sinks.iter().zip(&had) {
        if let Some(asked) = &sink.guarantee
            && had.guarantee < asked.value.least()
        {
            let message = format!("`{}` cannot have every record {}", name.value, asked.value.least().words());
            let cure = format!("it has every record {}: {}", had.guarantee.words(), had.because.join("; "));
            flaws.push(Flaw::at(codes::NO_GUARANTEE, &asked.span, message).cure(cure));
        }
    }
}

fn of(graph: &Graph, at: usize, sink: String, is_kept: bool) -> Guaranteed {
    let mut because = Vec::new();
    if !is_kept {
        because.push("`state: none`: where everything stood is gone with the process".to_owned());
        return Guaranteed { sink, guarantee: Guarantee::BestEffort, because };
    }
    let (mut loses, mut doubles) = (false, false);
    let consumer = Consumer::Sink(at);
    let named = sources(graph, consumer, |_| true).into_iter().filter_map(|at| graph.sources.get(at));
    let of_sources = named.map(|source| (&source.name, of_source(&source.input)));
    for edge in way(graph, consumer, |_| true).into_iter().filter(|edge| drops(edge)) {
        loses = true;
        let (from, to) = (graph.producer(edge.from), graph.consumer(edge.to));
        because.push(format!("the edge from `{from}` to `{to}` drops what it has no room for"));
    }
    // What comes over an edge that drops does not come again, but for requests that a receiver did not answer; letters are
    // given again on a person's word alone.
    let feeders = sources(graph, consumer, |edge| !drops(edge)).into_iter().filter_map(|at| graph.sources.get(at));
    let is_fed = feeders.into_iter().any(|source| !matches!(source.input, Input::Letters));
    // What another sink has in its place is as that one has it.
    let sinks = in_place(graph, at).into_iter().filter_map(|at| graph.sinks.get(at));
    let come_again = sinks.filter(|sink| is_fed || matches!(sink.output, Output::Http(..)));
    let of_sinks = come_again.map(|sink| (&sink.name, of_sink(&sink.output)));
    for (name, (risk, why)) in of_sources.chain(of_sinks) {
        (loses, doubles) = (loses | risk.loses, doubles | risk.doubles);
        because.extend(why.map(|why| format!("`{name}`: {why}")));
    }
    let guarantee = match (loses, doubles) {
        (true, true) => Guarantee::BestEffort,
        (true, false) => Guarantee::AtMostOnce,
        (false, true) => Guarantee::AtLeastOnce,
        (false, false) => Guarantee::ExactlyOnce,
    };
    let horizon = graph.sinks.get(at).and_then(horizon).filter(|_| guarantee == Guarantee::ExactlyOnce);
    if let Some(horizon) = horizon {
        let receiver = "at a receiver that remembers an `Idempotency-Key` for longer than";
        because.push(format!("`{sink}`: {receiver} {horizon} beyond any time that it or this host is down"));
        return Guaranteed { sink, guarantee: Guarantee::EffectivelyOnce, because };
    }
    Guaranteed { sink, guarantee, because }
}

/// How long after a request the same may come again while everything runs, where it goes through an outbox.
fn horizon(sink: &Sink) -> Option<Span> {
    let Output::Http(http, Requests { outbox: Some(_), .. }) = &sink.output else { return None };
    Some(Span(http.timeout.0.saturating_add(sink.retry.max.0)))
}

fn of_source(input: &Input) -> (Risk, Option<&'static str>) {
    let forgets = Risk { loses: true, ..Risk::default() };
    let resent = Risk { doubles: true, ..Risk::default() };
    match input {
        Input::File(_) | Input::Topic(..) | Input::Generate(_) | Input::Passage(_) | Input::Letters => {
            (Risk::default(), None)
        }
        Input::Http(config) if config.answer() == Answer::Accepted => (
            Risk { loses: true, doubles: true },
            Some("what was answered at once and not committed is gone after a fall"),
        ),
        Input::Http(_) => (
            resent,
            Some(
                "who had no answer before a fall sends again what may have been committed, and counts twice without an `Idempotency-Key`",
            ),
        ),
        Input::Stdin(config) if config.journal => {
            (forgets, Some("what was in the pipe and not in the journal is gone after a fall"))
        }
        Input::Stdin(_) => (forgets, Some("what was read and not committed is gone after a fall")),
        Input::HostMetrics(_) => (forgets, Some("what was measured and not committed is gone after a fall")),
    }
}

fn of_sink(output: &Output) -> (Risk, Option<&'static str>) {
    let plain = Risk { doubles: true, ..Risk::default() };
    match output {
        Output::File(config) if config.is_one_file() => (Risk::default(), None),
        Output::File(_) => (plain, Some("what was written to files of a template comes again after a fall")),
        Output::Topic(_) | Output::Discard(_) | Output::DeadLetters(_) | Output::Passage(_) => (Risk::default(), None),
        Output::Http(_, Requests { outbox: Some(_), .. }) => (Risk::default(), None),
        Output::Http(..) => (plain, Some("what was posted and not committed is posted again after a fall")),
        Output::Stdout(_) => (plain, Some("what was written and not committed comes again after a fall")),
    }
}

/// The sink at this position, the one that stands in for it, and so on.
fn in_place(graph: &Graph, at: usize) -> Vec<usize> {
    let next = |at: &usize| {
        let mut edges = graph.out_of(Producer::Sink(*at)).filter(|edge| edge.port == Port::Fallback);
        edges.find_map(|edge| if let Consumer::Sink(to) = edge.to { Some(to) } else { None })
    };
    std::iter::successors(Some(at), next).collect()
}

fn drops(edge: &Edge) -> bool {
    matches!(edge.when_full, WhenFull::Drop(_))
}

/// The edges of that kind over which `consumer` hears of sources.
fn way(graph: &Graph, consumer: Consumer, is_crossed: impl Fn(&Edge) -> bool) -> Vec<&Edge> {
    let (mut found, mut seen, mut next) = (Vec::new(), vec![consumer], vec![consumer]);
    while let Some(consumer) = next.pop() {
        for edge in graph.into(consumer).filter(|edge| is_crossed(edge)) {
            found.push(edge);
            let above = match edge.from {
                Producer::Stage(at) => Consumer::Stage(at),
                Producer::Sink(at) if edge.port == Port::Fallback => Consumer::Sink(at),
                Producer::Source(_) | Producer::Sink(_) => continue,
            };
            if !seen.contains(&above) {
                seen.push(above);
                next.push(above);
            }
        }
    }
    found
}

/// The sources that `consumer` hears of over edges of that kind, in ascending order.
pub(super) fn sources(graph: &Graph, consumer: Consumer, is_crossed: impl Fn(&Edge) -> bool) -> Vec<usize> {
    let source = |edge: &Edge| match edge.from {
        Producer::Source(at) => Some(at),
        Producer::Stage(_) | Producer::Sink(_) => None,
    };
    let found: BTreeSet<usize> = way(graph, consumer, is_crossed).into_iter().filter_map(source).collect();
    found.into_iter().collect()
}
