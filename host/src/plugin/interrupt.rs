//! What ends a call from outside: its time, and a pipeline that is taken down.
//!
//! Owns when a call may no longer go on. It must not know how calls are made. Invariant: an interrupt that was raised
//! stays raised.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::guest::Denied;

/// Ends the calls of all instances that share it, those under way within a slice of fuel, a few milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// Ends what is under way, and whatever is called later.
    pub fn raise(&self) {
        self.raised.store(true, Relaxed);
    }

    /// Whether it has been raised.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Relaxed)
    }
}

/// How long a call may go on.
#[derive(Clone, Debug)]
pub(super) struct Until {
    pub(super) deadline: Instant,
    pub(super) interrupt: Interrupt,
}

impl Until {
    /// So long from now, and never interrupted.
    pub(super) fn after(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, interrupt: Interrupt::default() }
    }

    /// Whether the call may go on.
    pub(super) fn check(&self) -> Result<(), Denied> {
        if self.interrupt.is_raised() {
            Err(Denied::Interrupted)
        } else if Instant::now() >= self.deadline {
            Err(Denied::Deadline)
        } else {
            Ok(())
        }
    }
}
