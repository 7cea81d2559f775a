//! Groups that need not be in memory: which of them leave it, and when they come back.
//!
//! Owns the order in which they leave, who waits for them, and what is done about those whose time has come. It must not
//! know where they lie. Invariant: a group that is not in memory is, byte for byte, what the last commit holds of it; so
//! only one leaves that has not changed since, and whoever needs it finds it as it was.

use std::collections::BTreeMap;

use super::{Aggregate, Rules, Windowing, reopened::known_at};
use crate::{
    batch::{Batch, Column},
    bug,
    epoch::Epoch,
    stage::{
        cellar::Share,
        failure::Failure,
        table::{Cold, Frozen, Saved, footprint},
    },
    time::{END, Window},
};

/// What is made free at once, as a part of what may be held: little enough that few groups leave before they have to,
/// much enough that looking for the oldest costs each of them next to nothing.
const PART: usize = 8;

/// What may come back at once, as a part of what may be held, where groups end that are not in memory: each time costs a
/// look at all that the stage keeps.
const ROUND: usize = 4;

/// Into how many parts the time is divided after which groups expire: one that is not in memory is given up as much late.
const TTL_PARTS: i64 = 8;

/// How far groups have come back whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upto {
    /// All of them.
    All,
    /// Those up to this end of a window and key.
    To(i64, Vec<u8>),
}

impl Upto {
    /// Whether the group of this end and key is among them.
    pub(super) fn reaches(&self, order: (i64, &[u8])) -> bool {
        match self {
            Self::All => true,
            Self::To(end, key) => order <= (*end, key.as_slice()),
        }
    }
}

/// What a worker knows of its groups that are not in memory.
#[derive(Debug)]
pub(super) struct Memory {
    share: Share,
    cold: Cold,
    /// Windows that end up to here have been finished.
    passed: i64,
    /// The epoch whose changes are handed over next, or were last.
    handing: Epoch,
    /// What was handed over last has been committed, as far as is known.
    is_settled: bool,
    /// Nothing more can leave before the next commit.
    is_stuck: bool,
    /// Groups that have come back until that is told.
    reads: u64,
}

/// What becomes of a group that is not in memory when time goes on.
enum Fate {
    Stays,
    /// It has to be finished.
    Ends,
    /// It is forgotten.
    Goes,
}

impl Rules {
    /// When something has to be done about a group, where windows have been finished up to `passed`.
    fn due(&self, passed: i64, window: Window, seen: i64) -> Option<i64> {
        match self.windowing {
            Windowing::Tumbling(tumbling) if tumbling.is_closed(window, passed) => Some(tumbling.forgotten_at(window)),
            Windowing::Tumbling(_) => Some(window.end),
            Windowing::None | Windowing::Count(_) => {
                let ttl = self.ttl?;
                let grain = (ttl / TTL_PARTS).max(1);
                Some(seen.saturating_sub(seen.rem_euclid(grain)).saturating_add(grain).saturating_add(ttl))
            }
        }
    }

    /// What becomes of a group that was `seen` last then, at `time`.
    fn fate(&self, (passed, time): (i64, i64), horizon: i64, window: Window, seen: i64) -> Fate {
        match self.windowing {
            Windowing::Tumbling(tumbling) => match tumbling.is_closed(window, time) {
                false => Fate::Stays,
                true if !tumbling.is_closed(window, passed) => Fate::Ends,
                true if tumbling.is_late(window, time) => Fate::Goes,
                true => Fate::Stays,
            },
            _ if seen < horizon => Fate::Goes,
            _ if time == END => Fate::Ends,
            _ => Fate::Stays,
        }
    }
}

impl Aggregate {
    /// Takes the groups in that a commit holds, at the watermark of that commit: as many as may be in memory, and of the
    /// others only that they are there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn recover(&mut self, share: Share, watermark: i64) -> Result<(), Failure> {
        self.table.watch();
        let (aim, cellar) = (share.most - share.most / PART, share.cellar.clone());
        let (mut cold, mut held) = (Cold::default(), self.bytes());
        for slot in share.slots.clone() {
            cellar.scan(slot, &mut |key, window, state, facts| {
                let bytes = footprint(key.len(), state.len());
                if facts.is_late || held + bytes <= aim {
                    held += bytes;
                    self.take_back(key, window, &Saved { state: state.to_vec(), facts }, watermark);
                } else {
                    cold.put(Frozen { key, window, bytes, due: self.rules.due(watermark, window, facts.seen) });
                }
            })?;
        }
        self.expire(watermark, 0);
        let (handing, is_settled, is_stuck, reads) = (Epoch(0), true, false, 0);
        self.memory = Some(Memory { share, cold, passed: watermark, handing, is_settled, is_stuck, reads });
        Ok(())
    }

    /// Puts a group back as a commit holds it, where windows have been finished up to `passed`.
    pub(super) fn take_back(&mut self, key: &[u8], window: Window, saved: &Saved, passed: i64) {
        let at = self.table.restore(key, window, saved);
        self.set_timers(at, window, passed);
        if saved.facts.is_late {
            self.late.push(at);
        }
    }

    /// Has the groups in memory that `batch` touches.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn fetch(&mut self, watermark: i64, batch: &Batch) -> Result<(), Failure> {
        let Some(memory) = self.memory.as_ref().filter(|memory| !memory.cold.is_empty()) else { return Ok(()) };
        let blank = Column::blank(batch.len());
        let (keys, times) = (batch.keys().unwrap_or(&blank), batch.timestamps().unwrap_or_default());
        let windowing = self.rules.windowing;
        let touched = keys.iter().enumerate().filter_map(|(row, key)| {
            let watermark = known_at(batch, row as u32, watermark);
            let window = windowing.window(times.get(row).copied().unwrap_or_default(), watermark)?;
            memory.cold.has(key, window).then_some((key, window))
        });
        let mut wanted: Vec<(&[u8], Window)> = touched.collect();
        if wanted.is_empty() || bug::is_seeded("group-that-is-not-fetched") {
            return Ok(());
        }
        wanted.sort_unstable();
        wanted.dedup();
        for (nth, saved) in memory.share.cellar.read(&wanted)? {
            if let Some((key, window)) = wanted.get(nth) {
                self.come_back(key, *window, &saved);
            }
        }
        Ok(())
    }

    /// Has the groups in memory whose time comes with `time`, in the order of (end, key), as far as there is room, and
    /// forgets those that nobody needs any more. To be asked again until it is all of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn recall(&mut self, time: i64) -> Result<Upto, Failure> {
        let Some(memory) = self.memory.as_ref().filter(|memory| !memory.cold.is_empty()) else { return Ok(Upto::All) };
        let is_end = time == END && !matches!(self.rules.windowing, Windowing::Tumbling(_));
        let is_due = is_end || memory.cold.first_due().is_some_and(|due| due <= time);
        if !is_due || bug::is_seeded("window-that-ends-without-its-groups") {
            return Ok(Upto::All);
        }
        let (most, passed) = (memory.share.most, memory.passed);
        let room = most.saturating_sub(self.bytes()).max(most / ROUND);
        let expired = self.rules.ttl.filter(|_| time != END).map(|ttl| time.saturating_sub(ttl));
        let horizon = expired.map_or(self.table.horizon(), |expired| expired.max(self.table.horizon()));
        let (mut ending, mut held, mut is_all) = (BTreeMap::new(), 0, true);
        self.scan(|aggregate, key, window, saved| {
            let bytes = footprint(key.len(), saved.state.len());
            match aggregate.rules.fate((passed, time), horizon, window, saved.facts.seen) {
                Fate::Stays => {}
                Fate::Goes => {
                    aggregate.thaw(key, window, &saved);
                    aggregate.table.forget_kept(key, window);
                }
                Fate::Ends => {
                    held += bytes;
                    ending.insert((window.end, key.to_vec()), (window, saved));
                    while held > room
                        && ending.len() > 1
                        && let Some(((_, key), (_, saved))) = ending.pop_last()
                    {
                        held -= footprint(key.len(), saved.state.len());
                        is_all = false;
                    }
                }
            }
        })?;
        let upto = ending.keys().next_back().filter(|_| !is_all).map(|(end, key)| Upto::To(*end, key.clone()));
        for ((_, key), (window, saved)) in ending {
            self.come_back(&key, window, &saved);
        }
        Ok(upto.unwrap_or(Upto::All))
    }

    /// Has all groups in memory.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn recall_all(&mut self) -> Result<(), Failure> {
        self.scan(|aggregate, key, window, saved| aggregate.come_back(key, window, &saved))
    }

    /// Shows every group that is not in memory.
    fn scan(&mut self, mut visit: impl FnMut(&mut Self, &[u8], Window, Saved)) -> Result<(), Failure> {
        let Some(Share { cellar, slots, .. }) = self.memory.as_ref().map(|memory| memory.share.clone()) else {
            return Ok(());
        };
        for slot in slots {
            cellar.scan(slot, &mut |key, window, state, facts| {
                // What is in memory lies there too, as it was, and what has just been forgotten may still do so.
                if self.memory.as_ref().is_some_and(|memory| memory.cold.has(key, window)) {
                    visit(self, key, window, Saved { state: state.to_vec(), facts });
                }
            })?;
        }
        Ok(())
    }

    fn come_back(&mut self, key: &[u8], window: Window, saved: &Saved) {
        if let Some(passed) = self.thaw(key, window, saved) {
            self.take_back(key, window, saved, passed);
            self.memory.iter_mut().for_each(|memory| memory.reads += 1);
        }
    }

    /// Knows a group no longer as one that is not in memory; says up to when windows have been finished.
    fn thaw(&mut self, key: &[u8], window: Window, saved: &Saved) -> Option<i64> {
        let memory = self.memory.as_mut()?;
        let bytes = footprint(key.len(), saved.state.len());
        memory.cold.take(Frozen { key, window, bytes, due: self.rules.due(memory.passed, window, saved.facts.seen) });
        Some(memory.passed)
    }

    /// Windows that end up to `time` have been finished.
    pub(super) fn passed(&mut self, time: i64) {
        self.memory.iter_mut().for_each(|memory| memory.passed = time);
    }

    /// What changes are handed over next is of this epoch.
    pub fn barrier(&mut self, epoch: Epoch) {
        self.confirm();
        self.memory.iter_mut().for_each(|memory| (memory.handing, memory.is_settled) = (epoch, false));
    }

    /// Notes where what was handed over has been committed.
    fn confirm(&mut self) {
        let Some(memory) = self.memory.as_mut().filter(|memory| !memory.is_settled) else { return };
        let committed = memory.share.cellar.committed();
        if committed >= memory.handing || bug::is_seeded("group-gone-before-its-commit") {
            (memory.is_settled, memory.is_stuck) = (true, false);
            self.table.confirm();
        }
    }

    /// Lets groups leave memory, those first that were touched longest ago, where there are more than may be in it.
    pub fn chill(&mut self) {
        self.confirm();
        let Some(memory) = &mut self.memory else { return };
        let (most, used) = (memory.share.most, self.table.bytes().used);
        if memory.is_stuck || used <= most {
            return;
        }
        let (mut clean, mut gone) = (self.table.clean(), Vec::new());
        while let used = self.table.bytes().used
            && let over @ 1.. = used.saturating_sub(most - most / PART)
            && !clean.is_empty()
        {
            // As many as would do if all were alike; where they are not, there is another round.
            let count = (self.table.len() * over).div_ceil(used).clamp(1, clean.len());
            if count < clean.len() {
                clean.select_nth_unstable_by_key(count, |at| self.table.last_seen(*at).1);
            }
            for at in clean.drain(..count) {
                let Some(group) = self.table.get(at) else { continue };
                let bytes = footprint(group.key.len(), group.state.len());
                let due = self.rules.due(memory.passed, group.window, group.facts.seen);
                memory.cold.put(Frozen { key: group.key, window: group.window, bytes, due });
                self.table.leave(at);
                gone.push(at);
            }
        }
        memory.is_stuck = clean.is_empty();
        self.stop_timers(gone);
    }

    /// Groups that are not in memory, and bytes that they would take there.
    pub fn cold(&self) -> (usize, usize) {
        self.memory.as_ref().map_or((0, 0), |memory| (memory.cold.len(), memory.cold.bytes()))
    }

    /// How many groups have come back since this was last asked.
    pub fn take_reads(&mut self) -> u64 {
        self.memory.as_mut().map(|memory| std::mem::take(&mut memory.reads)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
