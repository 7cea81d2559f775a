//! Aggregation: which group a record belongs to, when groups end, and in which order they come out.
//!
//! Owns windows as state: timers, lateness, panes. The plugin only folds. Invariant: what comes out depends on the
//! records and the watermarks between them, never on how they were cut into batches.

mod assign;
mod cold;
mod ending;
mod migrate;
mod putback;
mod reopened;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use assign::{Assigned, Touch};
use cold::Memory;
pub use cold::Upto;
pub use ending::{Full, INCOMPLETE, RefusedGroups};
pub use migrate::Migrated;
pub use putback::{Putback, misplaced};
pub use room::Room;
use room::STATE_FULL;

use super::{
    assemble::assemble,
    live::Live,
    outcome::{Outcome, Rank},
    table::{Changes, Saved, Table},
};
use crate::{
    batch::{Batch, Column, ColumnBuilder},
    config::WhenFull,
    letter::Again,
    plugin::{Fault, Groups, Instance, Occasion, Refusals},
    time::{BEGIN, END, Tumbling, Window},
};

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

impl Windowing {
    /// The window of a record at `time`; none where it comes too late.
    fn window(self, time: i64, watermark: i64) -> Option<Window> {
        match self {
            Self::None | Self::Count(_) => Some(ALL),
            Self::Tumbling(tumbling) => {
                let window = tumbling.window(time);
                (!tumbling.is_late(window, watermark)).then_some(window)
            }
        }
    }
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
    /// How much the groups of a worker may take.
    pub room: Room,
    /// Most groups a call may carry.
    pub groups: usize,
    /// Whether somebody below needs ids.
    pub has_ids: bool,
    /// Whether outputs need a rank.
    pub peers: Peers,
    /// Version of the states that the plugin writes.
    pub state_version: u32,
}

/// What became of a batch, beside its outputs.
#[derive(Debug, Default)]
pub struct Folded {
    /// Positions of the records that came too late.
    pub late: Vec<u32>,
    /// Records that the plugin refused, or that would begin a group for which there is no room, by position in the batch.
    pub refused: Refusals,
    /// Count windows that are full now, in the order in which they filled.
    pub full: Vec<Full>,
}

/// How far groups were brought to their end.
#[derive(Debug)]
pub struct Ended {
    /// Those that go no further.
    pub refused: Vec<RefusedGroups>,
    /// Whether the breaker has left some over.
    pub is_left: bool,
}

impl Ended {
    fn left(refused: Vec<RefusedGroups>) -> Self {
        Self { refused, is_left: true }
    }
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
    /// Of a stage whose groups need not all be in memory.
    memory: Option<Memory>,
    /// Groups that were given up for want of room, until that is told.
    evicted: u64,
    /// Replayed letters may have opened windows again that event time has passed.
    is_reopened: bool,
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
            memory: None,
            evicted: 0,
            is_reopened: false,
        };
        for ((key, window), saved) in groups {
            aggregate.take_back(key, *window, saved, watermark);
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

    /// Number of groups in memory.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.cold().0 == 0
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
        self.is_reopened |= Again::is_in(batch);
        let Assigned { group_of, touched, rows, late, turned_away } = self.assign(watermark, batch);
        let taken = if rows.len() == batch.len() { batch.clone() } else { batch.gather(&rows) };
        let mut folded = Folded { late, ..Folded::default() };
        if !taken.is_empty() {
            // A count window that begins in this very batch has no state yet, whatever its group has.
            let groups = self.groups(touched.iter().map(|touch| (touch.at, touch.is_renewed)));
            let reply = match instance.accumulate(watermark, &groups, &group_of, &taken) {
                Ok(reply) => reply,
                Err(mut fault) => {
                    self.undo(&touched);
                    // The plugin has seen only the punctual ones.
                    fault.at = fault.at.and_then(|at| rows.get(at as usize).copied());
                    return Err(fault);
                }
            };
            if let Some(produced) = reply.produced {
                let rank = |origin: u32| Rank::Row(rows.get(origin as usize).copied().unwrap_or(origin));
                let rank: &dyn Fn(u32) -> Rank = &rank;
                assemble(&self.rules.stage, &taken, produced, self.is_ranked().then_some(rank), outcome);
            }
            folded.refused = Refusals {
                at: reply.refused.at.iter().filter_map(|&at| rows.get(at as usize).copied()).collect(),
                reasons: reply.refused.reasons,
            };
            folded.full = self.keep(watermark, &touched, &reply.states);
        }
        outcome.tally.absorbed += (taken.len() - folded.refused.at.len()) as u64;
        if !turned_away.is_empty() {
            folded.refused = with_turned_away(&folded.refused, &turned_away);
        }
        if self.rules.room.when_full == WhenFull::Evict && self.is_full() {
            self.evict();
        }
        Ok(folded)
    }

    /// Whether outputs need a rank.
    fn is_ranked(&self) -> bool {
        self.rules.peers == Peers::Some || self.is_counting()
    }

    fn is_counting(&self) -> bool {
        matches!(self.rules.windowing, Windowing::Count(_))
    }

    /// Stores what the plugin made of the states; returns the count windows that are full, in the order in which
    /// they filled.
    fn keep(&mut self, watermark: i64, touched: &[Touch], states: &Column) -> Vec<Full> {
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
                ready.push(Full { row, key: group.key.to_vec(), state: state.to_vec() });
            }
        }
        for at in emptied {
            let is_over = self.table.get(at).is_some_and(|group| match self.rules.windowing {
                Windowing::Tumbling(_) => false,
                Windowing::None => group.state.is_empty(),
                // One that has had nothing but refused records so far still counts them.
                Windowing::Count(n) => group.state.is_empty() && group.facts.count >= n,
            });
            if is_over {
                self.table.forget(at);
            }
        }
        ready.sort_unstable();
        ready
    }

    /// The watermark has come to `time`: late panes first, then windows that close, in order of (end, key), as far as
    /// `upto` says. What the breaker leaves over is done when this is called again.
    ///
    /// # Errors
    /// A fault that no group can be blamed for.
    pub fn advance(
        &mut self,
        time: i64,
        upto: &Upto,
        live: &mut Live,
        outcome: &mut Outcome,
    ) -> Result<Ended, Box<Fault>> {
        let mut refused = Vec::new();
        self.expire(time, SWEEP.max(self.table.len() / SWEEPS));
        let late = std::mem::take(&mut self.late);
        self.late = self.finish(time, late, Occasion::Late, live, outcome, &mut refused)?;
        if !self.late.is_empty() {
            return Ok(Ended::left(refused));
        }
        let due = take_due(&mut self.closing, &self.table, time, upto);
        if time == END && !matches!(self.rules.windowing, Windowing::Tumbling(_)) {
            let running = if self.rules.windowing == Windowing::None { Occasion::Closed } else { Occasion::Early };
            let mut all = self.table.all();
            all.retain(|at| upto.reaches(self.order(*at)));
            let left: BTreeSet<u32> =
                self.finish(time, all.clone(), running, live, outcome, &mut refused)?.into_iter().collect();
            all.into_iter().filter(|at| !left.contains(at)).for_each(|at| self.table.forget(at));
            if !left.is_empty() {
                return Ok(Ended::left(refused));
            }
        }
        let left: BTreeSet<u32> =
            self.finish(time, due.clone(), Occasion::Closed, live, outcome, &mut refused)?.into_iter().collect();
        if let Windowing::Tumbling(tumbling) = self.rules.windowing {
            for at in due {
                let Some(group) = self.table.get(at) else { continue };
                let window = group.window;
                if left.contains(&at) {
                    self.closing.entry(window.end).or_default().push(at);
                } else if tumbling.is_late(window, time) {
                    self.table.forget(at);
                }
            }
        }
        if !left.is_empty() {
            return Ok(Ended::left(refused));
        }
        for at in take_due(&mut self.forgetting, &self.table, time, upto) {
            self.table.forget(at);
        }
        if *upto == Upto::All {
            self.passed(time);
        }
        Ok(Ended { refused, is_left: false })
    }

    /// Puts everything out that is open, marked incomplete, and forgets it: a drain without durable state. What the
    /// breaker leaves over is done when this is called again.
    ///
    /// # Errors
    /// A fault that no group can be blamed for.
    pub fn close(&mut self, watermark: i64, live: &mut Live, outcome: &mut Outcome) -> Result<Ended, Box<Fault>> {
        let mut refused = Vec::new();
        let late = std::mem::take(&mut self.late);
        self.late = self.finish(watermark, late, Occasion::Late, live, outcome, &mut refused)?;
        if !self.late.is_empty() {
            return Ok(Ended::left(refused));
        }
        let open =
            self.table.all().into_iter().filter(|at| self.table.get(*at).is_some_and(|group| group.facts.panes == 0));
        let left = self.finish(watermark, open.collect(), Occasion::Early, live, outcome, &mut refused)?;
        if !left.is_empty() {
            return Ok(Ended::left(refused));
        }
        self.closing.clear();
        self.forgetting.clear();
        self.table.all().into_iter().for_each(|at| self.table.forget(at));
        Ok(Ended { refused, is_left: false })
    }

    fn order(&self, at: u32) -> (i64, &[u8]) {
        order(&self.table, at)
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
}

fn order(table: &Table, at: u32) -> (i64, &[u8]) {
    table.get(at).map_or((END, &[]), |group| (group.window.end, group.key))
}

/// Takes the groups out of `timers` whose time has come, as far as `upto` says.
fn take_due(timers: &mut BTreeMap<i64, Vec<u32>>, table: &Table, time: i64, upto: &Upto) -> Vec<u32> {
    let (mut due, mut later) = (Vec::new(), Vec::new());
    while let Some(entry) = timers.first_entry().filter(|entry| *entry.key() <= time) {
        let (when, mut groups) = entry.remove_entry();
        if *upto != Upto::All {
            // Positions of groups that have been forgotten are given to others, of which more may come.
            groups.retain(|at| table.get(*at).is_some());
            let (now, then) = groups.into_iter().partition(|at| upto.reaches(order(table, *at)));
            groups = now;
            later.push((when, then));
        }
        due.append(&mut groups);
    }
    timers.extend(later.into_iter().filter(|(_, groups): &(i64, Vec<u32>)| !groups.is_empty()));
    due
}

/// What the plugin refused and what there is no room for, in the order of the batch.
fn with_turned_away(refused: &Refusals, turned_away: &[u32]) -> Refusals {
    let by_plugin = refused.at.iter().copied().zip(refused.reasons.iter());
    let mut all: Vec<(u32, &[u8])> = turned_away.iter().map(|at| (*at, STATE_FULL)).chain(by_plugin).collect();
    all.sort_unstable_by_key(|(at, _)| *at);
    Refusals { at: all.iter().map(|(at, _)| *at).collect(), reasons: all.iter().map(|(_, reason)| *reason).collect() }
}

#[cfg(test)]
mod tests;
