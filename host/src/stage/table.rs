//! The groups of one worker, in memory: found by key and window, changed in place.
//!
//! Owns the division into slots, what changed since the last barrier, and which groups have expired. Groups lie in flat
//! slabs, small keys and states inline; an index for each slot finds them, so that growing one stops nobody for long.
//! Invariant: every live entry is in the index of its key's slot, and nothing else is.

mod arena;
mod changes;
mod cold;
mod entry;
mod index;
mod slab;

use std::hash::{BuildHasher, RandomState};

use xxhash_rust::xxh3::xxh3_64;

use arena::Arena;
pub use changes::{Change, Changes, Saved};
pub use cold::{Cold, Frozen};
use entry::Kept;
pub use entry::{Entry, Facts, footprint};
use index::Index;
use slab::Slab;

use crate::time::{BEGIN, Window};

/// How many slots keys are divided into; a worker owns a range of them. Part of the format of stored state.
pub const SLOTS: usize = 256;

/// Groups looked for side by side: enough that the memory is asked for many of them before the first one has come,
/// few enough that what it brought is still in the nearest cache when it is used.
const ABREAST: usize = 64;

/// The slot of a key. The hash is fixed for ever, for it decides where state is found again.
pub fn slot(key: &[u8]) -> u8 {
    hash(key) as u8
}

/// The worker among `workers` that owns a key.
pub fn owner(key: &[u8], workers: usize) -> usize {
    keeper(slot(key), workers)
}

/// The worker among `workers` that owns a slot.
pub fn keeper(slot: u8, workers: usize) -> usize {
    usize::from(slot) * workers / SLOTS
}

fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The hash of a group whose key has the hash `of_key`. The halves of a wide product, folded, depend on every bit: one
/// slot's keys and one key's windows spread alike.
#[inline]
fn spread(of_key: u64, window: Window, secret: u64) -> u64 {
    let mixed = of_key ^ (window.start as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ secret;
    let wide = u128::from(mixed) * 0xE703_7ED1_A0B4_28DB;
    (wide >> 64) as u64 ^ wide as u64
}

/// One group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Window; all of time where the stage has none.
    pub window: Window,
    /// State; empty before the first record.
    pub state: &'a [u8],
    /// What the host knows beside it.
    pub facts: Facts,
}

/// Memory, in bytes, without what the allocator itself needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Taken by groups: entries, blocks of long keys and states, places in the index.
    pub used: usize,
    /// Taken from the system, lists of changes included.
    pub reserved: usize,
}

/// Two tables that hold groups of the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("move slot {0}: two workers hold groups of it")]
pub struct Overlap(pub u8);

/// The groups of one worker.
#[derive(Debug)]
pub struct Table {
    slots: Box<[Index; SLOTS]>,
    slab: Slab,
    arena: Arena,
    changed: Vec<u32>,
    /// Groups that were handed over and that no commit is known to hold yet; nothing where nobody asks.
    handed: Option<Vec<u32>>,
    forgotten: Changes,
    /// Groups not seen since then are no longer there, whether or not their memory has been freed.
    horizon: i64,
    /// Where the sweep for them goes on.
    swept: u32,
    /// Mixed into every hash, so that nobody outside can choose keys whose hashes lie close together.
    secret: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            slots: Box::new(std::array::from_fn(|_| Index::default())),
            slab: Slab::default(),
            arena: Arena::default(),
            changed: Vec::new(),
            handed: None,
            forgotten: Changes::default(),
            horizon: BEGIN,
            swept: 0,
            secret: RandomState::new().hash_one(SLOTS),
        }
    }
}

/// A group that is looked for.
#[derive(Clone, Copy, Default)]
struct Sought<'k> {
    key: &'k [u8],
    window: Window,
    slot: u8,
    hash: u64,
    guess: Option<u32>,
}

impl Table {
    /// Number of groups, expired ones included until their memory is freed.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in use and reserved, for limits. Adds up 256 indexes: asked once a batch it costs nothing that is seen.
    pub fn bytes(&self) -> Bytes {
        let handed = self.handed.as_ref().map_or(0, Vec::capacity);
        let lists = (self.changed.capacity() + handed) * size_of::<u32>() + self.forgotten.bytes();
        let parts = [self.slab.bytes(), self.arena.bytes(), (0, lists), (0, size_of_val(&*self.slots))];
        let (used, reserved) = (self.slots.iter().map(Index::bytes).chain(parts))
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        Bytes { used, reserved }
    }

    /// The position of the group, made if it is not there, and whether it was made.
    pub fn enter(&mut self, key: &[u8], window: Window) -> (u32, bool) {
        let sought = self.sought(key, window);
        self.settle(sought)
    }

    /// Whether the group is there.
    pub fn has(&self, key: &[u8], window: Window) -> bool {
        let Sought { slot, hash, .. } = self.sought(key, window);
        let is_it = |at| self.slab.get(at).is_some_and(|entry| entry.is(key, window, &self.arena));
        self.slot(slot).find(hash, is_it).is_some_and(|at| self.get(at).is_some())
    }

    /// Adds to `found`, for each of `groups`, its position, made if it is not there, and whether it was made. Looks for
    /// many side by side: what hides the way to memory when the groups are more than the caches hold.
    pub fn enter_many<'k>(
        &mut self,
        groups: impl IntoIterator<Item = (&'k [u8], Window)>,
        found: &mut Vec<(u32, bool)>,
    ) {
        let mut groups = groups.into_iter();
        let mut abreast = [Sought::default(); ABREAST];
        loop {
            let mut len = 0;
            for (sought, (key, window)) in abreast.iter_mut().zip(groups.by_ref()) {
                *sought = self.sought(key, window);
                len += 1;
            }
            let Some(abreast) = abreast.get_mut(..len).filter(|abreast| !abreast.is_empty()) else { return };
            for sought in &mut *abreast {
                sought.guess = self.slot(sought.slot).find(sought.hash, |_| true);
            }
            // Reads both lines of every entry before any is compared, and dismisses what has expired.
            for sought in &mut *abreast {
                let is_there = |at: &u32| self.slab.get(*at).is_some_and(|entry| entry.facts.seen >= self.horizon);
                sought.guess = sought.guess.filter(is_there);
            }
            found.extend(abreast.iter().map(|sought| self.settle(*sought)));
        }
    }

    #[inline]
    fn sought<'k>(&self, key: &'k [u8], window: Window) -> Sought<'k> {
        let of_key = hash(key);
        Sought { key, window, slot: of_key as u8, hash: spread(of_key, window, self.secret), guess: None }
    }

    /// The group at its guess, or wherever it is, or made.
    #[inline]
    fn settle(&mut self, sought: Sought<'_>) -> (u32, bool) {
        let Sought { key, window, guess, .. } = sought;
        let is_it = |at: &u32| self.slab.get(*at).is_some_and(|entry| entry.is(key, window, &self.arena));
        guess.filter(is_it).map_or_else(|| self.find_or_begin(sought), |at| (at, false))
    }

    fn find_or_begin(&mut self, sought: Sought<'_>) -> (u32, bool) {
        let Sought { key, window, slot, hash, .. } = sought;
        let is_it = |at| self.slab.get(at).is_some_and(|entry| entry.is(key, window, &self.arena));
        let Some(at) = self.slot(slot).find(hash, is_it) else { return (self.begin(sought), true) };
        let expired = self.slab.get_mut(at).filter(|entry| entry.facts.seen < self.horizon);
        let is_made = expired.is_some();
        if let Some(entry) = expired {
            entry.renew(self.horizon, &mut self.arena);
        }
        (at, is_made)
    }

    fn begin(&mut self, sought: Sought<'_>) -> u32 {
        let (at, entry) = self.slab.take();
        if let Some(entry) = entry {
            entry.begin(sought.key, sought.window, self.horizon, &mut self.arena);
        }
        self.slots[usize::from(sought.slot)].insert(sought.hash, at);
        at
    }

    /// The group at a position.
    #[inline]
    pub fn get(&self, at: u32) -> Option<Group<'_>> {
        let entry = self.slab.get(at).filter(|entry| entry.facts.seen >= self.horizon)?;
        Some(self.group(entry))
    }

    #[inline]
    fn group<'a>(&'a self, entry: &'a Entry) -> Group<'a> {
        let (key, state) = (entry.key(&self.arena), entry.state(&self.arena));
        Group { key, window: entry.window(), state, facts: entry.facts }
    }

    /// When a record last came to the group at a position: in event time, and by the number of the call.
    pub fn last_seen(&self, at: u32) -> (i64, u64) {
        self.slab.get(at).map_or((BEGIN, 0), |entry| (entry.facts.seen, entry.call))
    }

    /// The entry at a position, for marks that are no part of the group's state.
    #[inline]
    pub fn mark(&mut self, at: u32) -> Option<&mut Entry> {
        self.slab.get_mut(at)
    }

    /// The entry at a position; the group counts as changed from now on.
    #[inline]
    pub fn change(&mut self, at: u32) -> Option<&mut Entry> {
        let entry = self.slab.get_mut(at)?;
        note(entry, at, &mut self.changed);
        Some(entry)
    }

    /// Replaces the state of the group at a position; it counts as changed from now on.
    #[inline]
    pub fn write(&mut self, at: u32, state: &[u8]) -> Option<&mut Entry> {
        let entry = self.slab.get_mut(at)?;
        entry.rewrite(state, &mut self.arena);
        note(entry, at, &mut self.changed);
        Some(entry)
    }

    /// Forgets the group at a position.
    pub fn forget(&mut self, at: u32) {
        let Some(entry) = self.slab.get(at) else { return };
        // What no commit holds need not be taken out of one; so this list is no longer than what commits hold.
        if entry.kept != Kept::Nowhere {
            self.forgotten.push(Change { key: entry.key(&self.arena), window: entry.window(), kept: None });
        }
        self.leave(at);
    }

    /// Forgets a group that only a commit holds.
    pub fn forget_kept(&mut self, key: &[u8], window: Window) {
        self.forgotten.push(Change { key, window, kept: None });
    }

    /// Takes the group at a position out of memory; commits hold it as before.
    pub fn leave(&mut self, at: u32) {
        let Some(entry) = self.slab.get(at) else { return };
        let Group { key, window, .. } = self.group(entry);
        let Sought { slot, hash, .. } = self.sought(key, window);
        self.slots[usize::from(slot)].remove(hash, at);
        if let Some(entry) = self.slab.get_mut(at) {
            entry.end(&mut self.arena);
        }
        self.slab.release(at);
    }

    /// Positions of the groups of a slot.
    pub fn of_slot(&self, slot: u8) -> impl Iterator<Item = u32> {
        self.slot(slot).positions().filter(|at| self.get(*at).is_some())
    }

    /// Positions of all groups, in ascending order.
    pub fn all(&self) -> Vec<u32> {
        (0..self.slab.end()).filter(|at| self.get(*at).is_some()).collect()
    }

    /// What changed since this was last asked: first what was forgotten, then what there is. A table left without
    /// groups gives its memory back.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.forgotten);
        for at in self.changed.drain(..) {
            let Some(entry) = self.slab.any_mut(at) else { continue };
            entry.is_listed = false;
            if entry.is_live && std::mem::take(&mut entry.is_changed) {
                entry.kept = Kept::Handed;
                self.handed.iter_mut().for_each(|handed| handed.push(at));
                let kept = Some((entry.state(&self.arena), entry.facts));
                changes.push(Change { key: entry.key(&self.arena), window: entry.window(), kept });
            }
        }
        if self.is_empty() {
            let handed = self.handed.as_ref().map(|_| Vec::new());
            *self = Self { horizon: self.horizon, handed, ..Self::default() };
        }
        changes
    }

    /// Begins to note which groups a commit holds as they are.
    pub fn watch(&mut self) {
        self.handed.get_or_insert_default();
    }

    /// All that was handed over so far has been committed.
    pub fn confirm(&mut self) {
        for at in self.handed.iter_mut().flat_map(|handed| handed.drain(..)) {
            if let Some(entry) = self.slab.get_mut(at).filter(|entry| entry.kept == Kept::Handed) {
                entry.kept = Kept::Committed;
            }
        }
    }

    /// Positions of the groups that a commit holds as they are, and that nothing waits for but records.
    pub fn clean(&self) -> Vec<u32> {
        let is_clean = |entry: &Entry| {
            entry.kept == Kept::Committed
                && !entry.is_changed
                && !entry.facts.is_late
                && entry.facts.seen >= self.horizon
        };
        (0..self.slab.end()).filter(|at| self.slab.get(*at).is_some_and(is_clean)).collect()
    }

    /// What was seen before this has expired.
    pub fn horizon(&self) -> i64 {
        self.horizon
    }

    /// Puts a group back from a commit and returns its position.
    pub fn restore(&mut self, key: &[u8], window: Window, saved: &Saved) -> u32 {
        self.put(Group { key, window, state: &saved.state, facts: saved.facts }, Kept::Committed)
    }

    fn put(&mut self, group: Group<'_>, kept: Kept) -> u32 {
        let (at, _) = self.enter(group.key, group.window);
        if let Some(entry) = self.slab.get_mut(at) {
            entry.rewrite(group.state, &mut self.arena);
            entry.facts = group.facts;
            entry.kept = kept;
        }
        at
    }

    /// Lets the groups expire that were not seen since `horizon`, and frees the memory of those among the next `most`
    /// entries; returns how many. A group is gone as soon as the horizon has passed it, wherever the sweep stands, so
    /// that what comes out never depends on how often this is called.
    pub fn expire(&mut self, horizon: i64, most: usize) -> usize {
        self.horizon = self.horizon.max(horizon);
        let before = self.len();
        for _ in 0..most.min(self.slab.end() as usize) {
            let at = if self.swept < self.slab.end() { self.swept } else { 0 };
            self.swept = at + 1;
            if self.slab.get(at).is_some_and(|entry| entry.facts.seen < self.horizon) {
                self.forget(at);
            }
        }
        before - self.len()
    }

    /// Takes the groups out whose slots leave, with what changed in them. Their positions are new ones.
    pub fn split_off(&mut self, leaves: impl Fn(u8) -> bool) -> Self {
        let mut left = Self { horizon: self.horizon, ..Self::default() };
        for number in (0..=u8::MAX).filter(|number| leaves(*number)) {
            for at in std::mem::take(&mut self.slots[usize::from(number)]).positions() {
                left.adopt(self, at);
                if let Some(entry) = self.slab.get_mut(at) {
                    entry.end(&mut self.arena);
                }
                self.slab.release(at);
            }
        }
        for change in std::mem::take(&mut self.forgotten).iter() {
            let stays = !leaves(slot(change.key));
            if stays { &mut self.forgotten } else { &mut left.forgotten }.push(change);
        }
        left
    }

    /// Takes in all groups of another table, with what changed in them. Their positions are new ones.
    ///
    /// # Errors
    /// When both hold groups of one slot; nothing has changed.
    pub fn absorb(&mut self, other: &Self) -> Result<(), Overlap> {
        let mut slots = (0..=u8::MAX).zip(self.slots.iter().zip(other.slots.iter()));
        if let Some((number, _)) = slots.find(|(_, (here, there))| here.len() > 0 && there.len() > 0) {
            return Err(Overlap(number));
        }
        self.horizon = self.horizon.max(other.horizon);
        other.slots.iter().flat_map(Index::positions).for_each(|at| self.adopt(other, at));
        other.forgotten.iter().for_each(|change| self.forgotten.push(change));
        Ok(())
    }

    fn adopt(&mut self, other: &Self, at: u32) {
        let Some(entry) = other.slab.get(at) else { return };
        let here = self.put(other.group(entry), entry.kept);
        if entry.is_changed {
            self.change(here);
        }
    }

    #[inline]
    fn slot(&self, number: u8) -> &Index {
        &self.slots[usize::from(number)]
    }
}

/// Notes that an entry has changed; the list holds it once, however often it does.
#[inline]
fn note(entry: &mut Entry, at: u32, changed: &mut Vec<u32>) {
    entry.is_changed = true;
    if !entry.is_listed {
        entry.is_listed = true;
        changed.push(at);
    }
}

#[cfg(test)]
mod tests;
