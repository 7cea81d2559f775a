//! What an instance may use.
//!
//! Owns the limits and how much fuel a call gets. It must not know how they are written or enforced. Invariant: every
//! limit is on by default.

use std::time::Duration;

/// Fuel that a call gets before its first record: what entering the plugin, its allocator's growth and a summary of
/// the batch cost.
const FUEL_PER_CALL: u64 = 5_000_000;

/// Limits of one instance of a stage's plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel for each record (or group) of a call; a unit is about one wasm instruction.
    pub fuel_per_record: u64,
    /// Fuel for each byte that goes into a call.
    pub fuel_per_byte: u64,
    /// Linear memory of an instance, in bytes.
    pub memory: u64,
    /// Wall-clock time of one call.
    pub time: Duration,
    /// Bytes that one call may give back, and hand to any one host function.
    pub output: u64,
    /// Bytes of log messages in one call.
    pub logs: u64,
    /// Bytes of one group's state.
    pub state: u64,
}

impl Default for Limits {
    /// Fuel has to run out long before time: 1,024 records of 1 KiB get 0.26 × 10⁹ units, about a tenth of a second.
    fn default() -> Self {
        Self {
            fuel_per_record: 50_000,
            fuel_per_byte: 200,
            memory: 64 << 20,
            time: Duration::from_secs(10),
            output: 16 << 20,
            logs: 64 << 10,
            state: 64 << 10,
        }
    }
}

impl Limits {
    /// Limits under which a plugin is asked what it is, before any stage has set others.
    pub(super) fn for_describing() -> Self {
        Self { memory: 1 << 30, ..Self::default() }
    }

    /// Fuel for a call that carries `records` records or groups in `bytes` bytes.
    pub fn fuel(&self, records: usize, bytes: usize) -> u64 {
        let records = self.fuel_per_record.saturating_mul(records as u64);
        let bytes = self.fuel_per_byte.saturating_mul(bytes as u64);
        FUEL_PER_CALL.saturating_add(records).saturating_add(bytes)
    }
}
