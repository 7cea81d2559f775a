//! What a source task is told, and what it says.
//!
//! Owns the words only. Invariant: everything that a source and its supervisor know of each other is here.

use std::time::Duration;

use crate::{batch::Limit, epoch::Epoch, pipeline::committed::SourcePoint, time::Wall};

/// What a source is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Put this barrier into the stream.
    Begin(Epoch),
    /// This epoch has committed.
    Committed(Epoch),
    /// The barrier that comes next is the last one.
    Last,
    /// Take nothing new; send what has been accepted, then nothing but barriers.
    Drain(OpenWindows),
    /// End.
    Quit,
}

/// What a source says.
#[derive(Debug)]
pub enum Word {
    /// It has put the barrier into its stream.
    At(usize, Epoch, SourcePoint),
    /// It will send nothing more but barriers.
    Finished(usize),
    /// Somebody waits for a commit.
    Wanted,
}

/// What a source task is told once.
#[derive(Debug)]
pub struct Terms {
    /// Position in the graph.
    pub number: usize,
    /// Name of the source.
    pub name: String,
    /// The largest batch.
    pub limit: Limit,
    /// How long to wait to fill one.
    pub linger: Duration,
    /// After how long without a record the source holds nobody's watermark.
    pub idle: Duration,
    /// How much to keep for a restart, in bytes, where the source cannot seek.
    pub uncommitted: usize,
    /// Whether somebody below needs ids.
    pub has_ids: bool,
    /// Whether somebody reads what is refused.
    pub is_refused_read: bool,
    /// What time it is, for records that do not say.
    pub wall: Wall,
}

/// What a drain does to windows that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenWindows {
    /// They stay in the committed state, where the next process goes on with them.
    Keep,
    /// They close, marked incomplete: nothing outlives the process, or somebody wants it so.
    Close,
}
