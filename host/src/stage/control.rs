//! What a running stage is told from outside, and acts on between two calls.
//!
//! Owns the words only: they come on a lane of the stage's own inbox, which is looked at before anything else, so that
//! they wake a stage that is idle or paused and need no barrier. Invariant: what is told never waits for room.

use super::generation::Swap;

/// What a running stage is told.
#[derive(Debug)]
pub enum Control {
    /// Its breaker has been tripped or reset: look at it again.
    Look,
    /// Go on with another generation of the plugin, from the next turn on.
    Swap(Swap),
}
