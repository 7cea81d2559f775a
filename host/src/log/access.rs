//! Where those who only read find a log while its writer has it open.
//!
//! Owns the handing over, and the bell that says when there is more to read. It must not know who reads. Invariant: what
//! is found has been opened, checked and cut by its writer; before that, nothing is found.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{Log, Mark, Struck, locked};

/// A log with the records that are of interest.
#[derive(Clone, Debug)]
pub struct Readable {
    /// The log.
    pub log: Arc<Log>,
    /// Records before this offset have been given up, and stay in the log only until their segment goes.
    pub from: u64,
    /// A random number that tells this log from another one that began in its place.
    pub born: u64,
    /// Records that are gone, though they stay in the log until their segment goes.
    pub struck: Arc<Struck>,
}

impl Readable {
    /// Offset of the first record that is there and has not been given up.
    pub fn first(&self) -> u64 {
        self.log.first().max(self.from).min(self.log.end())
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        let (first, end) = (self.first(), self.log.end());
        end - first - self.struck.count(first..end)
    }
}

#[derive(Clone, Debug, Default)]
struct Place {
    readable: Option<Readable>,
    struck: Arc<Struck>,
}

/// The place where a writer leaves its log for readers; clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Access {
    place: Arc<Mutex<Place>>,
    bell: watch::Sender<()>,
}

impl Access {
    /// A place whose writer rings `bell` when there is more to read.
    pub fn ringing(bell: watch::Sender<()>) -> Self {
        Self { place: Arc::default(), bell }
    }

    /// Leaves a log here, in the place of one that was opened before.
    pub fn show(&self, readable: Readable) {
        locked(&self.place).readable = Some(readable);
        self.bell.send_replace(());
    }

    /// Shows readers that these records are gone, which has been committed.
    pub fn strike(&self, struck: Arc<Struck>) {
        locked(&self.place).struck = struck;
    }

    /// The records that are gone.
    pub fn struck(&self) -> Arc<Struck> {
        locked(&self.place).struck.clone()
    }

    /// Shows readers what lies before `mark`, which has been committed.
    pub fn committed(&self, mark: Mark) {
        if let Some(readable) = self.readable() {
            readable.log.committed(mark);
            self.bell.send_replace(());
        }
    }

    /// The log, once its writer has opened it.
    pub fn readable(&self) -> Option<Readable> {
        let Place { readable, struck } = locked(&self.place).clone();
        Some(Readable { struck, ..readable? })
    }
}
