//! Appending: the segment that is written, and what of it is durable.
//!
//! Owns the buffer, the change of segments and syncs. Invariants: an append that fails has appended nothing and lost
//! nothing of what was appended before; a mark is given out only when all before it is durable; a sync that failed is
//! never asked again.

use std::{path::PathBuf, sync::Arc};

use super::{
    Block, Error, Log, Mark, Settings,
    block::{Head, LEN},
    locked,
    segment::{self, Segment},
};
use crate::disk::{File, How, write_all_at};

/// What is written at once: large enough that calls cost nothing beside the bytes.
const WRITE: usize = 1 << 20;

/// The writing half of a log.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` until something is appended: an earlier process's segment is not continued.
    active: Option<Active>,
    /// Highest time in the segment before the first that is appended.
    highest: i64,
    /// Closed segments that have been written and not yet synced.
    unsynced: Vec<(PathBuf, Arc<dyn File>)>,
    /// Segments have been created since the folder was synced.
    created: bool,
    /// All before it is durable.
    synced: Mark,
    /// Why nothing can be appended any more.
    poison: Option<Error>,
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Active {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Where the next block goes, `buffer` included.
    end: Mark,
    highest: i64,
    /// What follows `written`, and is not yet in the file.
    buffer: Vec<u8>,
    written: u64,
}
impl Active {
    /// Whether a block of this size still belongs here; a segment has at least one.
    fn has_room(&self, size: u64, settings: Settings) -> bool {
        self.end.bytes + size <= u64::from(settings.segment)
    }

    /// Makes room in the buffer.
    fn make_room(&mut self, size: u64) -> Result<(), Error> {
        if self.buffer.len() as u64 + size > WRITE as u64 { self.flush() } else { Ok(()) }
    }

    /// Writes the buffer; if that fails it is kept, and the next time writes it in the same place.
    fn flush(&mut self) -> Result<(), Error> {
        write_all_at(&*self.file, self.written, &self.buffer).map_err(Error::io("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE);
        Ok(())
    }

    fn push(&mut self, head: &Head, block: &Block) {
        self.buffer.extend_from_slice(&head.encode(self.end));
        self.buffer.extend_from_slice(&block.payload);
        self.end = head.end(self.end);
        self.highest = self.highest.max(block.times.1);
    }
}

impl Writer {
    /// A writer that begins a segment after `end`, before which all is durable, and the highest time in the segment there.
    pub(super) fn new(end: Mark, highest: i64) -> Self {
        Self { active: None, highest, unsynced: Vec::new(), created: false, synced: end, poison: None }
    }

    pub(super) fn is_sound(&self) -> Result<(), Error> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    /// From now on the log is of no use to whoever needs to know what is durable.
    pub(super) fn poison(&mut self, error: Error) {
        self.poison.get_or_insert(error);
    }

    pub(super) fn end(&self) -> Mark {
        self.active.as_ref().map_or(self.synced, |active| active.end)
    }

    /// Closes the segment that is written, if there is one, and makes `next` the one that is.
    fn change_to(&mut self, next: Active) -> &mut Active {
        self.created = true;
        self.unsynced.extend(self.active.take().map(|full| (full.path, full.file)));
        self.active.insert(next)
    }
}

/// What a sync has to do.
struct Due {
    end: Mark,
    files: Vec<(PathBuf, Arc<dyn File>)>,
    created: bool,
}

impl Log {
    /// Appends a block and returns the offset of its first record; it is durable after the next [`sync`](Self::sync).
    /// Up to 1 MiB, or one block if that is more, stays in memory.
    ///
    /// # Errors
    /// A block without records or over the limit, what the disk says, and a sync that has failed before. The block has
    /// not been appended then, what was before it still is, and after an I/O error it may be tried again.
    pub fn append(&self, block: &Block) -> Result<u64, Error> {
        let writer = &mut *locked(&self.writer);
        writer.is_sound()?;
        let offset = writer.end().offset;
        let head = self.head(block, offset)?;
        let size = LEN as u64 + u64::from(head.length);
        let active = match &mut writer.active {
            Some(active) if active.has_room(size, self.settings) => {
                active.make_room(size)?;
                active
            }
            _ => {
                let next = self.next_segment(writer)?;
                writer.change_to(next)
            }
        };
        active.push(&head, block);
        self.show(active);
        Ok(offset)
    }

    /// Makes all that was appended durable, and returns the end of it for the commit. Without anything new it does
    /// nothing.
    ///
    /// # Errors
    /// `Io` where it could not be written: nothing is lost and it may be tried again. `Unsynced` where it was written and
    /// nobody knows whether it is durable: from then on every append and sync fails with this first error.
    pub fn sync(&self) -> Result<Mark, Error> {
        let _one_at_a_time = locked(&self.durability);
        let due = self.write()?;
        let (end, done) = (due.end, self.make_durable(due));
        let mut writer = locked(&self.writer);
        match done {
            Ok(()) => writer.synced = end,
            Err(error) => writer.poison(error),
        }
        writer.is_sound()?;
        Ok(end)
    }

    /// The head of a block that fits.
    fn head(&self, block: &Block, offset: u64) -> Result<Head, Error> {
        let (length, limit) = (block.payload.len(), self.settings.block);
        let unfit = |what| Err(Error::Unfit { what });
        match u32::try_from(length) {
            _ if block.records == 0 => unfit("it has no records".to_owned()),
            _ if offset.checked_add(u64::from(block.records)).is_none() => unfit("no offsets are left".to_owned()),
            Ok(length) if length <= limit => Ok(Head::of(block, length, offset)),
            _ => unfit(format!("its {length} bytes are over the limit of {limit}")),
        }
    }

    /// The segment after the one that is written, all of which is written first; where that fails, that one can go on.
    fn next_segment(&self, writer: &mut Writer) -> Result<Active, Error> {
        let (before, highest) = match &mut writer.active {
            Some(full) => {
                full.flush()?;
                (full.end, full.highest)
            }
            None => (writer.synced, writer.highest),
        };
        let head = segment::Head::new(before, highest);
        let path = segment::path(&self.folder, before.offset);
        // A file that is there already is what a try that failed has left: no segment with this name was committed.
        let file = self.disk.open(&path, How::Either).map_err(Error::io("create", &path))?;
        file.set_len(0).map_err(Error::io("empty", &path))?;
        let (file, buffer) = (Arc::from(file), head.encode().to_vec());
        Ok(Active { path, file, end: head.end(), highest: i64::MIN, buffer, written: 0 })
    }

    /// Writes what is buffered, and says what is to be synced then, which needs the writer no longer.
    fn write(&self) -> Result<Due, Error> {
        let mut writer = locked(&self.writer);
        writer.is_sound()?;
        let mut due = Due { end: writer.synced, files: Vec::new(), created: false };
        if let Some(active) = &mut writer.active
            && active.end != due.end
        {
            active.flush()?;
            due.end = active.end;
            due.files.push((active.path.clone(), active.file.clone()));
            due.files.append(&mut writer.unsynced);
            due.created = std::mem::take(&mut writer.created);
        }
        Ok(due)
    }

    fn make_durable(&self, due: Due) -> Result<(), Error> {
        for (path, file) in &due.files {
            file.sync().map_err(Error::unsynced(path))?;
        }
        if due.created { self.sync_folder() } else { Ok(()) }
    }

    pub(super) fn sync_folder(&self) -> Result<(), Error> {
        self.disk.sync_folder(&self.folder).map_err(Error::unsynced(&self.folder))
    }

    /// Keeps what readers and retention are told in step with the writer.
    fn show(&self, active: &Active) {
        let mut shelf = locked(&self.shelf);
        let segment = Segment { first: active.end.segment, end: active.end, highest: active.highest };
        match shelf.segments.back_mut().filter(|last| last.first == segment.first) {
            Some(last) => *last = segment,
            None => shelf.segments.push_back(segment),
        }
    }
}
