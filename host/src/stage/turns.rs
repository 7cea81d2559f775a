//! Puts the outcomes of several workers back into the order of the input.
//!
//! A reorder buffer as a pure state machine. Invariant 5: what leaves a stage leaves in the order of what came in,
//! however many workers share it and whichever is faster.

use std::collections::VecDeque;

use super::{outcome::Outcome, table::Changes};

/// What follows a turn's outputs downstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn<C> {
    /// What it came to, of all workers.
    pub outcome: Outcome,
    /// What changed, for a barrier.
    pub changes: Changes,
    /// The control item to send behind the outputs.
    pub control: Option<C>,
}

#[derive(Debug)]
struct Pending<C> {
    parts: Vec<Part>,
    control: Option<C>,
}

#[derive(Debug)]
enum Part {
    Awaited(usize),
    Done(Outcome, Changes),
}

/// Turns that have begun, oldest first.
#[derive(Debug)]
pub struct Turns<C> {
    pending: VecDeque<Pending<C>>,
}

impl<C> Default for Turns<C> {
    fn default() -> Self {
        Self { pending: VecDeque::new() }
    }
}

impl<C> Turns<C> {
    /// Turns that have begun and not left.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Begins a turn that needs an answer of each of `workers`, who answer in the order in which they were asked.
    pub fn begin(&mut self, workers: impl IntoIterator<Item = usize>, control: Option<C>) {
        self.pending.push_back(Pending { parts: workers.into_iter().map(Part::Awaited).collect(), control });
    }

    /// Notes the answer of `worker` to the oldest turn that awaits it.
    pub fn done(&mut self, worker: usize, outcome: Outcome, changes: Changes) {
        let awaited = self
            .pending
            .iter_mut()
            .flat_map(|turn| &mut turn.parts)
            .find(|part| matches!(part, Part::Awaited(who) if *who == worker));
        debug_assert!(awaited.is_some(), "worker {worker} answered unasked");
        if let Some(part) = awaited {
            *part = Part::Done(outcome, changes);
        }
    }

    /// The oldest turn, if all its answers are there.
    pub fn pop(&mut self) -> Option<Turn<C>> {
        let is_complete = |turn: &Pending<C>| turn.parts.iter().all(|part| matches!(part, Part::Done(..)));
        let turn = self.pending.pop_front_if(|turn| is_complete(turn))?;
        let (mut outcomes, mut changes) = (Vec::new(), Changes::default());
        for part in turn.parts {
            if let Part::Done(outcome, mut more) = part {
                outcomes.push(outcome);
                changes.append(&mut more);
            }
        }
        let outcome = if outcomes.is_empty() { Outcome::default() } else { Outcome::merge(outcomes) };
        Some(Turn { outcome, changes, control: turn.control })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the simplest model: whatever the order of the answers, turns leave in the order they began.
        #[test]
        fn turns_leave_in_the_order_in_which_they_began(
            asked in proptest::collection::vec(proptest::collection::btree_set(0usize..3, 0..3), 1..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut turns = Turns::default();
            let mut queues: Vec<VecDeque<usize>> = vec![VecDeque::new(); 3];
            for (serial, workers) in asked.iter().enumerate() {
                turns.begin(workers.iter().copied(), Some(serial));
                workers.iter().for_each(|&worker| queues[worker].push_back(serial));
            }
            let (mut left, mut order) = (Vec::new(), order.into_iter());
            loop {
                while let Some(turn) = turns.pop() {
                    left.push(turn.control.unwrap());
                }
                let busy: Vec<usize> = (0..3).filter(|&worker| !queues[worker].is_empty()).collect();
                let Some(&first) = busy.first() else { break };
                let worker = order.next().map_or(first, |pick| busy[pick.index(busy.len())]);
                queues[worker].pop_front();
                turns.done(worker, Outcome::default(), Changes::default());
            }
            prop_assert_eq!(left, (0..asked.len()).collect::<Vec<_>>());
            prop_assert!(turns.is_empty());
        }
    }
}
