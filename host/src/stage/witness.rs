//! An instance as a breaker sees it: which of what it was called with it refused, and why not the rest.
//!
//! Owns the look at answers on their way. It must not know what they are for. Invariant: a dry run has no effect, for
//! whoever called is told of a fault, whatever the instance answered.

use crate::{
    batch::{Batch, Column},
    plugin::{
        Accumulated, Effects, Fault, FaultKind, Finished, Groups, Instance, Mapped, Occasion, Refusals, Selection,
        Usage,
    },
};

/// An instance with somebody who looks on.
pub struct Witness<'a> {
    instance: &'a mut dyn Instance,
    run: Run,
    /// What the last call came to, unless none has been made: how many it refused and why, or its fault.
    pub came: Option<Result<(u64, Column), Box<Fault>>>,
}

/// Whether answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// They do.
    Real,
    /// They are thrown away.
    Dry,
}

impl<'a> Witness<'a> {
    /// Looks on at `instance`.
    pub fn of(instance: &'a mut dyn Instance, run: Run) -> Self {
        Self { instance, run, came: None }
    }

    fn note<T>(
        &mut self,
        answer: Result<T, Box<Fault>>,
        refused: impl FnOnce(&T) -> &Refusals,
    ) -> Result<T, Box<Fault>> {
        self.came = Some(match &answer {
            Ok(answer) => {
                let Refusals { at, reasons } = refused(answer);
                Ok((at.len() as u64, reasons.clone()))
            }
            Err(fault) => Err(fault.clone()),
        });
        match self.run {
            Run::Real => answer,
            Run::Dry => Err(Box::new(thrown_away())),
        }
    }
}

/// What the caller of a dry run is told; nobody else is.
fn thrown_away() -> Fault {
    Fault {
        kind: FaultKind::Interrupted,
        message: "a probe".to_owned(),
        at: None,
        place: None,
        backtrace: Vec::new(),
        stderr: String::new(),
        fuel: 0,
    }
}

impl Instance for Witness<'_> {
    fn filter(&mut self, now: i64, input: &Batch) -> Result<Selection, Box<Fault>> {
        let answer = self.instance.filter(now, input);
        self.note(answer, |selection| &selection.refused)
    }

    fn map(&mut self, now: i64, input: &Batch) -> Result<Mapped, Box<Fault>> {
        let answer = self.instance.map(now, input);
        self.note(answer, |mapped| &mapped.refused)
    }

    fn accumulate(
        &mut self,
        now: i64,
        groups: &Groups,
        group_of: &[u32],
        input: &Batch,
    ) -> Result<Accumulated, Box<Fault>> {
        let answer = self.instance.accumulate(now, groups, group_of, input);
        self.note(answer, |accumulated| &accumulated.refused)
    }

    fn merge(&mut self, now: i64, states: &Column, parts: &[u32], ends: &[u32]) -> Result<Column, Box<Fault>> {
        self.instance.merge(now, states, parts, ends)
    }

    fn migrate(&mut self, from: u32, to: u32, states: &Column) -> Result<Column, Box<Fault>> {
        self.instance.migrate(from, to, states)
    }

    fn finish(&mut self, now: i64, groups: &Groups, why: Occasion) -> Result<Finished, Box<Fault>> {
        let answer = self.instance.finish(now, groups, why);
        self.note(answer, |finished| &finished.refused)
    }

    fn take_effects(&mut self) -> Effects {
        self.instance.take_effects()
    }

    fn usage(&self) -> Usage {
        self.instance.usage()
    }
}
