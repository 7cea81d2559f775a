//! Which records of a batch are to blame for a fault, found by calling with fewer of them.
//!
//! Owns the order of the calls and the verdict, as pure state machines; it must not know what a call does. "Rows" are
//! whatever a call carries, records or groups. Invariant: calls that succeed cover the rows in ascending order, each
//! once, but for those that are blamed; and a row is blamed only for a fault that it caused alone, on an instance that
//! nothing had been called on before.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Calls after which the rest goes one by one: a few culprits are found sooner by halves, many are not.
const SEARCH: usize = 64;

/// How long a stage's calls carry half of what was too much at once: long enough that a plugin which cannot do more is
/// not asked again for every batch, short enough that a passing cause costs little.
const HALVED: Duration = Duration::from_secs(60);

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The rows that it carries.
    pub rows: Range<usize>,
    /// Whether the instance must be one that has not been called before.
    pub is_fresh: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What it returned has been taken in.
    Well,
    /// It had no effect, and its instance is gone.
    Faulted {
        /// The row in hand, as the plugin says, counted from the first of the call.
        named: Option<usize>,
        /// The clock ended it, which may be the machine's fault.
        is_time: bool,
    },
}

/// What became of the rows of the call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call succeeded; they are done.
    Done,
    /// It faulted; they will be called again.
    Again,
    /// There was only one, and it is to blame.
    Blamed,
}

/// What faults were due to that no row alone can be blamed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Perhaps the age of the instance: it had been called before.
    Age,
    /// So many rows at once.
    Size(usize),
}

/// What is known of the rows of a call before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// They stand before the row that a fault named, and so should succeed.
    Before,
    /// A fault has named this row.
    Named,
    /// This row has faulted alone.
    Faulted,
}

/// The search through one batch.
#[derive(Debug)]
pub struct Isolation {
    len: usize,
    /// What is still to be called; the next is the last.
    pending: Vec<(Range<usize>, Known)>,
    calls: usize,
    /// Whether the next call will find its instance untouched.
    is_fresh: bool,
    /// No fault has named a wrong row so far.
    is_guided: bool,
    /// Calls of several rows that faulted, and whether their instance was fresh.
    failed: Vec<(Range<usize>, bool)>,
    blamed: Vec<usize>,
}

impl Isolation {
    /// A search through `len` rows, which begins with all of them; `is_fresh` says whether the instance at hand has not
    /// been called yet.
    pub fn new(len: usize, is_fresh: bool) -> Self {
        let pending = if len == 0 { Vec::new() } else { vec![(0..len, Known::Nothing)] };
        Self { len, pending, calls: 0, is_fresh, is_guided: true, failed: Vec::new(), blamed: Vec::new() }
    }

    /// The next call; none when every row has been done or blamed. The same until its end is told.
    pub fn next_call(&mut self) -> Option<Call> {
        let (rows, known) = self.pending.last()?.clone();
        if self.is_one_by_one() && rows.len() > 1 {
            self.pending.pop();
            self.pending.push((rows.start + 1..rows.end, Known::Nothing));
            self.pending.push((rows.start..rows.start + 1, Known::Nothing));
            return self.next_call();
        }
        let is_last_word = known == Known::Named || !self.may_confirm();
        Some(Call { rows, is_fresh: is_last_word })
    }

    /// Takes in how the call ended that [`Isolation::next_call`] said.
    pub fn step(&mut self, ended: Ended) -> Verdict {
        let may_confirm = self.may_confirm();
        let Some((rows, known)) = self.pending.pop() else { return Verdict::Done };
        self.calls += 1;
        let was_fresh = self.is_fresh || known == Known::Named || !may_confirm;
        self.is_fresh = ended != Ended::Well;
        let Ended::Faulted { named, is_time } = ended else {
            self.is_guided &= known != Known::Named;
            return Verdict::Done;
        };
        self.is_guided &= known != Known::Before;
        if rows.len() == 1 {
            let is_known = matches!(known, Known::Named | Known::Faulted) || named == Some(0) || !may_confirm;
            if was_fresh && is_known {
                self.blamed.push(rows.start);
                return Verdict::Blamed;
            }
            self.pending.push((rows, Known::Faulted));
            return Verdict::Again;
        }
        if is_time && self.calls == 1 {
            self.pending.push((rows, Known::Nothing));
            return Verdict::Again;
        }
        self.failed.push((rows.clone(), was_fresh));
        let named = named.map(|at| rows.start + at).filter(|at| self.is_guided && rows.contains(at));
        let parts = match named {
            Some(at) => {
                vec![(at + 1..rows.end, Known::Nothing), (at..at + 1, Known::Named), (rows.start..at, Known::Before)]
            }
            None => {
                let middle = rows.start + rows.len() / 2;
                vec![(middle..rows.end, Known::Nothing), (rows.start..middle, Known::Nothing)]
            }
        };
        self.pending.extend(parts.into_iter().filter(|(rows, _)| !rows.is_empty()));
        Verdict::Again
    }

    /// What the faults were due to that no row was blamed for, once there is no further call; the largest call counts.
    pub fn cause(&self) -> Option<Cause> {
        let innocent = self.failed.iter().filter(|(rows, _)| !self.blamed.iter().any(|row| rows.contains(row)));
        let (rows, was_fresh) = innocent.max_by_key(|(rows, was_fresh)| (rows.len(), *was_fresh))?;
        Some(if *was_fresh { Cause::Size(rows.len()) } else { Cause::Age })
    }

    fn is_one_by_one(&self) -> bool {
        self.calls >= SEARCH
    }

    /// Whether a row that faults alone may be called once more. Where that could come to more than one call for each
    /// row after the search, every row gets a fresh instance instead, and its first fault is final.
    fn may_confirm(&self) -> bool {
        let left: usize = self.pending.iter().map(|(rows, _)| rows.len()).sum();
        self.calls + left < SEARCH + self.len
    }
}

/// How many rows a call of a stage may carry at present.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portion {
    halved: Option<(usize, Instant)>,
}

impl Portion {
    /// Most rows of a call; none where nothing but the configuration limits them.
    pub fn most(&mut self, now: impl Fn() -> Instant) -> Option<usize> {
        self.halved = self.halved.filter(|(_, until)| now() < *until);
        self.halved.map(|(most, _)| most)
    }

    /// Halves what calls carry, for a while, after `rows` were too much at once.
    pub fn halve(&mut self, rows: usize, now: Instant) {
        self.halved = Some(((rows / 2).max(1), now + HALVED));
    }
}

#[cfg(test)]
mod tests;
