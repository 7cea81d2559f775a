//! How far apart commits lie, so that they take at most a fifth of the time.
//!
//! Owns that one rule. It must not know what a commit holds.

use std::time::Duration;

/// Part of the time that commits may take: one in this many.
const SHARE: u32 = 5;

/// The time from the beginning of a commit that took `last` to the beginning of the next one: `every`, or longer where
/// commits would take more than a fifth of the time.
pub fn pace(last: Duration, every: Duration) -> Duration {
    every.max(last.saturating_mul(SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_take_at_most_a_fifth_of_the_time_and_come_no_sooner_than_asked() {
        let second = Duration::from_secs(1);
        for (last, next) in [
            (Duration::ZERO, second),
            (second / 5, second),
            (second / 4, second * 5 / 4),
            (second * 2, second * 10),
            (Duration::MAX, Duration::MAX),
        ] {
            assert_eq!(pace(last, second), next);
            assert!(last.as_nanos().saturating_mul(5) <= next.as_nanos() || next == Duration::MAX);
        }
    }
}
