//! How many records a second are let in.
//!
//! Owns the generic cell rate algorithm (ITU-T I.371, virtual scheduling). A request is admitted while the records
//! before it are paid for, and charged for what it turns out to hold; so the rate holds over time, whatever the size of
//! a request, and none is too large ever to be admitted.

use std::time::Duration;

use tokio::time::Instant;

use crate::unit::Rate;

/// The state of one rate.
pub(super) struct Pace {
    /// Time that one record stands for.
    interval: Duration,
    /// Time that may be used up ahead: the stretch in which the rate is counted.
    burst: Duration,
    /// When everything let in so far is paid for.
    paid: Instant,
}

impl Pace {
    /// `rate` with nothing used up yet.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { interval: rate.per.div_f64(rate.count.max(1e-6)), burst: rate.per, paid: now }
    }

    /// Whether one more may come in.
    ///
    /// # Errors
    /// How long to wait where it may not.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let ahead = (self.paid.max(now) + self.interval).duration_since(now);
        // A rate of less than one in its stretch still lets one in.
        let room = self.burst.max(self.interval);
        if ahead <= room { Ok(()) } else { Err(ahead - room) }
    }

    /// Uses up what `records` stand for.
    pub(super) fn charge(&mut self, now: Instant, records: u64) {
        self.paid = self.paid.max(now) + self.interval.mul_f64(records as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_stretch_no_more_comes_in_than_the_rate_and_one_burst() {
        let begin = Instant::now();
        let mut pace = Pace::new("100/s".parse().unwrap(), begin);
        let mut let_in = 0;
        for step in 0..1000 {
            let now = begin + Duration::from_millis(10 * step);
            if pace.admit(now).is_ok() {
                pace.charge(now, 7);
                let_in += 7;
            }
        }
        assert!((1050..=1107).contains(&let_in), "{let_in} in 10 s at 100/s with a burst of 100");
    }

    #[test]
    fn a_large_request_is_let_in_and_paid_for_afterwards() {
        let begin = Instant::now();
        let mut pace = Pace::new("10/s".parse().unwrap(), begin);
        assert_eq!(pace.admit(begin), Ok(()));
        pace.charge(begin, 50);
        assert_eq!(pace.admit(begin), Err(Duration::from_millis(4100)));
        assert_eq!(pace.admit(begin + Duration::from_millis(4100)), Ok(()));
    }
}
