//! How groups end: what the plugin makes of them, and which of them go no further.
//!
//! Owns what outputs of groups inherit, and what is told of a group that is refused. It must not know when groups end.
//! Invariant: a group that goes no further leaves all others, and their order, as they would be without it.

use xxhash_rust::xxh3::xxh3_128;

use super::{ALL, Aggregate, putback};
use crate::{
    batch::{Batch, Column, ColumnBuilder, ID, push_header},
    plugin::{Fault, Finished, Groups, Occasion, Refusals},
    stage::{
        assemble::assemble,
        failure::reason,
        live::{Live, Settled},
        outcome::{Outcome, Rank},
    },
};

/// The name of the header that says that a window was put out before it was complete.
pub const INCOMPLETE: (&[u8], &[u8]) = (b"tidegate-window", b"incomplete");

/// A count window that is full and has not been finished.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Full {
    pub(super) row: u32,
    pub(super) key: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// Groups that go no further; their windows count as closed.
#[derive(Debug)]
pub struct RefusedGroups {
    /// A record for each: its key and time, and headers that say what it is.
    pub groups: Batch,
    /// Why, for each.
    pub reasons: Column,
    /// Where each belongs among those of other workers.
    pub ranks: Vec<Rank>,
    /// The fault that the only one is to blame for; none where the plugin refused them.
    pub fault: Option<Box<Fault>>,
}

impl Aggregate {
    /// Finishes count windows that `batch` filled.
    ///
    /// # Errors
    /// A fault that no group can be blamed for.
    pub fn finish_full(
        &mut self,
        watermark: i64,
        batch: &Batch,
        full: &[Full],
        live: &mut Live,
        outcome: &mut Outcome,
    ) -> Result<Vec<RefusedGroups>, Box<Fault>> {
        let (mut refused, mut finished) = (Vec::new(), Outcome::default());
        for part in full.chunks(self.rules.groups.max(1)) {
            // They have been taken out of the table.
            let (mut search, mut sent) = (live.whole_search(part.len()), Groups::default());
            while let Some(Settled { rows, came }) = live.settle(&mut search, |instance, rows| {
                let part = part.get(rows).unwrap_or_default();
                let (keys, states) = part.iter().map(|full| (&full.key, &full.state)).unzip::<_, _, Vec<_>, Vec<_>>();
                sent = Groups { states: states.into_iter().collect(), keys: keys.into_iter().collect(), windows: None };
                instance.finish(watermark, &sent, Occasion::Closed)
            })? {
                let rows: Vec<u32> = part.get(rows).unwrap_or_default().iter().map(|full| full.row).collect();
                let rank = |at: u32| Rank::Row(rows.get(at as usize).copied().unwrap_or(at));
                let origins = filled(batch, &rows, &sent.keys);
                refused.extend(self.finished(&sent, &origins, came, (&rank, true), &mut finished));
            }
        }
        if !finished.outputs.is_empty() {
            *outcome = Outcome::merge(vec![std::mem::take(outcome), finished]);
        }
        Ok(refused)
    }

    /// Takes in what groups came to at their end: outputs, and those that go no further. `rank` says where each belongs
    /// among those of other workers, and whether outputs need to know.
    fn finished(
        &self,
        groups: &Groups,
        origins: &Batch,
        came: Result<Finished, Box<Fault>>,
        (rank, is_ranked): (&dyn Fn(u32) -> Rank, bool),
        outcome: &mut Outcome,
    ) -> Option<RefusedGroups> {
        let (refused, fault) = match came {
            Ok(finished) => {
                assemble(&self.rules.stage, origins, finished.produced, is_ranked.then_some(rank), outcome);
                (finished.refused, None)
            }
            Err(fault) => (Refusals { at: vec![0], reasons: [reason(&fault)].iter().collect() }, Some(fault)),
        };
        (!refused.at.is_empty()).then(|| RefusedGroups {
            groups: self.with_states(origins, groups, &refused.at),
            ranks: refused.at.iter().map(|at| rank(*at)).collect(),
            reasons: refused.reasons,
            fault,
        })
    }

    /// The groups at these positions, with headers that hold all there is of them, so that they can be put back.
    fn with_states(&self, origins: &Batch, groups: &Groups, at: &[u32]) -> Batch {
        let mut headers = ColumnBuilder::default();
        for at in at.iter().map(|at| *at as usize) {
            let window = groups.windows.as_ref().and_then(|windows| windows.get(at).copied());
            let state = groups.states.get(at).unwrap_or_default();
            putback::write(headers.open(), window, state, self.rules.state_version);
            headers.close();
        }
        let refused = origins.gather(at);
        refused.clone().with_headers(headers.finish()).unwrap_or(refused)
    }

    /// Finishes the groups at these positions that have a state, in order of (end, key); returns those that are left, where
    /// the breaker let no further call through.
    pub(super) fn finish(
        &mut self,
        watermark: i64,
        mut at: Vec<u32>,
        why: Occasion,
        live: &mut Live,
        outcome: &mut Outcome,
        refused: &mut Vec<RefusedGroups>,
    ) -> Result<Vec<u32>, Box<Fault>> {
        at.retain(|at| self.table.get(*at).is_some_and(|group| !group.state.is_empty()));
        at.sort_unstable_by(|a, b| self.order(*a).cmp(&self.order(*b)));
        let mut done = 0;
        for part in at.chunks(self.rules.groups.max(1)) {
            let (mut search, mut sent) = (live.search(part.len()), Groups::default());
            while let Some(Settled { rows, came }) = live.settle(&mut search, |instance, rows| {
                sent = self.groups(part.get(rows).unwrap_or_default().iter().map(|at| (*at, false)));
                let mut finished = instance.finish(watermark, &sent, why)?;
                if why == Occasion::Early {
                    let headers = finished.produced.headers.take();
                    finished.produced.headers = Some(incomplete(headers, finished.produced.len));
                }
                Ok(finished)
            })? {
                let part = part.get(rows).unwrap_or_default();
                let rank = |n: u32| {
                    let group = part.get(n as usize).and_then(|at| self.table.get(*at));
                    group.map_or(Rank::Row(n), |group| Rank::Group { end: group.window.end, key: group.key.into() })
                };
                let (origins, is_ranked) = (self.origins(part, &sent), self.is_ranked());
                refused.extend(self.finished(&sent, &origins, came, (&rank, is_ranked), outcome));
                // A group that goes no further counts as finished like the others.
                for at in part {
                    if let Some(entry) = self.table.change(*at) {
                        entry.facts.panes += 1;
                        entry.facts.is_late = false;
                    }
                }
            }
            done += part.len() - search.left().len();
            if !search.left().is_empty() {
                break;
            }
        }
        Ok(at.split_off(done))
    }

    /// What outputs of groups inherit: the key, the last moment of the window, and an id of (key, window, pane).
    fn origins(&self, at: &[u32], groups: &Groups) -> Batch {
        let found = || at.iter().filter_map(|at| self.table.get(*at));
        let times =
            found().map(|group| if group.window == ALL { group.facts.time } else { group.window.end - 1 }).collect();
        let origins = Batch::of_values(Column::blank(at.len()));
        let origins = origins.with_keys(groups.keys.clone()).and_then(|batch| batch.with_timestamps(times));
        let origins = if self.rules.has_ids {
            let mut seed = Vec::new();
            let ids = found().map(|group| {
                seed.clear();
                seed.extend_from_slice(group.key);
                seed.extend_from_slice(&group.window.start.to_le_bytes());
                seed.extend_from_slice(&group.facts.panes.to_le_bytes());
                xxh3_128(&seed).to_le_bytes()
            });
            let ids: Column = ids.collect();
            origins.and_then(|batch| batch.with_named(ID.into(), ids))
        } else {
            origins
        };
        origins.unwrap_or_default()
    }
}

/// What outputs of count windows inherit: the key, and the time and id of the record of `batch` that filled them.
fn filled(batch: &Batch, rows: &[u32], keys: &Column) -> Batch {
    let filling = batch.gather(rows).retain_named(|name| name == ID);
    let origins = Batch::of_values(Column::blank(rows.len())).with_keys(keys.clone());
    let origins = origins.and_then(|b| match (filling.timestamps(), filling.named(ID)) {
        (times, Some(ids)) => b.with_timestamps(times.unwrap_or_default().to_vec())?.with_named(ID.into(), ids.clone()),
        (Some(times), None) => b.with_timestamps(times.to_vec()),
        (None, None) => Ok(b),
    });
    origins.unwrap_or_default()
}

fn incomplete(headers: Option<Column>, len: usize) -> Column {
    let before = headers.unwrap_or_else(|| Column::blank(len));
    let mut column = ColumnBuilder::default();
    for item in before.iter() {
        column.open().extend_from_slice(item);
        push_header(column.open(), INCOMPLETE.0, INCOMPLETE.1);
        column.close();
    }
    column.finish()
}
