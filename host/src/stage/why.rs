//! Why a record is refused, for whoever keeps refused records.
//!
//! Owns the column beside the reasons, which are for people. Invariant: a byte never changes its meaning, for it may be
//! kept.

use std::sync::Arc;

use crate::{
    batch::{Batch, Column},
    plugin::FaultKind,
};

/// Name of the further column of refused records that says why, in one byte each: 0 = refused by the plugin, else the
/// kind of fault, from 1 in the order of [`KINDS`]. Absent or empty for what a source or sink refused.
pub const WHY: &str = "why";

/// The faults that data can be to blame for.
const KINDS: [FaultKind; 7] = [
    FaultKind::Trap,
    FaultKind::OutOfFuel,
    FaultKind::Deadline,
    FaultKind::MemoryLimit,
    FaultKind::OutputLimit,
    FaultKind::BadReply,
    FaultKind::Exit,
];

/// Why a stage refused a record or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The plugin said so.
    Refused,
    /// The plugin faults whenever it gets it.
    Fault(FaultKind),
}

impl Why {
    /// Why record `at` of a batch of refused ones is there; none where no stage refused it.
    pub fn of(batch: &Batch, at: usize) -> Option<Self> {
        match batch.named(WHY)?.get(at)? {
            [0] => Some(Self::Refused),
            [byte] => KINDS.get(usize::from(byte - 1)).copied().map(Self::Fault),
            _ => None,
        }
    }

    /// What it is called, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Fault(kind) => kind.name(),
        }
    }

    /// The same records, all of them refused for this.
    pub fn beside(self, batch: Batch) -> Batch {
        let byte = match self {
            Self::Refused => Some(0),
            Self::Fault(kind) => KINDS.iter().position(|known| *known == kind).map(|at| at as u8 + 1),
        };
        let Some(byte) = byte else { return batch };
        let column = Column::repeat(&[byte], batch.len());
        batch.clone().with_named(Arc::from(WHY), column).unwrap_or(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_record_was_refused_can_be_read_beside_it() {
        let batch = || Batch::of_values(["a", "b"].iter().collect());
        for why in KINDS.map(Why::Fault).into_iter().chain([Why::Refused]) {
            let beside = why.beside(batch());
            assert_eq!((Why::of(&beside, 1), Why::of(&beside, 2)), (Some(why), None));
        }
        assert_eq!(Why::of(&batch(), 0), None);
        let mixed = Batch::concat(&[batch(), Why::Refused.beside(batch())]);
        assert_eq!([0, 2].map(|at| Why::of(&mixed, at)), [None, Some(Why::Refused)]);
    }
}
