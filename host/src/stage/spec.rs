//! What all workers of a stage know: the plugin, its rules, and what the stage shows and asks.
//!
//! Owns no state of its own. It must not know who works.

use std::sync::Arc;

use super::{aggregate::Rules, gate::Gate, generation::Service, meter::Meter, prepare::Wants, stepping::Stepping};
use crate::{
    config::{OnError, Then},
    letter,
    plugin::{Fault, Instance, Interrupt, Kind},
};

/// Makes instances of a stage's plugin.
pub trait Maker: Send + Sync {
    /// A fresh, configured instance whose calls end once `interrupt` is raised.
    ///
    /// # Errors
    /// A fault of kind `InstantiateFailed`.
    fn make(&self, interrupt: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>>;
}

/// What all workers of a stage know.
#[derive(Clone)]
pub struct Spec {
    /// Name of the stage.
    pub stage: String,
    /// The plugin, as the configuration or a reload names it.
    pub plugin: String,
    /// What it is.
    pub about: letter::Plugin,
    /// What it does.
    pub kind: Kind,
    /// Columns that it needs.
    pub wants: Wants,
    /// What becomes of refused records that nobody reads.
    pub on_error: OnError,
    /// Side outputs that somebody reads.
    pub is_read: ReadPorts,
    /// Rules of an aggregate.
    pub rules: Option<Rules>,
    /// Number of the generation that this is.
    pub generation: u64,
    /// Version of the states that it writes.
    pub state_version: u32,
    /// What it has done so far.
    pub service: Arc<Service>,
    /// Where instances come from.
    pub maker: Arc<dyn Maker>,
    /// What ends their calls when the pipeline is taken down.
    pub interrupt: Interrupt,
    /// What the stage shows of itself.
    pub meter: Arc<Meter>,
    /// Its breaker.
    pub gate: Arc<Gate>,
    /// What becomes of records while that is open.
    pub then: Then,
    /// The plugin that has them then, with a breaker of its own; of a filter or map only.
    pub fallback: Option<Arc<Spec>>,
    /// How records are called one by one, for the host has fallen with one of them.
    pub stepping: Option<Arc<Stepping>>,
}

impl Spec {
    /// How records are called one by one, where they are.
    pub fn steps(&self) -> Option<&Stepping> {
        self.stepping.as_deref().filter(|stepping| stepping.is_on())
    }

    /// Whether records can be taken in: the breaker lets them through, or they need no plugin.
    pub fn takes(&self) -> bool {
        self.gate.lets_through()
            || match self.then {
                Then::Pause => false,
                Then::Bypass => self.kind != Kind::Aggregate,
                Then::Drop => true,
                Then::DeadLetter => self.gate.letters_due().is_none(),
                Then::Fallback => self.fallback.as_ref().is_some_and(|spec| spec.takes()),
            }
    }
}

/// Which of the host's own side outputs have readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPorts {
    /// What a filter did not keep.
    pub rest: bool,
    /// Late records.
    pub late: bool,
    /// Refused records.
    pub refused: bool,
}
