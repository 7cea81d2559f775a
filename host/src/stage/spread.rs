//! How a figure is spread over records, while it is being counted.
//!
//! Owns the buckets: eight to each power of two, so that a quantile is at most an eighth too high, in 4 KiB whatever comes. It
//! must not know what is counted. Invariant: nothing is locked or allocated when something is counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Buckets to a power of two, as a power of two.
const FINE: u32 = 3;

/// Buckets for all numbers of 64 bits.
const BUCKETS: usize = (64 - FINE as usize + 1) << FINE;

/// Counts of what was seen, by size.
#[derive(Debug)]
pub struct Spread {
    counts: [AtomicU64; BUCKETS],
    most: AtomicU64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], most: AtomicU64::new(0) }
    }
}

/// Where most of what was seen lies; all 0 where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of it is not above this.
    pub p50: u64,
    /// 99 of 100 are not above this.
    pub p99: u64,
    /// The most that was seen, exactly.
    pub max: u64,
}

impl Spread {
    /// Counts `value` for each of so many records.
    pub fn count(&self, value: u64, records: u64) {
        if let Some(bucket) = self.counts.get(bucket(value)) {
            bucket.fetch_add(records, Relaxed);
        }
        self.most.fetch_max(value, Relaxed);
    }

    /// What was seen so far.
    pub fn read(&self) -> Quantiles {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        let (all, max): (u64, u64) = (counts.iter().sum(), self.most.load(Relaxed));
        let quantile = |percent: u64| {
            let rank = (u128::from(all) * u128::from(percent)).div_ceil(100);
            let mut seen = 0_u128;
            let found = counts.iter().position(|count| {
                seen += u128::from(*count);
                seen >= rank && seen > 0
            });
            found.map_or(0, |bucket| highest(bucket).min(max))
        };
        Quantiles { p50: quantile(50), p99: quantile(99), max }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    let Some(power) = value.checked_ilog2().filter(|power| *power >= FINE) else { return value as usize };
    let within = (value >> (power - FINE)) as usize & ((1 << FINE) - 1);
    ((power - FINE + 1) as usize) << FINE | within
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let (power, within) = ((bucket >> FINE) as u32, (bucket & ((1 << FINE) - 1)) as u64);
    match power.checked_sub(1) {
        None => within,
        Some(shift) => (((1 << FINE) + within) << shift) + ((1 << shift) - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_an_eighth_wide() {
        for value in
            (0..5000).chain((0..64).flat_map(|power| [1 << power, (1_u64 << power).wrapping_sub(1)])).chain([u64::MAX])
        {
            let (at, high) = (bucket(value), highest(bucket(value)));
            assert!(at < BUCKETS && high >= value && high - value <= value / 8, "{value}: {at}, {high}");
            assert!(at == 0 || highest(at - 1) < value, "{value}");
        }
    }

    proptest! {
        /// Against a sorted list: never too low, at most an eighth too high.
        #[test]
        fn quantiles_are_those_of_a_sorted_list(seen in prop::collection::vec((0u64..1 << 40, 1u64..20), 1..60)) {
            let spread = Spread::default();
            let mut all = Vec::new();
            for (value, records) in seen {
                spread.count(value, records);
                all.extend(std::iter::repeat_n(value, records as usize));
            }
            all.sort_unstable();
            let exact = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1];
            let Quantiles { p50, p99, max } = spread.read();
            for (found, exact) in [(p50, exact(50)), (p99, exact(99))] {
                prop_assert!(found >= exact && found - exact <= exact / 8, "{found} for {exact}");
            }
            prop_assert_eq!(max, all[all.len() - 1]);
        }
    }

    #[test]
    fn nothing_seen_is_nothing() {
        assert_eq!(Spread::default().read(), Quantiles::default());
    }
}
