//! The contract's types as they cross the sandbox.
//!
//! Owns their layout. Invariant: what goes in borrows from the batch and is copied once, into the plugin's memory; what
//! comes out is copied once, out of it.

use wasmtime::component::{ComponentType, Lift, Lower, WasmList};

use super::{Level, Occasion, Window};
use crate::batch::Column;

/// A column on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct ColumnIn<'a> {
    data: &'a [u8],
    ends: &'a [u32],
}

impl<'a> From<&'a Column> for ColumnIn<'a> {
    fn from(column: &'a Column) -> Self {
        Self { data: column.data(), ends: column.ends() }
    }
}

impl<'a> ColumnIn<'a> {
    /// The first `len` items of `column`, which has as many.
    pub(super) fn first(column: &'a Column, len: usize) -> Self {
        let ends = column.ends().get(..len).unwrap_or_default();
        let bytes = ends.last().map_or(0, |&end| end as usize);
        Self { data: column.data().get(..bytes).unwrap_or_default(), ends }
    }

    /// Bytes that cross with it.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.ends.len() * 4
    }
}

/// A further column on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct NamedIn<'a> {
    pub(super) name: &'a str,
    pub(super) items: ColumnIn<'a>,
}

/// A batch on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct BatchIn<'a> {
    pub(super) values: ColumnIn<'a>,
    pub(super) keys: Option<ColumnIn<'a>>,
    pub(super) timestamps: Option<&'a [i64]>,
    pub(super) headers: Option<ColumnIn<'a>>,
    pub(super) more: &'a [NamedIn<'a>],
}

impl BatchIn<'_> {
    /// Bytes that cross with it.
    pub(super) fn bytes(&self) -> usize {
        let columns = [Some(self.values), self.keys, self.headers].into_iter().flatten();
        columns.map(|column| column.bytes()).sum::<usize>()
            + self.timestamps.map_or(0, |times| times.len() * 8)
            + self.more.iter().map(|named| named.items.bytes()).sum::<usize>()
    }
}

/// A window on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct WindowIn {
    start: i64,
    end: i64,
}

impl From<&Window> for WindowIn {
    fn from(window: &Window) -> Self {
        Self { start: window.start, end: window.end }
    }
}

/// Groups on their way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct GroupsIn<'a> {
    pub(super) states: ColumnIn<'a>,
    pub(super) keys: Option<ColumnIn<'a>>,
    pub(super) windows: Option<&'a [WindowIn]>,
}

impl GroupsIn<'_> {
    /// Bytes that cross with them.
    pub(super) fn bytes(&self) -> usize {
        self.states.bytes()
            + self.keys.map_or(0, |keys| keys.bytes())
            + self.windows.map_or(0, |windows| windows.len() * 16)
    }
}

/// Why groups are finished, on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum OccasionIn {
    #[component(name = "closed")]
    Closed,
    #[component(name = "early")]
    Early,
    #[component(name = "late")]
    Late,
    #[component(name = "asked")]
    Asked,
}

impl From<Occasion> for OccasionIn {
    fn from(why: Occasion) -> Self {
        match why {
            Occasion::Closed => Self::Closed,
            Occasion::Early => Self::Early,
            Occasion::Late => Self::Late,
            Occasion::Asked => Self::Asked,
        }
    }
}

/// A column on its way out, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct ColumnOut {
    pub(super) data: Vec<u8>,
    pub(super) ends: Vec<u32>,
}

/// A further column on its way out, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct NamedOut {
    pub(super) name: String,
    pub(super) items: ColumnOut,
}

/// A batch on its way out, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct BatchOut {
    pub(super) values: ColumnOut,
    pub(super) keys: Option<ColumnOut>,
    pub(super) timestamps: Option<Vec<i64>>,
    pub(super) headers: Option<ColumnOut>,
    pub(super) more: Vec<NamedOut>,
}

/// Refusals on their way out, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct RefusalsOut {
    pub(super) at: Vec<u32>,
    pub(super) reasons: ColumnOut,
}

/// What a call put out, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct ProducedOut {
    pub(super) records: BatchOut,
    pub(super) origins: Option<Vec<u32>>,
    pub(super) ports: Option<Vec<u32>>,
}

/// A filter's answer, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct SelectionOut {
    pub(super) keep: Vec<u32>,
    pub(super) refused: RefusalsOut,
}

/// A map's answer, or an aggregate's to groups that end, unchecked: the contract gives both the same fields.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct ProducedAndRefused {
    pub(super) produced: ProducedOut,
    pub(super) refused: RefusalsOut,
}

/// Rewritten states, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct MigratedOut {
    pub(super) states: ColumnOut,
    pub(super) refused: RefusalsOut,
}

/// An aggregate's answer to records, unchecked.
#[derive(Clone, Debug, Default, ComponentType, Lift)]
#[component(record)]
pub(super) struct AccumulatedOut {
    pub(super) states: ColumnOut,
    pub(super) produced: Option<ProducedOut>,
    pub(super) refused: RefusalsOut,
}

/// A column that a plugin lends a host function; it stays where it is.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct LentColumn {
    #[expect(dead_code, reason = "no table can be granted yet, so no key is looked at; the layout needs the field")]
    data: WasmList<u8>,
    ends: WasmList<u32>,
}

impl LentColumn {
    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// How much a log line matters, as a plugin says it.
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the derive makes the variants out of numbers, which the lint does not see")]
pub(super) enum LogLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}
