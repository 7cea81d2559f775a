//! Plugins: loading, checking and calling WebAssembly components.
//!
//! Owns everything that knows `wasmtime`; above it a plugin is an [`Instance`], whatever is behind it. It must not
//! know channels, the graph or what a record means. Invariant: what an instance returned has been checked before a
//! caller sees it, and after a fault the instance is never called again.

mod abi;
mod artifact;
mod bind;
mod cache;
mod compile;
pub mod compile_worker;
mod contract;
mod crossing;
mod describe;
mod engine;
mod fault;
mod fresh;
mod guest;
mod host;
mod inherit;
mod inspect;
mod instance;
mod interrupt;
mod limits;
mod load;
mod reply;
pub mod standard;
mod symbols;
mod wasi;

#[cfg(test)]
pub(crate) mod tests;

pub use cache::Cache;
pub use compile_worker::CompileWorker;
pub use describe::Described;
pub use engine::Engine;
pub use inherit::{INHERITS_HEADERS, INHERITS_KEY, INHERITS_TIME, INHERITS_VALUE};
pub use instance::WasmInstance;
pub use interrupt::Interrupt;
pub use limits::Limits;
pub use load::{LoadError, Plugin};

use std::sync::Arc;

pub use crate::time::Window;
use crate::{
    batch::{Batch, Column},
    letter,
};

/// What a plugin does with records; each is a world of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Keeps some records.
    Filter,
    /// Turns each record into none, one or many.
    Map,
    /// Folds the records of each group into a state.
    Aggregate,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Filter => "filter",
            Self::Map => "map",
            Self::Aggregate => "aggregate",
        })
    }
}

/// Records (or groups) that a plugin refused: positions ascending, a reason each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Positions in the input.
    pub at: Vec<u32>,
    /// One reason for each.
    pub reasons: Column,
}

/// A filter's answer: what to keep and what it refused, disjoint, positions ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Positions of the records to keep.
    pub keep: Vec<u32>,
    /// Records refused.
    pub refused: Refusals,
}

/// Records that a call put out. Columns absent are inherited from each output's origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Number of outputs.
    pub len: usize,
    /// Payloads.
    pub values: Option<Column>,
    /// Keys.
    pub keys: Option<Column>,
    /// Event times, in milliseconds since the Unix epoch.
    pub timestamps: Option<Vec<i64>>,
    /// Headers, encoded as the contract says.
    pub headers: Option<Column>,
    /// One byte each, 1 = a tombstone.
    pub nulls: Option<Column>,
    /// One byte each: which of the columns above this output inherits although they are present, as
    /// [`INHERITS_VALUE`] and its neighbours added together; [`Produced::over`] fills it in.
    pub inherit: Option<Column>,
    /// Input position that each output came from, never falling. Absent: one output for each input, in order.
    pub origins: Option<Vec<u32>>,
    /// Output of each record: 0 = main, else position in the described outputs plus one. Absent: all main.
    pub ports: Option<Vec<u32>>,
}

/// A map's answer: outputs, and inputs refused; no refused input has an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Outputs.
    pub produced: Produced,
    /// Records refused.
    pub refused: Refusals,
}

/// Groups handed to an aggregate.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// State of each; empty at a group's first sight.
    pub states: Column,
    /// Key of each.
    pub keys: Column,
    /// Window of each, where the stage has windows.
    pub windows: Option<Vec<Window>>,
}

/// An aggregate's answer to records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accumulated {
    /// New state of each group, in the order given; empty = forget the group.
    pub states: Column,
    /// What the stage puts out at once; origins are input records.
    pub produced: Option<Produced>,
    /// Records refused.
    pub refused: Refusals,
}

/// Why groups are finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The watermark passed the window's end.
    Closed,
    /// The window is not complete.
    Early,
    /// A record came after the window had closed.
    Late,
    /// Somebody asked.
    Asked,
}

/// An aggregate's answer to groups that end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Outputs; origins are groups.
    pub produced: Produced,
    /// Groups refused.
    pub refused: Refusals,
}

/// What kind of fault a plugin committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A wasm trap: a panic, unreachable code, division by zero, a stack overflow.
    Trap,
    /// The fuel for the call ran out.
    OutOfFuel,
    /// The wall clock ran out.
    Deadline,
    /// The pipeline is being taken down: nobody's fault.
    Interrupted,
    /// Memory, tables or handles over the limit.
    MemoryLimit,
    /// More output or logs than allowed.
    OutputLimit,
    /// An answer whose columns do not fit.
    BadReply,
    /// The plugin called `exit`.
    Exit,
    /// A fresh instance could not be made or configured.
    InstantiateFailed,
    /// The host itself fell in calls like this: it was not made.
    HostCrash,
}

impl From<FaultKind> for letter::Kind {
    fn from(kind: FaultKind) -> Self {
        match kind {
            // No record is ever to blame for two of these.
            FaultKind::Trap | FaultKind::Interrupted | FaultKind::InstantiateFailed => Self::Trap,
            FaultKind::OutOfFuel => Self::OutOfFuel,
            FaultKind::Deadline => Self::Deadline,
            FaultKind::MemoryLimit => Self::MemoryLimit,
            FaultKind::OutputLimit => Self::OutputLimit,
            FaultKind::BadReply => Self::BadReply,
            FaultKind::Exit => Self::Exit,
            FaultKind::HostCrash => Self::HostCrash,
        }
    }
}

impl FaultKind {
    /// Its name, as it stands in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::OutOfFuel => "out_of_fuel",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
            Self::MemoryLimit => "memory_limit",
            Self::OutputLimit => "output_limit",
            Self::BadReply => "bad_reply",
            Self::Exit => "exit",
            Self::InstantiateFailed => "instantiate_failed",
            Self::HostCrash => "host_crash",
        }
    }
}

/// What a fault's report shows beside its kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// In one line: the panic's message, or what was exceeded and by how much.
    pub message: String,
    /// Position of the record in hand, as the panic hook said.
    pub at: Option<u32>,
    /// File and line of the panic, as the panic hook said.
    pub place: Option<String>,
    /// Symbolised wasm backtrace, innermost frame first.
    pub backtrace: Vec<String>,
    /// The end of what the plugin wrote to standard error, lossily.
    pub stderr: String,
    /// Fuel that the call used.
    pub fuel: u64,
}

/// What calls have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel used by all calls.
    pub fuel: u64,
    /// Fuel that these calls were allowed.
    pub fuel_budget: u64,
    /// Time inside the plugin, in nanoseconds.
    pub nanos: u64,
    /// Highest size of the linear memory, in bytes.
    pub memory: u64,
    /// Memory that the instance is allowed, in bytes.
    pub memory_budget: u64,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of use to the plugin's author only.
    Trace,
    /// Of use when something is being looked for.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth acting on.
    Warn,
    /// Something failed.
    Error,
}

/// What calls that succeeded did beside answering, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Log lines.
    pub logs: Vec<(Level, String)>,
    /// What was added to the stage's counters.
    pub counts: Vec<(Arc<str>, u64)>,
}

impl Effects {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.counts.is_empty()
    }
}

/// One live plugin. `now` is the logical clock that the plugin sees: the watermark, in milliseconds since the Unix
/// epoch. After an `Err` the instance must be dropped.
pub trait Instance: Send {
    /// Which records to keep.
    ///
    /// # Errors
    /// The fault, with no effect.
    fn filter(&mut self, now: i64, input: &Batch) -> Result<Selection, Box<Fault>>;

    /// What each record turns into.
    ///
    /// # Errors
    /// The fault, with no effect.
    fn map(&mut self, now: i64, input: &Batch) -> Result<Mapped, Box<Fault>>;

    /// Folds record `i` into the state of group `group_of[i]`.
    ///
    /// # Errors
    /// The fault, with no effect.
    fn accumulate(
        &mut self,
        now: i64,
        groups: &Groups,
        group_of: &[u32],
        input: &Batch,
    ) -> Result<Accumulated, Box<Fault>>;

    /// Combines states: result `j` of `parts[ends[j - 1]..ends[j]]`.
    ///
    /// # Errors
    /// The fault, with no effect.
    fn merge(&mut self, now: i64, states: &Column, parts: &[u32], ends: &[u32]) -> Result<Column, Box<Fault>>;

    /// What groups put out at the end.
    ///
    /// # Errors
    /// The fault, with no effect.
    fn finish(&mut self, now: i64, groups: &Groups, why: Occasion) -> Result<Finished, Box<Fault>>;

    /// Rewrites states of version `from` as version `to`, one of which is the plugin's own; all of them, or none.
    ///
    /// # Errors
    /// The fault, or of kind `InstantiateFailed` what the plugin says of the first state that it cannot rewrite.
    fn migrate(&mut self, from: u32, to: u32, states: &Column) -> Result<Column, Box<Fault>>;

    /// What successful calls logged and counted since this was last asked.
    fn take_effects(&mut self) -> Effects;

    /// What the calls of this instance have cost.
    fn usage(&self) -> Usage;
}
