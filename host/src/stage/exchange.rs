//! How a stage exchanges one generation of its plugin for another.
//!
//! Owns the turns of which an exchange consists. Workers get ready, in their order of work; then all of them exchange, or
//! none does. An exchange needs no barrier, for it is a turn like any other: what stands before it is the old
//! generation's, what stands behind it the new one's. Where the versions of states differ nothing else is begun meanwhile,
//! so that the states which were rewritten are the ones that there are.

use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::{
    conductor::{Behind, Conductor, Crew},
    failure::Failure,
    gate::Lever,
    generation::{Successor, Swap, Verdict},
    turns::Turns,
    worker::{Spec, Work},
};
use crate::crash;

/// An exchange under way.
pub(super) struct Pending {
    spec: Arc<Spec>,
    refusal: Arc<OnceLock<String>>,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Conductor {
    /// Begins an exchange.
    pub(super) fn prepare(&mut self, swap: Swap, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        let Swap { spec, instances, answer } = swap;
        crash::point("reload.before-swap");
        let workers = match &self.crew {
            Crew::Alone(_) => 1,
            Crew::Many { tasks, .. } => tasks.len(),
        };
        if instances.len() != workers {
            // Whoever asked may have gone.
            let _ =
                answer.send(Err(format!("the stage has {workers} workers, and {} instances came", instances.len())));
            return Ok(());
        }
        let refusal = Arc::new(OnceLock::new());
        let pending = Pending { spec: spec.clone(), refusal: refusal.clone(), answer };
        let mut instances = instances.into_iter();
        let work = || match instances.next() {
            Some(instance) => {
                Work::Prepare(Box::new(Successor { spec: spec.clone(), instance, refusal: refusal.clone() }))
            }
            None => Work::Settle(Verdict::Leave),
        };
        if self.spec.state_version != pending.spec.state_version && turns.left().is_some() {
            let why = "its breaker is open, and what it has left is of the old version: reset the breaker first";
            let _ = pending.answer.send(Err(why.to_owned()));
            return Ok(());
        }
        if self.spec.state_version == pending.spec.state_version {
            // Nobody can refuse: no need to wait for answers.
            self.begin_all(work, Behind::Nothing, turns)?;
            self.take(pending, turns)
        } else {
            self.is_migrating = true;
            self.begin_all(work, Behind::Prepared(pending), turns)
        }
    }

    /// Everybody is ready, or somebody cannot go on.
    pub(super) fn prepared(&mut self, pending: Pending, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        self.is_migrating = false;
        match pending.refusal.get() {
            Some(why) => {
                let _ = pending.answer.send(Err(why.clone()));
                self.begin_all(|| Work::Settle(Verdict::Leave), Behind::Nothing, turns)
            }
            None => self.take(pending, turns),
        }
    }

    fn take(&mut self, pending: Pending, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        if let Crew::Many { divide: Some(wants), .. } = &mut self.crew {
            *wants = pending.spec.wants.clone();
        }
        self.spec = pending.spec.clone();
        self.begin_all(|| Work::Settle(Verdict::Take), Behind::Exchanged(pending), turns)?;
        // What the one before could not do is not this one's fault.
        self.spec.gate.pull(Lever::Reset);
        Ok(())
    }

    /// From here on, what leaves the stage is the new generation's.
    pub(super) fn exchanged(&mut self, Pending { spec, answer, .. }: Pending) {
        self.standing.take_over(&spec);
        spec.service.begin();
        let _ = answer.send(Ok(()));
        crash::point("reload.swapped");
    }
}
