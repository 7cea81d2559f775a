//! The file as the embedded store uses it: behind the first page, and only while this host's generation holds.
//!
//! Owns the fence and the memory of what went wrong last, which the embedded store does not tell apart. Invariant: not a
//! byte is written once the file has another generation.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redb::StorageBackend;

use super::{StoreError, front};
use crate::{
    bug,
    disk::{File, read_exact_at, write_all_at},
};

/// The file behind its first page.
#[derive(Clone, Debug)]
pub(super) struct Backing {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) generation: u64,
    trouble: Arc<Mutex<Option<StoreError>>>,
}

impl Backing {
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf, generation: u64) -> Self {
        Self { file, path, generation, trouble: Arc::default() }
    }

    /// What went wrong last.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What an error of the file means for the store.
    pub(super) fn meaning(&self, doing: &str, error: &io::Error) -> StoreError {
        meaning(&self.path, doing, error)
    }

    fn noted<T>(&self, doing: &str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.note(self.meaning(doing, error)))
    }

    fn note(&self, trouble: StoreError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// Refuses when another host has taken the store over. It is looked at before each write and not once a commit, for
    /// a host may be stopped in the middle of one; it costs a read of 16 bytes twice beside a write of a page.
    pub(super) fn fence(&self) -> io::Result<()> {
        let theirs = self.noted("reading the generation", front::generation(&*self.file))?;
        if theirs == Some(self.generation) {
            return Ok(());
        }
        let (file, ours) = (self.path.clone(), self.generation);
        self.note(StoreError::Fenced { file, ours, theirs: theirs.unwrap_or_default() });
        Err(io::Error::other("another host has taken the store over"))
    }
}

/// What is never taken for a full disk: after a sync that failed nobody knows what has reached it.
const SYNCING: &str = "syncing";

/// What an error of a file means for the store: room is waited for, all else ends it.
pub(super) fn meaning(path: &Path, doing: &str, error: &io::Error) -> StoreError {
    let file = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if doing != SYNCING => StoreError::Full { file },
        io::ErrorKind::UnexpectedEof => {
            StoreError::Damaged { file, what: "the file ends before what it holds".to_owned() }
        }
        _ => StoreError::Failed { file, why: format!("{doing} failed with “{error}”") },
    }
}

impl StorageBackend for Backing {
    fn len(&self) -> io::Result<u64> {
        self.noted("asking for the length", self.file.len()).map(|length| length.saturating_sub(front::LENGTH))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = behind(offset).and_then(|at| read_exact_at(&*self.file, at, out));
        self.noted(&format!("reading at byte {offset}"), result)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fence()?;
        let result = behind(len).and_then(|len| self.file.set_len(len));
        self.noted("setting the length", result)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fence()?;
        if bug::is_seeded("commit-without-a-sync") {
            return Ok(());
        }
        self.noted(SYNCING, self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fence()?;
        let result = behind(offset).and_then(|at| write_all_at(&*self.file, at, data));
        self.noted(&format!("writing at byte {offset}"), result)
    }
}

/// The place in the file of a place in the embedded store. A damaged one may lie anywhere.
fn behind(offset: u64) -> io::Result<u64> {
    offset.checked_add(front::LENGTH).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_but_not_where_a_sync_says_so() {
        let meaning = |doing, kind: io::ErrorKind| meaning(Path::new("/store"), doing, &kind.into());
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(meaning("writing at byte 1", full), StoreError::Full { .. }));
            assert!(matches!(meaning(SYNCING, full), StoreError::Failed { .. }));
        }
        assert!(matches!(meaning("reading", io::ErrorKind::UnexpectedEof), StoreError::Damaged { .. }));
        assert!(matches!(meaning("reading", io::ErrorKind::Other), StoreError::Failed { .. }));
    }
}
