//! The groups of one worker, in memory: found by key and window, changed in place.
//!
//! Owns the index and the entries, and remembers what changed since the last barrier. Entries are recycled with their
//! buffers, so that a stage whose windows come and go allocates nothing once it is warm.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::time::Window;

/// How many slots keys are divided into; a worker owns a range of them. Part of the format of stored state.
pub const SLOTS: u64 = 256;

/// The slot of a key. The hash is fixed for ever, for it decides where state is found again.
pub fn slot(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, 0) % SLOTS
}

/// The worker among `workers` that owns a key.
pub fn owner(key: &[u8], workers: usize) -> usize {
    slot(key) as usize * workers / SLOTS as usize
}

/// One group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Key.
    pub key: Vec<u8>,
    /// Window; all of time where the stage has none.
    pub window: Window,
    /// State; empty before the first record.
    pub state: Vec<u8>,
    /// Records folded since the group began, for windows that count.
    pub count: u64,
    /// Highest event time folded, in milliseconds since the Unix epoch.
    pub time: i64,
    /// Panes put out so far.
    pub panes: u32,
    /// Whether a record came after the last pane.
    pub is_late: bool,
    /// Call that touched the group last, and its position in that call.
    pub touched: (u64, u32),
    hash: u64,
    is_live: bool,
    is_dirty: bool,
}

/// A group as a commit holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// State.
    pub state: Vec<u8>,
    /// Records folded.
    pub count: u64,
    /// Highest event time folded.
    pub time: i64,
    /// Panes put out so far.
    pub panes: u32,
    /// Whether a record came after the last pane.
    pub is_late: bool,
}

/// What changed in one group since the last barrier; `None` when it was forgotten.
pub type Change = ((Vec<u8>, Window), Option<Saved>);

/// The groups of one worker.
#[derive(Debug, Default)]
pub struct Table {
    index: HashTable<u32>,
    groups: Vec<Group>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    gone: Vec<(Vec<u8>, Window)>,
}

fn hash(key: &[u8], window: Window) -> u64 {
    xxh3_64_with_seed(key, window.start as u64)
}

impl Table {
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.groups.len() - self.free.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the group, made if it is not there, and whether it was made.
    pub fn enter(&mut self, key: &[u8], window: Window) -> (u32, bool) {
        let hash = hash(key, window);
        let groups = &self.groups;
        let is_it = |&at: &u32| groups.get(at as usize).is_some_and(|group| group.window == window && group.key == key);
        if let Some(&at) = self.index.find(hash, is_it) {
            return (at, false);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            (self.groups.len() - 1) as u32
        });
        if let Some(group) = self.groups.get_mut(at as usize) {
            group.key.clear();
            group.key.extend_from_slice(key);
            group.state.clear();
            let (key, state) = (std::mem::take(&mut group.key), std::mem::take(&mut group.state));
            *group = Group { key, state, window, hash, is_live: true, time: i64::MIN, ..Group::default() };
        }
        let groups = &self.groups;
        self.index.insert_unique(hash, at, |&at| groups.get(at as usize).map_or(0, |group| group.hash));
        (at, true)
    }

    /// The group at a position.
    pub fn get(&self, at: u32) -> Option<&Group> {
        self.groups.get(at as usize).filter(|group| group.is_live)
    }

    /// The group at a position, to be changed; it counts as changed from now on.
    pub fn change(&mut self, at: u32) -> Option<&mut Group> {
        let group = self.groups.get_mut(at as usize).filter(|group| group.is_live)?;
        if !group.is_dirty {
            group.is_dirty = true;
            self.dirty.push(at);
        }
        Some(group)
    }

    /// The group at a position, for marks that are no part of its state.
    pub fn mark(&mut self, at: u32) -> Option<&mut Group> {
        self.groups.get_mut(at as usize).filter(|group| group.is_live)
    }

    /// Forgets the group at a position.
    pub fn forget(&mut self, at: u32) {
        let Some(group) = self.groups.get_mut(at as usize).filter(|group| group.is_live) else { return };
        group.is_live = false;
        // A dirty group's position stays listed; whoever reuses it may list it twice, and taking skips the second.
        self.gone.push((group.key.clone(), group.window));
        if let Ok(entry) = self.index.find_entry(group.hash, |other| *other == at) {
            entry.remove();
        }
        self.free.push(at);
    }

    /// Positions of all groups.
    pub fn all(&self) -> Vec<u32> {
        (0u32..).zip(&self.groups).filter(|(_, group)| group.is_live).map(|(at, _)| at).collect()
    }

    /// What changed since this was last asked: first what was forgotten, then what there is.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.gone.drain(..).map(|group| (group, None)).collect();
        for at in self.dirty.drain(..) {
            let Some(group) = self.groups.get_mut(at as usize) else { continue };
            if group.is_live && group.is_dirty {
                group.is_dirty = false;
                let saved = Saved {
                    state: group.state.clone(),
                    count: group.count,
                    time: group.time,
                    panes: group.panes,
                    is_late: group.is_late,
                };
                changes.push(((group.key.clone(), group.window), Some(saved)));
            }
        }
        changes
    }

    /// Puts a group back from a commit and returns its position.
    pub fn restore(&mut self, key: &[u8], window: Window, saved: &Saved) -> u32 {
        let (at, _) = self.enter(key, window);
        if let Some(group) = self.mark(at) {
            group.state.extend_from_slice(&saved.state);
            group.count = saved.count;
            group.time = saved.time;
            group.panes = saved.panes;
            group.is_late = saved.is_late;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8, u8),
        Forget(u8, u8),
        Barrier,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..6, 0u8..3, any::<u8>()).prop_map(|(key, window, state)| Step::Put(key, window, state)),
            2 => (0u8..6, 0u8..3).prop_map(|(key, window)| Step::Forget(key, window)),
            1 => Just(Step::Barrier),
        ]
    }

    fn window(of: u8) -> Window {
        Window { start: i64::from(of) * 10, end: i64::from(of) * 10 + 10 }
    }

    proptest! {
        /// The commits, applied one after the other, are the table: nothing forgotten comes back, nothing is missed.
        #[test]
        fn the_changes_of_all_epochs_add_up_to_the_table(steps in proptest::collection::vec(step(), 0..80)) {
            let (mut table, mut model, mut committed) = (Table::default(), BTreeMap::new(), BTreeMap::new());
            for step in steps.into_iter().chain([Step::Barrier]) {
                match step {
                    Step::Put(key, of, state) => {
                        let (at, made) = table.enter(&[key], window(of));
                        prop_assert_eq!(made, !model.contains_key(&(vec![key], window(of))));
                        let group = table.change(at).unwrap();
                        group.state.clear();
                        group.state.push(state);
                        model.insert((vec![key], window(of)), vec![state]);
                    }
                    Step::Forget(key, of) => {
                        if model.remove(&(vec![key], window(of))).is_some() {
                            let (at, _) = table.enter(&[key], window(of));
                            table.forget(at);
                        }
                    }
                    Step::Barrier => {
                        for (group, saved) in table.take_changes() {
                            match saved {
                                Some(saved) => committed.insert(group, saved.state),
                                None => committed.remove(&group),
                            };
                        }
                        prop_assert_eq!(&committed, &model);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }

    #[test]
    fn every_key_has_one_owner_whatever_the_number_of_workers() {
        for workers in 1..9 {
            let owners: std::collections::BTreeSet<usize> =
                (0..2000u32).map(|key| owner(&key.to_le_bytes(), workers)).collect();
            assert_eq!(owners, (0..workers).collect());
        }
    }

    #[test]
    fn the_slot_of_a_key_never_changes() {
        assert_eq!([slot(b""), slot(b"/x"), slot(b"host-1")], [slot(b""), slot(b"/x"), slot(b"host-1")]);
        assert_eq!(slot(b"tidegate"), xxh3_64_with_seed(b"tidegate", 0) % 256);
    }
}
