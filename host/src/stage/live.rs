//! The instance of a worker, and how calls come to an end although some of them fault.
//!
//! Owns the instance and drives the search for culprits; it must not know what a call is for. Invariant: an instance
//! that committed a fault is dropped before anything else happens, and a worker never holds two of them, but for the moment
//! of an exchange, so that memory stays within the sum of the limits.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    isolate::{Cause, Ended, Isolation, Portion, Verdict},
    worker::Spec,
};
use crate::{
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
        let instance = Some(spec.maker.make(&spec.interrupt)?);
        let (gone, taken, called, portion) = Default::default();
        Ok(Self { spec, instance, is_fresh: true, portion, gone, taken, called, first: None, said: None, unsaid: 0 })
    }

    /// A search through `len` rows.
    pub fn search(&self, len: usize) -> Search {
        Search { rest: 0..len, start: 0, isolation: Isolation::new(0, self.is_fresh) }
    }

    /// Calls until further rows have their outcome, the next ones in order; none when all have. `call` takes in what
    /// a call came to only if it returns `Ok`.
    ///
    /// # Errors
    /// A fault that no row can be blamed for: the pipeline is being taken down, or no instance can be made.
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
                let most = self.portion.most(Instant::now).unwrap_or(usize::MAX).min(search.rest.len());
                search.isolation = Isolation::new(most, self.is_fresh);
                search.start = search.rest.start;
                search.rest.start += most;
                continue;
            };
            if next.is_fresh && !self.is_fresh {
                self.discard();
            }
            let rows = search.start + next.rows.start..search.start + next.rows.end;
            let came = call(self.instance()?, rows.clone());
            self.is_fresh = false;
            let ended = came.as_ref().map_or_else(|fault| ended(fault), |_| Ended::Well);
            if let Err(fault) = &came {
                self.discard();
                if matches!(fault.kind, FaultKind::Interrupted | FaultKind::InstantiateFailed) {
                    return came.map(|_| None);
                }
                self.spec.meter.fault(fault.kind);
            } else {
                self.note_call(rows.len());
            }
            match (search.isolation.step(ended), &came) {
                (Verdict::Again, _) => continue,
                (Verdict::Blamed, Err(fault)) => self.say(fault),
                _ => {}
            }
            return Ok(Some(Settled { rows, came }));
        }
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
        if !bug::is_seeded("instance-reused-after-a-fault") {
            (self.instance, self.taken) = (None, Usage::default());
        }
        (self.called, self.first) = (Usage::default(), None);
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
