//! That a record has been a letter before, in a column that travels with it to who refused it and no further.
//!
//! Owns the column and its form: of each record the offset of the letter (8 bytes), how often it had been refused (4), when it
//! was first (8, milliseconds since the Unix epoch), all little-endian, and whether it may be late (1). It must not know who
//! tries again. Invariant: what is refused again says how often.

use std::sync::Arc;

use crate::batch::{Batch, Column};

/// Name of the column; an empty item says nothing.
pub(super) const AGAIN: &str = "again";

/// What time has to do with a record that is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lateness {
    /// It is taken as if it came in time.
    #[default]
    Excused,
    /// It is late where any other record of its time would be.
    Counts,
}

/// What a record has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Which letter.
    pub offset: u64,
    /// How often it had been refused.
    pub attempts: u32,
    /// When it was refused first, in milliseconds since the Unix epoch.
    pub first: i64,
    /// Whether it may be late.
    pub lateness: Lateness,
}

impl Again {
    fn item(self) -> [u8; 21] {
        let mut item = [0; 21];
        let late = [u8::from(self.lateness == Lateness::Counts)];
        let parts = [&self.offset.to_le_bytes()[..], &self.attempts.to_le_bytes(), &self.first.to_le_bytes(), &late];
        item.iter_mut().zip(parts.concat()).for_each(|(to, byte)| *to = byte);
        item
    }

    fn read(item: &[u8]) -> Option<Self> {
        let (offset, rest) = item.split_first_chunk()?;
        let (attempts, rest) = rest.split_first_chunk()?;
        let (first, late) = rest.split_first_chunk()?;
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            attempts: u32::from_le_bytes(*attempts),
            first: i64::from_le_bytes(*first),
            lateness: if late == [0] { Lateness::Excused } else { Lateness::Counts },
        })
    }

    /// The same records, each of which has been what stands at its place in `all`.
    pub fn beside(all: &[Self], batch: Batch) -> Batch {
        let items: Column = all.iter().map(|again| again.item()).collect();
        batch.clone().with_named(Arc::from(AGAIN), items).unwrap_or(batch)
    }

    /// What record `at` of a batch has been; none where it comes for the first time.
    pub fn of(batch: &Batch, at: usize) -> Option<Self> {
        Self::read(batch.named(AGAIN)?.get(at)?)
    }

    /// Whether records of a batch have been letters.
    pub fn is_in(batch: &Batch) -> bool {
        batch.named(AGAIN).is_some()
    }

    /// The same records, as who comes next gets them: nobody there has refused them.
    pub fn forgotten(batch: Batch) -> Batch {
        batch.retain_named(|name| name != AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_a_record_has_been_is_read_back(offset: u64, attempts: u32, first: i64, may_be_late: bool) {
            let lateness = if may_be_late { Lateness::Counts } else { Lateness::Excused };
            let again = Again { offset, attempts, first, lateness };
            let batch = Again::beside(&[again], Batch::of_values(["v"].iter().collect()));
            prop_assert_eq!((Again::of(&batch, 0), Again::of(&batch, 1)), (Some(again), None));
            prop_assert!(Again::is_in(&batch) && !Again::is_in(&Again::forgotten(batch)));
        }

        #[test]
        fn arbitrary_items_never_panic(item in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = Again::read(&item);
        }
    }
}
