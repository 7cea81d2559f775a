//! Where the groups of a stage lie that are not in memory: in the store.
//!
//! Owns how they are read there, and who waits where the store has no room to be opened. It must not know who needs them,
//! nor why. Invariant: what is read is of a commit that has been made.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Acquire},
    },
    thread::sleep,
    time::Duration,
};

use super::durable::{ALL, Durable, GROUP, Unfit, group};
use crate::{
    config::graph::Stage,
    epoch::Epoch,
    plugin::Interrupt,
    stage::{
        cellar::{Cellar, Visit},
        failure::Failure,
        lane::Gone,
        table::{Saved, slot},
    },
    store::{Place, Places, Store, StoreError},
    time::Window,
};

/// How long to wait before a store is asked again that waits for room on the disk.
const WAIT: Duration = Duration::from_millis(100);

/// The groups of a stage in the store.
#[derive(Clone, Debug)]
struct Stored {
    store: Arc<Store>,
    pipeline: Arc<str>,
    stage: Arc<str>,
    /// The last epoch that has been committed.
    reached: Arc<AtomicU64>,
    /// Raised when the run is taken down.
    interrupt: Interrupt,
}

impl Durable {
    /// Whether the groups of the stage that is called `name` stay in the store until they are needed.
    pub(super) fn stays(&self, name: &str) -> bool {
        self.graph.stages.iter().any(|stage| stage.name == name && stage.state.memory.is_some())
    }

    /// Where the groups of a stage lie that need not all be in memory, for those whose run ends when `interrupt` is raised.
    pub(super) fn cellar(&self, stage: &Stage, interrupt: &Interrupt) -> Option<Arc<dyn Cellar>> {
        stage.state.memory.as_ref()?;
        let (store, pipeline, stage) = (self.store.clone(), self.name.clone(), stage.name.as_str().into());
        Some(Arc::new(Stored { store, pipeline, stage, reached: self.reached.clone(), interrupt: interrupt.clone() }))
    }
}

impl Stored {
    /// Asks the store, again and again while it waits for room; what it had shown before that it shows anew.
    fn ask<T>(&self, mut ask: impl FnMut() -> Result<T, Unfit>) -> Result<T, Failure> {
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(Unfit::Store(StoreError::Full { .. })) if self.interrupt.is_raised() => return Err(Gone.into()),
                Err(Unfit::Store(StoreError::Full { .. })) => sleep(WAIT),
                Err(unfit) => return Err(Failure::Unread { stage: self.stage.to_string(), why: unfit.to_string() }),
            }
        }
    }
}

impl Cellar for Stored {
    fn committed(&self) -> Epoch {
        Epoch(self.reached.load(Acquire))
    }

    fn read(&self, groups: &[(&[u8], Window)]) -> Result<Vec<(usize, Saved)>, Failure> {
        let places = || groups.iter().map(|group| place(&self.stage, *group));
        self.ask(|| {
            let (mut found, mut unfit) = (Vec::with_capacity(groups.len()), None);
            self.store.get_many(&self.pipeline, places(), |nth, value| {
                let Some(place) = groups.get(nth).map(|group| place(&self.stage, *group)) else { return };
                match group(&place, value) {
                    Ok((_, saved)) => found.push((nth, saved)),
                    Err(error) => drop(unfit.get_or_insert(error)),
                }
            })?;
            unfit.map_or(Ok(found), Err)
        })
    }

    fn scan(&self, slot: u8, visit: &mut Visit<'_>) -> Result<(), Failure> {
        // Where it has to be asked again, it goes on behind the last that was shown.
        let mut last: Option<(Vec<u8>, Window)> = None;
        self.ask(|| {
            let mut unfit = None;
            let after = last.clone();
            self.store.scan(&self.pipeline, Places::Slot(GROUP, &self.stage, slot), |place, value| {
                match group(&place, value) {
                    Ok((found, _)) if after.as_ref().is_some_and(|after| found <= *after) => {}
                    Ok(((key, window), Saved { state, facts })) => {
                        visit(&key, window, &state, facts);
                        last = Some((key, window));
                    }
                    Err(error) => {
                        unfit = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            unfit.map_or(Ok(()), Err)
        })
    }
}

fn place<'a>(stage: &'a str, (key, window): (&'a [u8], Window)) -> Place<'a> {
    Place::group(GROUP, stage, slot(key), key, (window != ALL).then_some((window.start, window.end)))
}
