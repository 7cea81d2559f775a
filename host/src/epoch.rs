//! The number of an epoch: what commits together.
//!
//! Owns the count and nothing else; who begins and commits epochs is the business of `pipeline`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An epoch's number, from 1 on; a barrier carries it down the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}
