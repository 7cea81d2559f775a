//! What a stage, source or sink shows of itself while it runs.
//!
//! Owns the numbers that other threads read; they are written once a batch. The ledger does not read them: it is made
//! of the tallies that travel with the barriers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    spread::{Quantiles, Spread},
    tally::Tally,
};
use crate::{
    plugin::{FaultKind, Usage},
    time::BEGIN,
};

/// Live numbers of one source, stage or sink.
#[derive(Debug)]
pub struct Meter {
    received: AtomicU64,
    passed: AtomicU64,
    filtered: AtomicU64,
    absorbed: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    produced: AtomicU64,
    dropped: AtomicU64,
    stood_in: AtomicU64,
    diverted: AtomicU64,
    lost: AtomicU64,
    fuel: AtomicU64,
    fuel_budget: AtomicU64,
    plugin_nanos: AtomicU64,
    plugin_memory: AtomicU64,
    plugin_memory_budget: AtomicU64,
    recycled: AtomicU64,
    fuel_per_record: Spread,
    fuel_peak: AtomicU64,
    blocked_nanos: AtomicU64,
    groups: AtomicU64,
    state_bytes: AtomicU64,
    cold_groups: AtomicU64,
    cold_reads: AtomicU64,
    evicted: AtomicU64,
    /// Workers that may take no further group.
    full: AtomicU64,
    /// Whether its rate lets no record in now.
    paced: AtomicBool,
    watermark: AtomicI64,
    /// Counters of the plugin's own, at most as many as the plugin host lets through.
    plugin_counts: Mutex<BTreeMap<Arc<str>, u64>>,
    faults: Mutex<BTreeMap<FaultKind, u64>>,
}

impl Default for Meter {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            received: zero(),
            passed: zero(),
            filtered: zero(),
            absorbed: zero(),
            late: zero(),
            refused: zero(),
            produced: zero(),
            dropped: zero(),
            stood_in: zero(),
            diverted: zero(),
            lost: zero(),
            fuel: zero(),
            fuel_budget: zero(),
            plugin_nanos: zero(),
            plugin_memory: zero(),
            plugin_memory_budget: zero(),
            recycled: zero(),
            fuel_per_record: Spread::default(),
            fuel_peak: zero(),
            blocked_nanos: zero(),
            groups: zero(),
            state_bytes: zero(),
            cold_groups: zero(),
            cold_reads: zero(),
            evicted: zero(),
            full: zero(),
            paced: AtomicBool::default(),
            watermark: AtomicI64::new(BEGIN),
            plugin_counts: Mutex::default(),
            faults: Mutex::default(),
        }
    }
}

/// What a meter stood at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What became of records.
    #[serde(flatten)]
    pub tally: Tally,
    /// Fuel that the plugin used.
    pub fuel: u64,
    /// Fuel that it was allowed.
    pub fuel_budget: u64,
    /// Time inside the plugin, in nanoseconds, of all workers.
    pub plugin_nanos: u64,
    /// Highest memory of one instance, in bytes.
    pub plugin_memory: u64,
    /// Memory that an instance is allowed, in bytes.
    #[serde(default)]
    pub plugin_memory_budget: u64,
    /// Instances that made room for a fresh one because they had grown.
    #[serde(default)]
    pub recycled: u64,
    /// Fuel for each record (or group) of the calls that went well, as a mean over its call.
    #[serde(default)]
    pub fuel_per_record: Quantiles,
    /// The most that a call which went well used of its fuel, in thousandths.
    #[serde(default)]
    pub fuel_peak: u64,
    /// Time spent waiting for room downstream, in nanoseconds.
    pub blocked_nanos: u64,
    /// Groups in memory.
    pub groups: u64,
    /// Bytes that they take.
    #[serde(default)]
    pub state_bytes: u64,
    /// Groups that are in the store only.
    #[serde(default)]
    pub cold_groups: u64,
    /// Groups that this process has read from the store because they were needed again.
    #[serde(default)]
    pub cold_reads: u64,
    /// Groups that this process has given up because there was no room for them.
    #[serde(default)]
    pub evicted: u64,
    /// Watermark, in milliseconds since the Unix epoch; none before the first.
    pub watermark: Option<i64>,
}

impl Meter {
    /// Counts what became of records.
    pub fn count(&self, tally: &Tally) {
        for (counter, by) in self.beside(tally) {
            if by > 0 {
                counter.fetch_add(by, Relaxed);
            }
        }
    }

    /// Sets the counts, after a restart from a commit; workers that begin add what they hold.
    pub fn reset(&self, tally: &Tally) {
        let held = [&self.groups, &self.state_bytes, &self.cold_groups, &self.full];
        held.into_iter().for_each(|held| held.store(0, Relaxed));
        for (counter, to) in self.beside(tally) {
            counter.store(to, Relaxed);
        }
    }

    /// The counters of records, each beside its number in `tally`.
    fn beside(&self, tally: &Tally) -> [(&AtomicU64, u64); 11] {
        [
            (&self.received, tally.received),
            (&self.passed, tally.passed),
            (&self.filtered, tally.filtered),
            (&self.absorbed, tally.absorbed),
            (&self.late, tally.late),
            (&self.refused, tally.refused),
            (&self.produced, tally.produced),
            (&self.dropped, tally.dropped),
            (&self.stood_in, tally.stood_in),
            (&self.diverted, tally.diverted),
            (&self.lost, tally.lost),
        ]
    }

    /// Notes what calls have cost since the last note.
    pub fn calls(&self, since: Usage) {
        self.fuel.fetch_add(since.fuel, Relaxed);
        self.fuel_budget.fetch_add(since.fuel_budget, Relaxed);
        self.plugin_nanos.fetch_add(since.nanos, Relaxed);
        self.plugin_memory.fetch_max(since.memory, Relaxed);
        self.plugin_memory_budget.fetch_max(since.memory_budget, Relaxed);
    }

    /// Notes a call that went well, with so many records or groups, and the fuel that it used and was allowed.
    pub fn call(&self, records: usize, fuel: u64, budget: u64) {
        let records = records.max(1) as u64;
        self.fuel_per_record.count(fuel / records, records);
        self.fuel_peak.fetch_max(fuel.saturating_mul(1000).checked_div(budget).unwrap_or_default(), Relaxed);
    }

    /// Notes that an instance made room for a fresh one.
    pub fn recycled(&self) {
        self.recycled.fetch_add(1, Relaxed);
    }

    /// Notes time spent waiting for room downstream.
    pub fn blocked(&self, nanos: u64) {
        self.blocked_nanos.fetch_add(nanos, Relaxed);
    }

    /// Notes how many groups came or went, and bytes with them.
    pub fn groups(&self, change: i64, bytes: i64) {
        self.groups.fetch_add(change as u64, Relaxed);
        self.state_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Notes how many groups left memory or came back, and how many were read.
    pub fn cold(&self, change: i64, reads: u64) {
        self.cold_groups.fetch_add(change as u64, Relaxed);
        self.cold_reads.fetch_add(reads, Relaxed);
    }

    /// Notes groups that were given up.
    pub fn evicted(&self, groups: u64) {
        self.evicted.fetch_add(groups, Relaxed);
    }

    /// Notes that a worker may take no further group, by 1, or may again, by -1.
    pub fn full(&self, change: i64) {
        self.full.fetch_add(change as u64, Relaxed);
    }

    /// Whether a worker may take no further group.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed) > 0
    }

    /// Notes whether its rate lets no record in now.
    pub fn paced(&self, is_paced: bool) {
        self.paced.store(is_paced, Relaxed);
    }

    /// Whether its rate lets no record in now.
    pub fn is_paced(&self) -> bool {
        self.paced.load(Relaxed)
    }

    /// Notes the watermark, in milliseconds since the Unix epoch.
    pub fn watermark(&self, time: i64) {
        self.watermark.store(time, Relaxed);
    }

    /// Adds to counters of the plugin's own.
    pub fn plugin_counts(&self, counts: &[(Arc<str>, u64)]) {
        if counts.is_empty() {
            return;
        }
        let mut all = self.plugin_counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, by) in counts {
            *all.entry(name.clone()).or_default() += by;
        }
    }

    /// The counters of the plugin's own.
    pub fn read_plugin_counts(&self) -> BTreeMap<Arc<str>, u64> {
        self.plugin_counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a call that ended in a fault.
    pub fn fault(&self, kind: FaultKind) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// Calls that ended in a fault, by its kind.
    pub fn read_faults(&self) -> BTreeMap<FaultKind, u64> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where everything stands.
    pub fn read(&self) -> Reading {
        let watermark = self.watermark.load(Relaxed);
        Reading {
            tally: Tally {
                received: self.received.load(Relaxed),
                passed: self.passed.load(Relaxed),
                filtered: self.filtered.load(Relaxed),
                absorbed: self.absorbed.load(Relaxed),
                late: self.late.load(Relaxed),
                refused: self.refused.load(Relaxed),
                produced: self.produced.load(Relaxed),
                dropped: self.dropped.load(Relaxed),
                stood_in: self.stood_in.load(Relaxed),
                diverted: self.diverted.load(Relaxed),
                lost: self.lost.load(Relaxed),
            },
            fuel: self.fuel.load(Relaxed),
            fuel_budget: self.fuel_budget.load(Relaxed),
            plugin_nanos: self.plugin_nanos.load(Relaxed),
            plugin_memory: self.plugin_memory.load(Relaxed),
            plugin_memory_budget: self.plugin_memory_budget.load(Relaxed),
            recycled: self.recycled.load(Relaxed),
            fuel_per_record: self.fuel_per_record.read(),
            fuel_peak: self.fuel_peak.load(Relaxed),
            blocked_nanos: self.blocked_nanos.load(Relaxed),
            groups: self.groups.load(Relaxed),
            state_bytes: self.state_bytes.load(Relaxed),
            cold_groups: self.cold_groups.load(Relaxed),
            cold_reads: self.cold_reads.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            watermark: (watermark != BEGIN).then_some(watermark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_is_told_for_each_record_and_for_the_fullest_call() {
        let meter = Meter::default();
        for (records, fuel, budget) in [(100, 700, 1000), (1, 20, 1000), (0, 0, 0)] {
            meter.call(records, fuel, budget);
        }
        let Reading { fuel_per_record, fuel_peak, .. } = meter.read();
        assert_eq!((fuel_per_record, fuel_peak), (Quantiles { p50: 7, p99: 7, max: 20 }, 700));
    }
}
