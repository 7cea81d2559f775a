//! A column that is written only where an output sets it.
//!
//! Owns the padding between. It must not know which column it is. Invariant: ends never fall and never pass the data.

use crate::contract::types::Column;

/// A column of which only some items are written, the last one always being the one in hand.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) data: Vec<u8>,
    pub(super) ends: Vec<u32>,
}

impl Sparse {
    /// Makes items up to `len` empty, unless written.
    #[inline]
    pub(super) fn pad(&mut self, len: usize) {
        if self.ends.len() < len {
            self.ends.resize(len, self.data.len() as u32);
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if self.ends.len() <= len {
            return;
        }
        self.ends.truncate(len);
        self.data.truncate(self.ends.last().copied().unwrap_or_default() as usize);
    }

    /// The data, for the item at `at` to be written; what it held is forgotten.
    #[inline]
    pub(super) fn write(&mut self, at: usize) -> &mut Vec<u8> {
        if self.ends.len() > at {
            self.truncate(at);
        }
        self.pad(at);
        &mut self.data
    }

    /// The data, for the item at `at` to be written on.
    pub(super) fn append(&mut self, at: usize) -> &mut Vec<u8> {
        self.pad(at);
        self.ends.truncate(at);
        &mut self.data
    }

    #[inline]
    pub(super) fn close(&mut self) {
        self.ends.push(self.data.len() as u32);
    }

    /// The column, if `wanted` has any bit.
    pub(super) fn full(mut self, wanted: u8, len: usize) -> Option<Column> {
        self.pad(len);
        (wanted != 0).then_some(Column { data: self.data, ends: self.ends })
    }
}
