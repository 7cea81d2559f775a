//! What a running pipeline can be told.
//!
//! Owns the words only. Invariant: whatever is told waits for nobody.

use std::time::Duration;

use super::{coordinator::Participant, reload, source_task::OpenWindows};
use crate::stage::gate::Lever;

/// How a pipeline is to be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When what is not finished is given up.
    pub deadline: Duration,
    /// What becomes of windows that are open, where the host keeps state; where it does not, they close.
    pub windows: OpenWindows,
}

impl Drain {
    /// A drain that gives up after `deadline`, and keeps windows where they can be kept.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline, windows: OpenWindows::Keep }
    }
}

/// What a pipeline can be told.
#[derive(Debug)]
pub enum Command {
    /// Take nothing new, finish what is under way, commit, end.
    Drain(Drain),
    /// Begin an epoch soon.
    Epoch,
    /// For the breaker of a stage or sink.
    Breaker(Participant, Lever),
    /// For the breaker of the plugin that stands in for that of the stage at this position.
    Fallback(usize, Lever),
    /// Reload a plugin, or go back to the one before.
    Reload(reload::Order),
}
