//! Repair: a damaged log is made readable again, less what is damaged.
//!
//! Owns the decision what is skipped; a person asks for it, for what is skipped is lost. It works on a log that is not open.
//! Invariants: no offset, length or committed mark changes, so that whatever names a place in the log still does; a
//! record is kept only where its block fits its checksums; every record that is skipped is counted; to repair again
//! changes nothing.
//!
//! Each segment's head says where the one before it ends, and the mark says it of the last one: so repair first goes back
//! from the mark to the oldest segment, then forward, and writes a gap over whatever does not fit its place. A head that is
//! lost is made again, a file that is lost is made again as one gap.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    Error, Mark, Settings,
    block::{Head, Kind, LEN},
    cursor::Cursor,
    segment,
};
use crate::disk::{Disk, How, write_all_at};

/// One damaged stretch of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The segment.
    pub file: PathBuf,
    /// Where the stretch begins.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many records were in it; 0 for the head of a segment, which could be made again.
    pub records: u64,
}

/// A segment, and what is known of it before it is repaired.
struct Part {
    first: u64,
    /// `None` where it is damaged, missing, or another file's.
    head: Option<segment::Head>,
    end: End,
}

/// Where a segment has to end.
#[derive(Clone, Copy)]
enum End {
    At(Mark),
    /// Wherever its file does, with this offset: the head that knows better is lost.
    Offset(u64),
}

/// Skips the damage in the log that is committed up to `committed`, in place, and says what was skipped; afterwards it
/// opens. Reads all of it.
///
/// # Errors
/// A newer format, a mark that is not this log's, and what the disk says.
pub fn repair(disk: &dyn Disk, folder: &Path, committed: Mark) -> Result<Vec<Skipped>, Error> {
    let mut skipped = Vec::new();
    if committed == Mark::default() {
        return Ok(skipped);
    }
    let mut names = segment::list(disk, folder)?;
    names.retain(|first| *first <= committed.segment);
    let parts = parts(disk, folder, &names, committed)?;

    let known: BTreeSet<u64> = parts.iter().map(|part| part.first).collect();
    for stray in names.iter().filter(|first| !known.contains(first)) {
        let path = segment::path(folder, *stray);
        disk.rename(&path, &path.with_extension("stray")).map_err(Error::io("rename", &path))?;
    }
    let mut before: Option<(Mark, i64)> = None;
    for part in parts.into_iter().rev() {
        let mut segment = open(disk, folder, &part, before, &mut skipped)?;
        before = Some(mend(&mut segment, part.end, &mut skipped)?);
        segment.file.sync().map_err(Error::unsynced(&segment.path))?;
    }
    disk.sync_folder(folder).map_err(Error::unsynced(folder))?;
    Ok(skipped)
}

/// All segments up to `committed`, the last one first.
fn parts(disk: &dyn Disk, folder: &Path, names: &[u64], committed: Mark) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let (mut first, mut end) = (committed.segment, End::At(committed));
    loop {
        let head = match segment::open(disk, folder, first)
            .and_then(|(path, file)| segment::Head::read(&*file, &path, first))
        {
            Ok(head) => Some(head).filter(|head| head.before.bytes == 0 || head.before.segment < first),
            Err(Error::Damaged { .. }) => None,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let head =
            head.filter(|head| matches!(end, End::At(mark) if mark.salt == head.salt) || matches!(end, End::Offset(_)));
        let older = names.iter().rev().find(|older| **older < first);
        parts.push(Part { first, head, end });
        (first, end) = match (head, older) {
            (Some(head), Some(_)) if head.before.bytes > 0 => (head.before.segment, End::At(head.before)),
            (None, Some(older)) => (*older, End::Offset(first)),
            _ => return Ok(parts),
        };
    }
}

/// The segment, with its head made again where that is lost; `before` is where the one before it ends.
fn open(
    disk: &dyn Disk,
    folder: &Path,
    part: &Part,
    before: Option<(Mark, i64)>,
    skipped: &mut Vec<Skipped>,
) -> Result<Cursor, Error> {
    let path = segment::path(folder, part.first);
    let file = disk.open(&path, How::Either).map_err(Error::io("open", &path))?;
    let head = match part.head {
        Some(head) => head,
        None => {
            let (before, highest) = before.unwrap_or((Mark { offset: part.first, ..Mark::default() }, i64::MIN));
            let mut head = segment::Head::new(before, highest);
            if let End::At(end) = part.end {
                head.salt = end.salt;
            }
            write_all_at(&*file, 0, &head.encode()).map_err(Error::io("write", &path))?;
            skipped.push(Skipped { file: path.clone(), at: 0, bytes: segment::LEN as u64, records: 0 });
            head
        }
    };
    // No block is longer than its segment; that the limit has been lowered is no damage.
    Ok(Cursor::over(path, file, head, Settings { segment: u32::MAX, block: u32::MAX }))
}

/// Writes gaps over the damage in a segment; its end and the highest time in it.
fn mend(segment: &mut Cursor, end: End, skipped: &mut Vec<Skipped>) -> Result<(Mark, i64), Error> {
    let len = segment.len()?;
    let (limit, offset) = match end {
        End::At(end) => (end.bytes, end.offset),
        End::Offset(offset) => (len.max(segment::LEN as u64), offset),
    };
    if len < limit {
        segment.file.set_len(limit).map_err(Error::io("lengthen", &segment.path))?;
    }
    let (mut at, mut highest) = (segment.head.end(), i64::MIN);
    while at.bytes < limit {
        let head = match whole(segment, at, limit)? {
            Some(head) if head.end(at).offset <= offset => head,
            _ => {
                let (to, then) = next_whole(segment, at, limit, offset)?;
                skip(segment, at, to, then - at.offset, skipped)?
            }
        };
        highest = highest.max(head.times.1);
        at = head.end(at);
    }
    match end {
        End::At(end) if at != end => Err(segment.damaged(end.bytes, "the committed mark is not of this log")),
        End::Offset(offset) if at.offset < offset => {
            let gap = skip(segment, at, at.bytes + LEN as u64, offset - at.offset, skipped)?;
            Ok((gap.end(at), highest))
        }
        _ => Ok((at, highest)),
    }
}

/// The head at `at`, if its block is whole.
fn whole(segment: &mut Cursor, at: Mark, limit: u64) -> Result<Option<Head>, Error> {
    let read = segment.block(at, limit).and_then(|head| match head.kind {
        Kind::Block { check, .. } => segment.payload(at.bytes, head.length, check).map(|_| head),
        Kind::Gap { .. } => Ok(head),
    });
    match read {
        Ok(head) => Ok(Some(head)),
        Err(Error::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the next block after `at` stands and the offset it begins with; where there is none, the end.
fn next_whole(segment: &mut Cursor, at: Mark, limit: u64, offset: u64) -> Result<(u64, u64), Error> {
    for to in at.bytes + LEN as u64..(limit + 1).saturating_sub(LEN as u64) {
        let Some(head) = segment.peek(to, limit)? else { continue };
        let place = Mark { offset: head.offset, bytes: to, ..at };
        let fits = head.offset >= at.offset && head.end(place).offset <= offset;
        if fits && whole(segment, place, limit)?.is_some() {
            return Ok((to, head.offset));
        }
    }
    Ok((limit.max(at.bytes + LEN as u64), offset))
}

/// Writes a gap that stands for `records` records from `at` to the byte `to`.
fn skip(segment: &mut Cursor, at: Mark, to: u64, records: u64, skipped: &mut Vec<Skipped>) -> Result<Head, Error> {
    let bytes = to - at.bytes;
    let Ok(length) = u32::try_from(bytes - LEN as u64) else {
        return Err(segment.damaged(at.bytes, "there are over 4 GiB of damage"));
    };
    let gap = Head::gap(length, at.offset, records);
    write_all_at(&*segment.file, at.bytes, &gap.encode(at)).map_err(Error::io("write", &segment.path))?;
    segment.forget();
    skipped.push(Skipped { file: segment.path.clone(), at: at.bytes, bytes, records });
    Ok(gap)
}
