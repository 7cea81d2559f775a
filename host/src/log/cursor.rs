//! A segment that is read from front to back.
//!
//! Owns the checks of each block against its place, and a small window through which heads are read. It must not know
//! which segment comes next. Invariant: nothing is allocated for a block before its head has been found to fit, and
//! nothing at or beyond the limit is looked at.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Error, Mark, Settings,
    block::{Head, Kind, LEN},
    segment,
};
use crate::disk::{Disk, File, read_exact_at};

/// What is read at once: enough for many small blocks, little enough to waste on the heads of large ones.
const WINDOW: u64 = 16 << 10;

/// An open segment.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
    pub(super) head: segment::Head,
    /// Longest payload that is read.
    longest: u32,
    window: Vec<u8>,
    /// Where in the file the window begins.
    start: u64,
}

impl Cursor {
    /// Opens the segment that begins with the record `first` and checks its head.
    pub(super) fn open(disk: &dyn Disk, folder: &Path, first: u64, settings: Settings) -> Result<Self, Error> {
        let (path, file) = segment::open(disk, folder, first)?;
        let head = segment::Head::read(&*file, &path, first)?;
        Ok(Self::over(path, file, head, settings))
    }

    /// Reads `file` as the segment that has `head`.
    pub(super) fn over(path: PathBuf, file: Box<dyn File>, head: segment::Head, settings: Settings) -> Self {
        Self { path, file, head, longest: settings.block, window: Vec::new(), start: 0 }
    }

    /// Forgets what has been read, for the file was written.
    pub(super) fn forget(&mut self) {
        self.window.clear();
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> Result<u64, Error> {
        self.file.len().map_err(Error::io("read the length of", &self.path))
    }

    /// The head of the block at `at`, which fits there and ends at or before `limit`, where the segment does.
    pub(super) fn block(&mut self, at: Mark, limit: u64) -> Result<Head, Error> {
        let Some(head) = self.peek(at.bytes, limit)? else {
            return Err(self.damaged(at.bytes, "the head of a block does not fit its checksum"));
        };
        if head.offset != at.offset {
            return Err(self.damaged(at.bytes, "a block does not follow the one before it"));
        }
        if head.end(at).bytes > limit {
            return Err(self.damaged(at.bytes, "a block is longer than what was committed"));
        }
        if matches!(head.kind, Kind::Block { .. }) && head.length > self.longest {
            return Err(self.damaged(at.bytes, "a block is longer than the limit, which may have been lowered"));
        }
        Ok(head)
    }

    /// The head at byte `at`, if one was written there.
    pub(super) fn peek(&mut self, at: u64, limit: u64) -> Result<Option<Head>, Error> {
        if at.saturating_add(LEN as u64) > limit {
            return Err(self.damaged(at, "what was committed ends within the head of a block"));
        }
        if self.seen(at, LEN).is_none() {
            self.look(at, limit)?;
        }
        match self.seen(at, LEN).and_then(|seen| seen.try_into().ok()) {
            Some(bytes) => Ok(Head::decode(bytes, self.head.salt, at)),
            None => Err(self.damaged(at, "the file ends within what was committed")),
        }
    }

    /// The payload, of the given length and checksum, of the block whose head is at `at`.
    pub(super) fn payload(&self, at: u64, length: u32, check: u64) -> Result<Bytes, Error> {
        let start = at + LEN as u64;
        let length = length as usize;
        let payload = match self.seen(start, length) {
            Some(seen) => Bytes::copy_from_slice(seen),
            None => {
                let mut payload = vec![0; length];
                match read_exact_at(&*self.file, start, &mut payload) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(self.damaged(at, "the file ends within what was committed"));
                    }
                    read => read.map_err(Error::io("read", &self.path))?,
                }
                payload.into()
            }
        };
        if xxh3_64(&payload) != check {
            return Err(self.damaged(at, "the payload of a block does not fit its checksum"));
        }
        Ok(payload)
    }

    pub(super) fn damaged(&self, at: u64, what: &'static str) -> Error {
        Error::damaged(&self.path, at, what)
    }

    /// The part of the window that holds these bytes of the file.
    fn seen(&self, at: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(length)?)
    }

    /// Moves the window to `at`. It ends at `limit`: what lies beyond may still change.
    fn look(&mut self, at: u64, limit: u64) -> Result<(), Error> {
        self.window.clear();
        self.start = at;
        self.window.resize(WINDOW.min(limit - at) as usize, 0);
        let mut read = 0;
        while let Some(rest) = self.window.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(at + read as u64, rest).map_err(Error::io("read", &self.path)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) => {
                    self.window.clear();
                    return Err(error);
                }
            }
        }
        self.window.truncate(read);
        Ok(())
    }
}
