//! Where a group lies: from its hash to its position in the slab.
//!
//! Owns an open-addressed array of cache lines, each with seven lanes of half a hash and a position, and in front of
//! them a byte of each. A search compares the bytes at once and, as good as always, ends in the first line with the one
//! entry it is after. It must not know what an entry is: half of the hash is all it needs to grow and to close gaps.
//! Invariant: every line between the one that a hash calls for and the one that holds it is full.

/// Lanes of a line.
const LANES: usize = 7;

/// A one in the byte of each lane.
const ONES: u64 = 0x0001_0101_0101_0101;

/// A cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line {
    /// The tag of each lane, a byte each from the lowest; 0 where it is free.
    tags: u64,
    lanes: [Lane; LANES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lane {
    /// The upper half of the hash; its highest bits say which line it calls for, its lowest are the tag.
    half: u32,
    position: u32,
}

/// Positions by hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    lines: Box<[Line]>,
    len: usize,
}

impl Lane {
    #[inline]
    fn tag(self) -> u64 {
        // Never that of a free lane.
        u64::from(self.half & 0xFF).max(1)
    }
}

/// The highest bit of each byte that is 0. Bytes above such a one may be found although they are not.
#[inline]
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(ONES) & !bytes & (ONES << 7)
}

#[inline]
fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

impl Line {
    #[inline]
    fn is_full(&self) -> bool {
        zeros(self.tags) == 0
    }

    /// The lanes in use.
    fn taken(&self) -> impl Iterator<Item = (usize, Lane)> {
        self.lanes.into_iter().enumerate().filter(|(nth, _)| (self.tags >> (nth * 8)) & 0xFF != 0)
    }

    fn set(&mut self, nth: usize, lane: Option<Lane>) {
        let tag = lane.map_or(0, Lane::tag);
        self.tags = self.tags & !(0xFF << (nth * 8)) | tag << (nth * 8);
        if let Some(to) = self.lanes.get_mut(nth) {
            *to = lane.unwrap_or_default();
        }
    }
}

impl Index {
    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the lanes that are taken, and of all lines.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.len * size_of::<Lane>(), self.lines.len() * size_of::<Line>())
    }

    /// The first position under `hash` that `is_it` recognises.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let sought = Lane { half: (hash >> 32) as u32, position: 0 };
        let mut at = self.home(sought);
        loop {
            let line = self.lines.get(at)?;
            let mut hits = zeros(line.tags ^ (sought.tag() * ONES));
            while hits != 0 {
                if let Some(lane) = line.lanes.get(first(hits))
                    && lane.half == sought.half
                    && is_it(lane.position)
                {
                    return Some(lane.position);
                }
                hits &= hits - 1;
            }
            if !line.is_full() {
                return None;
            }
            at = self.after(at);
        }
    }

    /// All positions.
    pub(super) fn positions(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().flat_map(|line| line.taken().map(|(_, lane)| lane.position))
    }

    /// Adds a position that is not there.
    pub(super) fn insert(&mut self, hash: u64, position: u32) {
        // A quarter of the lanes stays free: few lines are full then, and few searches go on to the next.
        if (self.len + 1) * 4 > self.lines.len() * LANES * 3 {
            let larger = vec![Line::default(); (self.lines.len() * 2).max(1)].into_boxed_slice();
            for line in std::mem::replace(&mut self.lines, larger) {
                line.taken().for_each(|(_, lane)| self.put(lane));
            }
        }
        self.put(Lane { half: (hash >> 32) as u32, position });
        self.len += 1;
    }

    /// Removes a position, and fills the gap with what had to go past it.
    pub(super) fn remove(&mut self, hash: u64, position: u32) {
        let sought = Lane { half: (hash >> 32) as u32, position };
        let mut at = self.home(sought);
        let (mut gap, mut nth) = loop {
            let Some(line) = self.lines.get(at) else { return };
            match line.taken().find(|(_, lane)| *lane == sought) {
                Some((nth, _)) => break (at, nth),
                None if line.is_full() => at = self.after(at),
                None => return,
            }
        };
        self.len -= 1;
        while self.lines.get(at).is_some_and(Line::is_full) {
            at = self.after(at);
            let Some(line) = self.lines.get(at) else { return };
            let goes_past = |lane: Lane| self.steps(self.home(lane), at) >= self.steps(gap, at);
            let Some((from, lane)) = line.taken().find(|(_, lane)| goes_past(*lane)) else { continue };
            self.set(gap, nth, Some(lane));
            (gap, nth) = (at, from);
        }
        self.set(gap, nth, None);
    }

    fn put(&mut self, lane: Lane) {
        let mut at = self.home(lane);
        while self.lines.get(at).is_some_and(Line::is_full) {
            at = self.after(at);
        }
        if let Some(line) = self.lines.get_mut(at) {
            line.set(first(zeros(line.tags)), Some(lane));
        }
    }

    fn set(&mut self, at: usize, nth: usize, lane: Option<Lane>) {
        if let Some(line) = self.lines.get_mut(at) {
            line.set(nth, lane);
        }
    }

    #[inline]
    fn home(&self, lane: Lane) -> usize {
        // The number of lines is a power of two, so that this is what the highest bits say.
        ((u64::from(lane.half) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & self.lines.len().wrapping_sub(1)
    }

    fn steps(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.lines.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map, with so few lines called for that they overflow into others, around the end too.
        #[test]
        fn what_is_put_in_is_found_until_it_is_taken_out(steps in proptest::collection::vec((0u64..48, any::<bool>()), 0..300)) {
            // Halves differ from one eighth key to the next, so that some are alike.
            let of = |key: u64| (key % 4) << 62 | (key / 8) << 32 | key;
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (n, (key, is_put)) in (0u32..).zip(steps) {
                let hash = of(key);
                match model.get(&key) {
                    Some(position) if !is_put => {
                        index.remove(hash, *position);
                        model.remove(&key);
                    }
                    None if is_put => {
                        index.insert(hash, n);
                        model.insert(key, n);
                    }
                    _ => {}
                }
                for key in 0..48 {
                    let hash = of(key);
                    let expected = model.get(&key).copied();
                    prop_assert_eq!(index.find(hash, |position| Some(position) == expected), expected);
                }
                prop_assert_eq!(index.bytes().0, model.len() * 8);
                prop_assert_eq!(index.positions().collect::<BTreeSet<_>>(), model.values().copied().collect());
            }
        }
    }

    #[test]
    fn a_quarter_of_the_lanes_stays_free() {
        let mut index = Index::default();
        for position in 0..10_000 {
            index.insert(u64::from(position).wrapping_mul(0x9E37_79B9_7F4A_7C15), position);
            assert!(index.bytes().0 * 4 <= index.bytes().1 * 3);
        }
    }
}
