//! The watermark of one source: how far event time has come, as far as its records tell.
//!
//! Owns the decision where in the stream a watermark stands. Invariant: that place depends on the records alone,
//! never on how they were cut into batches, so that splitting the input into other batches changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BEGIN;

/// Grains per `lag`: few enough that batches stay large, enough that a window waits little longer than it must.
const GRAINS: i64 = 8;

/// What a clock has seen so far; part of the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Highest event time, in milliseconds since the Unix epoch.
    pub highest: i64,
    /// Last watermark given out.
    pub watermark: i64,
}

/// Turns event times into watermarks.
#[derive(Clone, Debug)]
pub struct Clock {
    lag: i64,
    grain: i64,
    ahead: i64,
    state: ClockState,
}

/// Where a run of records ends, and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Exclusive end of the run, a position in the batch.
    pub end: usize,
    /// The watermark that follows the run, if it moves there.
    pub watermark: Option<i64>,
}

impl Clock {
    /// A clock whose watermark stays `lag` behind the highest event time, and which ignores records that lie more
    /// than `ahead` after their arrival.
    pub fn new(lag: Duration, ahead: Duration) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let lag = millis(lag);
        let state = ClockState { highest: BEGIN, watermark: BEGIN };
        Self { lag, grain: (lag / GRAINS).max(1), ahead: millis(ahead), state }
    }

    /// What the clock has seen.
    pub fn state(&self) -> ClockState {
        self.state
    }

    /// Goes on from what a commit says the clock had seen.
    pub fn restore(&mut self, state: ClockState) {
        self.state = state;
    }

    /// Moves the watermark to where somebody says that it is, which only he can know; whether it moved.
    pub fn tell(&mut self, watermark: i64) -> bool {
        let moves = watermark > self.state.watermark;
        self.state.watermark = self.state.watermark.max(watermark);
        moves
    }

    /// Positions of the records that lie too far ahead of their arrival `now`: they are refused and move nothing.
    pub fn too_far_ahead(&self, times: &[i64], now: i64) -> Vec<u32> {
        let most = now.saturating_add(self.ahead);
        times.iter().enumerate().filter(|(_, time)| **time > most).map(|(i, _)| i as u32).collect()
    }

    /// Moves the clock over `times` and says where the batch has to be cut; the last cut ends the batch.
    pub fn advance(&mut self, times: &[i64]) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for (i, &time) in times.iter().enumerate() {
            if time <= self.state.highest {
                continue;
            }
            self.state.highest = time;
            let behind = time.saturating_sub(self.lag);
            let watermark = behind - behind.rem_euclid(self.grain).min(behind.saturating_sub(i64::MIN));
            if watermark > self.state.watermark {
                self.state.watermark = watermark;
                cuts.push(Cut { end: i + 1, watermark: Some(watermark) });
            }
        }
        if cuts.last().is_none_or(|cut| cut.end < times.len()) {
            cuts.push(Cut { end: times.len(), watermark: None });
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(times: &[i64], splits: &[usize]) -> Vec<(usize, i64)> {
        let mut clock = Clock::new(Duration::from_millis(80), Duration::from_secs(3600));
        let (mut start, mut found) = (0, Vec::new());
        for &split in splits.iter().chain([&times.len()]) {
            for cut in clock.advance(&times[start..split]) {
                found.extend(cut.watermark.map(|mark| (start + cut.end, mark)));
            }
            start = split;
        }
        found
    }

    proptest! {
        /// Batch-split invariance: the watermark stands behind the same record however the input is cut.
        #[test]
        fn watermarks_stand_behind_the_same_records_whatever_the_batches(
            times in proptest::collection::vec(prop_oneof![0i64..2000, Just(i64::MIN), Just(i64::MAX)], 1..60),
            splits in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut splits: Vec<usize> = splits.into_iter().map(|split| split.min(times.len())).collect();
            splits.sort_unstable();
            prop_assert_eq!(marks(&times, &splits), marks(&times, &[]));
        }

        #[test]
        fn a_watermark_only_rises_and_stays_the_lag_behind(times in proptest::collection::vec(-5000i64..5000, 1..60)) {
            let found = marks(&times, &[]);
            prop_assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].1));
            for (end, mark) in found {
                let highest = times[..end].iter().max().unwrap();
                prop_assert!(mark <= highest - 80 && mark > highest - 80 - 10 && mark.rem_euclid(10) == 0);
            }
        }
    }

    #[test]
    fn a_record_from_the_far_future_is_named_and_a_distant_past_is_not() {
        let clock = Clock::new(Duration::ZERO, Duration::from_secs(3600));
        assert_eq!(clock.too_far_ahead(&[0, 4_070_908_800_000, i64::MAX, i64::MIN, 3_600_000], 0), [1, 2]);
    }

    #[test]
    fn a_restored_clock_goes_on_where_it_was() {
        let mut clock = Clock::new(Duration::from_millis(80), Duration::from_secs(1));
        clock.advance(&[1000, 500]);
        let mut other = Clock::new(Duration::from_millis(80), Duration::from_secs(1));
        other.restore(clock.state());
        assert_eq!(clock.advance(&[1009, 1011]), other.advance(&[1009, 1011]));
    }
}
