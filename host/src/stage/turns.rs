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
struct Pending<C, W> {
    parts: Vec<Part<W>>,
    control: Option<C>,
}

#[derive(Debug)]
enum Part<W> {
    /// A worker has it; what it came to so far stands beside it.
    Awaited(usize, Outcome),
    /// A worker has left some of it.
    Left(usize, Outcome, W),
    Done(Outcome, Changes),
}

/// How much of what was left is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The oldest piece.
    Head,
    /// Everything.
    All,
}

/// Turns that have begun, oldest first, and work `W` that was left of them.
#[derive(Debug)]
pub struct Turns<C, W> {
    pending: VecDeque<Pending<C, W>>,
}

impl<C, W> Default for Turns<C, W> {
    fn default() -> Self {
        Self { pending: VecDeque::new() }
    }
}

impl<C, W> Turns<C, W> {
    /// Turns that have begun and not left.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The oldest piece that workers have left and nobody has.
    pub fn left(&self) -> Option<&W> {
        self.parts().find_map(|part| match part {
            Part::Left(_, _, work) => Some(work),
            Part::Awaited(..) | Part::Done(..) => None,
        })
    }

    /// Whether no worker has anything in hand.
    pub fn is_quiet(&self) -> bool {
        !self.parts().any(|part| matches!(part, Part::Awaited(..)))
    }

    fn parts(&self) -> impl Iterator<Item = &Part<W>> {
        self.pending.iter().flat_map(|turn| &turn.parts)
    }

    /// Begins a turn that needs an answer of each of `workers`, who answer in the order in which they were asked.
    pub fn begin(&mut self, workers: impl IntoIterator<Item = usize>, control: Option<C>) {
        let parts = workers.into_iter().map(|worker| Part::Awaited(worker, Outcome::default()));
        self.pending.push_back(Pending { parts: parts.collect(), control });
    }

    /// Notes the answer of `worker` to the oldest turn that awaits it, and what it has left of that.
    pub fn done(&mut self, worker: usize, outcome: Outcome, changes: Changes, left: Option<W>) {
        let awaited = self
            .pending
            .iter_mut()
            .flat_map(|turn| &mut turn.parts)
            .find(|part| matches!(part, Part::Awaited(who, _) if *who == worker));
        debug_assert!(awaited.is_some(), "worker {worker} answered unasked");
        if let Some(part) = awaited {
            let before = match part {
                Part::Awaited(_, before) => std::mem::take(before),
                Part::Left(..) | Part::Done(..) => Outcome::default(),
            };
            let outcome = if before == Outcome::default() { outcome } else { Outcome::merge(vec![before, outcome]) };
            *part = match left {
                None => Part::Done(outcome, changes),
                Some(work) => Part::Left(worker, outcome, work),
            };
        }
    }

    /// Takes up what was left, oldest first: workers and their work, who answer to the turn that it belongs to.
    pub fn resume(&mut self, most: Resume) -> Vec<(usize, W)> {
        let mut taken = Vec::new();
        for part in self.pending.iter_mut().flat_map(|turn| &mut turn.parts) {
            if !matches!(part, Part::Left(..)) {
                continue;
            }
            if let Part::Left(worker, before, work) = std::mem::replace(part, Part::Awaited(0, Outcome::default())) {
                *part = Part::Awaited(worker, before);
                taken.push((worker, work));
            }
            if most == Resume::Head {
                break;
            }
        }
        taken
    }

    /// The oldest turn, if all its answers are there.
    pub fn pop(&mut self) -> Option<Turn<C>> {
        let is_complete = |turn: &Pending<C, W>| turn.parts.iter().all(|part| matches!(part, Part::Done(..)));
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
            let mut turns: Turns<usize, ()> = Turns::default();
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
                turns.done(worker, Outcome::default(), Changes::default(), None);
            }
            prop_assert_eq!(left, (0..asked.len()).collect::<Vec<_>>());
            prop_assert!(turns.is_empty());
        }
    }
}
