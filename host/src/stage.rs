//! Stages: workers, the lanes between them, and what one batch becomes on its way through a plugin.
//!
//! Owns all decisions about records between source and sink. It must not know HTTP, clap or where a configuration
//! came from. Decisions are pure functions over plain values; the loops that drive them are a few lines each.

pub mod aggregate;
pub mod assemble;
pub mod breaker;
pub mod cellar;
pub mod conductor;
pub mod control;
mod exchange;
pub mod failure;
#[cfg(test)]
pub(crate) mod fake;
pub mod gate;
pub mod generation;
pub mod intake;
pub mod isolate;
pub mod lane;
pub mod live;
pub mod meter;
pub mod outcome;
pub mod outlet;
pub mod pace;
pub mod prepare;
pub mod spec;
pub mod spread;
pub mod stepping;
pub mod table;
pub mod tally;
pub mod turns;
pub mod verify;
pub mod witness;
pub mod worker;

use crate::{batch::Batch, epoch::Epoch, time::Mark};

/// What travels down a lane.
#[derive(Debug)]
pub enum Item {
    /// Records.
    Batch(Batch),
    /// How far event time has come.
    Mark(Mark),
    /// Everything before it belongs to this epoch or an earlier one. Never overtakes a record.
    Barrier(Epoch),
    /// Nothing more will come, though the input has not ended: a drain without durable state.
    Close,
    /// A worker's answer to the conductor of its stage.
    Done(Box<worker::Done>),
    /// What its conductor is told from outside.
    Control(control::Control),
}
