//! Opening a log: what is there is held against what was committed.
//!
//! Owns the decision what is kept, cut and refused. Invariants: nothing is cut before all that is kept has been checked;
//! opening twice does the same as opening once. So a cut need not be synced: nobody appends to a segment that is there,
//! what a crash brings back is cut again, and the folder is synced before a mark names a segment that is made later.

use std::{collections::VecDeque, path::Path};

use super::{
    Error, Mark, Settings,
    cursor::Cursor,
    segment::{self, Segment},
};
use crate::{bug, disk::Disk};

/// The segments up to `committed`, cut there.
pub(super) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    committed: Mark,
    settings: Settings,
) -> Result<VecDeque<Segment>, Error> {
    if committed == Mark::default() {
        create(disk, folder)?;
    }
    let mut names = match segment::list(disk, folder) {
        Err(error) if error.is_not_found() => Vec::new(),
        names => names?,
    };
    let is_kept = |first: &u64| committed != Mark::default() && *first <= committed.segment;
    let beyond = names.split_off(names.partition_point(is_kept));
    let (segments, last) = check(disk, folder, &names, committed, settings)?;

    for first in beyond.iter().rev() {
        let path = segment::path(folder, *first);
        disk.remove(&path).map_err(Error::io("remove", &path))?;
    }
    if let Some(last) = last
        && last.len()? > committed.bytes
        && !bug::is_seeded("log-cut-beyond-the-commit")
    {
        last.file.set_len(committed.bytes).map_err(Error::io("cut", &last.path))?;
    }
    Ok(segments)
}

/// Makes the folders between that of the state and that of a log in it, each of which has to outlast a fall.
///
/// # Errors
/// What the disk says.
pub fn make_folders(disk: &dyn Disk, state: &Path, folder: &Path) -> Result<(), Error> {
    let mut made = state.to_owned();
    for part in folder.parent().into_iter().flat_map(Path::components) {
        let above = made.clone();
        made.push(part);
        let synced = disk.create_folder(&made).and_then(|()| disk.sync_folder(&above));
        synced.map_err(Error::io("make the folder", &made))?;
    }
    Ok(())
}

/// Makes the folder durable, whoever has made it: an earlier process may have ended before it could.
fn create(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    disk.create_folder(folder).map_err(Error::io("create", folder))?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => disk.sync_folder(parent).map_err(Error::unsynced(parent)),
        None => Ok(()),
    }
}

/// The segments that are kept, and the last of them.
fn check(
    disk: &dyn Disk,
    folder: &Path,
    names: &[u64],
    committed: Mark,
    settings: Settings,
) -> Result<(VecDeque<Segment>, Option<Cursor>), Error> {
    let mut segments: VecDeque<Segment> = VecDeque::with_capacity(names.len());
    if committed == Mark::default() {
        return Ok((segments, None));
    }
    let missing = |first| Error::damaged(&segment::path(folder, first), 0, "the file is missing");
    let mut last: Option<Cursor> = None;
    for &first in names {
        let cursor = Cursor::open(disk, folder, first, settings)?;
        let before = cursor.head.before;
        if let (Some(closed), Some(segment)) = (last, segments.back_mut()) {
            if segment.first != before.segment {
                return Err(missing(before.segment));
            }
            reaches(&closed, before)?;
            (segment.end, segment.highest) = (before, cursor.head.highest);
        }
        segments.push_back(Segment { first, end: committed, highest: i64::MIN });
        last = Some(cursor);
    }
    match (last, segments.back_mut()) {
        (Some(mut last), Some(segment)) if segment.first == committed.segment => {
            reaches(&last, committed)?;
            segment.highest = walk(&mut last, committed)?;
            Ok((segments, Some(last)))
        }
        _ => Err(missing(committed.segment)),
    }
}

/// Whether a segment is the one that ends at `end` and is as long.
fn reaches(segment: &Cursor, end: Mark) -> Result<(), Error> {
    if segment.head.salt != end.salt {
        return Err(segment.damaged(0, "it is not the file that was committed"));
    }
    match segment.len()? {
        len if len < end.bytes => Err(segment.damaged(len, "the file ends within what was committed")),
        _ => Ok(()),
    }
}

/// Follows the heads of the blocks from the segment's head to `end`; the highest time among them.
fn walk(segment: &mut Cursor, end: Mark) -> Result<i64, Error> {
    let (mut at, mut highest) = (segment.head.end(), i64::MIN);
    while at.bytes < end.bytes {
        let head = segment.block(at, end.bytes)?;
        highest = highest.max(head.times.1);
        at = head.end(at);
    }
    if at != end {
        return Err(segment.damaged(end.bytes, "it does not end as it was committed"));
    }
    Ok(highest)
}
