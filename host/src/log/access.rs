//! Where those who only read find a log while its writer has it open.
//!
//! Owns the handing over. It must not know who reads. Invariant: what is found has been opened, checked and cut by its
//! writer; before that, nothing is found.

use std::sync::{Arc, Mutex};

use super::{Log, locked};

/// A log with the records that are of interest.
#[derive(Clone, Debug)]
pub struct Readable {
    /// The log.
    pub log: Arc<Log>,
    /// Records before this offset have been given up, and stay in the log only until their segment goes.
    pub from: u64,
}

impl Readable {
    /// Offset of the first record that is there and has not been given up.
    pub fn first(&self) -> u64 {
        self.log.first().max(self.from).min(self.log.end())
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.log.end() - self.first()
    }
}

/// The place where a writer leaves its log for readers; clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Access(Arc<Mutex<Option<Readable>>>);

impl Access {
    /// Leaves a log here, in the place of one that was opened before.
    pub fn show(&self, readable: Readable) {
        *locked(&self.0) = Some(readable);
    }

    /// The log, once its writer has opened it.
    pub fn readable(&self) -> Option<Readable> {
        locked(&self.0).clone()
    }
}
