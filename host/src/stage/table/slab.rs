//! Entries side by side, each at a position that never changes.
//!
//! Owns the chunks and the list of free entries, which runs through the entries themselves. Chunks stay where they
//! are, so that growing copies no group. Invariant: an entry is live or in the list, never both.

use super::entry::Entry;

/// Entries of a chunk: 256 KiB. Few groups then reserve little, and the list of chunks stays in the nearest cache.
const CHUNK: usize = 2048;

/// Entries by position.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Vec<Box<[Entry; CHUNK]>>,
    /// Positions handed out at some time; those up to the end of the last chunk come next.
    begun: u32,
    /// The first free entry, one higher; each holds the next one in `local`.
    free: u32,
    live: u32,
}

impl Slab {
    /// Live entries.
    pub(super) fn len(&self) -> usize {
        self.live as usize
    }

    /// Positions that were handed out at some time lie below this.
    pub(super) fn end(&self) -> u32 {
        self.begun
    }

    /// Bytes of the live entries, and of all chunks.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let lists = self.chunks.capacity() * size_of::<Box<[Entry; CHUNK]>>();
        (self.len() * size_of::<Entry>(), self.chunks.len() * CHUNK * size_of::<Entry>() + lists)
    }

    /// The live entry at a position.
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&Entry> {
        let chunk = self.chunks.get(at as usize / CHUNK)?;
        Some(&chunk[at as usize % CHUNK]).filter(|entry| entry.is_live)
    }

    /// The live entry at a position, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.any_mut(at).filter(|entry| entry.is_live)
    }

    /// The entry at a position, whether live or free.
    #[inline]
    pub(super) fn any_mut(&mut self, at: u32) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(at as usize / CHUNK)?;
        Some(&mut chunk[at as usize % CHUNK])
    }

    /// A blank entry for a group to begin in.
    pub(super) fn take(&mut self) -> (u32, Option<&mut Entry>) {
        self.live += 1;
        let at = match self.free.checked_sub(1) {
            Some(at) => {
                self.free = self.any_mut(at).map_or(0, |entry| entry.local);
                at
            }
            None => {
                if self.begun as usize == self.chunks.len() * CHUNK {
                    self.chunks.extend(vec![Entry::BLANK; CHUNK].into_boxed_slice().try_into());
                }
                self.begun += 1;
                self.begun - 1
            }
        };
        (at, self.any_mut(at))
    }

    /// Frees an entry whose group has ended.
    pub(super) fn release(&mut self, at: u32) {
        let next = self.free;
        if let Some(entry) = self.any_mut(at) {
            entry.local = next;
            self.free = at + 1;
            self.live -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_has_an_entry_of_its_own() {
        let mut slab = Slab::default();
        for n in 0..40_000u32 {
            let (position, entry) = slab.take();
            let entry = entry.unwrap();
            entry.is_live = true;
            entry.call = u64::from(n);
            assert_eq!(position, n);
            let recount: usize = slab.chunks.iter().map(|chunk| std::mem::size_of_val(&**chunk)).sum();
            assert_eq!(slab.bytes(), ((n as usize + 1) * 128, recount + slab.chunks.capacity() * 8));
        }
        for n in 0..40_000 {
            assert_eq!(slab.get(n).unwrap().call, u64::from(n));
        }
        assert!(slab.get(40_000).is_none() && slab.get(u32::MAX).is_none());
    }

    #[test]
    fn released_entries_are_taken_again_before_new_ones() {
        let mut slab = Slab::default();
        let first: Vec<u32> = (0..20).map(|_| slab.take().0).collect();
        assert_eq!(first, (0..20).collect::<Vec<_>>());
        for position in [3, 17, 0] {
            slab.release(position);
        }
        let again: Vec<u32> = (0..4).map(|_| slab.take().0).collect();
        assert_eq!((again, slab.len()), (vec![0, 17, 3, 20], 21));
    }
}
