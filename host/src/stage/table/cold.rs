//! Which groups there are that are not in memory.
//!
//! Owns 64 bits of each, so that a key that comes for the first time costs no look elsewhere, what all of them would take
//! in memory, and when something has to be done about some of them. It must not know where they lie. Invariant: whatever
//! was put in is found until it is taken out; what was not is as good as never found.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use super::{SLOTS, hash, index::Index, spread};
use crate::time::Window;

/// Groups that are not in memory: 12 to 24 bytes for each.
#[derive(Debug)]
pub struct Cold {
    slots: Box<[Index; SLOTS]>,
    /// Mixed into every hash, as a table's.
    secret: u64,
    len: usize,
    bytes: usize,
    /// How many there are about which something has to be done at this time.
    due: BTreeMap<i64, usize>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Window; all of time where the stage has none.
    pub window: Window,
    /// What it would take in memory.
    pub bytes: usize,
    /// When something has to be done about it, if ever.
    pub due: Option<i64>,
}

impl Default for Cold {
    fn default() -> Self {
        Self {
            slots: Box::new(std::array::from_fn(|_| Index::default())),
            secret: RandomState::new().hash_one(SLOTS),
            len: 0,
            bytes: 0,
            due: BTreeMap::new(),
        }
    }
}

impl Cold {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that they would take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that knowing of them takes.
    pub fn reserved(&self) -> usize {
        self.slots.iter().map(|slot| slot.bytes().1).sum()
    }

    /// The first time at which something has to be done about one.
    pub fn first_due(&self) -> Option<i64> {
        self.due.keys().next().copied()
    }

    /// Whether the group is one of them.
    #[inline]
    pub fn has(&self, key: &[u8], window: Window) -> bool {
        let (slot, mark) = self.mark(key, window);
        self.slots[usize::from(slot)].find(mark, |rest| rest == mark as u32).is_some()
    }

    /// Puts a group in that is not there.
    pub fn put(&mut self, Frozen { key, window, bytes, due }: Frozen<'_>) {
        let (slot, mark) = self.mark(key, window);
        self.slots[usize::from(slot)].insert(mark, mark as u32);
        (self.len, self.bytes) = (self.len + 1, self.bytes + bytes);
        due.into_iter().for_each(|due| *self.due.entry(due).or_default() += 1);
    }

    /// Takes a group out that is there, and was put in like this.
    pub fn take(&mut self, Frozen { key, window, bytes, due }: Frozen<'_>) {
        let (slot, mark) = self.mark(key, window);
        let index = &mut self.slots[usize::from(slot)];
        index.remove(mark, mark as u32);
        if index.len() == 0 {
            *index = Index::default();
        }
        (self.len, self.bytes) = (self.len - 1, self.bytes - bytes);
        if let Some(due) = due
            && let Some(count) = self.due.get_mut(&due)
        {
            *count -= 1;
            if *count == 0 {
                self.due.remove(&due);
            }
        }
    }

    /// The slot of a group, and what is kept of it: all bits of its hash, for the index takes the upper half and, as a
    /// position, the lower.
    #[inline]
    fn mark(&self, key: &[u8], window: Window) -> (u8, u64) {
        let of_key = hash(key);
        (of_key as u8, spread(of_key, window, self.secret))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set: what is there is found, what is not is not, and sums and times are those of what is there.
        #[test]
        fn what_is_out_of_memory_is_known_until_it_is_back(steps in proptest::collection::vec((0u8..40, 0i64..4), 0..300)) {
            let (mut cold, mut model) = (Cold::default(), BTreeSet::new());
            let window = |of: i64| Window { start: of, end: of + 1 };
            let frozen = |key: &'static u8, of: i64| Frozen {
                key: std::slice::from_ref(key),
                window: window(of),
                bytes: usize::from(*key) + 100,
                due: (of > 0).then_some(of),
            };
            let keys: &'static [u8] = Box::leak((0..40u8).collect());
            for (key, of) in steps {
                let group = frozen(&keys[usize::from(key)], of);
                if model.insert((key, of)) {
                    cold.put(group);
                } else {
                    model.remove(&(key, of));
                    cold.take(group);
                }
                for key in keys {
                    for of in 0..4 {
                        prop_assert_eq!(cold.has(&[*key], window(of)), model.contains(&(*key, of)));
                    }
                }
                prop_assert_eq!(cold.len(), model.len());
                prop_assert_eq!(cold.bytes(), model.iter().map(|(key, _)| usize::from(*key) + 100).sum::<usize>());
                prop_assert_eq!(cold.first_due(), model.iter().map(|(_, of)| *of).filter(|of| *of > 0).min());
            }
        }
    }

    #[test]
    fn knowing_of_a_group_takes_twelve_to_twenty_four_bytes() {
        let mut cold = Cold::default();
        for n in 0..200_000u32 {
            cold.put(Frozen { key: &n.to_be_bytes(), window: Window::default(), bytes: 136, due: None });
            if n > 50_000 {
                let each = cold.reserved() as f64 / cold.len() as f64;
                assert!((12.0..26.0).contains(&each), "{each} bytes for each of {n}");
            }
        }
    }
}
