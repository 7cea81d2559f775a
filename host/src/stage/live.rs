//! The instance of a worker, and how calls come to an end although some of them fault.
//!
//! Owns the instance and drives the search for culprits; it must not know what a call is for. Invariants: an instance
//! that committed a fault is dropped before anything else happens, and a worker never holds two of them, but for the moment
//! of an exchange, so that memory stays within the sum of the limits; no call is made that the stage's breaker does not let
//! through.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    breaker::{Answer, PROBE, Sample, Ticket},
    isolate::{Cause, Ended, Isolation, Portion, Verdict},
    witness::{Run, Witness},
    worker::Spec,
};
use crate::{
    batch::Column,
    bug,
    plugin::{self, Effects, Fault, FaultKind, Usage},
};

/// How often a worker says in the log that it refuses records for faults: each of them has its reason beside it.
const SAID: Duration = Duration::from_secs(1);

/// Share of its memory, in quarters, at which an instance makes room for a fresh one: a plugin's memory never shrinks, and
/// one that leaks would fault at the limit, in the middle of a batch.
const HIGH_WATER: u64 = 3;

/// One worker's live plugin.
pub struct Live {
    spec: Arc<Spec>,
    /// None after a fault, until the next call.
    instance: Option<Box<dyn plugin::Instance>>,
    is_fresh: bool,
    portion: Portion,
    /// What instances before this one have cost and done, until it is taken.
    gone: (Usage, Effects),
    /// What this one had cost when that was last taken.
    taken: Usage,
    /// Most rows of the next call, where the breaker opened in the middle of a search: it goes on, and not anew.
    narrowed: Option<usize>,
    /// What this one had cost when its last call ended.
    called: Usage,
    /// Memory that this one held after its first call; none before.
    first: Option<u64>,
    said: Option<Instant>,
    unsaid: u64,
}

/// The rows that remain of a batch, or of groups, and the search through those in hand.
#[derive(Debug)]
pub struct Search {
    rest: Range<usize>,
    /// Where the rows in hand begin.
    start: usize,
    isolation: Isolation,
    /// The first row that has no outcome yet.
    settled: usize,
    end: usize,
    /// Whether calls wait for the breaker.
    waits: bool,
}

impl Search {
    /// The rows that have no outcome: none, unless the breaker let no further call through.
    pub fn left(&self) -> Range<usize> {
        self.settled..self.end
    }
}

/// Rows that have their outcome.
#[derive(Debug)]
pub struct Settled<T> {
    /// Which rows.
    pub rows: Range<usize>,
    /// What they came to, or the fault that the only one of them is to blame for.
    pub came: Result<T, Box<Fault>>,
}

impl Live {
    /// A worker's first instance.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(spec: Arc<Spec>) -> Result<Self, Box<Fault>> {
        let instance = spec.maker.make(&spec.interrupt)?;
        Ok(Self { instance: Some(instance), ..Self::idle(spec) })
    }

    /// The same without an instance until the first call.
    pub fn idle(spec: Arc<Spec>) -> Self {
        let (gone, taken, called, portion) = Default::default();
        let (instance, first, narrowed) = (None, None, None);
        Self { spec, instance, is_fresh: true, portion, gone, taken, narrowed, called, first, said: None, unsaid: 0 }
    }

    /// What it knows of its stage.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// A search through `len` rows.
    pub fn search(&self, len: usize) -> Search {
        self.search_from(0, len, true)
    }

    /// A search through `len` rows that cannot be left in the middle, for what goes before has been taken in: the breaker
    /// only hears of it.
    pub fn whole_search(&self, len: usize) -> Search {
        self.search_from(0, len, false)
    }

    /// Goes on behind the next `rows`, which have their outcome without a call.
    pub fn skip(&self, search: &mut Search, rows: usize) {
        *search = self.search_from(search.settled + rows, search.end, search.waits);
    }

    fn search_from(&self, start: usize, end: usize, waits: bool) -> Search {
        Search { rest: start..end, start, isolation: Isolation::new(0, self.is_fresh), settled: start, end, waits }
    }

    /// Calls until further rows have their outcome, the next ones in order; none when all have, or when the breaker lets
    /// no call through. `call` takes in what a call came to only if it returns `Ok`.
    ///
    /// # Errors
    /// A fault that no row can be blamed for: the pipeline is being taken down, or no instance can be made and the search
    /// cannot be left.
    pub fn settle<T>(
        &mut self,
        search: &mut Search,
        mut call: impl FnMut(&mut dyn plugin::Instance, Range<usize>) -> Result<T, Box<Fault>>,
    ) -> Result<Option<Settled<T>>, Box<Fault>> {
        loop {
            let Some(next) = search.isolation.next_call() else {
                self.conclude(search);
                if search.rest.is_empty() {
                    return Ok(None);
                }
                let step = self.spec.steps().map(|_| 1);
                let most = [self.portion.most(Instant::now), self.narrowed.take(), step, Some(search.rest.len())];
                let most = most.into_iter().flatten().min().unwrap_or_default();
                search.isolation = Isolation::new(most, self.is_fresh);
                search.start = search.rest.start;
                search.rest.start += most;
                continue;
            };
            let gate = &self.spec.gate;
            let ticket = match if search.waits { gate.ask() } else { Answer::Call(gate.ticket()) } {
                Answer::Call(ticket) => ticket,
                Answer::Wait(_) => {
                    self.narrowed = Some(next.rows.len());
                    return Ok(None);
                }
                Answer::Probe(ticket) => {
                    self.narrowed = Some(next.rows.len());
                    self.probe(search.left(), ticket, &mut call)?;
                    *search = self.search_from(search.settled, search.end, search.waits);
                    continue;
                }
            };
            if next.is_fresh && !self.is_fresh {
                self.discard();
            }
            let rows = search.start + next.rows.start..search.start + next.rows.end;
            let began = Instant::now();
            let instance = match self.instance() {
                Err(fault) if fault.kind == FaultKind::InstantiateFailed && search.waits => {
                    self.failed(ticket, began, &fault);
                    continue;
                }
                made => made?,
            };
            let mut witness = Witness::of(instance, Run::Real);
            let came = call(&mut witness, rows.clone());
            let refused = witness.came.and_then(Result::ok);
            self.is_fresh = false;
            let ended = came.as_ref().map_or_else(|fault| ended(fault), |_| Ended::Well);
            if let Err(fault) = &came {
                self.discard();
                match fault.kind {
                    FaultKind::Interrupted => return came.map(|_| None),
                    FaultKind::InstantiateFailed if search.waits => {
                        self.failed(ticket, began, fault);
                        continue;
                    }
                    FaultKind::InstantiateFailed => return came.map(|_| None),
                    kind => self.spec.meter.fault(kind),
                }
            } else {
                self.note_call(rows.len());
            }
            let verdict = search.isolation.step(ended);
            let records = if verdict == Verdict::Again { 0 } else { rows.len() as u64 };
            let sample = sample(records, &came, refused.as_ref(), began);
            self.spec.gate.ended(ticket, &sample, || why(came.as_ref().err().map(|fault| &**fault), refused.as_ref()));
            match (verdict, &came) {
                (Verdict::Again, _) => continue,
                (Verdict::Blamed, Err(fault)) => self.say(fault),
                _ => {}
            }
            search.settled = rows.end;
            return Ok(Some(Settled { rows, came }));
        }
    }

    /// Tells the breaker of an instance that could not be made.
    fn failed(&self, ticket: Ticket, began: Instant, fault: &Fault) {
        let sample = Sample { calls: 1, is_failed: true, took: began.elapsed(), ..Sample::default() };
        self.spec.meter.fault(fault.kind);
        self.spec.gate.ended(ticket, &sample, || reason(fault));
    }

    /// Tries the first of `rows` without any effect, and tells the breaker. They are called again, whatever comes of it:
    /// so a probe that fails leaves no dead letter behind, and no state that half of it has changed.
    ///
    /// # Errors
    /// The pipeline is being taken down.
    fn probe<T>(
        &mut self,
        rows: Range<usize>,
        ticket: Ticket,
        call: &mut impl FnMut(&mut dyn plugin::Instance, Range<usize>) -> Result<T, Box<Fault>>,
    ) -> Result<(), Box<Fault>> {
        let len = rows.len().min(if self.spec.steps().is_some() { 1 } else { PROBE });
        let (began, mut all, mut last) = (Instant::now(), Sample::default(), String::new());
        let mut isolation = Isolation::new(len, self.is_fresh);
        while let Some(next) = isolation.next_call() {
            if next.is_fresh && !self.is_fresh {
                self.discard();
            }
            self.settle_accounts();
            let came = match self.instance() {
                Err(fault) => Err(fault),
                Ok(instance) => {
                    let mut witness = Witness::of(instance, Run::Dry);
                    // Whatever it returns has had no effect.
                    let _ = call(&mut witness, rows.start + next.rows.start..rows.start + next.rows.end);
                    let came = witness.came.take().unwrap_or_else(|| Ok(Default::default()));
                    let _ = instance.take_effects();
                    came
                }
            };
            self.is_fresh = false;
            if let Err(fault) = &came {
                self.discard();
                if fault.kind == FaultKind::Interrupted {
                    return Err(fault.clone());
                }
                self.spec.meter.fault(fault.kind);
            }
            let verdict = isolation.step(came.as_ref().map_or_else(|fault| ended(fault), |_| Ended::Well));
            let records = if verdict == Verdict::Again { 0 } else { next.rows.len() as u64 };
            let one = sample(records, &came, came.as_ref().ok(), began);
            all.records += one.records;
            all.refused += one.refused;
            // A record alone may take too long; what cannot be made at all is no record's fault.
            all.is_failed |= matches!(&came, Err(fault) if fault.kind == FaultKind::InstantiateFailed);
            if one.refused > 0 || one.is_failed {
                last = why(came.as_ref().err().map(|fault| &**fault), came.as_ref().ok());
            }
            // However well the rest would do.
            let is_lost = self.spec.gate.is_bad(&Sample { records: len as u64, ..all });
            if is_lost || self.spec.gate.ticket() != ticket {
                break;
            }
        }
        self.spec.gate.probed(ticket, &all, || last);
        Ok(())
    }

    /// What calls have cost and done since this was last asked.
    pub fn take_spent(&mut self) -> (Usage, Effects) {
        self.settle_accounts();
        std::mem::take(&mut self.gone)
    }

    /// Makes one call that concerns no rows.
    ///
    /// # Errors
    /// What the call came to, or that no instance can be made.
    pub fn with<T>(
        &mut self,
        call: impl FnOnce(&mut dyn plugin::Instance) -> Result<T, Box<Fault>>,
    ) -> Result<T, Box<Fault>> {
        let came = call(self.instance()?);
        self.is_fresh = false;
        if came.is_err() {
            self.discard();
        }
        came
    }

    /// Goes on with an instance of another generation.
    pub fn exchange(&mut self, spec: Arc<Spec>, instance: Box<dyn plugin::Instance>) {
        self.discard();
        (self.spec, self.instance, self.portion) = (spec, Some(instance), Portion::default());
    }

    fn instance(&mut self) -> Result<&mut dyn plugin::Instance, Box<Fault>> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.spec.maker.make(&self.spec.interrupt)?,
        };
        Ok(&mut **self.instance.insert(instance))
    }

    /// Drops the instance; the next call gets a fresh one.
    fn discard(&mut self) {
        self.settle_accounts();
        self.is_fresh = true;
        (self.called, self.first) = (Usage::default(), None);
        if !bug::is_seeded("instance-reused-after-a-fault") {
            (self.instance, self.taken) = (None, Usage::default());
        }
    }

    /// Notes what a call of so many rows has cost that went well.
    fn note_call(&mut self, rows: usize) {
        let Some(instance) = &self.instance else { return };
        let (used, before) = (instance.usage(), self.called);
        let (fuel, budget) = (used.fuel - before.fuel, used.fuel_budget - before.fuel_budget);
        self.spec.meter.call(rows, fuel, budget);
        let first = *self.first.get_or_insert(used.memory);
        self.called = used;
        if is_full(first, &used) {
            self.spec.meter.recycled();
            self.discard();
        }
    }

    fn settle_accounts(&mut self) {
        let Some(instance) = &mut self.instance else { return };
        let (used, effects) = (instance.usage(), instance.take_effects());
        let (before, (usage, all)) = (self.taken, &mut self.gone);
        usage.fuel += used.fuel - before.fuel;
        usage.fuel_budget += used.fuel_budget - before.fuel_budget;
        usage.nanos += used.nanos - before.nanos;
        usage.memory = usage.memory.max(used.memory);
        usage.memory_budget = used.memory_budget;
        all.logs.extend(effects.logs);
        all.counts.extend(effects.counts);
        self.taken = used;
    }

    /// Draws the conclusions of a search that is over.
    fn conclude(&mut self, search: &Search) {
        match search.isolation.cause() {
            None => {}
            Some(Cause::Age) => self.discard(),
            Some(Cause::Size(rows)) => {
                self.portion.halve(rows, Instant::now());
                let (stage, plugin) = (self.spec.stage.as_str(), self.spec.plugin.as_str());
                tracing::warn!(stage, plugin, rows, "calls carry half as many for a minute: no record faults alone");
            }
        }
    }

    fn say(&mut self, fault: &Fault) {
        if self.said.is_some_and(|said| said.elapsed() < SAID) {
            self.unsaid += 1;
            return;
        }
        let (stage, plugin, kind) = (self.spec.stage.as_str(), self.spec.plugin.as_str(), fault.kind.name());
        let unsaid = std::mem::take(&mut self.unsaid);
        tracing::warn!(stage, plugin, kind, error = fault.message, unsaid, "refused for a fault of the plugin");
        self.said = Some(Instant::now());
    }
}

/// What the breaker is told of a call.
fn sample<T>(records: u64, came: &Result<T, Box<Fault>>, refused: Option<&(u64, Column)>, began: Instant) -> Sample {
    let (refused, is_failed) = match came {
        Ok(_) => (refused.map_or(0, |(count, _)| *count), false),
        Err(fault) => (records, matches!(fault.kind, FaultKind::Deadline | FaultKind::InstantiateFailed)),
    };
    Sample { records, refused, calls: 1, is_failed, took: began.elapsed() }
}

/// What was wrong with a call, in a line.
fn why(fault: Option<&Fault>, refused: Option<&(u64, Column)>) -> String {
    let said = || refused.and_then(|(_, reasons)| reasons.iter().last());
    match fault {
        Some(fault) => reason(fault),
        None => said().map_or_else(String::new, |said| format!("refused: {}", String::from_utf8_lossy(said))),
    }
}

fn reason(fault: &Fault) -> String {
    format!("{}: {}", fault.kind.name().replace('_', " "), fault.message)
}

/// Whether an instance that held `first` after its first call is to be replaced. One that holds as much from the start would
/// be followed by one that does too.
fn is_full(first: u64, used: &Usage) -> bool {
    used.memory > first && used.memory >= used.memory_budget / 4 * HIGH_WATER
}

fn ended(fault: &Fault) -> Ended {
    Ended::Faulted { named: fault.at.map(|at| at as usize), is_time: fault.kind == FaultKind::Deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_replaced_at_three_quarters_of_its_memory_unless_it_began_there() {
        let used = |memory| Usage { memory, memory_budget: 100, ..Usage::default() };
        for (first, memory, expected) in
            [(10, 10, false), (10, 74, false), (10, 75, true), (10, 100, true), (80, 80, false), (80, 81, true)]
        {
            assert_eq!(is_full(first, &used(memory)), expected, "{first}, {memory}");
        }
    }
}
