//! Why a stage ends before its input does.
//!
//! Owns what a person is told: the fault, and the record that was in hand.

use std::fmt;

use serde::Serialize;

use super::lane::Gone;
use crate::{batch::Batch, plugin::Fault};

/// Most of a record that a report shows, in bytes.
const SHOWN: usize = 1024;

/// Most of a fault that goes with a refused record, in bytes: its message, and the frames where one looks first. There
/// may be as many as there are records.
const REASON: usize = 768;
const FRAMES: usize = 6;

/// What ended a stage.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The plugin committed a fault.
    #[error("{0}")]
    Fault(Box<Report>),
    /// A record was refused, nothing reads the refused records, and `on_error` is `stop`.
    #[error("{0}")]
    Stop(Box<Stop>),
    /// Groups of the stage that are not in memory cannot be read.
    #[error("stage `{stage}`: read groups that are not in memory: {why}")]
    Unread {
        /// Name of the stage.
        stage: String,
        /// What is wrong.
        why: String,
    },
    /// The pipeline is being taken down for another reason.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A fault, with everything that a person needs to find it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the stage.
    pub stage: String,
    /// The plugin, as the configuration names it.
    pub plugin: String,
    /// SHA-256 of the plugin, in hexadecimal.
    pub digest: String,
    /// What happened.
    pub fault: Fault,
    /// The record in hand, or the first of the batch where the plugin did not say.
    pub record: Option<Shown>,
    /// How many records the call carried.
    pub records: usize,
}

/// A refused record that stops the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// Name of the stage.
    pub stage: String,
    /// What the plugin said.
    pub reason: String,
    /// The record.
    pub record: Shown,
}

/// A record, as much of it as a person wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The payload, lossily, cut off.
    pub value: String,
    /// The key, lossily.
    pub key: String,
    /// Event time, in milliseconds since the Unix epoch.
    pub time: Option<i64>,
}

impl Report {
    /// A report of `fault` in a call that carried `batch`. A plugin's word for the record in hand counts only where
    /// there is such a record.
    pub fn new(stage: &str, plugin: &str, digest: &str, mut fault: Fault, batch: Option<&Batch>) -> Self {
        let records = batch.map_or(0, Batch::len);
        fault.at = fault.at.filter(|at| (*at as usize) < records);
        let record = batch.and_then(|batch| Shown::of(batch, fault.at.unwrap_or_default() as usize));
        let [stage, plugin, digest] = [stage, plugin, digest].map(str::to_owned);
        Self { stage, plugin, digest, fault, record, records }
    }
}

/// A fault as the reason of a refused record: its kind and message, its place, and the innermost frames.
pub fn reason(fault: &Fault) -> String {
    let mut text = format!("{}: {}", fault.kind.name().replace('_', " "), fault.message);
    if let Some(place) = &fault.place {
        text = format!("{text}, at {place}");
    }
    for frame in fault.backtrace.iter().take(FRAMES) {
        text = format!("{text}\n  {frame}");
    }
    text.truncate(text.floor_char_boundary(REASON));
    text
}

impl Shown {
    /// Record `at` of a batch.
    pub fn of(batch: &Batch, at: usize) -> Option<Self> {
        let cut = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes)).into_owned();
        (at < batch.len()).then(|| Self {
            value: batch.values().get(at).map(cut).unwrap_or_default(),
            key: batch.keys().and_then(|keys| keys.get(at)).map(cut).unwrap_or_default(),
            time: batch.timestamps().and_then(|times| times.get(at).copied()),
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(to, "[{}] ", self.key)?;
        }
        to.write_str(&self.value)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = &self.fault;
        write!(to, "stage `{}`: {:?} in plugin {}: {}", self.stage, fault.kind, self.plugin, fault.message)?;
        if let Some(place) = &fault.place {
            write!(to, "\n  at {place}")?;
        }
        write!(to, "\n  plugin sha256:{}, {} of fuel used", self.digest, fault.fuel)?;
        match (&self.record, fault.at) {
            (Some(record), Some(at)) => write!(to, "\n  record {at} of {}: {record}", self.records)?,
            (Some(record), None) => write!(to, "\n  in a batch of {} that begins with: {record}", self.records)?,
            (None, _) => {}
        }
        for frame in &fault.backtrace {
            write!(to, "\n    {frame}")?;
        }
        for line in fault.stderr.lines() {
            write!(to, "\n  | {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "stage `{}` refused a record: {}\n  record: {}\n  nothing reads `{}.refused`, and `on_error` is `stop`",
            self.stage, self.reason, self.record, self.stage
        )
    }
}
