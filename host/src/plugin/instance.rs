//! One live plugin: a store of its own, and calls into it.
//!
//! Owns how a call is made: what crosses, how it is metered, and how it ends. It must not know what a stage does with
//! the answer. Invariant: an answer is checked before it is returned; after a fault nothing more is called.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};

use super::abi::{ColumnIn, WindowIn};
use super::bind::Calls;
use super::crossing::{Filling, Wanted};
use super::fault::{Failure, Misdeed, report};
use super::fresh::{drive, left, refuel};
use super::guest::Guest;
use super::reply::{self, Expected};
use super::{
    Accumulated, Effects, Fault, FaultKind, Finished, Groups, Instance, Interrupt, Limits, Mapped, Occasion, Selection,
    Usage,
};
use crate::batch::{Batch, Column};

/// One live wasm plugin.
pub struct WasmInstance {
    store: Store<Guest>,
    calls: Calls,
    wanted: Arc<Wanted>,
    filling: Arc<Filling>,
    limits: Limits,
    usage: Usage,
    /// A call has faulted; what the plugin's memory holds since is anybody's guess.
    over: bool,
}

/// When a call is made, and what it may burn.
#[derive(Clone, Copy)]
struct Terms {
    now: i64,
    fuel: u64,
}

impl WasmInstance {
    pub(super) fn new(store: Store<Guest>, calls: Calls, wanted: Arc<Wanted>, limits: Limits) -> Self {
        Self { store, calls, wanted, filling: Arc::default(), limits, usage: Usage::default(), over: false }
    }

    /// The same instance, whose calls end once `interrupt` is raised.
    pub fn under(mut self, interrupt: &Interrupt) -> Self {
        self.store.data_mut().until.interrupt = interrupt.clone();
        self
    }

    fn terms(&self, now: i64, items: usize, bytes: usize) -> Terms {
        Terms { now, fuel: self.limits.fuel(items, bytes) }
    }

    /// Items for at least `len` records; made anew only for a batch larger than all before.
    fn filling(&mut self, len: usize) -> Arc<Filling> {
        if self.filling.len() < len {
            self.filling = Arc::new(Filling::of(len));
        }
        Arc::clone(&self.filling)
    }

    fn expected(&self, inputs: usize) -> Expected {
        Expected { inputs, outputs: self.wanted.outputs }
    }

    /// Makes one call, checks its answer, and keeps what it did beside answering only if both went well.
    fn call<P, R, T>(
        &mut self,
        function: TypedFunc<P, (R,)>,
        terms: Terms,
        params: P,
        check: impl FnOnce(R) -> Result<T, Misdeed>,
    ) -> Result<T, Box<Fault>>
    where
        P: ComponentNamedList + Lower,
        R: Lift + 'static,
        (R,): ComponentNamedList + Lift,
    {
        if self.over {
            return Err(self.refused("an instance is called after a fault"));
        }
        let started = Instant::now();
        let until = self.store.data_mut().begin(terms.now, started + self.limits.time);
        let answer = refuel(&mut self.store, terms.fuel)
            .map_err(Failure::Ended)
            .and_then(|()| drive(function.call_async(&mut self.store, params), &until));
        let fuel = terms.fuel.saturating_sub(left(&self.store, terms.fuel));
        self.usage.fuel = self.usage.fuel.saturating_add(fuel);
        self.usage.fuel_budget = self.usage.fuel_budget.saturating_add(terms.fuel);
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.usage.nanos = self.usage.nanos.saturating_add(nanos);
        self.usage.memory = self.store.data().memory.held();
        self.usage.memory_budget = self.limits.memory;
        match answer.and_then(|(answer,)| check(answer).map_err(Failure::Returned)) {
            Ok(checked) => {
                self.store.data_mut().settle();
                Ok(checked)
            }
            Err(failure) => {
                self.over = true;
                Err(report(failure, self.store.data(), fuel))
            }
        }
    }

    /// A call that this instance cannot be asked for: the stage's kind was compared with the plugin's before.
    fn refused(&self, message: &str) -> Box<Fault> {
        let misdeed = Misdeed { kind: FaultKind::InstantiateFailed, message: message.to_owned() };
        report(Failure::Returned(misdeed), self.store.data(), 0)
    }
}

impl Instance for WasmInstance {
    fn filter(&mut self, now: i64, input: &Batch) -> Result<Selection, Box<Fault>> {
        let Calls::Filter(filter) = self.calls else { return Err(self.refused("the plugin is no filter")) };
        let (wanted, expected) = (Arc::clone(&self.wanted), self.expected(input.len()));
        let filling = self.filling(input.len());
        let more = wanted.named(input, &filling);
        let batch = wanted.batch(input, &filling, &more);
        let terms = self.terms(now, input.len(), batch.bytes());
        self.call(filter, terms, (batch,), |answer| reply::selection(expected, answer))
    }

    fn map(&mut self, now: i64, input: &Batch) -> Result<Mapped, Box<Fault>> {
        let Calls::Map(transform) = self.calls else { return Err(self.refused("the plugin is no map")) };
        let (wanted, expected) = (Arc::clone(&self.wanted), self.expected(input.len()));
        let filling = self.filling(input.len());
        let more = wanted.named(input, &filling);
        let batch = wanted.batch(input, &filling, &more);
        let terms = self.terms(now, input.len(), batch.bytes());
        self.call(transform, terms, (batch,), |answer| reply::mapped(expected, answer))
    }

    fn accumulate(
        &mut self,
        now: i64,
        groups: &Groups,
        group_of: &[u32],
        input: &Batch,
    ) -> Result<Accumulated, Box<Fault>> {
        let Calls::Aggregate { accumulate, .. } = self.calls else {
            return Err(self.refused("the plugin is no aggregate"));
        };
        let (wanted, expected) = (Arc::clone(&self.wanted), self.expected(input.len()));
        let (count, limit) = (groups.states.len(), self.limits.state);
        let windows = windows(groups);
        let lent = wanted.groups(groups, windows.as_deref());
        let filling = self.filling(input.len());
        let more = wanted.named(input, &filling);
        let batch = wanted.batch(input, &filling, &more);
        let bytes = lent.bytes() + group_of.len() * 4 + batch.bytes();
        let terms = self.terms(now, input.len() + count, bytes);
        let check = |answer| reply::accumulated(expected, count, limit, answer);
        self.call(accumulate, terms, (lent, group_of, batch), check)
    }

    fn merge(&mut self, now: i64, states: &Column, parts: &[u32], ends: &[u32]) -> Result<Column, Box<Fault>> {
        let Calls::Aggregate { merge, .. } = self.calls else {
            return Err(self.refused("the plugin is no aggregate"));
        };
        let lent = ColumnIn::from(states);
        let terms = self.terms(now, parts.len(), lent.bytes() + (parts.len() + ends.len()) * 4);
        let (count, limit) = (ends.len(), self.limits.state);
        self.call(merge, terms, (lent, parts, ends), |answer| reply::states(count, limit, answer))
    }

    fn finish(&mut self, now: i64, groups: &Groups, why: Occasion) -> Result<Finished, Box<Fault>> {
        let Calls::Aggregate { finish, .. } = self.calls else {
            return Err(self.refused("the plugin is no aggregate"));
        };
        let (wanted, expected) = (Arc::clone(&self.wanted), self.expected(groups.states.len()));
        let windows = windows(groups);
        let lent = wanted.groups(groups, windows.as_deref());
        let terms = self.terms(now, groups.states.len(), lent.bytes());
        self.call(finish, terms, (lent, why.into()), |answer| reply::finished(expected, answer))
    }

    fn migrate(&mut self, from: u32, to: u32, states: &Column) -> Result<Column, Box<Fault>> {
        let Calls::Aggregate { migrate, .. } = self.calls else {
            return Err(self.refused("the plugin is no aggregate"));
        };
        let lent = ColumnIn::from(states);
        let (count, limit) = (states.len(), self.limits.state);
        let terms = self.terms(0, count, lent.bytes());
        self.call(migrate, terms, (from, to, lent), |answer| reply::migrated(count, limit, answer))
    }

    fn take_effects(&mut self) -> Effects {
        self.store.data_mut().take_effects()
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

fn windows(groups: &Groups) -> Option<Vec<WindowIn>> {
    groups.windows.as_ref().map(|windows| windows.iter().map(WindowIn::from).collect())
}
