//! What a pipeline has committed: the one place from which it starts again.
//!
//! Owns the commit's content and how an epoch is added to it. What is in it is everything that a restart needs, so that
//! nothing else may be asked; `durable` writes the same to the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{coordinator::Participant, durable::Restored, source_task::SourceTask};
use crate::{
    config::graph::{Consumer, Graph, Producer},
    epoch::Epoch,
    source::{Kept, Position},
    stage::{conductor::Handed, generation::Standing, tally::Tally, worker::SavedGroups},
    time::{BEGIN, ClockState},
};

/// Where a source stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourcePoint {
    /// Its position.
    pub position: Position,
    /// Facts that have changed, or all of them where they were read; they have places of their own in the store.
    #[serde(skip)]
    pub kept: Arc<Vec<Kept>>,
    /// Its clock.
    pub clock: ClockState,
    /// What became of what it read.
    pub tally: Tally,
    /// Records sent, of each edge.
    pub sent: Vec<u64>,
}

/// Where a stage stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePoint {
    /// Its groups, which have places of their own in the store.
    #[serde(skip)]
    pub groups: SavedGroups,
    /// Its watermark.
    pub watermark: i64,
    /// What became of its records.
    pub tally: Tally,
    /// Records received, of each input.
    pub received: Vec<u64>,
    /// Records sent, of each edge.
    pub sent: Vec<u64>,
    /// Which generation served it, and what each did in the epoch.
    #[serde(default)]
    pub standing: Standing,
}

/// Where a sink stood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkPoint {
    /// Its position; `null` where what it wrote cannot be taken back.
    pub position: Value,
    /// What became of its records.
    pub tally: Tally,
    /// Records received, of each input.
    pub received: Vec<u64>,
    /// Records sent, of each edge: those that it refused.
    #[serde(default)]
    pub sent: Vec<u64>,
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

impl Point {
    /// Whose it is.
    pub fn of(&self) -> Participant {
        match self {
            Self::Source(at, _) => Participant::Source(*at),
            Self::Stage(at, _) => Participant::Stage(*at),
            Self::Sink(at, _) => Participant::Sink(*at),
        }
    }
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
    /// What a stage has handed over, but for the groups.
    pub fn of(handed: &Handed) -> Self {
        let (received, sent, standing) = (handed.received.clone(), handed.sent.clone(), handed.standing.clone());
        Self {
            groups: SavedGroups::default(),
            watermark: handed.watermark,
            tally: handed.tally,
            received,
            sent,
            standing,
        }
    }

    /// The same but for the groups.
    pub fn without_groups(&self) -> Self {
        let (received, sent, standing) = (self.received.clone(), self.sent.clone(), self.standing.clone());
        Self { groups: SavedGroups::default(), watermark: self.watermark, tally: self.tally, received, sent, standing }
    }

    /// A stage that has seen nothing.
    pub fn new(inputs: usize, edges: usize) -> Self {
        Self {
            groups: SavedGroups::new(),
            watermark: BEGIN,
            tally: Tally::default(),
            received: vec![0; inputs],
            sent: vec![0; edges],
            standing: Standing::default(),
        }
    }
}

impl Committed {
    /// A pipeline that has seen nothing; its sources add where they stand.
    pub fn empty(graph: &Graph) -> Self {
        let stage =
            |at| StagePoint::new(graph.into(Consumer::Stage(at)).count(), graph.out_of(Producer::Stage(at)).count());
        let sink = |at| SinkPoint {
            received: vec![0; graph.into(Consumer::Sink(at)).count()],
            sent: vec![0; graph.out_of(Producer::Sink(at)).count()],
            ..SinkPoint::default()
        };
        Self {
            epoch: Epoch(0),
            sources: Vec::new(),
            stages: (0..graph.stages.len()).map(stage).collect(),
            sinks: (0..graph.sinks.len()).map(sink).collect(),
        }
    }

    /// Goes on from what another process committed: what it had is taken over, and its sources stand there.
    ///
    /// # Errors
    /// When what stood at a committed position has gone.
    pub async fn resume(&mut self, from: Restored, sources: &mut [SourceTask]) -> anyhow::Result<()> {
        self.epoch = from.epoch;
        for ((task, point), restored) in sources.iter_mut().zip(&mut self.sources).zip(from.sources) {
            let restored = restored.unwrap_or_else(|| point.clone());
            task.resume(&restored, from.epoch).await?;
            *point = SourcePoint { kept: Arc::default(), ..restored };
        }
        for (point, restored) in self.stages.iter_mut().zip(from.stages) {
            *point = restored.unwrap_or_else(|| point.clone());
        }
        for (point, restored) in self.sinks.iter_mut().zip(from.sinks) {
            *point = restored.unwrap_or_else(|| point.clone());
        }
        Ok(())
    }

    /// Where its sources and sinks stand.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let sources = self.sources.iter().enumerate().map(|(at, point)| Point::Source(at, point.clone()));
        sources.chain(self.sinks.iter().enumerate().map(|(at, point)| Point::Sink(at, point.clone())))
    }

    /// What it would be with these reports of `epoch`, but for the groups.
    pub fn with(&self, epoch: Epoch, points: &[Point]) -> Self {
        let stages = self.stages.iter().map(StagePoint::without_groups).collect();
        let mut then = Self { epoch, sources: self.sources.clone(), stages, sinks: self.sinks.clone() };
        for point in points {
            match point {
                Point::Source(at, point) => {
                    then.sources.get_mut(*at).into_iter().for_each(|source| *source = point.clone());
                }
                Point::Sink(at, point) => then.sinks.get_mut(*at).into_iter().for_each(|sink| *sink = point.clone()),
                Point::Stage(at, handed) => {
                    then.stages.get_mut(*at).into_iter().for_each(|stage| *stage = StagePoint::of(handed));
                }
            }
        }
        then
    }

    /// Adds everything that was reported of `epoch`.
    pub fn apply(&mut self, epoch: Epoch, points: Vec<Point>) {
        self.epoch = epoch;
        for point in points {
            match point {
                Point::Source(at, point) => {
                    if let Some(source) = self.sources.get_mut(at) {
                        // A source that lives on has its facts in hand.
                        *source = SourcePoint { kept: Arc::default(), ..point };
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
                    stage.standing = handed.standing;
                }
            }
        }
    }
}
