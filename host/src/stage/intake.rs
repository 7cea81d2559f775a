//! Brings the lanes of one receiver into one order: alignment of barriers, merging of watermarks, fair turns.
//!
//! A pure state machine over the lanes' queues. The protocol is the aligned form of asynchronous barrier
//! snapshotting (Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015): an input
//! that has delivered the barrier waits until all others have. Invariant: nothing that follows a barrier on any
//! input is handed out before that barrier.

use super::{Item, lane::Lane};
use crate::{
    batch::Batch,
    bug,
    epoch::Epoch,
    time::{Mark, Merge},
};

/// What the receiver is to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// Records of the input at this position.
    Batch(usize, Batch),
    /// Event time has come so far on all live inputs.
    Mark(Mark),
    /// All inputs have delivered the barrier.
    Barrier(Epoch),
    /// All inputs are closed.
    Close,
    /// All senders are gone.
    Over,
}

/// What a receiver takes in at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// Whatever is next.
    All,
    /// Whatever is next, of records so many at most.
    Most(usize),
    /// What stands in front of the first records of each input.
    NoRecords,
}

/// The state of alignment.
#[derive(Clone, Debug)]
pub struct Intake {
    held: Vec<bool>,
    closed: Vec<bool>,
    merge: Merge,
    next: usize,
}

impl Intake {
    /// An intake of `inputs` lanes whose merged watermark was `watermark` at the last commit.
    pub fn new(inputs: usize, watermark: i64) -> Self {
        Self { held: vec![false; inputs], closed: vec![false; inputs], merge: Merge::new(inputs, watermark), next: 0 }
    }

    /// The merged watermark.
    pub fn watermark(&self) -> i64 {
        self.merge.watermark()
    }

    /// The inputs that have delivered a barrier and wait for the others.
    pub fn waiting(&self) -> impl Iterator<Item = usize> {
        self.held.iter().enumerate().filter(|(_, held)| **held).map(|(input, _)| input)
    }

    /// Takes the next thing to do, if there is one. Lanes beyond the inputs are left alone.
    pub fn take(&mut self, lanes: &mut [Lane<Item>]) -> Option<Taken> {
        self.take_of(lanes, Appetite::All)
    }

    /// As [`take`](Self::take), of what the receiver has an appetite for.
    pub fn take_of(&mut self, lanes: &mut [Lane<Item>], appetite: Appetite) -> Option<Taken> {
        let inputs = self.held.len();
        let lanes = lanes.get_mut(..inputs)?;
        let mut turn = 0;
        while turn < inputs {
            let input = (self.next + turn) % inputs;
            turn += 1;
            let is_held = self.held.get(input).copied().unwrap_or_default();
            if is_held && !bug::is_seeded("barrier-overtaken-at-alignment") {
                continue;
            }
            let Some(lane) = lanes.get_mut(input) else { continue };
            if appetite == Appetite::NoRecords && matches!(lane.peek(), Some(Item::Batch(_))) {
                continue;
            }
            let most = if let Appetite::Most(records) = appetite { records } else { usize::MAX };
            let Some(item) = lane.pop_part(most) else { continue };
            let taken = match item {
                Item::Batch(batch) => {
                    self.next = (input + 1) % inputs;
                    Some(Taken::Batch(input, batch))
                }
                Item::Mark(mark) => self.merge.update(input, mark).map(Taken::Mark),
                Item::Barrier(epoch) => {
                    let is_whole = full(&mut self.held, input);
                    lanes.iter_mut().zip(&self.held).for_each(|(lane, is_held)| lane.note_held(*is_held));
                    is_whole.then_some(Taken::Barrier(epoch))
                }
                Item::Close => full(&mut self.closed, input).then_some(Taken::Close),
                // Workers answer on lanes of their own, and so comes what a stage is told: these are not inputs.
                Item::Done(_) | Item::Control(_) => None,
            };
            if taken.is_some() {
                return taken;
            }
            // A control item that decided nothing: look at the same and the other lanes again.
            turn = 0;
        }
        lanes.iter().all(Lane::is_over).then_some(Taken::Over)
    }
}

/// Raises the flag of `input`; when all are raised, lowers them and says so.
fn full(flags: &mut [bool], input: usize) -> bool {
    if let Some(flag) = flags.get_mut(input) {
        *flag = true;
    }
    let all = flags.iter().all(|flag| *flag);
    if all {
        flags.fill(false);
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        batch::Limit,
        stage::lane::lanes,
        time::{BEGIN, END},
    };

    #[derive(Clone, Debug)]
    enum Step {
        Records(u8),
        Barrier,
    }

    fn tagged(input: usize, serial: usize) -> Item {
        Item::Batch(Batch::of_values([format!("{input}:{serial}")].iter().collect()))
    }

    proptest! {
        /// Whatever the order of arrival, between two barriers stand exactly the records that every input sent
        /// between these two, each input's in its own order.
        #[test]
        fn a_barrier_never_overtakes_a_record_and_no_record_overtakes_a_barrier(
            scripts in proptest::collection::vec(proptest::collection::vec(1u8..4, 3), 1..4),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let inputs = scripts.len();
            let mut pending: Vec<std::collections::VecDeque<Step>> = scripts
                .iter()
                .map(|counts| counts.iter().flat_map(|&n| [Step::Records(n), Step::Barrier]).collect())
                .collect();
            let (inbox, senders) = lanes::<Item>(&vec![Limit::default(); inputs]);
            let mut intake = Intake::new(inputs, BEGIN);
            let (mut serial, mut epochs) = (vec![0; inputs], vec![0; inputs]);
            let mut expected = vec![vec![Vec::new(); inputs]; 3];
            let (mut got, mut epoch) = (vec![vec![Vec::new(); inputs]; 3], 0usize);
            let mut order = order.into_iter();
            loop {
                let live: Vec<usize> = (0..inputs).filter(|&i| !pending[i].is_empty()).collect();
                if !live.is_empty() {
                    let input = order.next().map_or(live[0], |pick| live[pick.index(live.len())]);
                    match pending[input].pop_front() {
                        Some(Step::Records(n)) => for _ in 0..n {
                            expected[epochs[input]][input].push(serial[input]);
                            senders[input].send_blocking(tagged(input, serial[input])).unwrap();
                            serial[input] += 1;
                        },
                        Some(Step::Barrier) => {
                            epochs[input] += 1;
                            senders[input].send_blocking(Item::Barrier(Epoch(epochs[input] as u64))).unwrap();
                        }
                        None => {}
                    }
                }
                while let Some(taken) = inbox.wait_blocking(|lanes| Some(intake.take(lanes))).unwrap() {
                    match taken {
                        Taken::Batch(input, batch) => {
                            let text = String::from_utf8(batch.values().get(0).unwrap().to_vec()).unwrap();
                            got[epoch][input].push(text.split_once(':').unwrap().1.parse::<usize>().unwrap());
                        }
                        Taken::Barrier(e) => { epoch += 1; prop_assert_eq!(e, Epoch(epoch as u64)); }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                if live.is_empty() { break; }
            }
            prop_assert_eq!(epoch, 3);
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn all_inputs_have_a_turn() {
        let (inbox, senders) = lanes::<Item>(&[Limit::default(); 2]);
        for serial in 0..2 {
            senders[0].send_blocking(tagged(0, serial)).unwrap();
            senders[1].send_blocking(tagged(1, serial)).unwrap();
        }
        let mut intake = Intake::new(2, BEGIN);
        let mut seen = Vec::new();
        for _ in 0..4 {
            if let Taken::Batch(input, _) = inbox.wait_blocking(|lanes| intake.take(lanes)).unwrap() {
                seen.push(input);
            }
        }
        assert_eq!(seen, [0, 1, 0, 1]);
    }

    #[test]
    fn the_end_of_one_input_does_not_end_the_others() {
        let (inbox, mut senders) = lanes::<Item>(&[Limit::default(); 2]);
        let mut intake = Intake::new(2, BEGIN);
        senders[0].send_blocking(Item::Mark(Mark::At(END))).unwrap();
        senders[1].send_blocking(Item::Mark(Mark::At(7))).unwrap();
        assert_eq!(inbox.wait_blocking(|lanes| intake.take(lanes)), Ok(Taken::Mark(Mark::At(7))));
        senders.remove(0);
        assert_eq!(inbox.wait_blocking(|lanes| Some(intake.take(lanes))), Ok(None));
        senders.clear();
        assert_eq!(inbox.wait_blocking(|lanes| intake.take(lanes)), Ok(Taken::Over));
    }
}
