//! The ledger: proves at every commit that nothing vanished.
//!
//! Owns invariant 1 as a function over a commit. Barriers make it a consistent cut, so that no record is in flight and
//! every equation holds exactly.

use serde::{Deserialize, Serialize};

use super::committed::Committed;
use crate::config::graph::{Consumer, Edge, Graph, Producer};

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

/// Every equation that does not hold in `committed`.
pub fn audit(graph: &Graph, committed: &Committed) -> Vec<Imbalance> {
    let tallies =
        (graph.sources.iter().map(|source| &source.name).zip(committed.sources.iter().map(|point| &point.tally)))
            .chain(graph.stages.iter().map(|stage| &stage.name).zip(committed.stages.iter().map(|point| &point.tally)))
            .chain(graph.sinks.iter().map(|sink| &sink.name).zip(committed.sinks.iter().map(|point| &point.tally)));
    let places = tallies.filter(|(_, tally)| tally.imbalance() != 0).map(|(name, tally)| Imbalance {
        place: name.clone(),
        left: tally.received,
        right: tally.received.saturating_add_signed(-tally.imbalance()),
    });
    let edges = graph.edges.iter().filter_map(|edge| {
        let (sent, received) = (sent(graph, committed, edge)?, received(committed, edge)?);
        (sent != received).then(|| Imbalance { place: name(graph, edge), left: sent, right: received })
    });
    places.chain(edges).collect()
}

/// Records sent and received on an edge, as of the commit.
pub fn edge(graph: &Graph, committed: &Committed, edge: &Edge) -> Option<(u64, u64)> {
    Some((sent(graph, committed, edge)?, received(committed, edge)?))
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

/// An edge as people read it.
pub fn name(graph: &Graph, edge: &Edge) -> String {
    format!("{} → {}", graph.producer(edge.from), graph.consumer(edge.to))
}
