//! What can go wrong with a log.
//!
//! Owns the distinctions that a caller acts on. Invariant: whatever concerns a file names it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// Why a log could not do what it was asked; clones, for a poisoned log says it again and again.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// What was committed is not there as it was written. Nothing is skipped; see [`repair`](super::repair()).
    #[error("read {} at byte {at}: {what}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the part that does not fit begins.
        at: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A newer tidegate wrote this.
    #[error("read {}: it has format {found} and this version knows up to {known}; use the newer one", file.display())]
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Retention has removed what a reader is at.
    #[error("read records that retention has removed: the first there is has offset {first}")]
    Gone {
        /// Offset of the first record that is still there.
        first: u64,
    },
    /// A reader was to begin where nothing has been committed yet.
    #[error("read from offset {offset}: the log ends at {end}")]
    Beyond {
        /// Where it was to begin.
        offset: u64,
        /// Offset after the last committed record.
        end: u64,
    },
    /// The disk failed. What was appended is kept, and the same may be asked again.
    #[error("{doing} {}: {error}", file.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or folder.
        file: PathBuf,
        /// What the disk said.
        error: Arc<io::Error>,
    },
    /// A sync failed, so that nobody knows what is durable: the log takes nothing more until it is opened again.
    #[error("sync {}: {error}; what is durable is unknown until the log is opened again", file.display())]
    Unsynced {
        /// The file or folder.
        file: PathBuf,
        /// What the disk said.
        error: Arc<io::Error>,
    },
    /// A block that the log does not take.
    #[error("append a block: {what}")]
    Unfit {
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    pub(super) fn damaged(file: &Path, at: u64, what: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), at, what }
    }

    pub(super) fn io(doing: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, file: file.to_owned(), error: Arc::new(error) }
    }

    pub(super) fn unsynced(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Unsynced { file: file.to_owned(), error: Arc::new(error) }
    }

    /// Whether the disk said that something is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}
