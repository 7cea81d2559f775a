//! Records of a log that have been struck out one by one, by their offsets.
//!
//! Owns the set and its form in a store: a row for each stretch of 4096 offsets that lacks some, whose key is the number of
//! the stretch (8 bytes, big-endian) and whose value is a bit for each offset, lowest first, as far as one is set. So a
//! record that goes costs a row of at most 512 bytes, whatever else has gone. It must not know why records go.

use std::{collections::BTreeMap, ops::Range};

/// Offsets in a stretch.
const STRETCH: u64 = 4096;

/// Words of a stretch.
const WORDS: usize = 64;

/// A set of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    stretches: BTreeMap<u64, [u64; WORDS]>,
}

/// A row of the set: its key and its value.
pub type Row = ([u8; 8], Vec<u8>);

/// A row that no set has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no set of offsets")]
pub struct NoRow;

fn place(offset: u64) -> (u64, usize, u64) {
    let within = offset % STRETCH;
    (offset / STRETCH, (within / 64) as usize, 1 << (within % 64))
}

impl Struck {
    /// Adds an offset.
    pub fn insert(&mut self, offset: u64) {
        let (stretch, word, bit) = place(offset);
        if let Some(word) = self.stretches.entry(stretch).or_insert([0; WORDS]).get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether it holds an offset.
    pub fn contains(&self, offset: u64) -> bool {
        let (stretch, word, bit) = place(offset);
        self.stretches.get(&stretch).and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// How many offsets of `range` it holds.
    pub fn count(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let stretches = self.stretches.range(range.start / STRETCH..=(range.end - 1) / STRETCH);
        let counted = stretches.map(|(stretch, words)| {
            let first = stretch * STRETCH;
            if range.start <= first && first + STRETCH <= range.end {
                return words.iter().map(|word| u64::from(word.count_ones())).sum();
            }
            let (from, to) = (range.start.max(first), range.end.min(first + STRETCH));
            (from..to).filter(|offset| self.contains(*offset)).count() as u64
        });
        counted.sum()
    }

    /// Whether it holds every offset of `range`.
    pub fn covers(&self, range: Range<u64>) -> bool {
        self.count(range.clone()) == range.end.saturating_sub(range.start)
    }

    /// The rows in which these offsets are, or would be.
    pub fn rows(&self, offsets: impl IntoIterator<Item = u64>) -> Vec<Row> {
        let mut stretches: Vec<u64> = offsets.into_iter().map(|offset| offset / STRETCH).collect();
        stretches.sort_unstable();
        stretches.dedup();
        stretches.into_iter().map(|stretch| (stretch.to_be_bytes(), self.value(stretch))).collect()
    }

    fn value(&self, stretch: u64) -> Vec<u8> {
        let words = self.stretches.get(&stretch).into_iter().flatten();
        let mut value: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        value.truncate(value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        value
    }

    /// Takes in a row that was written before.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), NoRow> {
        let stretch = u64::from_be_bytes(key.try_into().map_err(|_| NoRow)?);
        if value.len() > WORDS * 8 || stretch > u64::MAX / STRETCH {
            return Err(NoRow);
        }
        let words = self.stretches.entry(stretch).or_insert([0; WORDS]);
        for (word, bytes) in words.iter_mut().zip(value.chunks(8)) {
            let mut whole = [0; 8];
            whole.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
            *word = u64::from_le_bytes(whole);
        }
        Ok(())
    }

    /// Forgets the stretches that lie wholly before `first`, and returns the keys of their rows.
    pub fn forget_before(&mut self, first: u64) -> Vec<[u8; 8]> {
        let kept = self.stretches.split_off(&(first / STRETCH));
        std::mem::replace(&mut self.stretches, kept).into_keys().map(u64::to_be_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain set of numbers, through its rows as well.
        #[test]
        fn it_holds_what_was_put_in_and_its_rows_say_so(
            offsets in prop::collection::btree_set(prop_oneof![0u64..200, 4000u64..4200, Just(u64::MAX)], 0..300),
            (from, to) in (0u64..4300, 0u64..9000),
            first in 0u64..9000,
        ) {
            let mut set = Struck::default();
            offsets.iter().for_each(|offset| set.insert(*offset));
            let within: BTreeSet<u64> = offsets.range(from.min(to)..to).copied().collect();
            prop_assert_eq!(set.count(from..to), within.len() as u64);
            prop_assert_eq!(set.covers(from..to), within.len() as u64 == to.saturating_sub(from));
            for offset in [from, to, u64::MAX] {
                prop_assert_eq!(set.contains(offset), offsets.contains(&offset));
            }
            let mut read = Struck::default();
            for (key, value) in set.rows(offsets.iter().copied()) {
                prop_assert!(value.len() <= 512);
                read.read(&key, &value).unwrap();
            }
            prop_assert_eq!(&read, &set);
            let gone = set.forget_before(first);
            prop_assert!(gone.iter().all(|key| (u64::from_be_bytes(*key) + 1) * STRETCH <= first));
            prop_assert!(offsets.range(first..).all(|offset| set.contains(*offset)));
        }

        #[test]
        fn arbitrary_rows_are_refused_or_read_and_never_panic(
            key in prop::collection::vec(any::<u8>(), 0..10),
            value in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut set = Struck::default();
            if set.read(&key, &value).is_ok() {
                let _ = (set.count(0..u64::MAX), set.covers(u64::MAX - 1..u64::MAX), set.contains(u64::MAX));
            }
        }
    }
}
