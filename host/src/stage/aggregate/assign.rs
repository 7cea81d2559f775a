//! Which group each record of a batch belongs to, before the plugin is asked anything.
//!
//! Owns the way from a key and a time to a group, and the way back. Invariant: [`Aggregate::undo`] leaves every group as
//! it was before [`Aggregate::assign`].

use super::{
    Aggregate, Windowing,
    reopened::{first_pane, known_at},
};
use crate::{
    batch::{Batch, Column},
    config::WhenFull,
    stage::table::Facts,
};

/// A group that a batch touches.
#[derive(Debug)]
pub(super) struct Touch {
    pub(super) at: u32,
    /// What was known of it before this batch, to be put back after a fault.
    pub(super) before: Facts,
    /// The call that had touched it last.
    pub(super) call: u64,
    /// It was made for this batch.
    pub(super) is_made: bool,
    /// A count window that begins anew within this batch, whatever the table holds.
    pub(super) is_renewed: bool,
    /// The row that filled the count window.
    pub(super) full: Option<u32>,
}

/// Which group each record of a batch belongs to.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    pub(super) group_of: Vec<u32>,
    pub(super) touched: Vec<Touch>,
    pub(super) rows: Vec<u32>,
    pub(super) late: Vec<u32>,
    /// Rows that would begin a group for which there is no room.
    pub(super) turned_away: Vec<u32>,
}

impl Aggregate {
    /// Finds the group of every record, and makes those that are new.
    pub(super) fn assign(&mut self, watermark: i64, batch: &Batch) -> Assigned {
        let mut found = Assigned {
            group_of: Vec::with_capacity(batch.len()),
            rows: Vec::with_capacity(batch.len()),
            touched: Vec::with_capacity(batch.len().min(self.table.len() + 1)),
            late: Vec::new(),
            turned_away: Vec::new(),
        };
        let blank = Column::blank(batch.len());
        let keys = batch.keys().unwrap_or(&blank);
        let times = batch.timestamps().unwrap_or_default();
        let (windowing, Assigned { rows, late, turned_away, .. }) = (self.rules.windowing, &mut found);
        let punctual = (0u32..).zip(keys.iter()).filter_map(|(row, key)| {
            let time = times.get(row as usize).copied().unwrap_or_default();
            let Some(window) = windowing.window(time, known_at(batch, row, watermark)) else {
                late.push(row);
                return None;
            };
            Some((row, key, window))
        });
        let mut entered = Vec::with_capacity(batch.len());
        if self.rules.room.when_full == WhenFull::Refuse && self.is_full() {
            let (known, unknown): (Vec<_>, Vec<_>) =
                punctual.partition(|(_, key, window)| self.table.has(key, *window));
            turned_away.extend(unknown.iter().map(|(row, ..)| *row));
            rows.extend(known.iter().map(|(row, ..)| *row));
            self.table.enter_many(known.iter().map(|(_, key, window)| (*key, *window)), &mut entered);
        } else {
            let entering = punctual.map(|(row, key, window)| {
                rows.push(row);
                (key, window)
            });
            self.table.enter_many(entering, &mut entered);
        }
        for ((at, is_made), row) in entered.into_iter().zip(&found.rows) {
            let Some(entry) = self.table.mark(at) else { continue };
            let before = entry.facts;
            let time = times.get(*row as usize).copied().unwrap_or_default();
            entry.facts.time = entry.facts.time.max(time);
            entry.facts.seen = entry.facts.seen.max(time).max(watermark);
            if is_made
                && let Windowing::Tumbling(tumbling) = windowing
                && tumbling.is_late(entry.window(), watermark)
                && let Some(pane) = first_pane(batch, *row)
            {
                entry.facts.panes = pane;
            }
            let (is_first, call) = (entry.call != self.calls, entry.call);
            let (mut is_renewed, mut is_full) = (false, false);
            if let Windowing::Count(n) = windowing {
                is_renewed = entry.facts.count >= n;
                entry.facts.count = if is_renewed { 1 } else { entry.facts.count + 1 };
                is_full = entry.facts.count >= n;
            }
            if is_first || is_renewed {
                (entry.call, entry.local) = (self.calls, found.touched.len() as u32);
                found.touched.push(Touch { at, before, call, is_made: is_first && is_made, is_renewed, full: None });
            }
            if is_full && let Some(touch) = found.touched.get_mut(entry.local as usize) {
                touch.full = Some(*row);
            }
            found.group_of.push(entry.local);
        }
        found
    }

    /// Takes back what finding the groups has changed.
    pub(super) fn undo(&mut self, touched: &[Touch]) {
        for touch in touched.iter().rev() {
            if touch.is_made {
                self.table.forget(touch.at);
            } else if let Some(entry) = self.table.mark(touch.at) {
                (entry.facts, entry.call) = (touch.before, touch.call);
            }
        }
    }
}
