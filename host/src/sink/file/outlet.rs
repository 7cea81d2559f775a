//! One file that records are appended to.
//!
//! Owns its encoder, what waits to be written, and where rotation cuts. It must not know how a path came about.
//! Invariant: a cut lies between two records, and every file begins as its format begins.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{super::backlog::Backlog, Rotate, place::Place};
use crate::{
    batch::Batch,
    codec::{Encoder, Format, Refusal},
    disk::{Below, Output},
};

/// Longest first line that is looked at in a file that is there already.
const HEAD: usize = 64 << 10;

/// A file, open or not, and what it is to receive.
#[derive(Debug)]
pub(super) struct Outlet {
    path: String,
    format: Format,
    file: Option<Box<dyn Output>>,
    /// Whether something has been written that may not be on the disk.
    is_dirty: bool,
    /// Whether it is on the disk that the file is called so.
    is_named: bool,
    encoder: Encoder,
    backlog: Backlog,
    /// Bytes to write before each rotation that is due.
    parts: VecDeque<usize>,
    /// What the file in hand will hold, in bytes, when all after the last cut is written.
    size: u64,
    born: Instant,
    /// When it was last used, in batches.
    pub(super) used: u64,
}

impl Outlet {
    /// An outlet whose file is opened when it is written to.
    pub(super) fn closed(path: &str, format: Format) -> Self {
        Self {
            path: path.to_owned(),
            format,
            file: None,
            is_dirty: false,
            is_named: false,
            encoder: Encoder::new(format),
            backlog: Backlog::default(),
            parts: VecDeque::new(),
            size: 0,
            born: Instant::now(),
            used: 0,
        }
    }

    /// Opens the file and goes on where it ends.
    ///
    /// # Errors
    /// As the system says; `InvalidData` where the file was not written in this format.
    pub(super) fn open(path: &str, place: &Place, format: Format) -> io::Result<Self> {
        let mut outlet = Self::closed(path, format);
        let file = place.append(path)?;
        let about = file.about()?;
        outlet.size = if about.is_regular { about.bytes } else { 0 };
        if outlet.size > 0 {
            let head = if format == Format::Csv { head(&*file)? } else { Vec::new() };
            outlet.encoder = Encoder::resume(format, &head)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:#}")))?;
            let age = SystemTime::now().duration_since(about.made).unwrap_or(Duration::ZERO);
            outlet.born = outlet.born.checked_sub(age).unwrap_or(outlet.born);
        }
        outlet.file = Some(file);
        Ok(outlet)
    }

    /// Whether a descriptor is held.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The file in hand, opened where rotation has just put one aside; `None` where there is nothing to be synced: the
    /// path has never been opened, or a device stands there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn regular(&mut self, place: &Place) -> io::Result<Option<&dyn Output>> {
        if self.file.is_none() && matches!(place, Place::Fixed(..)) {
            self.file = Some(place.append(&self.path)?);
        }
        let Some(file) = &self.file else { return Ok(None) };
        Ok(file.about()?.is_regular.then_some(&**file))
    }

    /// Waits until what has been written to a file below `folder`, and its name, are on the disk.
    ///
    /// # Errors
    /// As the system says; then nobody knows what of it is on the disk.
    pub(super) fn settle(&mut self, folder: &dyn Below) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.is_dirty {
            file.sync()?;
            self.is_dirty = false;
        }
        if !self.is_named {
            folder.sync_names(&self.path)?;
            self.is_named = true;
        }
        Ok(())
    }

    /// The path, as it was rendered.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Takes in the records at `records`, with a cut wherever `rotate` wants one.
    pub(super) fn take(&mut self, batch: &Batch, records: Range<usize>, rotate: &Rotate, refused: &mut Vec<Refusal>) {
        if rotate.every.is_some_and(|every| self.born.elapsed() >= every.0) && self.size > 0 {
            self.cut();
        }
        let Some(most) = rotate.bytes.map(|most| most.0) else {
            self.encode(batch, records, refused);
            return;
        };
        let before = (self.backlog.len(), self.encoder.clone(), self.size, refused.len());
        self.encode(batch, records.clone(), refused);
        if self.size <= most {
            return;
        }
        // Too much for this file: once more, record by record, to see where it is full.
        self.undo(before, refused);
        for at in records {
            let before = (self.backlog.len(), self.encoder.clone(), self.size, refused.len());
            self.encode(batch, at..at + 1, refused);
            if self.size > most && before.2 > 0 {
                self.undo(before, refused);
                self.cut();
                self.encode(batch, at..at + 1, refused);
            }
        }
    }

    fn encode(&mut self, batch: &Batch, records: Range<usize>, refused: &mut Vec<Refusal>) {
        let before = self.backlog.len();
        self.encoder.encode(batch, records, self.backlog.tail(), refused);
        self.size += (self.backlog.len() - before) as u64;
    }

    fn undo(&mut self, before: (usize, Encoder, u64, usize), refused: &mut Vec<Refusal>) {
        let added = self.backlog.len() - before.0;
        let tail = self.backlog.tail();
        tail.truncate(tail.len() - added);
        (self.encoder, self.size) = (before.1, before.2);
        refused.truncate(before.3);
    }

    fn cut(&mut self) {
        self.parts.push_back(self.backlog.len() - self.parts.iter().sum::<usize>());
        self.encoder = Encoder::new(self.format);
        self.size = 0;
        self.born = Instant::now();
    }

    /// Writes everything that waits, rotating at the cuts. After an error it goes on where it stopped.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn write_out(&mut self, place: &Place) -> io::Result<()> {
        while let Some(&part) = self.parts.front() {
            let before = self.backlog.len();
            let outcome = self.write(part, place);
            let left = part - (before - self.backlog.len());
            if let Some(front) = self.parts.front_mut() {
                *front = left;
            }
            outcome?;
            if let Some(file) = &self.file {
                // Put aside, nobody syncs it any more.
                if file.about()?.is_regular {
                    file.sync()?;
                }
                place.shelve(&self.path)?;
                (self.file, self.is_named) = (None, false);
            }
            self.parts.pop_front();
        }
        self.write(usize::MAX, place)
    }

    fn write(&mut self, most: usize, place: &Place) -> io::Result<()> {
        if most.min(self.backlog.len()) == 0 {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(place.append(&self.path)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        self.is_dirty = true;
        self.backlog.drain(most, |bytes| file.append(bytes))
    }

    /// Gives back the memory of a burst.
    pub(super) fn shrink(&mut self, most: usize) {
        self.backlog.shrink(most);
    }
}

/// The beginning of a file.
fn head(file: &dyn Output) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut len = 0;
    while let Some(rest) = head.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(len as u64, rest)? {
            0 => break,
            read => len += read,
        }
    }
    head.truncate(len);
    Ok(head)
}
