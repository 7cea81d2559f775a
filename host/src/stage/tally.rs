//! What became of records: the counts that the ledger is made of.
//!
//! Owns the sums and the equations between them. Invariant 1: nothing vanishes without a name.

use serde::{Deserialize, Serialize};

/// What became of the records that a stage, source or sink received, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Received: from all inputs of a stage or sink, or read by a source.
    pub received: u64,
    /// Of these, came out at least once: origins of outputs, records sent on or delivered.
    pub passed: u64,
    /// Of these, dropped by a filter, or turned into nothing by a map.
    pub filtered: u64,
    /// Of these, folded into a state.
    pub absorbed: u64,
    /// Of these, came after their window had been forgotten.
    pub late: u64,
    /// Of these, refused: by the plugin, by a decoder, by a sink.
    pub refused: u64,
    /// Records put out, to all outputs.
    pub produced: u64,
    /// Of these, dropped while a breaker was open, as its stage or sink says, or by an edge in front of the source.
    #[serde(default)]
    pub dropped: u64,
    /// Of these, whatever became of them, done by the plugin that stands in for the stage's own.
    #[serde(default)]
    pub stood_in: u64,
    /// Of these, handed to the sink that stands in.
    #[serde(default)]
    pub diverted: u64,
    /// Accepted and lost, by a source that cannot be asked again.
    pub lost: u64,
}

impl Tally {
    /// Adds what another count says.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.passed += other.passed;
        self.filtered += other.filtered;
        self.absorbed += other.absorbed;
        self.late += other.late;
        self.refused += other.refused;
        self.produced += other.produced;
        self.dropped += other.dropped;
        self.stood_in += other.stood_in;
        self.diverted += other.diverted;
        self.lost += other.lost;
    }

    /// Records received that nothing accounts for; 0 in a ledger that balances.
    pub fn imbalance(&self) -> i64 {
        let gone = self.refused + self.dropped + self.diverted + self.lost;
        let accounted = self.passed + self.filtered + self.absorbed + self.late + gone;
        self.received as i64 - accounted as i64
    }
}
