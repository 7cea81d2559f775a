//! A plugin's instance from nothing to its first call.
//!
//! Owns the steps: make a store, instantiate, describe or configure, bind; and how guest code is driven on the caller's
//! thread. It must not know records. Invariant: whatever goes wrong here is the plugin's fault, never the data's.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::{InstancePre, TypedFunc};

use super::bind::{Configure, Describe, Exports};
use super::contract;
use super::crossing::Wanted;
use super::fault::{Failure, Misdeed, report};
use super::guest::Guest;
use super::instance::WasmInstance;
use super::interrupt::Until;
use super::symbols::Symbols;
use super::{Described, Engine, Fault, FaultKind, Limits, LoadError};

/// Fuel that is handed out at once; between two slices the clock is looked at. A slice takes 3 to 10 ms, so that the
/// clock costs nothing and a deadline of 50 ms still means something.
const SLICE: u64 = 10_000_000;

/// Fuel for making, describing or configuring an instance: enough to compile a few large regular expressions.
const LIFECYCLE_FUEL: u64 = 2_000_000_000;

/// Longest wall-clock limit, so that no sum of times overflows.
const FOREVER: Duration = Duration::from_secs(86_400 * 365);

/// An instance whose functions have not been bound yet.
pub(super) struct Fresh {
    store: Store<Guest>,
    instance: wasmtime::component::Instance,
    limits: Limits,
}

impl Fresh {
    pub(super) fn make(
        engine: &Engine,
        pre: &InstancePre<Guest>,
        symbols: &Arc<Symbols>,
        limits: &Limits,
    ) -> Result<Self, Box<Fault>> {
        let mut limits = *limits;
        limits.time = limits.time.min(FOREVER);
        let mut store = Store::new(engine.wasm(), Guest::new(&limits, engine.is_metered(), symbols));
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(usize::try_from(limits.output).unwrap_or(usize::MAX));
        let made = refuel(&mut store, LIFECYCLE_FUEL)
            .map_err(Failure::Ended)
            .and_then(|()| drive(pre.instantiate_async(&mut store), &Until::after(limits.time)));
        match made {
            Ok(instance) => Ok(Self { store, instance, limits }),
            Err(failure) => Err(unmade(failure, &store, "be instantiated")),
        }
    }

    /// Compares the types of all functions with the contract's.
    pub(super) fn check_types(&mut self, exports: &Exports) -> Result<(), LoadError> {
        let differs = |differs| contract::differs(contract::VERSION, differs);
        let Self { store, instance, .. } = self;
        let describe = instance.get_typed_func::<(), (String,)>(&mut *store, &exports.describe);
        describe.map_err(|error| differs(format!("lifecycle.describe: {error:#}")))?;
        let configure = instance.get_typed_func::<(&str,), (Result<(), String>,)>(&mut *store, &exports.configure);
        configure.map_err(|error| differs(format!("lifecycle.configure: {error:#}")))?;
        exports.calls(store, instance).map(|_| ()).map_err(differs)
    }

    pub(super) fn describe(&mut self, exports: &Exports) -> Result<String, Box<Fault>> {
        let described = self.instance.get_typed_func(&mut self.store, exports.describe).map_err(Failure::Ended);
        let described = described.and_then(|describe: Describe| {
            drive(describe.call_async(&mut self.store, ()), &Until::after(self.limits.time))
        });
        match described {
            Ok((text,)) => Ok(text),
            Err(failure) => Err(unmade(failure, &self.store, "describe itself")),
        }
    }

    pub(super) fn configure(&mut self, exports: &Exports, config: &str) -> Result<(), Box<Fault>> {
        let configured = self.instance.get_typed_func(&mut self.store, exports.configure).map_err(Failure::Ended);
        let configured = configured.and_then(|configure: Configure| {
            let configure: TypedFunc<(&str,), _> = configure;
            drive(configure.call_async(&mut self.store, (config,)), &Until::after(self.limits.time))
        });
        match configured {
            Ok((Ok(()),)) => Ok(()),
            Ok((Err(refusal),)) => {
                let misdeed = Misdeed { kind: FaultKind::InstantiateFailed, message: refusal };
                Err(unmade(Failure::Returned(misdeed), &self.store, "be configured"))
            }
            Err(failure) => Err(unmade(failure, &self.store, "be configured")),
        }
    }

    pub(super) fn bind(
        mut self,
        exports: &Exports,
        described: &Described,
        config: &serde_json::Value,
    ) -> Result<WasmInstance, Box<Fault>> {
        let calls = match exports.calls(&mut self.store, &self.instance) {
            Ok(calls) => calls,
            Err(differs) => {
                return Err(unmade(Failure::Returned(Misdeed::reply(differs)), &self.store, "be bound"));
            }
        };
        self.store.data_mut().settle();
        let wanted = Wanted::by(described, config);
        Ok(WasmInstance::new(self.store, calls, Arc::new(wanted), self.limits))
    }
}

/// Hands out fuel for the next call, in slices; nothing where the engine counts none.
pub(super) fn refuel(store: &mut Store<Guest>, fuel: u64) -> wasmtime::Result<()> {
    if !store.data().is_metered {
        return Ok(());
    }
    store.fuel_async_yield_interval(Some(SLICE))?;
    store.set_fuel(fuel)
}

/// What is left of `fuel` that was handed out.
pub(super) fn left(store: &Store<Guest>, fuel: u64) -> u64 {
    if store.data().is_metered { store.get_fuel().unwrap_or(0) } else { fuel }
}

/// The fault of an instance that could not be made: the plugin's, never the data's.
fn unmade(failure: Failure, store: &Store<Guest>, step: &str) -> Box<Fault> {
    let fuel = LIFECYCLE_FUEL.saturating_sub(left(store, LIFECYCLE_FUEL));
    let mut fault = report(failure, store.data(), fuel);
    fault.message = format!("the plugin could not {step}: {}", fault.message);
    fault.kind = FaultKind::InstantiateFailed;
    fault
}

/// Polls `call` until it is done or may not go on. Nothing that a plugin can call waits, so that the only reason
/// for it to pend is that a slice of fuel has been burnt.
pub(super) fn drive<T>(call: impl Future<Output = wasmtime::Result<T>>, until: &Until) -> Result<T, Failure> {
    let mut call = std::pin::pin!(call);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = call.as_mut().poll(&mut context) {
            return done.map_err(Failure::Ended);
        }
        until.check().map_err(Failure::Denied)?;
    }
}
