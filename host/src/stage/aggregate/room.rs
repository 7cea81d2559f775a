//! How much the groups of a worker may take, and which of them go when it is too much.
//!
//! Owns when a worker counts as full and whom it gives up; it must not know what else waits for that. Invariant: a group
//! that goes leaves no timer behind, and those that stay were seen no earlier than it was.

use super::Aggregate;
use crate::config::WhenFull;

/// What is made free at once, as a part of the whole: little enough that few groups go before they have to, much enough
/// that looking for the oldest costs each new group next to nothing.
const PART: usize = 8;

/// The reason of a record that would begin a group where there is no room for one.
pub(super) const STATE_FULL: &[u8] = b"state_full: the groups of the stage take all of its `state.max`";

/// How much the groups of one worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most bytes.
    pub most: usize,
    /// What becomes of more.
    pub when_full: WhenFull,
}

impl Aggregate {
    /// Bytes that the groups take in memory.
    pub fn bytes(&self) -> usize {
        self.table.bytes().used
    }

    /// Whether the groups take all that they may, wherever they are.
    pub fn is_full(&self) -> bool {
        self.bytes() + self.cold().1 >= self.rules.room.most
    }

    /// What becomes of more groups than there is room for.
    pub fn when_full(&self) -> WhenFull {
        self.rules.room.when_full
    }

    /// How many groups have been given up for want of room since this was last asked.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Gives up the groups that were seen longest ago, until a part of the room is free. Of groups seen at the same
    /// event time that one goes whose last record is further back, and after a restart, which forgets that, the one with
    /// the lesser key.
    pub(super) fn evict(&mut self) {
        let most = self.rules.room.most;
        let aim = most - most / PART;
        let mut gone = Vec::new();
        while let over @ 1.. = self.bytes().saturating_sub(aim)
            && !self.table.is_empty()
        {
            let mut all = self.table.all();
            // As many as would do if all were alike; where they are not, there is another round.
            let count = (all.len() * over).div_ceil(self.bytes().max(1)).clamp(1, all.len().max(1));
            if count < all.len() {
                all.select_nth_unstable_by(count, |a, b| self.age(*a).cmp(&self.age(*b)));
            }
            all.truncate(count);
            all.iter().for_each(|at| self.table.forget(*at));
            if all.is_empty() {
                // What is left has expired, and goes with the sweep.
                break;
            }
            gone.append(&mut all);
        }
        self.evicted += gone.len() as u64;
        self.stop_timers(gone);
    }

    /// Stops the timers of groups that have gone from these positions.
    pub(super) fn stop_timers(&mut self, mut gone: Vec<u32>) {
        gone.sort_unstable();
        let stays = |at: &u32| gone.binary_search(at).is_err();
        for timers in [&mut self.closing, &mut self.forgetting] {
            timers.retain(|_, groups| {
                groups.retain(stays);
                !groups.is_empty()
            });
        }
        self.late.retain(stays);
    }

    /// When a group was last seen, the oldest first.
    fn age(&self, at: u32) -> (i64, u64, &[u8]) {
        let key = self.table.get(at).map_or(&[][..], |group| group.key);
        let (seen, call) = self.table.last_seen(at);
        (seen, call, key)
    }
}

#[cfg(test)]
mod tests;
