//! A generation of a stage's plugin: what it has done, and how it takes over from the one before.
//!
//! Owns the figures by which generations are compared, and what an exchange carries. It must not know who decides on one.
//! Invariant: the place of an exchange in the order of turns is the only border between two generations, so that every
//! record is processed by exactly one of them.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{tally::Tally, worker::Spec};
use crate::plugin::Instance;

/// What a generation has done so far, written once a batch.
#[derive(Debug, Default)]
pub struct Service {
    has_begun: AtomicBool,
    records: AtomicU64,
    refused: AtomicU64,
    fuel: AtomicU64,
}

/// What a service stood at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Records that it was given.
    pub records: u64,
    /// Of these, refused: by the plugin, or for a fault of it.
    pub refused: u64,
    /// Fuel that it used.
    pub fuel: u64,
}

impl Service {
    /// From here on it serves.
    pub fn begin(&self) {
        self.has_begun.store(true, Relaxed);
    }

    /// Whether it serves, or has served.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Counts what became of records, and what they cost.
    pub fn count(&self, tally: &Tally, fuel: u64) {
        self.records.fetch_add(tally.received, Relaxed);
        self.refused.fetch_add(tally.refused, Relaxed);
        self.fuel.fetch_add(fuel, Relaxed);
    }

    /// Where it stands.
    pub fn read(&self) -> Figures {
        Figures {
            records: self.records.load(Relaxed),
            refused: self.refused.load(Relaxed),
            fuel: self.fuel.load(Relaxed),
        }
    }
}

/// Which generation a stage stands at, and what those before it served since the last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its number; 0 where nobody has noted any.
    pub generation: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// Version of the states that it writes, which is that of all states of the stage.
    pub state_version: u32,
    /// Records that each generation was given in the last epoch, in the order in which they served.
    pub served: Vec<(u64, u64)>,
}

impl Standing {
    /// That of a generation that has served nothing.
    pub fn of(spec: &Spec) -> Self {
        Self {
            generation: spec.generation,
            digest: spec.about.digest.clone(),
            state_version: spec.state_version,
            served: vec![(spec.generation, 0)],
        }
    }

    /// Counts records that the generation was given.
    pub fn serve(&mut self, records: u64) {
        if let Some((_, served)) = self.served.last_mut() {
            *served += records;
        }
    }

    /// From here on `spec` serves.
    pub fn take_over(&mut self, spec: &Spec) {
        let served = std::mem::take(&mut self.served);
        *self = Self { served, ..Self::of(spec) };
        self.served.push((spec.generation, 0));
    }

    /// What there is to commit; what follows is counted anew.
    pub fn hand_over(&mut self) -> Self {
        let handed = self.clone();
        self.served = vec![(self.generation, 0)];
        handed
    }
}

/// A generation on its way into a stage.
pub struct Swap {
    /// What workers know from then on.
    pub spec: Arc<Spec>,
    /// An instance for each worker, made beforehand, so that the exchange costs nothing but itself.
    pub instances: Vec<Box<dyn Instance>>,
    /// Told once it serves, or why it does not; dropped where the stage ends before that.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// A worker's part of an exchange.
pub struct Successor {
    /// What it knows from then on.
    pub spec: Arc<Spec>,
    /// Its next instance.
    pub instance: Box<dyn Instance>,
    /// Where it says that it cannot go on with this generation.
    pub refusal: Arc<OnceLock<String>>,
}

/// What becomes of an exchange that workers are ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes place.
    Take,
    /// Somebody cannot go on with it; everything stays as it is.
    Leave,
}

impl fmt::Debug for Swap {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Swap").field("generation", &self.spec.generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Successor").field("generation", &self.spec.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::Kind, stage::fake::spec};

    #[test]
    fn what_each_generation_served_is_handed_over_in_order_and_counted_anew() {
        let generation = |generation| Spec { generation, ..spec(Kind::Filter, None) };
        let mut standing = Standing::of(&generation(1));
        standing.serve(10);
        standing.take_over(&generation(2));
        standing.serve(5);
        standing.serve(1);
        let handed = standing.hand_over();
        assert_eq!((handed.generation, handed.served), (2, vec![(1, 10), (2, 6)]));
        assert_eq!(standing.hand_over().served, [(2, 0)]);
    }
}
