//! Bytes too long to lie in an entry.
//!
//! Owns large chunks cut into blocks of one size, with the free ones of a chunk linked through their own bytes. It must
//! not know what the bytes are. Invariant: a block belongs to one owner until it is released, and an owner sees only
//! what it wrote.

/// Bytes of a chunk once its size is in demand; smaller ones come before it, larger ones hold a single block.
const CHUNK: usize = 1 << 20;

/// The smallest block.
const LEAST: usize = 32;

/// Where a block lies; its size follows from the length of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u32,
    block: u32,
}

impl Place {
    /// Eight bytes: chunk, then block, as little-endian `u32`.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.block) << 32 | u64::from(self.chunk)).to_le_bytes()
    }

    /// What [`Place::to_bytes`] made.
    pub(super) fn from_bytes(bytes: [u8; 8]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { chunk: both as u32, block: (both >> 32) as u32 }
    }
}

/// The size of the block for `len` bytes: four sizes between two powers of two, so that at most a fifth is lost.
pub(super) fn block_size(len: usize) -> usize {
    let len = len.max(LEAST);
    len.next_multiple_of((len.next_power_of_two() / 8).max(8))
}

#[derive(Debug, Default)]
struct Chunk {
    data: Box<[u8]>,
    /// The first free block, one higher; each holds the next one in its first four bytes.
    free: u32,
    /// Blocks that were in use at some time; those behind them are free as well.
    begun: u32,
    used: u32,
}

/// All blocks of one size.
#[derive(Debug)]
struct Pool {
    size: usize,
    chunks: Vec<Chunk>,
    /// Chunks with a free block.
    open: Vec<u32>,
    /// Chunks that were given back.
    vacant: Vec<u32>,
    used: usize,
}

/// Byte strings of any length.
#[derive(Debug, Default)]
pub(super) struct Arena {
    /// By size.
    pools: Vec<Pool>,
    used: usize,
    reserved: usize,
}

impl Arena {
    /// Bytes of the blocks in use, and of all chunks with their lists.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let lists = |pool: &Pool| {
            pool.chunks.capacity() * size_of::<Chunk>() + (pool.open.capacity() + pool.vacant.capacity()) * 4
        };
        let lists = self.pools.iter().map(lists).sum::<usize>() + self.pools.capacity() * size_of::<Pool>();
        (self.used, self.reserved + lists)
    }

    /// Writes `bytes` into a block of their own.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Place {
        let size = block_size(bytes.len());
        let nth = self.pools.binary_search_by_key(&size, |pool| pool.size).unwrap_or_else(|nth| {
            self.pools.insert(nth, Pool { size, chunks: vec![], open: vec![], vacant: vec![], used: 0 });
            nth
        });
        let Some(pool) = self.pools.get_mut(nth) else { return Place { chunk: 0, block: 0 } };
        let (place, grown) = pool.take();
        self.used += size;
        self.reserved += grown;
        self.rewrite(place, bytes);
        place
    }

    /// Writes `bytes` into a block whose size fits them.
    pub(super) fn rewrite(&mut self, place: Place, bytes: &[u8]) {
        let size = block_size(bytes.len());
        let Some(chunk) = self.pool_mut(size).and_then(|pool| pool.chunks.get_mut(place.chunk as usize)) else {
            return;
        };
        let start = place.block as usize * size;
        if let Some(block) = chunk.data.get_mut(start..start + bytes.len()) {
            block.copy_from_slice(bytes);
        }
    }

    /// The `len` bytes of a block.
    pub(super) fn get(&self, place: Place, len: usize) -> &[u8] {
        let size = block_size(len);
        let pool = self.pools.binary_search_by_key(&size, |pool| pool.size).ok().and_then(|nth| self.pools.get(nth));
        let chunk = pool.and_then(|pool| pool.chunks.get(place.chunk as usize));
        let start = place.block as usize * size;
        chunk.and_then(|chunk| chunk.data.get(start..start + len)).unwrap_or_default()
    }

    /// Frees the block of `len` bytes.
    pub(super) fn release(&mut self, place: Place, len: usize) {
        let size = block_size(len);
        let Some(pool) = self.pool_mut(size) else { return };
        let shrunk = pool.release(place);
        self.used -= size;
        self.reserved -= shrunk;
    }

    fn pool_mut(&mut self, size: usize) -> Option<&mut Pool> {
        let nth = self.pools.binary_search_by_key(&size, |pool| pool.size).ok()?;
        self.pools.get_mut(nth)
    }
}

impl Pool {
    /// A free block, and the bytes that had to be reserved for it.
    fn take(&mut self) -> (Place, usize) {
        let mut grown = 0;
        if self.open.is_empty() {
            // Half of what is in use: a few long states reserve little, many do so seldom.
            let blocks = (self.used / 2).min(CHUNK / self.size).max(1);
            let data = vec![0; blocks * self.size].into_boxed_slice();
            grown = data.len();
            let chunk = Chunk { data, ..Chunk::default() };
            let at = self.vacant.pop().unwrap_or(self.chunks.len() as u32);
            match self.chunks.get_mut(at as usize) {
                Some(vacant) => *vacant = chunk,
                None => self.chunks.push(chunk),
            }
            self.open.push(at);
        }
        let at = self.open.last().copied().unwrap_or_default();
        let Some(chunk) = self.chunks.get_mut(at as usize) else { return (Place { chunk: at, block: 0 }, grown) };
        let block = match chunk.free.checked_sub(1) {
            Some(block) => {
                let start = block as usize * self.size;
                let next = chunk.data.get(start..).and_then(<[u8]>::first_chunk::<4>);
                chunk.free = next.map_or(0, |next| u32::from_le_bytes(*next));
                block
            }
            None => {
                chunk.begun += 1;
                chunk.begun - 1
            }
        };
        chunk.used += 1;
        self.used += 1;
        if chunk.used as usize * self.size == chunk.data.len() {
            self.open.pop();
        }
        (Place { chunk: at, block }, grown)
    }

    /// Frees a block; returns the bytes that were given back with its chunk.
    fn release(&mut self, place: Place) -> usize {
        let Some(chunk) = self.chunks.get_mut(place.chunk as usize) else { return 0 };
        let start = place.block as usize * self.size;
        if let Some(link) = chunk.data.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *link = chunk.free.to_le_bytes();
        }
        chunk.free = place.block + 1;
        let was_full = chunk.used as usize * self.size == chunk.data.len();
        chunk.used -= 1;
        self.used -= 1;
        if was_full {
            self.open.push(place.chunk);
        }
        // One empty chunk may stay for the next block, if no other has room.
        if chunk.used > 0 || self.open.len() == 1 {
            return 0;
        }
        let shrunk = chunk.data.len();
        *chunk = Chunk::default();
        self.open.retain(|open| *open != place.chunk);
        self.vacant.push(place.chunk);
        shrunk
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn recount(arena: &Arena) -> usize {
        arena.pools.iter().flat_map(|pool| &pool.chunks).map(|chunk| chunk.data.len()).sum()
    }

    proptest! {
        /// Against a map: blocks keep what was written, never overlap, and what they take is known to the byte.
        #[test]
        fn blocks_keep_their_bytes_until_they_are_released(
            steps in proptest::collection::vec((0usize..8, prop_oneof![2 => Just(0usize), 4 => 33usize..400, 1 => 900_000usize..1_200_000]), 0..40),
        ) {
            let (mut arena, mut model) = (Arena::default(), BTreeMap::<usize, (Place, Vec<u8>)>::new());
            for (n, (who, len)) in (1u8..).zip(steps) {
                if let Some((place, old)) = model.remove(&who) {
                    arena.release(place, old.len());
                }
                if len > 0 {
                    let bytes = vec![n; len];
                    model.insert(who, (arena.put(&bytes), bytes));
                }
                for (place, bytes) in model.values() {
                    prop_assert_eq!(arena.get(*place, bytes.len()), bytes);
                }
                prop_assert_eq!(arena.used, model.values().map(|(_, bytes)| block_size(bytes.len())).sum::<usize>());
                prop_assert_eq!(arena.reserved, recount(&arena));
            }
        }
    }

    #[test]
    fn a_block_loses_at_most_a_fifth() {
        for len in 33..200_000 {
            let size = block_size(len);
            assert!(size >= len && (size - len) * 5 <= size && block_size(size) == size, "{len} in {size}");
        }
    }

    #[test]
    fn chunks_that_hold_nothing_are_given_back() {
        let mut arena = Arena::default();
        let places: Vec<Place> = (0..50_000).map(|_| arena.put(&[7; 100])).collect();
        assert!(arena.bytes().1 < arena.bytes().0 * 5 / 4, "{:?}", arena.bytes());
        for place in places {
            arena.release(place, 100);
        }
        assert!(arena.used == 0 && arena.reserved <= CHUNK, "{:?}", arena.bytes());
    }

    #[test]
    fn released_blocks_are_taken_again_before_new_ones() {
        let mut arena = Arena::default();
        let places: Vec<Place> = (0..1000).map(|_| arena.put(&[7; 100])).collect();
        let before = arena.reserved;
        // The first chunks hold a single block and are given back with it.
        for place in places.into_iter().skip(10) {
            arena.release(place, 100);
            assert_eq!(arena.put(&[8; 100]), place);
        }
        assert_eq!(arena.reserved, before);
    }

    #[test]
    fn blocks_of_one_size_are_taken_from_few_chunks() {
        let mut arena = Arena::default();
        for _ in 0..100_000 {
            arena.put(&[1; 100]);
        }
        let chunks: usize = arena.pools.iter().map(|pool| pool.chunks.len()).sum();
        assert!(chunks < 100_000 * 112 / CHUNK + 30, "{chunks}");
    }
}
