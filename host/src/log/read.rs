//! Reading what is committed.
//!
//! Owns where a reader begins and how it goes on from segment to segment. It must not know who reads, nor wait: whoever
//! reads compares [`Log::end`] with [`Reader::offset`] when it is told of a commit. Invariant: a reader gives the
//! committed blocks in order, each once, and where one does not fit its place it stays there and says so.

use std::sync::Arc;

use super::{
    Block, Error, Log, Mark, Shelf,
    block::{Head, Kind},
    cursor::Cursor,
    locked, segment,
};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first record that is still there.
    Start,
    /// After the last committed record.
    End,
    /// The block that holds the record with this offset, or that will hold it if it is the next one.
    Offset(u64),
    /// The first block that holds a record of this time, in milliseconds since the Unix epoch, or of a later one; the end
    /// where there is none.
    Time(i64),
}

/// Reads the committed blocks of a log in order; each thread has its own.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    at: Mark,
    segment: Option<Cursor>,
}

/// What [`Log::verify`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks whose checksums fit.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
}

/// What a reader comes to next.
enum Next {
    /// More, up to this byte of the segment that it is in.
    Here(u64),
    /// The end of a closed segment, which is this.
    Segment(Mark),
    /// The end of what is committed.
    End,
}

impl Shelf {
    fn next(&self, at: Mark) -> Result<Next, Error> {
        if at.offset == self.committed.offset {
            return Ok(Next::End);
        }
        let with = |first| self.segments.binary_search_by_key(&first, |segment| segment.first).ok();
        let Some(segment) = with(at.segment).and_then(|place| self.segments.get(place)) else {
            // Retention may take the segment that a reader has read to its end; what comes next is still there.
            return match with(at.offset) {
                Some(_) => Ok(Next::Segment(at)),
                None => Err(Error::Gone { first: self.segments.front().map_or(0, |segment| segment.first) }),
            };
        };
        let end = if segment.first == self.committed.segment { self.committed } else { segment.end };
        Ok(if at.bytes == end.bytes { Next::Segment(end) } else { Next::Here(end.bytes) })
    }

    /// The beginning of the segment at `place`.
    fn start_of(&self, place: usize) -> Mark {
        let committed = self.committed.segment;
        match self.segments.get(place).filter(|segment| segment.first <= committed) {
            Some(segment) if self.committed != Mark::default() => start_of(segment.first),
            _ => self.committed,
        }
    }
}

/// Before the head of the segment that begins with the record `first`.
fn start_of(first: u64) -> Mark {
    Mark { offset: first, segment: first, bytes: 0, salt: 0 }
}

impl Log {
    /// A reader that begins where it is told.
    ///
    /// # Errors
    /// `Gone` and `Beyond` for an offset that is not there any more or not yet, damage on the way to it, and what the
    /// disk says.
    pub fn reader(self: &Arc<Self>, from: From) -> Result<Reader, Error> {
        let at = {
            let shelf = locked(&self.shelf);
            let (first, committed) = (shelf.start_of(0), shelf.committed);
            match from {
                From::Start => first,
                From::End => committed,
                From::Offset(offset) if offset == committed.offset => committed,
                From::Offset(offset) if offset > committed.offset => {
                    return Err(Error::Beyond { offset, end: committed.offset });
                }
                From::Offset(offset) if offset < first.offset => return Err(Error::Gone { first: first.offset }),
                From::Offset(offset) => {
                    shelf.start_of(shelf.segments.partition_point(|segment| segment.first <= offset).saturating_sub(1))
                }
                From::Time(time) => {
                    let place = shelf.segments.iter().position(|segment| segment.highest >= time);
                    place.map_or(committed, |place| shelf.start_of(place))
                }
            }
        };
        let mut reader = Reader { log: self.clone(), at, segment: None };
        match from {
            From::Offset(offset) => reader.skip_while(|_, end| end.offset <= offset)?,
            From::Time(time) => reader.skip_while(|head, _| head.times.1 < time)?,
            From::Start | From::End => {}
        }
        Ok(reader)
    }

    /// Reads every block that is committed and checks its checksums.
    ///
    /// # Errors
    /// The first damage, or what the disk says. Retention that runs meanwhile may come as `Gone`.
    pub fn verify(self: &Arc<Self>) -> Result<Verified, Error> {
        let mut reader = self.reader(From::Start)?;
        let mut verified = Verified::default();
        while let Some((_, block)) = reader.next()? {
            verified.blocks += 1;
            verified.records += u64::from(block.records);
        }
        Ok(verified)
    }
}

impl Reader {
    /// The next block and the offset of its first record; `None` at the committed end, for now. Only behind what `repair`
    /// has skipped is that offset higher than where the block before ended.
    ///
    /// # Errors
    /// `Gone` where retention has overtaken the reader, damage, and what the disk says; asked again it tries the same block
    /// again.
    #[expect(clippy::should_implement_trait, reason = "an end that is only for now is not an iterator's")]
    pub fn next(&mut self) -> Result<Option<(u64, Block)>, Error> {
        while let Some((head, segment)) = head(&self.log, &mut self.at, &mut self.segment)? {
            let (at, end) = (self.at, head.end(self.at));
            if let Kind::Block { records, epoch, check } = head.kind {
                let payload = segment.payload(at.bytes, head.length, check)?;
                self.at = end;
                return Ok(Some((at.offset, Block { payload, records, times: head.times, epoch })));
            }
            self.at = end;
        }
        Ok(None)
    }

    /// Offset of the next record: what a commit holds for this reader.
    pub fn offset(&self) -> u64 {
        self.at.offset
    }

    /// Passes blocks by their heads.
    fn skip_while(&mut self, is_before: impl Fn(&Head, Mark) -> bool) -> Result<(), Error> {
        while let Some((head, _)) = head(&self.log, &mut self.at, &mut self.segment)? {
            let end = head.end(self.at);
            if !is_before(&head, end) {
                break;
            }
            self.at = end;
        }
        Ok(())
    }
}

/// The head of the next committed block, and the segment it is in.
fn head<'a>(log: &Log, at: &mut Mark, open: &'a mut Option<Cursor>) -> Result<Option<(Head, &'a Cursor)>, Error> {
    // Most readers are at the end most of the time.
    if at.offset == log.end() {
        return Ok(None);
    }
    let limit = loop {
        match locked(&log.shelf).next(*at)? {
            Next::End => return Ok(None),
            Next::Here(limit) => break limit,
            Next::Segment(end) if *at == end => *at = start_of(end.offset),
            Next::Segment(end) => {
                let path = segment::path(&log.folder, at.segment);
                return Err(Error::damaged(&path, end.bytes, "it does not end as it was closed"));
            }
        }
    };
    let segment = match open.take().filter(|segment| segment.head.before.offset == at.segment) {
        Some(segment) => segment,
        None => Cursor::open(&*log.disk, &log.folder, at.segment, log.settings)
            .map_err(|error| log.gone_or(at.segment, error))?,
    };
    let segment = open.insert(segment);
    if at.bytes == 0 {
        *at = segment.head.end();
    }
    let head = segment.block(*at, limit)?;
    Ok(Some((head, segment)))
}

impl Log {
    /// A file that cannot be found because retention was quicker is no failure of the disk.
    fn gone_or(&self, segment: u64, error: Error) -> Error {
        let first = self.first();
        match error {
            error if !error.is_not_found() => error,
            _ if segment < first => Error::Gone { first },
            _ => Error::damaged(&segment::path(&self.folder, segment), 0, "the file is missing"),
        }
    }
}
