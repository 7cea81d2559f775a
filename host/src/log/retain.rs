//! Retention: which segments go.
//!
//! Owns the decision, oldest first. Invariants: neither the segment that is written nor one that is not wholly committed is
//! ever removed; what is left has no hole, whenever the power goes.

use super::{Error, Log, Shelf, Struck, locked, segment};

/// What is kept; whatever is not limited is kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep<'a> {
    /// How long after its highest time a segment is kept, in milliseconds.
    pub age: Option<u64>,
    /// Length of all segments in bytes, above which the oldest go.
    pub bytes: Option<u64>,
    /// Lowest offset that a reader still needs: neither age nor size removes it.
    pub needed: Option<u64>,
    /// Records that are gone: a segment of nothing else goes too.
    pub struck: Option<&'a Struck>,
}

/// What retention has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Shelf {
    /// Whether the oldest segment goes at the time `now`.
    fn spares_first(&self, now: i64, keep: Keep<'_>) -> bool {
        let (Some(oldest), Some(next)) = (self.segments.front(), self.segments.get(1)) else { return true };
        if next.first > self.committed.segment || keep.needed.is_some_and(|needed| needed < next.first) {
            return true;
        }
        let bytes: u64 = self.segments.iter().map(|segment| segment.end.bytes).sum();
        let is_over = keep.bytes.is_some_and(|most| bytes > most);
        let is_old = keep.age.is_some_and(|age| oldest.highest.saturating_add_unsigned(age) < now);
        let is_struck = keep.struck.is_some_and(|struck| struck.covers(oldest.first..next.first));
        !is_over && !is_old && !is_struck
    }
}

impl Log {
    /// Whether the oldest segment could go, and stays only because a reader still needs the record at `needed`.
    pub fn is_held(&self, needed: Option<u64>) -> bool {
        let shelf = locked(&self.shelf);
        let next = shelf.segments.get(1).filter(|next| next.first <= shelf.committed.segment);
        next.zip(needed).is_some_and(|(next, needed)| needed < next.first)
    }

    /// Removes the oldest segments that are not to be kept at the time `now`, in milliseconds since the Unix epoch; their
    /// readers are told [`Gone`](Error::Gone).
    ///
    /// # Errors
    /// What the disk says; what could not be removed is still there. A folder that cannot be synced poisons the log, and a
    /// poisoned log removes nothing.
    pub fn retain(&self, now: i64, keep: Keep<'_>) -> Result<Removed, Error> {
        let _one_at_a_time = locked(&self.durability);
        // After a sync of the folder that failed, a further one would not make the removals before it durable.
        locked(&self.writer).is_sound()?;
        let mut removed = Removed::default();
        loop {
            let oldest = {
                let mut shelf = locked(&self.shelf);
                if shelf.spares_first(now, keep) {
                    return Ok(removed);
                }
                shelf.segments.pop_front()
            };
            let Some(oldest) = oldest else { return Ok(removed) };
            let path = segment::path(&self.folder, oldest.first);
            if let Err(error) = self.disk.remove(&path) {
                locked(&self.shelf).segments.push_front(oldest);
                return Err(Error::io("remove", &path)(error));
            }
            // One by one: a crash between two removals that were synced together could leave the older file and lose
            // the younger, and that hole could not be told from damage.
            self.sync_folder().inspect_err(|error| locked(&self.writer).poison(error.clone()))?;
            removed.segments += 1;
            removed.records += oldest.end.offset - oldest.first;
            removed.bytes += oldest.end.bytes;
        }
    }
}
