//! The embedded log: blocks of records appended to segment files, cut at the committed end, read by offset.
//!
//! Owns one folder for each log, its format (`segment`, `block`), appending, recovery, reading and retention. It must not
//! know what records mean, who reads, channels, codecs or tasks; a block is opaque bytes and a count. Invariant: what
//! lies before a committed [`Mark`] is read back as it was appended or refused by file and byte, and nothing that
//! lies beyond it is ever read.
//!
//! The order that makes it durable: `append` …, `sync` gives a mark, the caller commits the mark, `committed` shows it to
//! the readers. After a crash `open` gets the mark of the last commit.

mod access;
mod append;
mod block;
mod cursor;
mod error;
mod read;
mod recover;
mod repair;
mod retain;
mod segment;
mod struck;
mod whole;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{disk::Disk, epoch::Epoch};

pub use access::{Access, Readable};
use append::Writer;
pub use error::Error;
pub use read::{From, Reader, Verified};
pub use recover::make_folders;
pub use repair::{Skipped, repair};
pub use retain::{Keep, Removed};
use segment::Segment;
pub use struck::{NoRow, Row, Struck};

/// An end of a log, as a commit holds it; the default is the end of a log without a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Offset of the next record.
    pub offset: u64,
    /// The segment in which the end lies, by the offset of its first record.
    pub segment: u64,
    /// Length of that segment in bytes.
    pub bytes: u64,
    /// A random number that the segment bears, so that no other file can pass for it.
    pub salt: u64,
}

/// What is appended and read as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The records, encoded as the caller likes.
    pub payload: Bytes,
    /// How many records there are, at least 1.
    pub records: u32,
    /// Lowest and highest time among the records, milliseconds since the Unix epoch.
    pub times: (i64, i64),
    /// The epoch that appended it.
    pub epoch: Epoch,
}

/// The sizes of a log, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Length from which on a segment is closed and the next begun; only a block that is longer makes a longer one.
    /// Whole segments are what retention removes, and what a start reads the heads of.
    pub segment: u32,
    /// Longest payload of a block; a longer one is neither appended nor read.
    pub block: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment: 64 << 20, block: 16 << 20 }
    }
}

/// One open log, shared by its writer and its readers; only one may be open on a folder.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    settings: Settings,
    shelf: Mutex<Shelf>,
    /// The committed end's offset, for those who only want to know whether there is more.
    end: AtomicU64,
    writer: Mutex<Writer>,
    /// Held while files are synced or removed, so that the writer need not be.
    durability: Mutex<()>,
}

/// What there is to read. Its lock is never held across I/O.
#[derive(Debug)]
struct Shelf {
    /// In order; the last one is being written.
    segments: VecDeque<Segment>,
    committed: Mark,
}

impl Log {
    /// Opens the log in `folder`, which is made where it is missing, and cuts what lies beyond `committed`, the mark of
    /// the last commit; without one, nothing was committed. Reads the heads of all segments and of the last one's
    /// blocks; [`verify`](Self::verify) reads the rest. Appending begins a segment.
    ///
    /// # Errors
    /// Damage before the mark, a newer format, and what the disk says; nothing has been cut then.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        committed: Option<Mark>,
        settings: Settings,
    ) -> Result<Arc<Self>, Error> {
        let committed = committed.unwrap_or_default();
        let segments = recover::recover(&*disk, folder, committed, settings)?;
        let highest = segments.back().map_or(i64::MIN, |last| last.highest);
        Ok(Arc::new(Self {
            disk,
            folder: folder.to_owned(),
            settings,
            shelf: Mutex::new(Shelf { segments, committed }),
            end: AtomicU64::new(committed.offset),
            writer: Mutex::new(Writer::new(committed, highest)),
            durability: Mutex::new(()),
        }))
    }

    /// Opens the log in `folder` as [`open`](Self::open) does, but keeps every whole block behind `committed` too, and says how
    /// many bytes behind the last of these were cut: its writer answers for what was synced before a commit holds it.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_whole(
        disk: Arc<dyn Disk>,
        folder: &Path,
        committed: Mark,
        settings: Settings,
    ) -> Result<(Arc<Self>, u64), Error> {
        let (end, torn) = whole::end(&*disk, folder, committed, settings)?;
        let log = Self::open(disk, folder, (end != Mark::default()).then_some(end), settings)?;
        Ok((log, torn))
    }

    /// Whether `folder` holds segments of a log, of whatever state they are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_in(disk: &dyn Disk, folder: &Path) -> Result<bool, Error> {
        match segment::list(disk, folder) {
            Err(error) if error.is_not_found() => Ok(false),
            listed => Ok(!listed?.is_empty()),
        }
    }

    /// Shows readers what lies before `mark`, which has been committed. A mark older than the last one changes nothing.
    pub fn committed(&self, mark: Mark) {
        let mut shelf = locked(&self.shelf);
        if mark.offset > shelf.committed.offset {
            shelf.committed = mark;
            self.end.store(mark.offset, Ordering::Release);
        }
    }

    /// Offset of the first record that is still there; where there is none, of the next one.
    pub fn first(&self) -> u64 {
        locked(&self.shelf).segments.front().map_or(0, |segment| segment.first)
    }

    /// Offset after the last committed record; as cheap as reading a number, so it may be asked at every turn.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The end of what is committed.
    pub fn committed_end(&self) -> Mark {
        locked(&self.shelf).committed
    }

    /// Length of all segments in bytes, with what was appended and not yet written.
    pub fn bytes(&self) -> u64 {
        locked(&self.shelf).segments.iter().map(|segment| segment.end.bytes).sum()
    }
}

/// A thread that panicked with the lock held has left nothing half-done: every change under a lock is one assignment
/// after all that can fail.
fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
