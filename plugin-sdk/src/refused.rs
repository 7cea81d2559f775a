//! What a plugin refuses, on its way to the host.
//!
//! Owns the two columns of it. Invariant: positions ascend, as records are worked on in order.

use crate::Error;
use crate::contract::types;

/// Records, or groups, refused by one call.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    at: Vec<u32>,
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Refused {
    /// Refuses the item at `at` for what `error` and its causes say.
    #[cold]
    pub(crate) fn push(&mut self, at: u32, error: &Error) {
        use std::io::Write;
        self.at.push(at);
        // Writing to a vector does not fail.
        let _ = write!(self.data, "{error:#}");
        self.ends.push(self.data.len() as u32);
    }

    pub(crate) fn contains(&self, at: u32) -> bool {
        self.at.binary_search(&at).is_ok()
    }

    pub(crate) fn into_contract(self) -> types::Refusals {
        types::Refusals { at: self.at, reasons: types::Column { data: self.data, ends: self.ends } }
    }
}
