//! The breaker of one stage or sink as those see it who share it: workers between two calls, and people.
//!
//! Owns the clock of the breaker, why it opened, and who hears of a change. It must not decide when to open: the breaker
//! does. Invariant: no call is made, and nothing waited for, while its lock is held.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{
    breaker::{Answer, Breaker, Cause, Sample, State, Terms, Ticket},
    pace::Pace,
};
use crate::{time, unit::Rate};

/// Most dead letters that an open breaker makes: enough for what would wait otherwise, and not a disk full of them while
/// nobody looks.
const LETTERS: Rate = Rate { count: 1000.0, per: Duration::from_secs(1) };

/// Rings when a breaker of a pipeline has opened or closed.
pub type Bell = Arc<watch::Sender<u64>>;

/// The breaker of one stage or sink.
#[derive(Debug)]
pub struct Gate {
    name: String,
    terms: Terms,
    began: Instant,
    bell: Bell,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    /// Since when it has not been closed, and why; none while it is closed.
    opened: Option<Opened>,
    letters: Pace,
}

/// An opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Why.
    pub reason: String,
    /// What was wrong with the last call before it, which may be of what is in a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// When it opened, in milliseconds since the Unix epoch.
    pub since: i64,
    /// When it is tried again, in the same; not before it is reset, where somebody has tripped it.
    pub probe: Option<i64>,
    /// Openings in a row.
    pub nth: u32,
}

impl std::fmt::Display for Opened {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = |probe: i64| (probe.saturating_sub(time::now()).max(0) as u64).div_ceil(1000);
        match self.probe.map(left) {
            None => write!(to, "{}; it stays so until it is reset", self.reason),
            Some(0) => write!(to, "{}; it is being tried again", self.reason),
            Some(seconds) => write!(to, "{}; it is tried again in {seconds} s", self.reason),
        }
    }
}

/// What a person does to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lever {
    /// Opens it until it is reset.
    Trip,
    /// Closes it.
    Reset,
}

/// A breaker as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Calls go on.
    #[default]
    Closed,
    /// Nothing is called.
    Open,
    /// A probe is under way.
    HalfOpen,
}

/// What a breaker shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Where it stands.
    pub state: Word,
    /// Its opening, unless it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Opened>,
}

impl Shown {
    /// The same for everybody, without what may be of what is in a record.
    pub fn open_to_all(mut self) -> Self {
        self.opened = self.opened.map(|opened| Opened { last: None, ..opened });
        self
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(String::new(), Terms::default(), Bell::default())
    }
}

impl Gate {
    /// The closed breaker of the stage or sink called `name`; `bell` rings when it changes.
    pub fn new(name: String, terms: Terms, bell: Bell) -> Self {
        // Breakers that opened together are to be tried apart, in every process.
        let seed = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) ^ u64::try_from(time::now()).unwrap_or_default();
        let inner = Mutex::new(Inner { breaker: Breaker::new(terms, seed), opened: None, letters: Pace::new(LETTERS) });
        Self { name, terms, began: Instant::now(), bell, inner }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The name by which people know it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there may be a call now.
    pub fn ask(&self) -> Answer {
        self.change(|breaker, now| {
            let before = breaker.nth();
            let answer = breaker.ask(now);
            (answer, (breaker.nth() != before).then(|| (Cause::Probe, "it did not come to an end".to_owned())))
        })
    }

    /// Says since when a call has been under way that is made whatever the breaker says.
    pub fn ticket(&self) -> Ticket {
        self.lock().breaker.ticket()
    }

    /// Takes in what a call came to; `why` says what was wrong with it.
    pub fn ended(&self, ticket: Ticket, sample: &Sample, why: impl FnOnce() -> String) {
        self.change(|breaker, now| ((), breaker.ended(now, ticket, sample).map(|cause| (cause, why()))));
    }

    /// Takes in what a probe came to.
    pub fn probed(&self, ticket: Ticket, sample: &Sample, why: impl FnOnce() -> String) {
        self.change(|breaker, now| ((), breaker.probed(now, ticket, sample).map(|cause| (cause, why()))));
    }

    /// Whether a probe that came to this has failed.
    pub fn is_bad(&self, sample: &Sample) -> bool {
        self.lock().breaker.is_bad(sample)
    }

    /// Does what a person wants.
    pub fn pull(&self, lever: Lever) {
        self.change(|breaker, now| match lever {
            Lever::Trip => {
                breaker.trip();
                ((), Some((Cause::Told, String::new())))
            }
            Lever::Reset => (breaker.reset(now), None),
        });
    }

    /// Whether calls go on.
    pub fn is_closed(&self) -> bool {
        self.lock().breaker.state() == State::Closed
    }

    /// Whether there may be a call now, or a probe.
    pub fn lets_through(&self) -> bool {
        let (now, inner) = (self.now(), self.lock());
        match inner.breaker.state() {
            State::Closed => true,
            State::Open(until) => until.is_some_and(|until| until <= now),
            State::HalfOpen(until) => until <= now,
        }
    }

    /// When it has to be asked again; none while it is closed, or until somebody resets it.
    pub fn due(&self) -> Option<Instant> {
        self.lock().breaker.due().map(|due| self.began + due)
    }

    /// The window, divided by the fewest samples that say anything.
    pub fn piece(&self) -> Duration {
        self.terms.window / u32::try_from(self.terms.samples).unwrap_or(u32::MAX).max(1)
    }

    /// How many of so many records may become dead letters now, for it is open; they count as taken.
    pub fn letters(&self, wanted: usize) -> usize {
        let (now, mut inner) = (self.now(), self.lock());
        if inner.letters.wait(now).is_some() {
            return 0;
        }
        let some = wanted.min(inner.letters.most());
        inner.letters.took(now, some);
        some
    }

    /// From when on there may be further letters, if not now.
    pub fn letters_due(&self) -> Option<Instant> {
        let (now, inner) = (self.now(), self.lock());
        inner.letters.wait(now).map(|due| self.began + due)
    }

    /// How it stands.
    pub fn shown(&self) -> Shown {
        let inner = self.lock();
        let state = match inner.breaker.state() {
            State::Closed => Word::Closed,
            State::Open(_) => Word::Open,
            State::HalfOpen(_) => Word::HalfOpen,
        };
        Shown { state, opened: inner.opened.clone() }
    }

    /// Its opening, as another process is to find it; none while it is closed.
    pub fn opened(&self) -> Option<Opened> {
        self.lock().opened.clone()
    }

    /// Opens it as it was in another process.
    pub fn restore(&self, opened: Opened) {
        let (now, mut inner) = (self.now(), self.lock());
        let left = |probe: i64| Duration::from_millis(u64::try_from(probe - time::now()).unwrap_or_default());
        let until = opened.probe.map(|probe| now + left(probe).min(super::breaker::LONGEST));
        inner.breaker.restore(until, opened.nth);
        inner.opened = Some(opened);
    }

    /// Has the breaker do something, and tells whoever listens when it has opened or closed by that.
    fn change<T>(&self, what: impl FnOnce(&mut Breaker, Duration) -> (T, Option<(Cause, String)>)) -> T {
        let mut inner = self.lock();
        let now = self.now();
        let (came, cause) = what(&mut inner.breaker, now);
        let is_closed = inner.breaker.state() == State::Closed;
        let name = self.name.as_str();
        if let Some((cause, why)) = cause {
            let (reason, last) = (self.reason(cause), Some(why).filter(|why| !why.is_empty()));
            let since = inner.opened.as_ref().map_or_else(time::now, |opened| opened.since);
            let left = inner.breaker.due().map(|due| due.saturating_sub(now));
            let probe =
                left.map(|left| time::now().saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)));
            let nth = inner.breaker.nth();
            let probe_in = left.map(|left| left.as_secs_f64());
            tracing::warn!(breaker = name, reason, last, probe_in, "the breaker opens");
            inner.opened = Some(Opened { reason, last, since, probe, nth });
        } else if is_closed && inner.opened.take().is_some() {
            tracing::info!(breaker = name, "the breaker closes");
        } else {
            return came;
        }
        drop(inner);
        self.bell.send_modify(|rung| *rung += 1);
        came
    }

    fn reason(&self, cause: Cause) -> String {
        let window = crate::unit::Span(self.terms.window);
        match cause {
            Cause::Records(part, of) => format!("{part} of {of} records within {window} were refused or faulted"),
            Cause::Calls(part, of) => format!("{part} of {of} calls within {window} failed"),
            Cause::Slow(part, of) => format!("{part} of {of} calls within {window} were slow"),
            Cause::Probe => "a probe failed".to_owned(),
            Cause::Told => "somebody tripped it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_breaker_makes_only_so_many_letters_at_once() {
        let gate = Gate::default();
        assert_eq!((gate.letters(60), gate.letters(1000)), (60, 100), "a tenth of a second's worth at a time");
        let more: usize = (0..100).map(|_| gate.letters(1000)).sum();
        assert!(more <= 100 && gate.letters_due().is_some(), "{more}");
    }
}
