//! The head of a block: what it holds and how one can tell that it is the block it should be.
//!
//! Owns the format of heads. It must not know files. Little-endian, [`LEN`] bytes, followed by the payload:
//!
//! | bytes | hold |
//! |---|---|
//! | 0–4 | length of the payload |
//! | 4–8 | records, at least 1; 0 marks a gap |
//! | 8–16 | offset of the first record |
//! | 16–24 | lowest time, ms |
//! | 24–32 | highest time, ms |
//! | 32–40 | epoch; of a gap, how many records are missing |
//! | 40–48 | xxh3-64 of the payload; of a gap, 0 |
//! | 48–56 | xxh3-64 of the above, seeded with the segment's salt plus the head's position in the file |
//!
//! A place of a segment is only ever written with one content, for nobody appends to a segment that an earlier process
//! began. So a head fits one place of one file, and a block that was swapped, doubled, left over or moved is seen. A *gap*
//! is what `repair` writes over damage: its payload is whatever was there, and is not read.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Block, Mark};
use crate::epoch::Epoch;

/// Length of a head.
pub(super) const LEN: usize = 56;

/// Where the checksum stands.
const CHECK: usize = 48;

/// A head that fits its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Length of the payload.
    pub(super) length: u32,
    pub(super) offset: u64,
    pub(super) times: (i64, i64),
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block { records: u32, epoch: Epoch, check: u64 },
    Gap { records: u64 },
}

impl Head {
    pub(super) fn of(block: &Block, length: u32, offset: u64) -> Self {
        let kind = Kind::Block { records: block.records, epoch: block.epoch, check: xxh3_64(&block.payload) };
        Self { length, offset, times: block.times, kind }
    }

    /// A gap that stands for `records` records from `offset` on, with times that no search looks for.
    pub(super) fn gap(length: u32, offset: u64, records: u64) -> Self {
        Self { length, offset, times: (i64::MAX, i64::MIN), kind: Kind::Gap { records } }
    }

    /// How many offsets it takes.
    pub(super) fn records(&self) -> u64 {
        match self.kind {
            Kind::Block { records, .. } => u64::from(records),
            Kind::Gap { records } => records,
        }
    }

    /// Where the next block stands, this one standing at `at`.
    pub(super) fn end(&self, at: Mark) -> Mark {
        let bytes = at.bytes + LEN as u64 + u64::from(self.length);
        Mark { offset: self.offset.saturating_add(self.records()), bytes, ..at }
    }

    pub(super) fn encode(&self, at: Mark) -> [u8; LEN] {
        let (records, epoch, check) = match self.kind {
            Kind::Block { records, epoch, check } => (records, epoch.0, check),
            Kind::Gap { records } => (0, records, 0),
        };
        let mut bytes = [0; LEN];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&records.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.times.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.times.1.to_le_bytes());
        bytes[32..40].copy_from_slice(&epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&check.to_le_bytes());
        let check = checksum(&bytes, at.salt, at.bytes);
        bytes[CHECK..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The head in `bytes`, if it was written there: at `position` of the segment with `salt`.
    pub(super) fn decode(bytes: &[u8; LEN], salt: u64, position: u64) -> Option<Self> {
        if checksum(bytes, salt, position) != number(bytes, CHECK) {
            return None;
        }
        let both = number(bytes, 0);
        let (length, records, epoch) = (both as u32, (both >> 32) as u32, number(bytes, 32));
        let kind = match records {
            0 => Kind::Gap { records: epoch },
            records => Kind::Block { records, epoch: Epoch(epoch), check: number(bytes, 40) },
        };
        let times = (number(bytes, 16) as i64, number(bytes, 24) as i64);
        Some(Self { length, offset: number(bytes, 8), times, kind })
    }
}

fn checksum(bytes: &[u8; LEN], salt: u64, position: u64) -> u64 {
    xxh3_64_with_seed(&bytes[..CHECK], salt.wrapping_add(position))
}

/// The eight bytes at `at`, a constant, as a number.
pub(super) fn number<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
