//! Where somebody asks for letters to be replayed, and whoever replays them takes the order.
//!
//! Owns the order, how far it has come, and that there is one at a time. It must not know how letters get anywhere.
//! Invariant: an order whose asker has gone is known as such, so that nothing goes on that nobody waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::{Lateness, Query};
use crate::{log::Access, unit::Rate};

/// How often a letter is tried before somebody has to insist.
pub const TRIES: u32 = 3;

/// Which letters are to be replayed, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// Which.
    pub query: Query,
    /// Whether they may be late.
    pub lateness: Lateness,
    /// Whether those are tried too that have been refused [`TRIES`] times.
    pub insistence: Insistence,
    /// Most of them in a time.
    pub rate: Option<Rate>,
    /// Most of them.
    pub most: Option<u64>,
}

/// What becomes of letters that have been refused often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Insistence {
    /// They stay.
    #[default]
    Spares,
    /// They are tried like the others.
    Insists,
}

/// How far an order has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Letters that have been given back to who refused them, in epochs that have committed.
    pub replayed: u64,
    /// Letters that stay because they have been refused too often.
    pub spared: u64,
    /// Letters that stay because nobody takes them, and why, with the first of them.
    pub untaken: Vec<Untaken>,
    /// The first offset that a letter has that comes back.
    pub from: u64,
    /// Whether nothing more will be done.
    pub is_over: bool,
    /// Why it has ended early, where it has.
    pub cut: Option<String>,
}

/// Letters that nobody takes, alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untaken {
    /// Who refused them.
    pub by: String,
    /// Why they stay.
    pub why: String,
    /// How many.
    pub letters: u64,
    /// The first of them.
    pub first: u64,
}

impl Progress {
    /// Notes a letter that stays.
    pub fn stays(&mut self, by: &str, why: &str, offset: u64) {
        match self.untaken.iter_mut().find(|known| known.by == by && known.why == why) {
            Some(known) => known.letters += 1,
            None => self.untaken.push(Untaken { by: by.to_owned(), why: why.to_owned(), letters: 1, first: offset }),
        }
    }
}

/// An order that somebody waits for.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub order: Order,
    progress: watch::Sender<Progress>,
}

impl Asked {
    /// Whether whoever asked has gone.
    pub fn is_given_up(&self) -> bool {
        // The desk itself keeps one, to know whether it is free.
        self.progress.receiver_count() <= 1
    }

    /// Tells how far it has come.
    pub fn tell(&self, progress: &Progress) {
        self.progress.send_replace(progress.clone());
    }
}

#[derive(Debug, Default)]
struct Slot {
    waiting: Option<Asked>,
    under_way: Option<watch::Receiver<Progress>>,
}

/// Where the letters of a pipeline are found while it runs, and replays of them are asked for.
#[derive(Clone, Debug, Default)]
pub struct Office {
    /// Its log.
    pub letters: Access,
    /// Where orders are left.
    pub desk: Desk,
}

/// The place where orders are left; clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    slot: Arc<Mutex<Slot>>,
    bell: Arc<Notify>,
}

impl Desk {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves an order, whose progress is told to who is returned; none while another one is under way.
    pub fn ask(&self, order: Order) -> Option<watch::Receiver<Progress>> {
        let mut slot = self.slot();
        // Whoever gives an order up lets go of it.
        if slot.under_way.as_ref().is_some_and(|other| !other.borrow().is_over && other.has_changed().is_ok()) {
            return None;
        }
        let (progress, told) = watch::channel(Progress::default());
        slot.waiting = Some(Asked { order, progress });
        slot.under_way = Some(told.clone());
        self.bell.notify_one();
        Some(told)
    }

    /// Waits for an order and takes it. A future dropped before it is ready has taken nothing.
    pub async fn next(&self) -> Asked {
        loop {
            if let Some(asked) = self.slot().waiting.take() {
                return asked;
            }
            self.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_one_order_at_a_time_and_who_takes_it_knows_whether_somebody_waits() {
        let desk = Desk::default();
        let told = desk.ask(Order::default()).unwrap();
        assert!(desk.ask(Order::default()).is_none(), "one waits to be taken");
        let asked = desk.next().await;
        assert!(desk.ask(Order::default()).is_none(), "one is under way");
        asked.tell(&Progress { replayed: 2, ..Progress::default() });
        assert_eq!((told.borrow().replayed, asked.is_given_up()), (2, false));
        drop(told);
        assert!(asked.is_given_up());
        drop(asked);
        let _again = desk.ask(Order::default()).unwrap();
        assert!(!desk.next().await.is_given_up());
    }

    #[test]
    fn letters_that_stay_are_counted_by_who_and_why() {
        let mut progress = Progress::default();
        for (by, why, offset) in [("a", "x", 4), ("a", "y", 5), ("a", "x", 6)] {
            progress.stays(by, why, offset);
        }
        let all: Vec<_> = progress.untaken.iter().map(|one| (&*one.why, one.letters, one.first)).collect();
        assert_eq!(all, [("x", 2, 4), ("y", 1, 5)]);
    }
}
