//! The queue of an edge that drops: whole batches between two parts of a pipeline, in memory.
//!
//! Owns how many there may be, which go when there are more, and what of them may be read. It must not know who writes or
//! reads. Invariants: records are read in order and each at most once, and none before it is committed; whatever is
//! missing between two of them has been dropped, which its offset tells; watermarks are never dropped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    batch::{Batch, Limit},
    time::BEGIN,
    topic::Told,
};

/// Which batches go when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// Those that come.
    Newest,
    /// Those that have waited longest.
    Oldest,
}

/// The queues of a pipeline, by the names of their edges.
#[derive(Debug, Default)]
pub struct Queues(Mutex<BTreeMap<String, Arc<Queue>>>);

impl Queues {
    /// The queue of the edge of that name, which is made where it is not there.
    pub fn queue(&self, name: &str, capacity: Limit, drops: Drops) -> Arc<Queue> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_insert_with(|| Arc::new(Queue::new(capacity, drops))).clone()
    }
}

/// A queue of one writer and one reader.
#[derive(Debug)]
pub struct Queue {
    hub: Mutex<Hub>,
    /// Rung when there is more to read.
    bell: watch::Sender<()>,
}

#[derive(Debug)]
struct Hub {
    capacity: Limit,
    drops: Drops,
    waiting: VecDeque<Waiting>,
    /// Records and bytes of all that waits.
    held: Limit,
    /// Offset of the next record.
    next: u64,
    /// What may be read, and how far event time has come behind it.
    committed: Told,
    /// Nothing will be written any more.
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting {
    /// Offset of its first record.
    first: u64,
    /// The watermark in front of it.
    watermark: i64,
    batch: Batch,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Records that were dropped in front of these.
    pub dropped: u64,
    /// The watermark in front of them; in front of nothing, the one behind all that is committed.
    pub watermark: i64,
    /// Records, where there are any.
    pub batch: Batch,
    /// Offset behind them.
    pub offset: u64,
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This.
    Next(Next),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

impl Queue {
    /// An empty queue of so many records and bytes; a batch that is larger finds room where nothing else waits.
    pub fn new(capacity: Limit, drops: Drops) -> Self {
        let hub = Hub {
            capacity,
            drops,
            waiting: VecDeque::new(),
            held: Limit { records: 0, bytes: 0 },
            next: 0,
            committed: Told { offset: 0, watermark: BEGIN },
            is_closed: false,
        };
        Self { hub: Mutex::new(hub), bell: watch::Sender::default() }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings when there is more to read.
    pub fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Takes a batch in, in front of which event time had come to `watermark`, or drops it, or others for it.
    pub fn push(&self, batch: &Batch, watermark: i64) {
        let mut hub = self.hub();
        let first = hub.next;
        hub.next += batch.len() as u64;
        while hub.drops == Drops::Oldest && !hub.has_room(batch) {
            hub.pop();
        }
        if !batch.is_empty() && hub.has_room(batch) {
            hub.held.records += batch.len();
            hub.held.bytes += batch.bytes();
            hub.waiting.push_back(Waiting { first, watermark, batch: batch.clone() });
        }
    }

    /// Offset of the next record that is pushed.
    pub fn end(&self) -> u64 {
        self.hub().next
    }

    /// Whether what is not committed takes half of the room.
    pub fn is_pressed(&self) -> bool {
        let hub = self.hub();
        let from = hub.waiting.partition_point(|waiting| waiting.first < hub.committed.offset);
        let open = hub.waiting.iter().skip(from);
        let (records, bytes) =
            open.fold((0, 0), |(records, bytes), it| (records + it.batch.len(), bytes + it.batch.bytes()));
        records > hub.capacity.records / 2 || bytes > hub.capacity.bytes / 2
    }

    /// Lets everything be read that lies before an offset.
    pub fn commit(&self, told: Told) {
        self.hub().committed = told;
        self.bell.send_replace(());
    }

    /// Goes back to where it was committed: what came since comes again.
    pub fn restore(&self, told: Told) {
        let mut hub = self.hub();
        while hub.waiting.back().is_some_and(|last| last.first >= told.offset) {
            if let Some(last) = hub.waiting.pop_back() {
                hub.let_go(&last.batch);
            }
        }
        (hub.next, hub.committed) = (told.offset, told);
        drop(hub);
        self.bell.send_replace(());
    }

    /// Says that nothing will be written any more.
    pub fn close(&self) {
        self.hub().is_closed = true;
        self.bell.send_replace(());
    }

    /// What comes next for who has read up to the offset `at` and been told `watermark`: at most so many records, but one at
    /// least if it is larger.
    pub fn take(&self, at: u64, watermark: i64, most: Limit) -> Found {
        let mut hub = self.hub();
        let committed = hub.committed;
        if hub.waiting.front().is_some_and(|front| front.first < committed.offset)
            && let Some(Waiting { first, watermark, batch }) = hub.pop()
        {
            let fits = batch.fitting(most).max(1);
            let offset = first + fits as u64;
            if fits < batch.len() {
                let rest = Waiting { first: offset, watermark, batch: batch.slice(fits, batch.len()) };
                hub.held.records += rest.batch.len();
                hub.held.bytes += rest.batch.bytes();
                hub.waiting.push_front(rest);
            }
            let dropped = first.saturating_sub(at);
            return Found::Next(Next { dropped, watermark, batch: batch.slice(0, fits), offset });
        }
        if committed.offset > at || committed.watermark > watermark {
            let (dropped, watermark) = (committed.offset.saturating_sub(at), committed.watermark);
            return Found::Next(Next { dropped, watermark, batch: Batch::default(), offset: committed.offset.max(at) });
        }
        if hub.is_closed { Found::Closed } else { Found::Nothing }
    }
}

impl Hub {
    fn has_room(&self, batch: &Batch) -> bool {
        let records = self.held.records.saturating_add(batch.len());
        let bytes = self.held.bytes.saturating_add(batch.bytes());
        self.waiting.is_empty() || (records <= self.capacity.records && bytes <= self.capacity.bytes)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.let_go(&first.batch);
        Some(first)
    }

    fn let_go(&mut self, batch: &Batch) {
        self.held.records -= batch.len();
        self.held.bytes -= batch.bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(first: u64, len: usize) -> Batch {
        Batch::of_values((first..first + len as u64).map(|at| format!("{at:>8}")).collect())
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        (0..batch.len())
            .map(|at| std::str::from_utf8(batch.values().get(at).unwrap()).unwrap().trim().parse().unwrap())
            .collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Commit,
        Restore,
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1usize..7).prop_map(Step::Push),
            2 => Just(Step::Commit),
            1 => Just(Step::Restore),
            3 => (1usize..9).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// Beside a queue without a bound that knows each record by itself.
        #[test]
        fn it_gives_what_is_committed_once_and_in_order_and_tells_what_it_dropped(
            steps in proptest::collection::vec(step(), 1..80),
            records in 1usize..20,
            is_oldest in any::<bool>(),
        ) {
            let drops = if is_oldest { Drops::Oldest } else { Drops::Newest };
            let queue = Queue::new(Limit { records, bytes: 1 << 20 }, drops);
            // Batches that wait, as first and length; what was read or told as dropped is below `at`.
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut next, mut committed, mut at, mut told) = (0u64, 0u64, 0u64, BEGIN);
            for step in steps {
                match step {
                    Step::Push(len) => {
                        queue.push(&batch(next, len), next as i64);
                        let held = |model: &VecDeque<(u64, usize)>| model.iter().map(|(_, len)| len).sum::<usize>();
                        while is_oldest && !model.is_empty() && held(&model) + len > records {
                            model.pop_front();
                        }
                        if model.is_empty() || held(&model) + len <= records {
                            model.push_back((next, len));
                        }
                        next += len as u64;
                        prop_assert!(held(&model) <= records.max(6));
                    }
                    Step::Commit => {
                        committed = next;
                        queue.commit(Told { offset: next, watermark: next as i64 });
                    }
                    Step::Restore => {
                        queue.restore(Told { offset: committed, watermark: committed as i64 });
                        next = committed;
                        model.retain(|(first, _)| *first < committed);
                    }
                    Step::Take(most) => {
                        let found = queue.take(at, told, Limit { records: most, bytes: 1 << 20 });
                        let readable = model.front().copied().filter(|(first, _)| *first < committed);
                        let Found::Next(found) = found else {
                            prop_assert!(readable.is_none() && at == committed);
                            continue;
                        };
                        prop_assert!(found.watermark >= told, "time never falls");
                        if let Some((first, len)) = readable {
                            let fits = len.min(most);
                            prop_assert_eq!(numbers(&found.batch), (first..first + fits as u64).collect::<Vec<_>>());
                            prop_assert_eq!((found.dropped, found.offset), (first - at, first + fits as u64));
                            model.pop_front();
                            if fits < len {
                                model.push_front((first + fits as u64, len - fits));
                            }
                        } else {
                            prop_assert_eq!((found.batch.len(), found.dropped, found.offset), (0, committed - at, committed));
                            prop_assert_eq!(found.watermark, committed as i64);
                        }
                        (at, told) = (found.offset, found.watermark);
                    }
                }
            }
            queue.close();
            queue.commit(Told { offset: next, watermark: next as i64 });
            while let Found::Next(found) = queue.take(at, told, Limit { records: 3, bytes: 1 << 20 }) {
                prop_assert_eq!(found.offset - at, found.dropped + found.batch.len() as u64);
                (at, told) = (found.offset, found.watermark);
            }
            prop_assert_eq!(at, next, "every record is read or dropped");
        }
    }

    #[test]
    fn a_batch_larger_than_the_queue_passes_where_nothing_else_waits() {
        let queue = Queue::new(Limit { records: 4, bytes: 1 << 20 }, Drops::Newest);
        queue.push(&batch(0, 9), BEGIN);
        queue.push(&batch(9, 1), BEGIN);
        assert!(queue.is_pressed());
        queue.commit(Told { offset: queue.end(), watermark: 7 });
        assert!(!queue.is_pressed(), "what is committed is the reader's affair");
        let Found::Next(found) = queue.take(0, BEGIN, Limit { records: 100, bytes: 1 << 20 }) else { panic!() };
        assert_eq!((found.batch.len(), found.dropped), (9, 0));
        let Found::Next(found) = queue.take(9, BEGIN, Limit { records: 100, bytes: 1 << 20 }) else { panic!() };
        assert_eq!((found.batch.len(), found.dropped, found.watermark), (0, 1, 7));
        assert_eq!(queue.take(10, 7, Limit { records: 1, bytes: 1 }), Found::Nothing);
        queue.close();
        assert_eq!(queue.take(10, 7, Limit { records: 1, bytes: 1 }), Found::Closed);
    }
}
