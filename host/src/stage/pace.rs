//! How fast a source or stage may go.
//!
//! The generic cell rate algorithm (ITU-T I.371) as a pure function of time: who was slow may catch up by a
//! burst, never by more.

use std::time::Duration;

use crate::unit::Rate;

/// How much of a second's records may come at once.
const BURST: f64 = 0.1;

/// A limit on records in a time.
#[derive(Clone, Debug)]
pub struct Pace {
    per_record: f64,
    burst: f64,
    /// When the next record would be due if all came evenly, in seconds.
    due: f64,
}

impl Pace {
    /// At most `rate`.
    pub fn new(rate: Rate) -> Self {
        let per_record = rate.per_second().recip();
        Self { per_record, burst: BURST.max(per_record), due: 0.0 }
    }

    /// Most records to take at once, at least one.
    pub fn most(&self) -> usize {
        ((self.burst / self.per_record) as usize).max(1)
    }

    /// From when on records may be taken, if not at `now`.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        // Compared as what is returned, so that who waits until then need not wait again for a rounding.
        let from = Duration::try_from_secs_f64(self.due - self.burst).unwrap_or_default();
        (from > now).then_some(from)
    }

    /// Notes that `records` were taken at `now`.
    pub fn took(&mut self, now: Duration, records: usize) {
        self.due = self.due.max(now.as_secs_f64()) + records as f64 * self.per_record;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_long_time_no_more_comes_than_the_rate_and_a_burst() {
        for rate in ["10/s", "5000/s", "30/m"] {
            let rate: Rate = rate.parse().unwrap();
            let (mut pace, mut now, mut total) = (Pace::new(rate), Duration::ZERO, 0);
            while now < Duration::from_secs(100) {
                match pace.wait(now) {
                    Some(later) => now = later,
                    None => {
                        let n = pace.most();
                        pace.took(now, n);
                        total += n;
                    }
                }
            }
            let expected = rate.per_second() * 100.0;
            assert!((total as f64 - expected).abs() <= 2.0 * pace.most() as f64 + 1.0, "{total} of {expected}");
        }
    }

    #[test]
    fn a_pause_does_not_save_up_more_than_a_burst() {
        let mut pace = Pace::new("10/s".parse().unwrap());
        pace.took(Duration::ZERO, 1);
        let now = Duration::from_secs(60);
        let mut burst = 0;
        while pace.wait(now).is_none() {
            pace.took(now, 1);
            burst += 1;
        }
        assert!(burst <= 2, "{burst}");
    }
}
