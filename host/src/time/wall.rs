//! What time it is, for what says nothing of it itself: by a clock that does not jump.
//!
//! Owns how the machine's clock is followed. A person, a leap second or a service that keeps clocks may set that one at
//! any moment, by hours; windows must not close early for it, nor records be refused. Invariants: this clock never goes
//! back; what the machine's clock is off by is made up in an eighth of the time that passes, so that a second lasts
//! between 7/8 and 9/8 of one. A machine whose clock had not been set when it started is more than a day off: that is
//! believed at once, if it leads forward.

use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};

use crate::bug;

/// The part of the time that passes in which the difference to the machine's clock is made up.
const PART: i64 = 8;

/// What is more than this behind the machine's clock was never set, in nanoseconds.
const UNSET: i64 = 24 * 3600 * 1_000_000_000;

/// What the machine's clocks show, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since 1970, by the clock that may be set.
    pub wall: i64,
    /// Since some moment before the process, by the one that nobody sets.
    pub passed: i64,
}

/// A clock that follows the machine's and does not jump with it.
#[derive(Clone)]
pub struct Wall {
    read: Arc<dyn Fn() -> Reading + Send + Sync>,
    last: Option<Reading>,
}

impl fmt::Debug for Wall {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Wall").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Default for Wall {
    /// Of this machine.
    fn default() -> Self {
        Self::reading(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // It goes on while the machine sleeps.
            let boot = clock_gettime(ClockId::Boottime);
            let passed = Duration::new(u64::try_from(boot.tv_sec).unwrap_or_default(), boot.tv_nsec as u32);
            Reading { wall: nanos(since), passed: nanos(passed) }
        })
    }
}

impl Wall {
    /// One that follows what `read` says.
    pub fn reading(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), last: None }
    }

    /// Milliseconds since 1970.
    pub fn now(&mut self) -> i64 {
        let found = (self.read)();
        let wall = follow(self.last, found);
        self.last = Some(Reading { wall, ..found });
        wall.div_euclid(1_000_000)
    }

    /// Milliseconds since 1970 as the later of this clock and the machine's has them: whichever is wrong, what is not
    /// ahead of both is not ahead.
    pub fn latest(&mut self) -> i64 {
        let machine = (self.read)().wall.div_euclid(1_000_000);
        self.now().max(machine)
    }
}

/// Milliseconds since 1970, by one such clock that the process has.
pub fn now() -> i64 {
    static WALL: LazyLock<Mutex<Wall>> = LazyLock::new(Mutex::default);
    WALL.lock().unwrap_or_else(PoisonError::into_inner).now()
}

/// What this clock shows after `last`, now that the machine's show `found`.
fn follow(last: Option<Reading>, found: Reading) -> i64 {
    let Some(last) = last.filter(|_| !bug::is_seeded("wall-clock-that-jumps")) else { return found.wall };
    let passed = found.passed.saturating_sub(last.passed).max(0);
    let next = last.wall.saturating_add(passed);
    let off = found.wall.saturating_sub(next);
    if off > UNSET { found.wall } else { next.saturating_add(off.clamp(-passed / PART, passed / PART)) }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;

    /// What the clock shows, read every `step` for `count` times, while the machine's is `off` by so much.
    fn shown(last: Reading, step: i64, count: i64, off: i64) -> Vec<i64> {
        let mut last = last;
        let mut all = Vec::new();
        for n in 1..=count {
            let passed = n * step;
            last = Reading { wall: follow(Some(last), Reading { wall: off + passed, passed }), passed };
            all.push(last.wall - passed);
        }
        all
    }

    #[test]
    fn a_jump_is_made_up_little_by_little_and_then_followed() {
        let begin = Reading { wall: 0, passed: 0 };
        for (off, seconds) in [(10 * SECOND, 80), (-10 * SECOND, 80), (HOUR, 8 * 3600), (-HOUR, 8 * 3600)] {
            let all = shown(begin, SECOND, seconds + 10, off);
            assert_eq!(all[0], off.signum() * SECOND / 8, "an eighth of the first second");
            assert_ne!(all[seconds as usize - 2], off, "not sooner");
            assert!(all[seconds as usize - 1..].iter().all(|behind| *behind == off), "by {off}");
        }
    }

    #[test]
    fn a_clock_that_had_not_been_set_is_believed_at_once_and_one_that_falls_back_so_far_is_not() {
        let begin = Reading { wall: 0, passed: 0 };
        assert_eq!(shown(begin, SECOND, 1, 48 * HOUR), [48 * HOUR]);
        assert_eq!(shown(begin, SECOND, 1, -48 * HOUR), [-SECOND / 8]);
    }

    proptest! {
        /// T12: whatever the machine's clock does, this one goes on, and no faster or slower than it says.
        #[test]
        fn it_never_goes_back_and_a_second_stays_about_a_second(
            steps in proptest::collection::vec((0i64..5 * SECOND, prop_oneof![
                8 => Just(0i64),
                1 => prop::sample::select(vec![HOUR, -HOUR, 10 * SECOND, -10 * SECOND, SECOND, -SECOND]),
            ]), 1..200),
        ) {
            let (mut wall, mut passed, mut off) = (1_000 * HOUR, 0, 0);
            let mut last = Reading { wall, passed };
            for (step, jump) in steps {
                // More than a day is another matter.
                let jump = if (off + jump).abs() < 20 * HOUR { jump } else { 0 };
                (wall, passed, off) = (wall + step + jump, passed + step, off + jump);
                let next = follow(Some(last), Reading { wall, passed });
                let lasted = next - last.wall;
                prop_assert!(lasted >= step - step / PART && lasted <= step + step / PART, "{lasted} of {step}");
                last = Reading { wall: next, passed };
            }
        }
    }
}
