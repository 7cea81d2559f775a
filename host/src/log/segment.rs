//! One segment file: its name and its head.
//!
//! Owns both. It must not know blocks. The file is named after the offset of its first record, twenty digits and `.log`.
//! The head is little-endian, [`LEN`] bytes, and keeps this form in every version of the format; blocks follow it:
//!
//! | bytes | hold |
//! |---|---|
//! | 0–8 | `tidelog` and a zero |
//! | 8–12 | version of the format, 1 |
//! | 12–16 | zero |
//! | 16–24 | salt: a random number, seed of the blocks' checksums |
//! | 24–32 | offset of the first record |
//! | 32–40 | the segment before, by the offset of its first record |
//! | 40–48 | length of the segment before in bytes; 0 if there was none |
//! | 48–56 | salt of the segment before |
//! | 56–64 | highest time in the segment before, ms |
//! | 64–72 | xxh3-64 of the above |
//!
//! So each head vouches for the file before it, and a log is opened without reading what its closed segments hold.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::{Error, Mark, block::number};
use crate::disk::{Disk, File, How, read_exact_at};

/// Length of a head.
pub(super) const LEN: usize = 72;

/// The version that is written.
const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"tidelog\0";

/// Where the checksum stands.
const CHECK: usize = 64;

/// A segment as an open log knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Offset of its first record, which is its name.
    pub(super) first: u64,
    pub(super) end: Mark,
    /// Highest time among its records.
    pub(super) highest: i64,
}

/// What a segment says of itself and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) salt: u64,
    /// End of the segment before; its offset is that of this segment's first record.
    pub(super) before: Mark,
    /// Highest time in the segment before.
    pub(super) highest: i64,
}

impl Head {
    /// The head of a segment after `before`.
    pub(super) fn new(before: Mark, highest: i64) -> Self {
        // Every `RandomState` has other keys: the one source of randomness that the standard library has.
        Self { salt: RandomState::new().hash_one(before.offset), before, highest }
    }

    /// Where the first block stands.
    pub(super) fn end(&self) -> Mark {
        let first = self.before.offset;
        Mark { offset: first, segment: first, bytes: LEN as u64, salt: self.salt }
    }

    pub(super) fn encode(&self) -> [u8; LEN] {
        let mut head = [0; LEN];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[16..24].copy_from_slice(&self.salt.to_le_bytes());
        head[24..32].copy_from_slice(&self.before.offset.to_le_bytes());
        head[32..40].copy_from_slice(&self.before.segment.to_le_bytes());
        head[40..48].copy_from_slice(&self.before.bytes.to_le_bytes());
        head[48..56].copy_from_slice(&self.before.salt.to_le_bytes());
        head[56..64].copy_from_slice(&self.highest.to_le_bytes());
        let check = xxh3_64(&head[..CHECK]);
        head[CHECK..].copy_from_slice(&check.to_le_bytes());
        head
    }

    /// Reads the head of `file`, whose name says that it begins with the record `first`.
    pub(super) fn read(file: &dyn File, path: &Path, first: u64) -> Result<Self, Error> {
        let damaged = |what| Err(Error::damaged(path, 0, what));
        let mut head = [0; LEN];
        match read_exact_at(file, 0, &mut head) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return damaged("it ends within its head");
            }
            read => read.map_err(Error::io("read", path))?,
        }
        if head[..8] != MAGIC {
            return damaged("it is not a segment of a log");
        }
        if xxh3_64(&head[..CHECK]) != number(&head, CHECK) {
            return damaged("its head does not fit its checksum");
        }
        let format = number(&head, 8) as u32;
        if format > FORMAT {
            return Err(Error::NewerFormat { file: path.to_owned(), found: format, known: FORMAT });
        }
        if number(&head, 24) != first {
            return damaged("it is another segment than its name says");
        }
        let before =
            Mark { offset: first, segment: number(&head, 32), bytes: number(&head, 40), salt: number(&head, 48) };
        Ok(Self { salt: number(&head, 16), before, highest: number(&head, 56) as i64 })
    }
}

/// The file of the segment that begins with the record `first`.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The offsets after which the segments in a folder are named, in order; other files are not the log's business.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>, Error> {
    let files = disk.list(folder).map_err(Error::io("list", folder))?;
    Ok(files.iter().filter_map(|file| first(file)).collect())
}

fn first(file: &Path) -> Option<u64> {
    let digits = file.file_name()?.to_str()?.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Opens the segment that begins with the record `first`.
pub(super) fn open(disk: &dyn Disk, folder: &Path, first: u64) -> Result<(PathBuf, Box<dyn File>), Error> {
    let path = path(folder, first);
    let file = disk.open(&path, How::Existing).map_err(Error::io("open", &path))?;
    Ok((path, file))
}
