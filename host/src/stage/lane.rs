//! Lanes: the bounded channels between sources, stages and sinks.
//!
//! An inbox belongs to one receiver and has a lane for each of its senders. Bounds are in records and bytes; a batch
//! larger than both travels alone. Barriers and marks are always admitted: a sender never waits to tell the time, so
//! alignment cannot deadlock, and they stay bounded because marks in a row become one and only one epoch is under way.
//!
//! Closing: dropping the sender ends its lane once it is empty; killing the inbox wakes everybody with [`Gone`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use event_listener::{Event, Listener};

use super::Item;
use crate::batch::Limit;

/// The other side is gone: the pipeline is being taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline is being taken down")]
pub struct Gone;

/// How full a lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fill {
    /// Records waiting.
    pub records: usize,
    /// Bytes waiting.
    pub bytes: usize,
}

/// A lane as it is seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How full it is.
    pub fill: Fill,
    /// Whether its sender waits for room.
    pub is_full: bool,
    /// Whether its barrier has been taken, and what follows waits for those of the receiver's other lanes.
    pub is_held: bool,
}

/// The queue of one sender.
#[derive(Debug)]
pub struct Lane<T> {
    queue: VecDeque<T>,
    view: View,
    capacity: Limit,
    ended: bool,
}

/// What a lane can carry.
pub trait Freight {
    /// Records and bytes that it accounts for; `None` for what is always admitted.
    fn load(&self) -> Option<Fill>;

    /// Whether `next`, sent right after this, makes this superfluous.
    fn is_replaced_by(&self, next: &Self) -> bool;
}

impl Freight for Item {
    fn load(&self) -> Option<Fill> {
        match self {
            Self::Batch(batch) => Some(Fill { records: batch.len(), bytes: batch.bytes() }),
            _ => None,
        }
    }

    fn is_replaced_by(&self, next: &Self) -> bool {
        matches!((self, next), (Self::Mark(_), Self::Mark(_)))
    }
}

impl Lane<Item> {
    /// Takes the next item; of a batch its first records, at most so many, and leaves the others in front.
    pub fn pop_part(&mut self, most: usize) -> Option<Item> {
        match self.pop()? {
            Item::Batch(batch) if batch.len() > most => {
                let rest = Item::Batch(batch.slice(most, batch.len()));
                rest.load().into_iter().for_each(|load| self.account(load));
                self.queue.push_front(rest);
                Some(Item::Batch(batch.slice(0, most)))
            }
            item => Some(item),
        }
    }
}

impl<T: Freight> Lane<T> {
    fn admits(&self, load: Fill) -> bool {
        let fill = &self.view.fill;
        fill.records == 0
            || (fill.records + load.records <= self.capacity.records && fill.bytes + load.bytes <= self.capacity.bytes)
    }

    fn account(&mut self, load: Fill) {
        self.view.fill.records += load.records;
        self.view.fill.bytes += load.bytes;
    }

    /// Notes whether what follows waits for the barriers of other lanes, for those who look on.
    pub fn note_held(&mut self, is_held: bool) {
        self.view.is_held = is_held;
    }

    /// The next item, without taking it.
    pub fn peek(&self) -> Option<&T> {
        self.queue.front()
    }

    /// Takes the next item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.queue.pop_front()?;
        if let Some(load) = item.load() {
            self.view.fill.records -= load.records;
            self.view.fill.bytes -= load.bytes;
        }
        Some(item)
    }

    /// Whether the sender is gone and nothing is left.
    pub fn is_over(&self) -> bool {
        self.ended && self.queue.is_empty()
    }
}

#[derive(Debug)]
struct State<T> {
    lanes: Vec<Lane<T>>,
    dead: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    ready: Event,
    room: Event,
}

impl<T> Shared<T> {
    /// A panic while the lock was held cannot leave the queues half-changed: every change is one push or pop.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        self.lock().dead = true;
        self.ready.notify(usize::MAX);
        self.room.notify(usize::MAX);
    }
}

/// The receiving end, owned by one worker or task.
#[derive(Debug)]
pub struct Inbox<T = Item> {
    shared: Arc<Shared<T>>,
}

/// The sending end of one lane.
#[derive(Debug)]
pub struct Sender<T = Item> {
    shared: Arc<Shared<T>>,
    lane: usize,
}

/// Takes an inbox down from outside, and looks into it.
#[derive(Debug)]
pub struct Handle<T = Item> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Handle<T> {
    /// Wakes both sides with [`Gone`]; what is queued is lost to this run.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// How full each lane is.
    pub fn fill(&self) -> Vec<Fill> {
        self.views().iter().map(|view| view.fill).collect()
    }

    /// How each lane stands.
    pub fn views(&self) -> Vec<View> {
        self.shared.lock().lanes.iter().map(|lane| lane.view).collect()
    }
}

/// An inbox and the senders of its lanes, one for each of `capacities`.
pub fn lanes<T: Freight>(capacities: &[Limit]) -> (Inbox<T>, Vec<Sender<T>>) {
    let lane = |&capacity| Lane { queue: VecDeque::new(), view: View::default(), capacity, ended: false };
    let shared = Arc::new(Shared {
        state: Mutex::new(State { lanes: capacities.iter().map(lane).collect(), dead: false }),
        ready: Event::new(),
        room: Event::new(),
    });
    let senders = (0..capacities.len()).map(|lane| Sender { shared: shared.clone(), lane }).collect();
    (Inbox { shared }, senders)
}

impl<T: Freight> Inbox<T> {
    /// A handle to take it down with.
    pub fn handle(&self) -> Handle<T> {
        Handle { shared: self.shared.clone() }
    }

    /// Calls `take` on the lanes until it returns something, waiting in between for news. Blocks the thread.
    ///
    /// # Errors
    /// When the inbox was killed.
    pub fn wait_blocking<R>(&self, mut take: impl FnMut(&mut [Lane<T>]) -> Option<R>) -> Result<R, Gone> {
        loop {
            if let Some(taken) = self.attempt(&mut take)? {
                return Ok(taken);
            }
            let listener = self.shared.ready.listen();
            if let Some(taken) = self.attempt(&mut take)? {
                return Ok(taken);
            }
            listener.wait();
        }
    }

    /// As [`wait_blocking`](Self::wait_blocking), until `deadline`, after which the answer is `Ok(None)`.
    ///
    /// # Errors
    /// When the inbox was killed.
    pub fn wait_until<R>(
        &self,
        deadline: Instant,
        mut take: impl FnMut(&mut [Lane<T>]) -> Option<R>,
    ) -> Result<Option<R>, Gone> {
        loop {
            let listener = self.shared.ready.listen();
            if let Some(taken) = self.attempt(&mut take)? {
                return Ok(Some(taken));
            }
            if listener.wait_deadline(deadline).is_none() {
                return self.attempt(&mut take);
            }
        }
    }

    /// As [`wait_blocking`](Self::wait_blocking), for tasks. Cancel safe: what `take` took is returned at once.
    ///
    /// # Errors
    /// When the inbox was killed.
    pub async fn wait<R>(&self, mut take: impl FnMut(&mut [Lane<T>]) -> Option<R>) -> Result<R, Gone> {
        loop {
            let listener = self.shared.ready.listen();
            if let Some(taken) = self.attempt(&mut take)? {
                return Ok(taken);
            }
            listener.await;
        }
    }

    /// Waits until the inbox is killed.
    pub async fn killed(&self) {
        let _: Result<(), Gone> = self.wait(|_| None).await;
    }

    fn attempt<R>(&self, take: &mut impl FnMut(&mut [Lane<T>]) -> Option<R>) -> Result<Option<R>, Gone> {
        let mut state = self.shared.lock();
        if state.dead {
            return Err(Gone);
        }
        let taken = take(&mut state.lanes);
        drop(state);
        if taken.is_some() {
            self.shared.room.notify(usize::MAX);
        }
        Ok(taken)
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.shared.kill();
    }
}

impl<T: Freight> Sender<T> {
    /// How full the lane is.
    pub fn fill(&self) -> Fill {
        self.shared.lock().lanes.get(self.lane).map(|lane| lane.view.fill).unwrap_or_default()
    }

    /// Whether nothing waits in the lane.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().lanes.get(self.lane).is_none_or(|lane| lane.queue.is_empty())
    }

    fn offer(&self, item: &mut Option<T>) -> Result<bool, Gone> {
        let mut state = self.shared.lock();
        if state.dead {
            return Err(Gone);
        }
        let Some(lane) = state.lanes.get_mut(self.lane) else { return Err(Gone) };
        let Some(offered) = item.take() else { return Ok(true) };
        if let Some(load) = offered.load() {
            lane.view.is_full = !lane.admits(load);
            if lane.view.is_full {
                *item = Some(offered);
                return Ok(false);
            }
            lane.account(load);
        }
        match lane.queue.back_mut() {
            Some(last) if last.is_replaced_by(&offered) => *last = offered,
            _ => lane.queue.push_back(offered),
        }
        drop(state);
        self.shared.ready.notify(usize::MAX);
        Ok(true)
    }

    /// Sends, waiting for room. Blocks the thread.
    ///
    /// # Errors
    /// When the inbox is gone.
    pub fn send_blocking(&self, item: T) -> Result<(), Gone> {
        let mut item = Some(item);
        loop {
            if self.offer(&mut item)? {
                return Ok(());
            }
            let listener = self.shared.room.listen();
            if self.offer(&mut item)? {
                return Ok(());
            }
            listener.wait();
        }
    }

    /// Sends, waiting for room. Cancel safe in that a future dropped early has sent nothing and the caller, who
    /// still has its copy, may try again.
    ///
    /// # Errors
    /// When the inbox is gone.
    pub async fn send(&self, item: T) -> Result<(), Gone> {
        let mut item = Some(item);
        loop {
            let listener = self.shared.room.listen();
            if self.offer(&mut item)? {
                return Ok(());
            }
            listener.await;
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(lane) = self.shared.lock().lanes.get_mut(self.lane) {
            lane.ended = true;
        }
        self.shared.ready.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests;
