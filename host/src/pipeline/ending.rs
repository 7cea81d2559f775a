//! How a pipeline ends.
//!
//! Owns the list of endings. It must not know how any of them comes about.

use std::sync::Arc;

use super::{board::Board, committed::Committed};
use crate::stage::failure::{self, Failure};

/// How a pipeline ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All sources ended.
    Completed,
    /// It was drained.
    Drained,
    /// It was told to drain, and did not finish in time.
    DeadlinePassed,
    /// A refused record stopped it.
    Stopped(Box<failure::Stop>),
    /// A plugin committed a fault.
    Faulted(Box<failure::Report>),
    /// Something else that does not go away by itself.
    Failed(String),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(report) => Self::Faulted(report),
            Failure::Stop(stop) => Self::Stopped(stop),
            failure @ (Failure::Unread { .. } | Failure::Gone(_)) => Self::Failed(failure.to_string()),
        }
    }
}

/// What is left of a pipeline.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// What it has committed.
    pub committed: Committed,
    /// Its board, for a last look.
    pub board: Arc<Board>,
}
