//! Limits that a sample of calls calls for, with room to spare.
//!
//! Owns how much room. It must not know how calls are made. Invariant: every call that was noted stays within what is
//! proposed.

use std::time::Duration;

use crate::{
    config::{Fuel, Limits},
    plugin::Usage,
    unit::{Size, Span},
};

/// How much more fuel than the costliest call of the sample: other records cost more, and an endless loop more still.
const FUEL: u64 = 4;
/// How much more memory than the instance had come to.
const MEMORY: u64 = 2;
/// How much more time than the longest call: the machine may be busy.
const TIME: u32 = 20;
/// Least time: below it a busy machine ends calls that are in order.
const LEAST: Duration = Duration::from_secs(1);
/// Smallest memory: what a plugin begins with.
const PAGE: u64 = 1 << 20;

/// The costliest of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Most fuel of a call for each of its records.
    record: u64,
    /// Most fuel of a call for each of its bytes.
    byte: u64,
    /// Most memory, in bytes.
    memory: u64,
    /// Longest call.
    time: Duration,
}

impl Sample {
    /// Takes in a call with so many records and bytes, by what its instance had used before and after.
    pub(super) fn note(&mut self, records: usize, bytes: usize, before: Usage, after: Usage) {
        let fuel = after.fuel.saturating_sub(before.fuel);
        self.record = self.record.max(fuel.div_ceil(records.max(1) as u64));
        self.byte = self.byte.max(fuel.div_ceil(bytes.max(1) as u64));
        self.memory = self.memory.max(after.memory);
        self.time = self.time.max(Duration::from_nanos(after.nanos.saturating_sub(before.nanos)));
    }

    /// The limits; those that a sample says nothing of stay what they are by default.
    pub(super) fn limits(&self) -> Limits {
        // Half by records and half by bytes, so that larger records have more.
        let half = |most: u64| rounded(most.saturating_mul(FUEL) / 2);
        let memory = self.memory.saturating_mul(MEMORY).div_ceil(PAGE).max(1).saturating_mul(PAGE);
        let seconds = self.time.saturating_mul(TIME).max(LEAST).as_secs_f64().ceil();
        Limits {
            fuel: Fuel { record: half(self.record), byte: half(self.byte) },
            memory: Size(memory),
            time: Span(Duration::from_secs(seconds as u64)),
            ..Limits::default()
        }
    }

    /// The lines for a stage of a pipeline.
    pub(super) fn yaml(&self) -> String {
        let Limits { fuel, memory, time, .. } = self.limits();
        format!("limits:\n  fuel: {fuel}\n  memory: {memory}\n  time: {time}\n")
    }
}

/// The next number of two digits and zeros.
fn rounded(number: u64) -> u64 {
    let unit = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.max(1).div_ceil(unit).saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_call_of_the_sample_stays_within_what_is_proposed(
            calls in prop::collection::vec((1usize..2000, 0usize..1 << 20, 1u64..1 << 32, 1u64..1 << 30, 0u64..1 << 34), 1..20),
        ) {
            let mut sample = Sample::default();
            for &(records, bytes, fuel, memory, nanos) in &calls {
                let before = Usage { fuel: 7, nanos: 9, ..Usage::default() };
                let after = Usage { fuel: 7 + fuel, nanos: 9 + nanos, memory, ..Usage::default() };
                sample.note(records, bytes, before, after);
            }
            let limits = sample.limits();
            for (records, bytes, fuel, memory, nanos) in calls {
                prop_assert!(limits.fuel.of(records, bytes) >= 2 * fuel);
                prop_assert!(limits.memory.0 >= 2 * memory && limits.time.0 >= Duration::from_nanos(nanos));
            }
            let read: Fuel = limits.fuel.to_string().parse().unwrap();
            prop_assert_eq!(read, limits.fuel);
        }
    }

    #[test]
    fn figures_are_round() {
        for (number, round) in [(0, 1), (7, 7), (42, 42), (421, 430), (98_765, 99_000), (99_500, 100_000)] {
            assert_eq!(rounded(number), round);
        }
    }
}
