//! One file that is being read, and how far.
//!
//! Owns its identity: device, inode, and what its first bytes and the last ones before the offset were. It must not
//! know of other files. Invariant: everything before `offset` has been handed out, nothing behind it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    pattern::{Born, Seen},
    round::again,
};
use crate::codec::{Decoder, Progress};

/// Bytes at the beginning and before the offset that a file is known again by.
pub(super) const KNOWN: usize = 256;

/// How far the clock that files are stamped with may be behind.
const COARSE: Duration = Duration::from_millis(10);

/// How far one file has been read, as a position keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) path: String,
    pub(super) dev: u64,
    pub(super) inode: u64,
    /// Hash of the first bytes, at most [`KNOWN`] and none behind the offset.
    pub(super) fingerprint: u64,
    /// Hash of the last bytes before the offset.
    pub(super) last: u64,
    pub(super) offset: u64,
    pub(super) decoder: Progress,
    /// Whether nothing more is expected of it.
    pub(super) done: bool,
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) path: PathBuf,
    /// The path under which it was written, wherever it has been moved since.
    pub(super) home: PathBuf,
    /// The path, for places and marks.
    pub(super) name: String,
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) file: Option<File>,
    pub(super) decoder: Decoder,
    pub(super) offset: u64,
    pub(super) head: Vec<u8>,
    pub(super) last: Vec<u8>,
    /// How far the file had been looked at when what is behind the offset was no whole record.
    pub(super) tried: u64,
    /// Size and time of change when it was last looked at.
    pub(super) looked: Option<(u64, SystemTime)>,
    /// When it last had something new.
    pub(super) stirred: Instant,
    /// Whether it stands at its path no longer, or is the copy of one that was truncated: nobody should write to it.
    pub(super) moved: bool,
    /// Whether the pattern names it.
    pub(super) visible: bool,
    pub(super) born: Born,
    /// When the generation before this one was made: what was made later at its path and moved away belongs between.
    pub(super) since: Born,
    /// The file whose lines come before those of this one: the same path before a rotation, or its copy.
    pub(super) after: Option<(u64, u64)>,
    /// Whether it waits for a descriptor.
    pub(super) starved: bool,
    /// Since when it may turn out to be the copy of a file that is about to be truncated.
    pub(super) doubtful: Option<Instant>,
    pub(super) done: bool,
}

impl Tail {
    pub(super) fn new(seen: Seen, decoder: Decoder, now: Instant) -> Self {
        Self {
            name: seen.path.to_string_lossy().into_owned(),
            home: seen.path.clone(),
            path: seen.path,
            dev: seen.dev,
            inode: seen.inode,
            file: None,
            decoder,
            offset: 0,
            head: Vec::new(),
            last: Vec::new(),
            tried: 0,
            looked: None,
            stirred: now,
            moved: false,
            visible: true,
            born: seen.born,
            since: (now_at_least(seen.born.0), SystemTime::UNIX_EPOCH),
            after: None,
            starved: false,
            doubtful: None,
            done: false,
        }
    }

    pub(super) fn id(&self) -> (u64, u64) {
        (self.dev, self.inode)
    }

    /// Opens the file unless it is open.
    ///
    /// # Errors
    /// As the system says; `NotFound` too where another file stands at the path by now.
    pub(super) fn open(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            // A pipe that has taken the file's place must not hold us up.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
            if Seen::new(PathBuf::new(), &file.metadata()?).id() != self.id() {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Appends up to `most` bytes from `at` on to `buffer` and says how many there were.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn read(&mut self, at: u64, most: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let file = self.open()?;
        buffer.reserve(most);
        loop {
            match rustix::io::pread(file, spare_capacity(buffer), at) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Its first bytes, at most [`KNOWN`].
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn start(&mut self) -> io::Result<Vec<u8>> {
        let mut start = Vec::with_capacity(KNOWN);
        self.read(0, KNOWN, &mut start)?;
        start.truncate(KNOWN);
        Ok(start)
    }

    /// Whether what has been read still stands there: false after a truncation, however much was written since.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn is_intact(&mut self) -> io::Result<bool> {
        let (head, last, offset) = (self.head.clone(), self.last.clone(), self.offset);
        let file = self.open()?;
        Ok(begins_with(file, 0, &head)? && begins_with(file, offset - last.len() as u64, &last)?)
    }

    /// Notes that `bytes`, which stood at the offset, have been handed out.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        let room = KNOWN - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let new = &bytes[bytes.len().saturating_sub(KNOWN)..];
        let excess = (self.last.len() + new.len()).saturating_sub(KNOWN);
        self.last.drain(..excess);
        self.last.extend_from_slice(new);
        self.offset += bytes.len() as u64;
    }

    /// Begins again at the first byte, as another input.
    /// Returns the decoder that it was read with.
    pub(super) fn rewind(&mut self, mut decoder: Decoder) -> Decoder {
        decoder.begin(again(self.decoder.input()));
        let before = std::mem::replace(&mut self.decoder, decoder);
        self.offset = 0;
        self.tried = 0;
        self.looked = None;
        self.head.clear();
        self.last.clear();
        before
    }

    /// Says that the file stands at its path no longer.
    pub(super) fn leave(&mut self, now: Instant) {
        if !self.moved {
            self.moved = true;
            self.stirred = now;
            self.looked = None;
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            path: self.name.clone(),
            dev: self.dev,
            inode: self.inode,
            fingerprint: xxh3_64(&self.head),
            last: xxh3_64(&self.last),
            offset: self.offset,
            decoder: self.decoder.progress(),
            done: self.done,
        }
    }

    /// Takes the place of `mark`, if the bytes before its offset are those that were read then.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn resume(&mut self, mark: &Mark) -> io::Result<bool> {
        let known = mark.offset.min(KNOWN as u64);
        let file = self.open()?;
        let (mut head, mut last) = (vec![0; known as usize], vec![0; known as usize]);
        let there = file.read_exact_at(&mut head, 0).and_then(|()| file.read_exact_at(&mut last, mark.offset - known));
        match there {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if (xxh3_64(&head), xxh3_64(&last)) != (mark.fingerprint, mark.last) {
            return Ok(false);
        }
        self.decoder.restore(mark.decoder.clone());
        (self.offset, self.head, self.last, self.done) = (mark.offset, head, last, mark.done);
        Ok(true)
    }
}

/// Now, as the clock of a file system may show it, but no earlier than `made`.
fn now_at_least(made: SystemTime) -> SystemTime {
    SystemTime::now().checked_sub(COARSE).map_or(made, |now| now.max(made))
}

/// Whether `bytes` stand at `at` in `file`.
///
/// # Errors
/// As the system says.
pub(super) fn begins_with(file: &File, at: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut there = vec![0; bytes.len()];
    match file.read_exact_at(&mut there, at) {
        Ok(()) => Ok(there == bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `name` is what a rotation makes of `of`: that and a number or a date.
pub(super) fn is_rotated(name: &Path, of: &Path) -> bool {
    let (Some(name), Some(of)) =
        (name.file_name().and_then(|it| it.to_str()), of.file_name().and_then(|it| it.to_str()))
    else {
        return false;
    };
    name.strip_prefix(of).and_then(|rest| rest.strip_prefix(['.', '-'])).is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | 'T' | 'Z'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_name_is_the_name_and_a_number_or_a_date() {
        for (name, rotated) in [
            ("a.log.1", true),
            ("a.log-20260101", true),
            ("a.log.2026-01-01T00_00", true),
            ("a.log.1.gz", false),
            ("a.log.bak", false),
            ("a.log", false),
            ("a.log.", false),
            ("b.log.1", false),
        ] {
            assert_eq!(is_rotated(Path::new(name), Path::new("logs/a.log")), rotated, "{name}");
        }
    }
}
