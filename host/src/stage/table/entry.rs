//! One group as it lies in memory: two cache lines.
//!
//! Owns the layout. What a search and a call need first is in the first line, what a fold changes in the second; keys
//! and states that are too long are in the arena, and their place is where they would be.

use super::arena::{Arena, Place, block_size};
use crate::time::{BEGIN, Window};

/// Longest key that lies in an entry, in bytes.
pub(super) const KEY: usize = 24;

/// Longest state that lies in an entry, in bytes.
pub(super) const STATE: usize = 32;

/// What the host knows of a group beside its state; part of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Records folded since the group began, for windows that count.
    pub count: u64,
    /// Highest event time folded, in milliseconds since the Unix epoch.
    pub time: i64,
    /// The furthest of watermark and event time when a record last came, for groups that expire.
    pub seen: i64,
    /// Panes put out so far.
    pub panes: u32,
    /// Whether a record came after the last pane.
    pub is_late: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { count: 0, time: BEGIN, seen: BEGIN, panes: 0, is_late: false }
    }
}

/// What commits know of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kept {
    /// None holds it.
    Nowhere,
    /// It has been handed over to one.
    Handed,
    /// One that has been made holds it, as it was handed over.
    Committed,
}

/// Bytes that a group takes in memory.
pub fn footprint(key: usize, state: usize) -> usize {
    let long = |len, most| if len > most { block_size(len) } else { 0 };
    // And its place in the index.
    size_of::<Entry>() + 8 + long(key, KEY) + long(state, STATE)
}

/// A group to be changed in place.
#[derive(Clone, Debug)]
#[repr(C, align(128))]
pub struct Entry {
    key: [u8; KEY],
    window: Window,
    key_len: u32,
    state_len: u32,
    /// Call that touched the group last.
    pub call: u64,
    /// The group's position in that call.
    pub local: u32,
    pub(super) is_live: bool,
    /// Its state or its facts differ from what was handed over.
    pub(super) is_changed: bool,
    /// Its position is in the list of changes, whoever holds it.
    pub(super) is_listed: bool,
    pub(super) kept: Kept,
    state: [u8; STATE],
    /// What the host knows of it.
    pub facts: Facts,
}

const _: () = assert!(size_of::<Entry>() == 128 && std::mem::offset_of!(Entry, state) == 64);

impl Entry {
    /// An entry of nobody.
    pub(super) const BLANK: Self = Self {
        key: [0; KEY],
        window: Window { start: 0, end: 0 },
        key_len: 0,
        state_len: 0,
        call: 0,
        local: 0,
        is_live: false,
        is_changed: false,
        is_listed: false,
        kept: Kept::Nowhere,
        state: [0; STATE],
        facts: Facts { count: 0, time: BEGIN, seen: BEGIN, panes: 0, is_late: false },
    };

    /// Whether this is the group of `key` and `window`.
    #[inline]
    pub(super) fn is(&self, key: &[u8], window: Window, arena: &Arena) -> bool {
        self.is_live && self.window == window && self.key(arena) == key
    }

    /// Its window.
    #[inline]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Its key.
    #[inline]
    pub(super) fn key<'a>(&'a self, arena: &'a Arena) -> &'a [u8] {
        let len = self.key_len as usize;
        self.key.get(..len).unwrap_or_else(|| arena.get(place(&self.key), len))
    }

    /// Its state; empty before the first record.
    #[inline]
    pub(super) fn state<'a>(&'a self, arena: &'a Arena) -> &'a [u8] {
        let len = self.state_len as usize;
        self.state.get(..len).unwrap_or_else(|| arena.get(place(&self.state), len))
    }

    /// Begins a group in a blank entry.
    pub(super) fn begin(&mut self, key: &[u8], window: Window, seen: i64, arena: &mut Arena) {
        *self = Self { is_live: true, is_listed: self.is_listed, window, ..Self::BLANK };
        self.facts.seen = seen;
        write(&mut self.key, 0, key, arena);
        self.key_len = key.len() as u32;
    }

    /// Begins the same group anew.
    pub(super) fn renew(&mut self, seen: i64, arena: &mut Arena) {
        self.rewrite(&[], arena);
        (self.call, self.local) = (0, 0);
        self.facts = Facts { seen, ..Facts::default() };
    }

    /// Replaces the state.
    #[inline]
    pub(super) fn rewrite(&mut self, state: &[u8], arena: &mut Arena) {
        write(&mut self.state, self.state_len as usize, state, arena);
        self.state_len = state.len() as u32;
    }

    /// Ends the group; its entry is blank, but for where it is listed.
    pub(super) fn end(&mut self, arena: &mut Arena) {
        self.rewrite(&[], arena);
        write(&mut self.key, self.key_len as usize, &[], arena);
        *self = Self { is_listed: self.is_listed, ..Self::BLANK };
    }
}

fn place<const N: usize>(inline: &[u8; N]) -> Place {
    Place::from_bytes(inline.first_chunk().copied().unwrap_or_default())
}

/// Puts `new` where `old` bytes lay: inline if it fits there, else in the arena.
#[inline]
fn write<const N: usize>(inline: &mut [u8; N], old: usize, new: &[u8], arena: &mut Arena) {
    if old <= N && new.len() <= N {
        if let Some(to) = inline.get_mut(..new.len()) {
            to.copy_from_slice(new);
        }
    } else {
        write_long(inline, old, new, arena);
    }
}

#[inline(never)]
fn write_long<const N: usize>(inline: &mut [u8; N], old: usize, new: &[u8], arena: &mut Arena) {
    let held = (old > N).then(|| place(inline));
    if let Some(held) = held {
        if new.len() > N && block_size(old) == block_size(new.len()) {
            return arena.rewrite(held, new);
        }
        arena.release(held, old);
    }
    if new.len() > N {
        let to = arena.put(new).to_bytes();
        if let Some(link) = inline.first_chunk_mut() {
            *link = to;
        }
    } else if let Some(to) = inline.get_mut(..new.len()) {
        to.copy_from_slice(new);
    }
}
