//! Which group each record of a batch belongs to, before the plugin is asked anything.
//!
//! Owns the way from a key and a time to a group, and the way back. Invariant: [`Aggregate::undo`] leaves every group as
//! it was before [`Aggregate::assign`].

use super::{ALL, Aggregate, Windowing};
use crate::batch::{Batch, Column};

/// A group that a batch touches.
#[derive(Debug)]
pub(super) struct Touch {
    pub(super) at: u32,
    /// Count and time before this batch, to be put back after a fault.
    pub(super) before: (u64, i64),
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
}

impl Aggregate {
    /// Finds the group of every record, and makes those that are new.
    pub(super) fn assign(&mut self, watermark: i64, batch: &Batch) -> Assigned {
        let mut found = Assigned {
            group_of: Vec::with_capacity(batch.len()),
            rows: Vec::with_capacity(batch.len()),
            touched: Vec::with_capacity(batch.len().min(self.table.len() + 1)),
            late: Vec::new(),
        };
        let blank = Column::blank(batch.len());
        let keys = batch.keys().unwrap_or(&blank);
        let times = batch.timestamps().unwrap_or_default();
        for (row, key) in (0u32..).zip(keys.iter()) {
            let time = times.get(row as usize).copied().unwrap_or_default();
            let window = match self.rules.windowing {
                Windowing::Tumbling(tumbling) => {
                    let window = tumbling.window(time);
                    if tumbling.is_late(window, watermark) {
                        found.late.push(row);
                        continue;
                    }
                    window
                }
                Windowing::None | Windowing::Count(_) => ALL,
            };
            let (at, is_made) = self.table.enter(key, window);
            if is_made {
                self.set_timers(at, window, watermark);
            }
            let calls = self.calls;
            let Some(group) = self.table.mark(at) else { continue };
            let before = (group.count, group.time);
            group.time = group.time.max(time);
            let is_first = group.touched.0 != calls;
            let (mut is_renewed, mut is_full) = (false, false);
            if let Windowing::Count(n) = self.rules.windowing {
                is_renewed = group.count >= n;
                group.count = if is_renewed { 1 } else { group.count + 1 };
                is_full = group.count >= n;
            }
            if is_first || is_renewed {
                group.touched = (calls, found.touched.len() as u32);
                found.touched.push(Touch { at, before, is_made: is_first && is_made, is_renewed, full: None });
            }
            let local = group.touched.1;
            if is_full && let Some(touch) = found.touched.get_mut(local as usize) {
                touch.full = Some(row);
            }
            found.group_of.push(local);
            found.rows.push(row);
        }
        found
    }

    /// Takes back what finding the groups has changed.
    pub(super) fn undo(&mut self, touched: &[Touch]) {
        for touch in touched.iter().rev() {
            if touch.is_made {
                self.table.forget(touch.at);
            } else if let Some(group) = self.table.mark(touch.at) {
                (group.count, group.time) = touch.before;
            }
        }
    }
}
