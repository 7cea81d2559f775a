//! What a pipeline shows of itself, as values that others are handed.
//!
//! Owns their fields, which are those of the interface's answers. It must not know how they are counted.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Phase, waits::Wait};
use crate::{
    pipeline::{
        generations::{Counts, Fate, Past},
        ledger::Imbalance,
    },
    plugin::FaultKind,
    stage::{gate::Shown, generation::Figures, lane::Fill, meter::Reading},
};

/// One source, stage or sink as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartStatus {
    /// Its name.
    pub name: String,
    /// What it counted.
    #[serde(flatten)]
    pub reading: Reading,
    /// The breaker of a stage or sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Shown>,
    /// Records that others have written and it has not committed yet; none where it reads no topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// Records that waited in a sink's outbox at the last commit; none where it has no outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Counters of the plugin's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Arc<str>, u64>,
    /// Calls that ended in a fault, by its kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<FaultKind, u64>,
    /// The generation that serves a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationStatus>,
    /// How reloads of a stage have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reloads: Option<Counts>,
}

/// One generation of a stage's plugin, or a candidate that has not become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its number; none of a candidate that was refused before it got one.
    pub generation: Option<u64>,
    /// SHA-256 of its bytes, in hexadecimal; none where there were none that could be read.
    pub digest: Option<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: i64,
    /// How far it has come.
    pub fate: Fate,
    /// Why, where it was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it has done.
    #[serde(flatten)]
    pub figures: Figures,
}

impl GenerationStatus {
    /// What is shown of one that came at `since`, in milliseconds since the Unix epoch.
    pub fn of(past: &Past, since: i64) -> Self {
        let Past { generation, digest, fate, why, .. } = past.clone();
        Self { generation, digest, since, fate, why, figures: Figures::default() }
    }
}

/// One edge as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// `from → to`.
    pub name: String,
    /// Records sent.
    pub sent: u64,
    /// What waits in it.
    pub waiting: Fill,
}

/// Who is not ready, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReady {
    /// The source, stage or sink, or the pipeline itself.
    pub who: String,
    /// Why.
    pub why: String,
}

/// A pipeline as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub pipeline: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Seconds since it was started.
    pub seconds: f64,
    /// Last committed epoch.
    pub epoch: u64,
    /// Seconds that the epoch under way has taken.
    pub epoch_age: Option<f64>,
    /// Seconds that the last commit took to be written.
    #[serde(default)]
    pub commit_seconds: f64,
    /// Seconds that the last committed epoch took; 0 before the first of this process.
    #[serde(default)]
    pub epoch_seconds: f64,
    /// Restarts inside the process.
    pub restarts: u64,
    /// Sources.
    pub sources: Vec<PartStatus>,
    /// Stages, in topological order.
    pub stages: Vec<PartStatus>,
    /// Sinks.
    pub sinks: Vec<PartStatus>,
    /// Edges.
    pub edges: Vec<EdgeStatus>,
    /// Dead letters that are kept, where the host keeps any.
    #[serde(default)]
    pub dead_letters: Option<u64>,
    /// Who is not ready; empty when the pipeline is.
    pub not_ready: Vec<NotReady>,
    /// Sources, stages and sinks that wait for room, and for whom.
    #[serde(default)]
    pub waits: Vec<Wait>,
    /// Equations of the ledger that did not hold at the last commit; always empty.
    pub imbalances: Vec<Imbalance>,
}
