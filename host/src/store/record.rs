//! What the store itself keeps of each pipeline: how many values there are, what they sum up to, its last epochs.
//!
//! Owns these rows and the checksums of values. Invariant: a pipeline's tally is that of its values, and the head's is
//! that of all rows, so that a value which is missing or of an older commit is found although each that is there is whole.
//!
//! A row and the head are little-endian numbers of 8 bytes behind their own checksum: count and sum of the tally, and in
//! the head the number of the commit, in a row 5 numbers for each epoch (epoch, milliseconds since 1970, microseconds,
//! writes, bytes), the oldest first.

use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Epochs that the history remembers of each pipeline.
const HISTORY: usize = 32;

/// Stands for a duration that is not known: that of the last commit before the process ended.
const UNKNOWN: u64 = u64::MAX;

/// Length of the checksum in front of each value.
const SUM: usize = 8;

/// One epoch that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The epoch.
    pub epoch: u64,
    /// When it was committed, in milliseconds since 1970.
    pub at: i64,
    /// How long the commit took; not known of the last one before a process ended.
    pub took: Option<Duration>,
    /// How many writes it held.
    pub writes: u64,
    /// Bytes of all its keys and values.
    pub bytes: u64,
}

/// How many values there are and the sum of their checksums, which does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, sum: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(sum);
    }

    pub(super) fn take(&mut self, sum: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(sum);
    }
}

/// The checksum of a value at a key of a table.
pub(super) fn checksum(table: &str, key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, xxh3_64(table.as_bytes())))
}

/// Lays a value behind its checksum into `to`, and returns the checksum.
pub(super) fn seal(table: &str, key: &[u8], value: &[u8], to: &mut Vec<u8>) -> u64 {
    let sum = checksum(table, key, value);
    to.clear();
    to.extend_from_slice(&sum.to_le_bytes());
    to.extend_from_slice(value);
    sum
}

/// The checksum in front of a value, unchecked.
pub(super) fn sum_of(sealed: &[u8]) -> Option<u64> {
    sealed.first_chunk::<SUM>().map(|sum| u64::from_le_bytes(*sum))
}

/// The value behind its checksum, and the checksum; nothing where they do not agree.
pub(super) fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> Option<(&'a [u8], u64)> {
    let (_, value) = sealed.split_first_chunk::<SUM>()?;
    let sum = sum_of(sealed)?;
    (sum == checksum(table, key, value)).then_some((value, sum))
}

/// The row that leads to all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the last commit.
    pub(super) commit: u64,
    /// Tally of the rows of pipelines.
    pub(super) rows: Tally,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.commit, self.rows.count, self.rows.sum].iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let head = Self { commit: numbers.next()?, rows: Tally { count: numbers.next()?, sum: numbers.next()? } };
        numbers.0.is_empty().then_some(head)
    }
}

/// The row of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) tally: Tally,
    pub(super) history: Vec<Past>,
}

impl Record {
    /// Adds an epoch, and how long the one before took now that it is known. The same epoch once more, after the disk
    /// had no room, takes its own place.
    pub(super) fn remember(&mut self, past: Past, before: Option<Duration>) {
        self.history.pop_if(|last| last.epoch == past.epoch);
        if let (Some(last), Some(before)) = (self.history.last_mut(), before) {
            last.took = Some(before);
        }
        self.history.push(past);
        let old = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..old);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(16 + 40 * self.history.len());
        let mut push = |number: u64| to.extend_from_slice(&number.to_le_bytes());
        push(self.tally.count);
        push(self.tally.sum);
        for past in &self.history {
            push(past.epoch);
            push(past.at.cast_unsigned());
            push(past.took.map_or(UNKNOWN, |took| u64::try_from(took.as_micros()).unwrap_or(UNKNOWN)));
            push(past.writes);
            push(past.bytes);
        }
        to
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let mut record = Self { tally: Tally { count: numbers.next()?, sum: numbers.next()? }, history: Vec::new() };
        while !numbers.0.is_empty() {
            record.history.push(Past {
                epoch: numbers.next()?,
                at: numbers.next()?.cast_signed(),
                took: Some(numbers.next()?).filter(|&took| took != UNKNOWN).map(Duration::from_micros),
                writes: numbers.next()?,
                bytes: numbers.next()?,
            });
        }
        Some(record)
    }
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(epoch: u64) -> Past {
        Past { epoch, at: -1, took: None, writes: 3, bytes: 72 }
    }

    #[test]
    fn a_record_and_a_head_read_back_as_they_were_written_and_not_when_cut() {
        let mut record = Record { tally: Tally { count: 2, sum: u64::MAX }, history: Vec::new() };
        record.remember(past(1), None);
        record.remember(past(2), Some(Duration::from_micros(7)));
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        let head = Head { commit: 9, rows: Tally { count: 1, sum: 4 } };
        assert_eq!(Head::decode(&head.encode()), Some(head));
        for cut in (0..bytes.len()).filter(|cut| ![16, 56].contains(cut)) {
            assert_eq!(Record::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_history_keeps_the_last_epochs_and_learns_how_long_each_took() {
        let mut record = Record::default();
        for epoch in 1..=HISTORY as u64 + 3 {
            record.remember(past(epoch), Some(Duration::from_millis(epoch - 1)));
        }
        assert_eq!(record.history.len(), HISTORY);
        assert_eq!(record.history[0], Past { took: Some(Duration::from_millis(4)), ..past(4) });
        let last = past(HISTORY as u64 + 3);
        assert_eq!(record.history[HISTORY - 1], last);
        // Handed in again after the disk was full, it is still one epoch.
        let before = record.clone();
        record.remember(last, None);
        assert_eq!(record, before);
    }

    #[test]
    fn a_checksum_stands_for_one_value_at_one_key_of_one_table() {
        let mut sealed = Vec::new();
        let sum = seal("a", b"key", b"value", &mut sealed);
        assert_eq!(unseal("a", b"key", &sealed), Some((&b"value"[..], sum)));
        for (table, key) in [("b", &b"key"[..]), ("a", b"kez"), ("ak", b"ey")] {
            assert_eq!(unseal(table, key, &sealed), None);
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("a", b"key", &flipped), None, "bit {bit}");
        }
    }
}
