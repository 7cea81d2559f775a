//! Letters that are replayed into an aggregate.
//!
//! Owns what becomes of windows that event time has passed: they are opened again by records that are excused for being
//! late, and what they come to is put out once more, marked late. A group that faulted when it ended is ended again from
//! its state. Invariant: what is put out for a window once more has an id that nothing had before.

use super::{Aggregate, Putback, Windowing};
use crate::{
    batch::{Batch, Column},
    letter::{Again, Lateness},
    plugin::{Fault, Groups, Instance, Occasion, Refusals},
    stage::{
        assemble::assemble,
        outcome::{Outcome, Rank},
    },
    time::BEGIN,
};

impl Aggregate {
    /// Whether windows may have been opened again since [`settled`](Self::settled).
    pub fn is_reopened(&self) -> bool {
        self.is_reopened
    }

    /// Notes that they have been put out.
    pub fn settled(&mut self) {
        self.is_reopened = false;
    }

    /// Ends groups once more that `groups` hold with their states.
    ///
    /// # Errors
    /// The plugin's fault, by the position of its group.
    pub fn end_again(
        &self,
        watermark: i64,
        groups: &Batch,
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
    ) -> Result<Refusals, Box<Fault>> {
        let blank = Column::blank(groups.len());
        let (keys, mut states, mut windows) = (groups.keys().unwrap_or(&blank), Vec::new(), Vec::new());
        for at in 0..groups.len() {
            let Some(Putback { window, state, version }) = Putback::at(groups, at) else { continue };
            let is_older = version != self.rules.state_version;
            let state = if is_older {
                let one: Column = [&state].iter().collect();
                let rewritten = instance.migrate(version, self.rules.state_version, &one);
                let rewritten = rewritten.map_err(|fault| Box::new(Fault { at: Some(at as u32), ..*fault }))?;
                rewritten.get(0).unwrap_or_default().to_vec()
            } else {
                state
            };
            states.push(state);
            windows.push(window);
        }
        let windows = matches!(self.rules.windowing, Windowing::Tumbling(_)).then_some(windows);
        let again = Groups { states: states.iter().collect(), keys: keys.clone(), windows };
        let finished = instance.finish(watermark, &again, Occasion::Closed)?;
        let origins = Batch::of_values(Column::blank(groups.len())).with_keys(keys.clone());
        let origins = match (origins, groups.timestamps()) {
            (Ok(origins), Some(times)) => origins.with_timestamps(times.to_vec()),
            (origins, _) => origins,
        };
        let origins = match (origins, groups.named(crate::batch::ID)) {
            (Ok(origins), Some(ids)) if self.rules.has_ids => origins.with_named(crate::batch::ID.into(), ids.clone()),
            (origins, _) => origins,
        };
        let rank: &dyn Fn(u32) -> Rank = &Rank::Row;
        let rank = self.is_ranked().then_some(rank);
        assemble(&self.rules.stage, &origins.unwrap_or_default(), finished.produced, rank, outcome);
        Ok(finished.refused)
    }
}

/// How far event time has come for record `row` of a batch, where it has come to `watermark` for the others: one that is
/// excused is late for no window.
pub(super) fn known_at(batch: &Batch, row: u32, watermark: i64) -> i64 {
    let is_excused = Again::of(batch, row as usize).is_some_and(|again| again.lateness == Lateness::Excused);
    if is_excused { BEGIN } else { watermark }
}

/// The number of the first pane of a window that record `row` opens again: panes of before are counted from 0, and a letter
/// is replayed once.
pub(super) fn first_pane(batch: &Batch, row: u32) -> Option<u32> {
    let offset = Again::of(batch, row as usize)?.offset;
    // A window of as many panes as half of all numbers there has never been.
    Some((1 << 31) | (offset as u32 & ((1 << 31) - 1)))
}
