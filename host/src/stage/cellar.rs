//! Where the groups of a stage lie that are not in memory.
//!
//! Owns the seam to it: what a worker asks, and what it may hold. It must not know what keeps them. Invariant: a group is
//! read from here only while it is as the last commit has it, so that it does not matter which commit answers.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use super::{
    failure::Failure,
    table::{Facts, Saved},
};
use crate::{epoch::Epoch, time::Window};

/// Told of a group: its key, its window, its state, and what the host knows beside it.
pub type Visit<'a> = dyn FnMut(&[u8], Window, &[u8], Facts) + 'a;

/// What keeps the groups of a stage as its last commit has them. It is asked on threads that may block.
pub trait Cellar: Send + Sync + fmt::Debug {
    /// The last epoch that has been committed.
    fn committed(&self) -> Epoch;

    /// Those of `groups` that are there, with their places in the list, in its order.
    ///
    /// # Errors
    /// When it cannot be read, which ends the stage.
    fn read(&self, groups: &[(&[u8], Window)]) -> Result<Vec<(usize, Saved)>, Failure>;

    /// Shows every group of a slot to `visit`, in order of keys.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn scan(&self, slot: u8, visit: &mut Visit<'_>) -> Result<(), Failure>;
}

/// What a worker may hold in memory, and where the rest is.
#[derive(Clone, Debug)]
pub struct Share {
    /// Bytes that its groups may take.
    pub most: usize,
    /// Its slots.
    pub slots: RangeInclusive<u8>,
    /// Where its groups lie that are not in memory.
    pub cellar: Arc<dyn Cellar>,
}
