//! The end of a log whose writer answers for its records before a commit holds them.
//!
//! Owns the search for the last whole block. It must not know who has been answered. Invariant: what was synced is kept,
//! and what is kept is synced; behind the commit a block counts when its checksums fit and it follows the one before,
//! and the first that does not is where the log ends.

use std::path::Path;

use super::{
    Error, Mark, Settings,
    block::Kind,
    cursor::Cursor,
    segment::{self, Head},
};
use crate::disk::Disk;

/// The end of the last whole block at or behind `committed`, and how many bytes lie behind that. What lies before it is
/// made durable: somebody may go on from it.
pub(super) fn end(disk: &dyn Disk, folder: &Path, committed: Mark, settings: Settings) -> Result<(Mark, u64), Error> {
    let names = match segment::list(disk, folder) {
        Err(error) if error.is_not_found() => Vec::new(),
        names => names?,
    };
    let (mut end, mut torn) = (committed, 0);
    let is_behind = |first: &u64| *first >= committed.segment;
    for first in names.into_iter().filter(is_behind) {
        let (path, file) = segment::open(disk, folder, first)?;
        let length = file.len().map_err(Error::io("read the length of", &path))?;
        // Whether the head before the commit fits is for those to say who open the log there.
        let head = match Head::read(&*file, &path, first) {
            Ok(head) => head,
            Err(Error::Damaged { .. }) => {
                torn += length;
                continue;
            }
            Err(error) => return Err(error),
        };
        let start = match () {
            () if first == committed.segment && committed != Mark::default() => committed,
            () if head.before == end => head.end(),
            () => {
                torn += length;
                continue;
            }
        };
        let mut segment = Cursor::over(path, file, head, settings);
        let reached = walk(&mut segment, start, length)?;
        torn += length.saturating_sub(reached.bytes);
        if reached.offset > end.offset {
            end = reached;
        }
        segment.file.sync().map_err(Error::unsynced(&segment.path))?;
    }
    if end != Mark::default() {
        disk.sync_folder(folder).map_err(Error::unsynced(folder))?;
    }
    Ok((end, torn))
}

/// The end of the last whole block from `at` on.
fn walk(segment: &mut Cursor, mut at: Mark, limit: u64) -> Result<Mark, Error> {
    loop {
        let head = match segment.block(at, limit) {
            Ok(head) => head,
            Err(Error::Damaged { .. }) => return Ok(at),
            Err(error) => return Err(error),
        };
        if let Kind::Block { check, .. } = head.kind {
            match segment.payload(at.bytes, head.length, check) {
                Ok(_) => {}
                Err(Error::Damaged { .. }) => return Ok(at),
                Err(error) => return Err(error),
            }
        }
        at = head.end(at);
    }
}
