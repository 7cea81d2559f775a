//! Aggregation: which group a record belongs to, when groups end, and in which order they come out.
//!
//! Owns windows as state: timers, lateness, panes. The plugin only folds. Invariant: what comes out depends on the
//! records and the watermarks between them, never on how they were cut into batches.

mod assign;

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use assign::{Assigned, Touch};

use super::{
    assemble::assemble,
    outcome::{Outcome, Rank},
    table::{Changes, Saved, Table},
};
use crate::{
    batch::{Batch, Column, ColumnBuilder, ID, push_header},
    plugin::{Fault, Groups, Instance, Occasion, Refusals},
    time::{BEGIN, END, Tumbling, Window},
};

/// The name of the header that says that a window was put out before it was complete.
pub const INCOMPLETE: (&[u8], &[u8]) = (b"tidegate-window", b"incomplete");

/// All of time, for stages without windows.
const ALL: Window = Window { start: BEGIN, end: END };

/// Fewest groups that are looked at for having expired, each time that the watermark goes on.
const SWEEP: usize = 4096;

/// Times that the watermark goes on, at most, until every group has been looked at.
const SWEEPS: usize = 64;

/// How a stage divides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windowing {
    /// Not at all: a group lives until its plugin forgets it or the input ends.
    None,
    /// Windows of one size, side by side.
    Tumbling(Tumbling),
    /// So many records of a key, refused ones included.
    Count(u64),
}

/// Whether other workers share the stage, so that outputs need a rank to be put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// This worker has the stage to itself.
    None,
    /// Others work on other keys.
    Some,
}

/// What an aggregate is told once.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Name of the stage, part of the ids of its outputs.
    pub stage: String,
    /// How it divides time.
    pub windowing: Windowing,
    /// How long a group without a window is kept after its last record, in milliseconds of event time.
    pub ttl: Option<i64>,
    /// Most groups a call may carry.
    pub groups: usize,
    /// Whether somebody below needs ids.
    pub has_ids: bool,
    /// Whether outputs need a rank.
    pub peers: Peers,
}

/// What became of a batch, beside its outputs.
#[derive(Debug, Default)]
pub struct Folded {
    /// Positions of the records that came too late.
    pub late: Vec<u32>,
    /// Records that the plugin refused, by position in the batch.
    pub refused: Refusals,
    /// Count windows that the plugin refused to finish.
    pub refused_groups: Vec<RefusedGroups>,
}

/// Groups that the plugin refused to finish.
#[derive(Debug)]
pub struct RefusedGroups {
    /// A record for each group: its key and time.
    pub groups: Batch,
    /// Which of them, and why.
    pub refused: Refusals,
}

/// The groups of one worker and their timers.
#[derive(Debug)]
pub struct Aggregate {
    rules: Rules,
    table: Table,
    closing: BTreeMap<i64, Vec<u32>>,
    forgetting: BTreeMap<i64, Vec<u32>>,
    late: Vec<u32>,
    calls: u64,
}

impl Aggregate {
    /// An aggregate with the groups of a commit, at the watermark of that commit.
    pub fn new<'a>(
        rules: Rules,
        watermark: i64,
        groups: impl Iterator<Item = (&'a (Vec<u8>, Window), &'a Saved)>,
    ) -> Self {
        let mut aggregate = Self {
            rules,
            table: Table::default(),
            closing: BTreeMap::new(),
            forgetting: BTreeMap::new(),
            late: Vec::new(),
            calls: 0,
        };
        for ((key, window), saved) in groups {
            let at = aggregate.table.restore(key, *window, saved);
            aggregate.set_timers(at, *window, watermark);
            if saved.facts.is_late {
                aggregate.late.push(at);
            }
        }
        aggregate.expire(watermark, 0);
        aggregate
    }

    /// Lets groups expire, and frees the memory of those among the next `most`.
    fn expire(&mut self, watermark: i64, most: usize) {
        if let Some(ttl) = self.rules.ttl.filter(|_| watermark != END) {
            self.table.expire(watermark.saturating_sub(ttl), most);
        }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What changed since the last barrier.
    pub fn take_changes(&mut self) -> Changes {
        self.table.take_changes()
    }

    fn set_timers(&mut self, at: u32, window: Window, watermark: i64) {
        let Windowing::Tumbling(tumbling) = self.rules.windowing else { return };
        if !tumbling.is_closed(window, watermark) {
            self.closing.entry(window.end).or_default().push(at);
        }
        let forgotten_at = tumbling.forgotten_at(window);
        if forgotten_at > window.end || tumbling.is_closed(window, watermark) {
            self.forgetting.entry(forgotten_at).or_default().push(at);
        }
    }

    /// Folds a batch into its groups.
    ///
    /// # Errors
    /// The plugin's fault; no state has changed.
    pub fn fold(
        &mut self,
        watermark: i64,
        batch: &Batch,
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
    ) -> Result<Folded, Box<Fault>> {
        self.calls += 1;
        let Assigned { group_of, touched, rows, late } = self.assign(watermark, batch);
        let taken = if late.is_empty() { batch.clone() } else { batch.gather(&rows) };
        let mut folded = Folded { late, ..Folded::default() };
        if !taken.is_empty() {
            // A count window that begins in this very batch has no state yet, whatever its group has.
            let groups = self.groups(touched.iter().map(|touch| (touch.at, touch.is_renewed)));
            let reply = match instance.accumulate(watermark, &groups, &group_of, &taken) {
                Ok(reply) => reply,
                Err(fault) => {
                    self.undo(&touched);
                    return Err(fault);
                }
            };
            if let Some(produced) = reply.produced {
                let rank = |origin: u32| Rank::Row(rows.get(origin as usize).copied().unwrap_or(origin));
                assemble(&self.rules.stage, &taken, produced, self.ranked(&rank), outcome);
            }
            folded.refused = Refusals {
                at: reply.refused.at.iter().filter_map(|&at| rows.get(at as usize).copied()).collect(),
                reasons: reply.refused.reasons,
            };
            let ready = self.keep(watermark, &touched, &reply.states);
            self.finish_full(watermark, batch, &ready, instance, outcome, &mut folded.refused_groups)?;
        }
        outcome.tally.absorbed += (taken.len() - folded.refused.at.len()) as u64;
        Ok(folded)
    }

    fn ranked<'a>(&self, rank: &'a dyn Fn(u32) -> Rank) -> Option<&'a dyn Fn(u32) -> Rank> {
        (self.rules.peers == Peers::Some || self.is_counting()).then_some(rank)
    }

    fn is_counting(&self) -> bool {
        matches!(self.rules.windowing, Windowing::Count(_))
    }

    /// Stores what the plugin made of the states; returns the count windows that are full, in the order in which
    /// they filled: the row that filled them, key, state.
    fn keep(&mut self, watermark: i64, touched: &[Touch], states: &Column) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let (mut ready, mut emptied) = (Vec::new(), Vec::new());
        for (touch, state) in touched.iter().zip(states.iter()) {
            let left = if touch.full.is_some() { &[] } else { state };
            if left.is_empty() {
                emptied.push(touch.at);
            }
            let Some(entry) = self.table.write(touch.at, left) else { continue };
            let window = entry.window();
            if let Windowing::Tumbling(tumbling) = self.rules.windowing
                && tumbling.is_closed(window, watermark)
                && !entry.facts.is_late
            {
                entry.facts.is_late = true;
                self.late.push(touch.at);
            }
            if touch.is_made {
                self.set_timers(touch.at, window, watermark);
            }
            if let Some(row) = touch.full.filter(|_| !state.is_empty())
                && let Some(group) = self.table.get(touch.at)
            {
                ready.push((row, group.key.to_vec(), state.to_vec()));
            }
        }
        if !matches!(self.rules.windowing, Windowing::Tumbling(_)) {
            for at in emptied {
                if self.table.get(at).is_some_and(|group| group.state.is_empty()) {
                    self.table.forget(at);
                }
            }
        }
        ready.sort_unstable();
        ready
    }

    fn finish_full(
        &mut self,
        watermark: i64,
        batch: &Batch,
        ready: &[(u32, Vec<u8>, Vec<u8>)],
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
        refused: &mut Vec<RefusedGroups>,
    ) -> Result<(), Box<Fault>> {
        let mut full = Outcome::default();
        for part in ready.chunks(self.rules.groups.max(1)) {
            let rows: Vec<u32> = part.iter().map(|(row, ..)| *row).collect();
            let keys: Column = part.iter().map(|(_, key, _)| key).collect();
            let groups =
                Groups { states: part.iter().map(|(.., state)| state).collect(), keys: keys.clone(), windows: None };
            let finished = instance.finish(watermark, &groups, Occasion::Closed)?;
            let filling = batch.gather(&rows).retain_named(|name| name == ID);
            let origins = Batch::of_values(Column::blank(part.len())).with_keys(keys);
            let origins = origins.and_then(|b| match (filling.timestamps(), filling.named(ID)) {
                (times, Some(ids)) => {
                    b.with_timestamps(times.unwrap_or_default().to_vec())?.with_named(ID.into(), ids.clone())
                }
                (Some(times), None) => b.with_timestamps(times.to_vec()),
                (None, None) => Ok(b),
            });
            let origins = origins.unwrap_or_default();
            let rank = |at: u32| Rank::Row(rows.get(at as usize).copied().unwrap_or(at));
            assemble(&self.rules.stage, &origins, finished.produced, Some(&rank), &mut full);
            if !finished.refused.at.is_empty() {
                refused.push(RefusedGroups { groups: origins, refused: finished.refused });
            }
        }
        if !full.outputs.is_empty() {
            *outcome = Outcome::merge(vec![std::mem::take(outcome), full]);
        }
        Ok(())
    }

    /// The watermark has come to `time`: late panes first, then windows that close, in order of (end, key).
    ///
    /// # Errors
    /// The plugin's fault.
    pub fn advance(
        &mut self,
        time: i64,
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
    ) -> Result<Vec<RefusedGroups>, Box<Fault>> {
        let mut refused = Vec::new();
        self.expire(time, SWEEP.max(self.table.len() / SWEEPS));
        let late = std::mem::take(&mut self.late);
        self.finish(time, late, Occasion::Late, instance, outcome, &mut refused)?;
        let mut due = Vec::new();
        while let Some(entry) = self.closing.first_entry().filter(|entry| *entry.key() <= time) {
            due.extend(entry.remove());
        }
        if time == END {
            let running = if self.rules.windowing == Windowing::None { Occasion::Closed } else { Occasion::Early };
            if !matches!(self.rules.windowing, Windowing::Tumbling(_)) {
                self.finish(time, self.table.all(), running, instance, outcome, &mut refused)?;
                self.table.all().into_iter().for_each(|at| self.table.forget(at));
            }
        }
        self.finish(time, due.clone(), Occasion::Closed, instance, outcome, &mut refused)?;
        if let Windowing::Tumbling(tumbling) = self.rules.windowing {
            for at in due {
                let is_over = self.table.get(at).is_some_and(|group| tumbling.is_late(group.window, time));
                if is_over {
                    self.table.forget(at);
                }
            }
        }
        while let Some(entry) = self.forgetting.first_entry().filter(|entry| *entry.key() <= time) {
            for at in entry.remove() {
                self.table.forget(at);
            }
        }
        Ok(refused)
    }

    /// Puts everything out that is open, marked incomplete, and forgets it: a drain without durable state.
    ///
    /// # Errors
    /// The plugin's fault.
    pub fn close(
        &mut self,
        watermark: i64,
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
    ) -> Result<Vec<RefusedGroups>, Box<Fault>> {
        let mut refused = Vec::new();
        let late = std::mem::take(&mut self.late);
        self.finish(watermark, late, Occasion::Late, instance, outcome, &mut refused)?;
        let open =
            self.table.all().into_iter().filter(|at| self.table.get(*at).is_some_and(|group| group.facts.panes == 0));
        self.finish(watermark, open.collect(), Occasion::Early, instance, outcome, &mut refused)?;
        self.closing.clear();
        self.forgetting.clear();
        self.table.all().into_iter().for_each(|at| self.table.forget(at));
        Ok(refused)
    }

    fn finish(
        &mut self,
        watermark: i64,
        mut at: Vec<u32>,
        why: Occasion,
        instance: &mut dyn Instance,
        outcome: &mut Outcome,
        refused: &mut Vec<RefusedGroups>,
    ) -> Result<(), Box<Fault>> {
        at.retain(|at| self.table.get(*at).is_some_and(|group| !group.state.is_empty()));
        at.sort_unstable_by(|a, b| self.order(*a).cmp(&self.order(*b)));
        for part in at.chunks(self.rules.groups.max(1)) {
            let groups = self.groups(part.iter().map(|at| (*at, false)));
            let origins = self.origins(part, &groups);
            let mut finished = instance.finish(watermark, &groups, why)?;
            if why == Occasion::Early {
                finished.produced.headers = Some(incomplete(finished.produced.headers.take(), finished.produced.len));
            }
            let rank = |n: u32| {
                let group = part.get(n as usize).and_then(|at| self.table.get(*at));
                group.map_or(Rank::Row(n), |group| Rank::Group { end: group.window.end, key: group.key.into() })
            };
            assemble(&self.rules.stage, &origins, finished.produced, self.ranked(&rank), outcome);
            for at in part {
                if let Some(entry) = self.table.change(*at) {
                    entry.facts.panes += 1;
                    entry.facts.is_late = false;
                }
            }
            if !finished.refused.at.is_empty() {
                refused.push(RefusedGroups { groups: origins, refused: finished.refused });
            }
        }
        Ok(())
    }

    fn order(&self, at: u32) -> (i64, &[u8]) {
        self.table.get(at).map_or((END, &[]), |group| (group.window.end, group.key))
    }

    /// The groups as a plugin gets them: their positions, and whether to leave the state out.
    fn groups(&self, of: impl Iterator<Item = (u32, bool)> + Clone) -> Groups {
        let (mut len, mut keys, mut states) = (0, 0, 0);
        for group in of.clone().filter_map(|(at, _)| self.table.get(at)) {
            (len, keys, states) = (len + 1, keys + group.key.len(), states + group.state.len());
        }
        let (mut keys, mut states) =
            (ColumnBuilder::with_capacity(len, keys), ColumnBuilder::with_capacity(len, states));
        let mut windows = Vec::with_capacity(len);
        for (at, is_blank) in of {
            let group = self.table.get(at);
            states.push(group.filter(|_| !is_blank).map_or(&[], |group| group.state));
            keys.push(group.map_or(&[], |group| group.key));
            windows.extend(group.map(|group| group.window));
        }
        let windows = matches!(self.rules.windowing, Windowing::Tumbling(_)).then_some(windows);
        Groups { states: states.finish(), keys: keys.finish(), windows }
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

#[cfg(test)]
mod tests;
