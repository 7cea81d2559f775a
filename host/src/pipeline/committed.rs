//! What a pipeline has committed: the one place from which it starts again.
//!
//! Owns the commit's content and how an epoch is added to it. It lives as long as the process; what is in it is
//! everything that a restart needs, so that nothing else may be asked.

use crate::{
    epoch::Epoch,
    source::Position,
    stage::{conductor::Handed, tally::Tally, worker::SavedGroups},
    time::{BEGIN, ClockState},
};

/// Where a source stood.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePoint {
    /// Its position.
    pub position: Position,
    /// Its clock.
    pub clock: ClockState,
    /// What became of what it read.
    pub tally: Tally,
    /// Records sent, of each edge.
    pub sent: Vec<u64>,
}

/// Where a stage stood.
#[derive(Clone, Debug, PartialEq)]
pub struct StagePoint {
    /// Its groups.
    pub groups: SavedGroups,
    /// Its watermark.
    pub watermark: i64,
    /// What became of its records.
    pub tally: Tally,
    /// Records received, of each input.
    pub received: Vec<u64>,
    /// Records sent, of each edge.
    pub sent: Vec<u64>,
}

/// Where a sink stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkPoint {
    /// What became of its records.
    pub tally: Tally,
    /// Records received, of each input.
    pub received: Vec<u64>,
}

/// What one participant reports of an epoch.
#[derive(Debug)]
pub enum Point {
    /// Of a source.
    Source(usize, SourcePoint),
    /// Of a stage.
    Stage(usize, Handed),
    /// Of a sink.
    Sink(usize, SinkPoint),
}

/// The committed prefix of a pipeline; nothing, by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    /// The last epoch in it.
    pub epoch: Epoch,
    /// Sources, as the graph has them.
    pub sources: Vec<SourcePoint>,
    /// Stages.
    pub stages: Vec<StagePoint>,
    /// Sinks.
    pub sinks: Vec<SinkPoint>,
}

impl StagePoint {
    /// A stage that has seen nothing.
    pub fn new(inputs: usize, edges: usize) -> Self {
        Self {
            groups: SavedGroups::new(),
            watermark: BEGIN,
            tally: Tally::default(),
            received: vec![0; inputs],
            sent: vec![0; edges],
        }
    }
}

impl Committed {
    /// Adds everything that was reported of `epoch`.
    pub fn apply(&mut self, epoch: Epoch, points: Vec<Point>) {
        self.epoch = epoch;
        for point in points {
            match point {
                Point::Source(at, point) => {
                    if let Some(source) = self.sources.get_mut(at) {
                        *source = point;
                    }
                }
                Point::Sink(at, point) => {
                    if let Some(sink) = self.sinks.get_mut(at) {
                        *sink = point;
                    }
                }
                Point::Stage(at, handed) => {
                    let Some(stage) = self.stages.get_mut(at) else { continue };
                    for change in handed.changes.iter() {
                        let (group, saved) = change.to_owned();
                        match saved {
                            Some(saved) => stage.groups.insert(group, saved),
                            None => stage.groups.remove(&group),
                        };
                    }
                    stage.watermark = handed.watermark;
                    stage.tally = handed.tally;
                    stage.received = handed.received;
                    stage.sent = handed.sent;
                }
            }
        }
    }
}
