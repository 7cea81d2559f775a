//! When a plugin or a sink is left alone for a while, and how it is tried again.
//!
//! A pure state machine over samples and time: a ring of buckets, closed, open or half open. It must not know what is
//! called, or what becomes of records meanwhile. Invariants: what began before the last change of state counts for
//! nothing, and no probe, however long it takes, keeps the next one away for ever.

use std::time::Duration;

use crate::{bug, config};

/// Parts of the window: the oldest is forgotten at a time.
const BUCKETS: usize = 10;

/// Longest time, but for the jitter, that it stays open.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// Part by which an opening is made longer or shorter, so that those that opened together do not probe together.
const JITTER: f64 = 0.2;

/// Share of slow calls at which it opens, where slow ones count: they still do their work, so more than of failures.
const SLOW: f64 = 0.8;

/// How long a probe may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// Most records of a probe.
pub const PROBE: usize = 16;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Share of failures at which it opens, above 0 and at most 1.
    pub failures: f64,
    /// Fewest samples that say anything.
    pub samples: u64,
    /// How far back they count.
    pub window: Duration,
    /// How long it stays open first; twice as long after each probe that fails.
    pub open: Duration,
    /// How long a call takes that counts as slow, where slow ones count.
    pub slow: Option<Duration>,
}

impl Terms {
    /// Those of a breaker that opens only when somebody trips it.
    pub fn never() -> Self {
        Self { samples: u64::MAX, ..Self::default() }
    }
}

impl From<&config::Breaker> for Terms {
    fn from(written: &config::Breaker) -> Self {
        Self {
            failures: written.failures.0,
            samples: written.samples.value.into(),
            window: written.window.0,
            open: written.open.0,
            slow: written.slow.as_ref().map(|slow| slow.0),
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        (&config::Breaker::default()).into()
    }
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go on.
    Closed,
    /// Nothing is called until then; until it is reset, where somebody has tripped it.
    Open(Option<Duration>),
    /// A probe is under way, which has failed if nothing is heard of it until then.
    HalfOpen(Duration),
}

/// Says since when a call has been under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Whether there may be a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Call(Ticket),
    /// A probe, of [`PROBE`] records at most.
    Probe(Ticket),
    /// No: not before then, or not until somebody resets it.
    Wait(Option<Duration>),
}

/// What a call came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Records that have their outcome.
    pub records: u64,
    /// Of these, refused, or to blame for a fault.
    pub refused: u64,
    /// Calls that it counts for.
    pub calls: u64,
    /// The call failed for no fault of its records.
    pub is_failed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Why it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many of so many records were refused or faulted.
    Records(u64, u64),
    /// So many of so many calls failed.
    Calls(u64, u64),
    /// So many of so many calls were slow.
    Slow(u64, u64),
    /// A probe failed.
    Probe,
    /// Somebody tripped it.
    Told,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    records: u64,
    refused: u64,
    calls: u64,
    failed: u64,
    slow: u64,
}

/// The breaker of one stage or sink.
#[derive(Clone, Debug)]
pub struct Breaker {
    terms: Terms,
    state: State,
    buckets: [Bucket; BUCKETS],
    /// Number of the newest bucket, from the beginning of time.
    newest: u64,
    /// Time that does not count, spent in calls.
    spent: Duration,
    /// Changes of state so far: calls of an earlier turn are stragglers.
    turn: u64,
    /// Openings in a row.
    nth: u32,
    /// When it closed last.
    closed: Duration,
    /// The jitter to come.
    random: u64,
}

impl Breaker {
    /// One that is closed; `seed` is where its jitter comes from.
    pub fn new(terms: Terms, seed: u64) -> Self {
        let (state, buckets, closed) = (State::Closed, Default::default(), Duration::ZERO);
        Self { terms, state, buckets, newest: 0, spent: Duration::ZERO, turn: 0, nth: 0, closed, random: seed }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Openings in a row, this one included.
    pub fn nth(&self) -> u32 {
        self.nth
    }

    /// Opens it again as it was in another process, until then.
    pub fn restore(&mut self, until: Option<Duration>, nth: u32) {
        self.nth = nth;
        self.enter(State::Open(until));
    }

    /// Whether there may be a call now. A probe that is let through and not heard of has failed after a while.
    pub fn ask(&mut self, now: Duration) -> Answer {
        match self.state {
            State::Closed => Answer::Call(Ticket(self.turn)),
            State::Open(Some(until)) if until <= now => {
                self.enter(State::HalfOpen(now + PATIENCE));
                Answer::Probe(Ticket(self.turn))
            }
            State::HalfOpen(until) if until <= now => {
                self.open(now);
                self.ask(now)
            }
            State::Open(until) => Answer::Wait(until),
            State::HalfOpen(until) => Answer::Wait(Some(until)),
        }
    }

    /// When it has to be asked again; none while it is closed, or until somebody resets it.
    pub fn due(&self) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open(until) => until,
            State::HalfOpen(until) => Some(until),
        }
    }

    /// Says since when a call has been under way that is made whatever the breaker says.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.turn)
    }

    /// Takes in what a call came to; says why, if it opens now.
    pub fn ended(&mut self, now: Duration, ticket: Ticket, sample: &Sample) -> Option<Cause> {
        if self.state != State::Closed || self.is_straggler(ticket) {
            return None;
        }
        let is_slow = self.terms.slow.is_some_and(|slow| sample.took >= slow);
        self.spent += sample.took.saturating_sub(aging(&self.terms));
        let bucket = self.bucket(now)?;
        bucket.records += sample.records;
        bucket.refused += sample.refused;
        bucket.calls += sample.calls;
        bucket.failed += if sample.is_failed { sample.calls } else { 0 };
        bucket.slow += if is_slow { sample.calls } else { 0 };
        let cause = self.cause()?;
        self.nth = if now.saturating_sub(self.closed) < self.terms.window { self.nth } else { 0 };
        self.open(now);
        Some(cause)
    }

    /// Takes in what a probe came to: it closes, or opens for longer. What is heard of another probe counts for nothing.
    pub fn probed(&mut self, now: Duration, ticket: Ticket, sample: &Sample) -> Option<Cause> {
        if !matches!(self.state, State::HalfOpen(_)) || self.is_straggler(ticket) {
            return None;
        }
        if self.is_bad(sample) {
            self.open(now);
            return Some(Cause::Probe);
        }
        self.closed = now;
        self.enter(State::Closed);
        None
    }

    fn is_straggler(&self, ticket: Ticket) -> bool {
        ticket != Ticket(self.turn) && !bug::is_seeded("breaker-closed-by-a-straggler")
    }

    /// Whether a probe that came to this has failed.
    pub fn is_bad(&self, sample: &Sample) -> bool {
        sample.is_failed || is_share(self.terms.failures, sample.refused, sample.records)
    }

    /// Opens it until it is reset.
    pub fn trip(&mut self) {
        self.enter(State::Open(None));
    }

    /// Closes it, and forgets what was.
    pub fn reset(&mut self, now: Duration) {
        (self.nth, self.closed) = (0, now);
        self.enter(State::Closed);
    }

    fn enter(&mut self, state: State) {
        (self.state, self.buckets) = (state, Default::default());
        self.turn += 1;
    }

    fn open(&mut self, now: Duration) {
        let longest = self.terms.open.saturating_mul(1 << self.nth.min(20)).min(LONGEST.max(self.terms.open));
        let open = longest.mul_f64(1.0 + JITTER * (2.0 * self.draw() - 1.0));
        self.nth += 1;
        self.enter(State::Open(Some(now + open)));
    }

    /// The bucket of this moment, those in between emptied.
    fn bucket(&mut self, now: Duration) -> Option<&mut Bucket> {
        let of = |number: u64| (number % BUCKETS as u64) as usize;
        let number = number(self.terms.window, now.saturating_sub(self.spent)).max(self.newest);
        for passed in (self.newest + 1..=number).take(BUCKETS) {
            *self.buckets.get_mut(of(passed))? = Bucket::default();
        }
        if number - self.newest >= BUCKETS as u64 {
            self.buckets = Default::default();
        }
        self.newest = number;
        self.buckets.get_mut(of(number))
    }

    fn cause(&self) -> Option<Cause> {
        let sum = |part: fn(&Bucket) -> u64| self.buckets.iter().map(part).sum::<u64>();
        let (records, refused) = (sum(|bucket| bucket.records), sum(|bucket| bucket.refused));
        let (calls, failed, slow) =
            (sum(|bucket| bucket.calls), sum(|bucket| bucket.failed), sum(|bucket| bucket.slow));
        let least = self.terms.samples;
        if records >= least && is_share(self.terms.failures, refused, records) {
            return Some(Cause::Records(refused, records));
        }
        if calls >= least && is_share(self.terms.failures, failed, calls) {
            return Some(Cause::Calls(failed, calls));
        }
        (calls >= least && is_share(SLOW, slow, calls)).then_some(Cause::Slow(slow, calls))
    }

    /// A number from 0 up to 1, by splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    /// 2014).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// So much does a call age what is known, at most: the fewest calls that say anything lie within a window, however long
/// each of them takes.
fn aging(terms: &Terms) -> Duration {
    terms.window / u32::try_from(terms.samples.saturating_mul(2)).unwrap_or(u32::MAX).max(1)
}

/// Number of the bucket that holds this moment.
fn number(window: Duration, now: Duration) -> u64 {
    let bucket = (window / BUCKETS as u32).as_nanos().max(1);
    u64::try_from(now.as_nanos() / bucket).unwrap_or(u64::MAX)
}

/// Whether `part` of `whole` is at least this share, and not nothing.
fn is_share(share: f64, part: u64, whole: u64) -> bool {
    part > 0 && part as f64 >= share * whole as f64
}

#[cfg(test)]
mod tests;
