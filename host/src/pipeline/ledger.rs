//! The ledger: proves at every commit that nothing vanished.
//!
//! Owns invariant 1 as a function over a commit. Barriers make it a consistent cut, so that no record is in flight and
//! every equation holds exactly.

use serde::{Deserialize, Serialize};

use super::committed::Committed;
use crate::{
    config::graph::{Consumer, Edge, Graph, Producer},
    stage::tally::Tally,
};

/// An equation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imbalance {
    /// Where: the name of a source, stage or sink, or an edge `from → to`.
    pub place: String,
    /// Records on the one side.
    pub left: u64,
    /// Records on the other.
    pub right: u64,
}

/// What a part of a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Records enter.
    Source,
    /// Records are processed.
    Stage,
    /// Records leave.
    Sink,
}

/// What became of the records of a source, stage or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it does.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Records that wait in a sink's outbox: neither delivered nor refused.
    #[serde(default, skip_serializing_if = "is_none")]
    pub waiting: u64,
    /// What became of its records.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Part {
    /// Records received that nothing accounts for; 0 in a ledger that balances.
    fn imbalance(&self) -> i64 {
        self.tally.imbalance() - self.waiting as i64
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What went through an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// `from → to`.
    pub name: String,
    /// Records sent.
    pub sent: u64,
    /// Records received.
    pub received: u64,
}

/// The ledger as of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whether every equation holds.
    pub balanced: bool,
    /// The last epoch in it.
    pub epoch: u64,
    /// Sources, stages, sinks.
    pub parts: Vec<Part>,
    /// Edges.
    pub edges: Vec<Flow>,
    /// The equations that do not hold.
    pub imbalances: Vec<Imbalance>,
}

impl Default for Account {
    /// Of nothing, which balances.
    fn default() -> Self {
        Self::of(0, Vec::new(), Vec::new())
    }
}

impl Account {
    /// Records that wait in the outbox of a sink.
    pub fn waiting(&self, sink: &str) -> u64 {
        let is_it = |part: &&Part| part.kind == Kind::Sink && part.name == sink;
        self.parts.iter().find(is_it).map_or(0, |part| part.waiting)
    }

    /// The account of these parts and edges.
    pub fn of(epoch: u64, parts: Vec<Part>, edges: Vec<Flow>) -> Self {
        let off_parts = parts.iter().filter(|part| part.imbalance() != 0).map(|part| Imbalance {
            place: part.name.clone(),
            left: part.tally.received,
            right: part.tally.received.saturating_add_signed(-part.imbalance()),
        });
        let off_edges = edges.iter().filter(|edge| edge.sent != edge.received).map(|edge| Imbalance {
            place: edge.name.clone(),
            left: edge.sent,
            right: edge.received,
        });
        let imbalances: Vec<Imbalance> = off_parts.chain(off_edges).collect();
        Self { balanced: imbalances.is_empty(), epoch, parts, edges, imbalances }
    }

    /// Why a commit of this account is none, if it is none: something does not balance, which the log has in full.
    pub fn refusal(&self, pipeline: &str) -> Option<String> {
        let Self { epoch, imbalances, .. } = self;
        for Imbalance { place, left, right } in imbalances {
            tracing::error!(pipeline, place, left, right, "the ledger does not balance");
        }
        let Imbalance { place, left, right } = imbalances.first()?;
        Some(format!(
            "the ledger does not balance at `{place}`: {left} on one side, {right} on the other; epoch {epoch} is not committed"
        ))
    }
}

/// The ledger of `committed`.
pub fn account(graph: &Graph, committed: &Committed) -> Account {
    let part = |kind, name: &String, tally: &Tally| Part { kind, name: name.clone(), waiting: 0, tally: *tally };
    let sources = graph.sources.iter().zip(&committed.sources);
    let stages = graph.stages.iter().zip(&committed.stages);
    let sinks = graph.sinks.iter().zip(&committed.sinks);
    let parts = (sources.map(|(source, point)| part(Kind::Source, &source.name, &point.tally)))
        .chain(stages.map(|(stage, point)| part(Kind::Stage, &stage.name, &point.tally)))
        .chain(
            sinks.map(|(sink, point)| Part { waiting: point.waiting, ..part(Kind::Sink, &sink.name, &point.tally) }),
        );
    let edges = graph.edges.iter().filter_map(|edge| {
        let (sent, received) = (sent(graph, committed, edge)?, received(committed, edge)?);
        Some(Flow { name: name(graph, edge), sent, received })
    });
    Account::of(committed.epoch.0, parts.collect(), edges.collect())
}

/// Every equation that does not hold in `committed`.
pub fn audit(graph: &Graph, committed: &Committed) -> Vec<Imbalance> {
    account(graph, committed).imbalances
}

fn sent(graph: &Graph, committed: &Committed, edge: &Edge) -> Option<u64> {
    let at = graph.out_of(edge.from).position(|other| other == edge)?;
    let sent = match edge.from {
        Producer::Source(from) => &committed.sources.get(from)?.sent,
        Producer::Stage(from) => &committed.stages.get(from)?.sent,
        Producer::Sink(from) => &committed.sinks.get(from)?.sent,
    };
    sent.get(at).copied()
}

fn received(committed: &Committed, edge: &Edge) -> Option<u64> {
    let received = match edge.to {
        Consumer::Stage(to) => &committed.stages.get(to)?.received,
        Consumer::Sink(to) => &committed.sinks.get(to)?.received,
    };
    received.get(edge.input).copied()
}

/// An edge as people read it, `from → to`; a side output stands behind its producer's name.
pub fn name(graph: &Graph, edge: &Edge) -> String {
    let port = graph.port(edge.from, edge.port);
    let dot = if port.is_empty() { "" } else { "." };
    format!("{}{dot}{port} → {}", graph.producer(edge.from), graph.consumer(edge.to))
}
