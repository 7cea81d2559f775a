//! How often the host fell while a pipeline went on from one commit, and who was in hand.
//!
//! Owns the count, as a function over what was kept and what the journal holds. It must not know how either is written.
//! Invariant: a count is of one commit; what commits a further one, or ends, begins it anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{board::Board, durable::Durable, ending::Ending};
use crate::{
    epoch::Epoch,
    stage::stepping::{InHand, Journal, Stepping, Suspect},
};

/// The start from one commit at which records are called one by one.
const STEPS: u32 = 3;

/// The starts of a pipeline from one commit, all of which have fallen but perhaps the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Falls {
    /// The commit.
    pub epoch: Epoch,
    /// How many there were, with the one that made the commit.
    pub starts: u32,
    /// Who was in hand at the last fall, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// Who was in hand at two falls in a row: one alone may have been anybody's doing, such as that of a person with a `kill -9`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<Suspect>,
}

impl Falls {
    /// What is to be kept when a pipeline starts from `epoch`, `before` being what the process before has kept and not taken
    /// back, and `in_hand` the record of this pipeline that it had in hand.
    pub fn at_start(before: Option<Self>, epoch: Epoch, in_hand: Option<&InHand>) -> Self {
        let first = |starts| Self { epoch, starts, suspect: None, culprits: Vec::new() };
        let Some(mut before) = before else { return first(1) };
        if before.epoch != epoch {
            // It has committed this one, and fallen then.
            return first(2);
        }
        // What an earlier start left in the journal has been told before.
        let found = in_hand.filter(|in_hand| in_hand.epoch == epoch && in_hand.start == before.starts);
        let found = found.map(|in_hand| in_hand.suspect.clone());
        let is_again = found.is_some() && found == before.suspect;
        before.culprits.extend(found.clone().filter(|_| is_again));
        Self { starts: before.starts.saturating_add(1), suspect: found.filter(|_| !is_again), ..before }
    }

    /// Whether records are to be called one by one.
    pub fn is_stepping(&self) -> bool {
        self.starts >= STEPS
    }
}

/// Counts a start of the pipeline of `board` while `run` goes on, and has its records called one by one if the host has fallen
/// with it too often. `before` is what the process before has kept; without a journal nothing is counted.
pub(super) async fn around(
    board: &Board,
    durable: Option<Durable>,
    journal: Option<Arc<Journal>>,
    before: Option<Falls>,
    run: impl Future<Output = Ending>,
) -> Ending {
    let (Some(durable), Some(journal)) = (durable, journal) else { return run.await };
    let (pipeline, epoch) = (&board.graph().name, Epoch(board.account().epoch));
    let in_hand = journal.found.as_ref().filter(|in_hand| in_hand.pipeline == *pipeline);
    let falls = Falls::at_start(before, epoch, in_hand);
    if let Err(error) = durable.keep_falls(&falls).await {
        return Ending::Failed(error.to_string());
    }
    if falls.is_stepping() {
        let (epoch, fell, culprits) = (epoch.0, falls.starts - 1, falls.culprits.len());
        tracing::warn!(pipeline, epoch, fell, culprits, "the host fell too often: records are called one by one");
        board.step(Stepping::new(journal, pipeline.clone(), falls.epoch, falls.starts, falls.culprits));
    }
    let ending = run.await;
    if let Err(error) = durable.forget_falls().await {
        tracing::warn!(pipeline, %error, "this counts as a fall, though it is none");
    }
    ending
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn suspect(number: u8) -> Suspect {
        Suspect { stage: "s".to_owned(), record: number.to_string() }
    }

    #[derive(Clone, Debug)]
    enum Life {
        /// It falls, with this record in hand if it steps.
        Falls(Option<u8>),
        /// It commits, then falls, with all its records called together.
        Commits,
        /// It ends as it should.
        Ends,
    }

    fn life() -> impl Strategy<Value = Life> {
        prop_oneof![
            6 => proptest::option::of(0u8..3).prop_map(Life::Falls),
            1 => Just(Life::Commits),
            1 => Just(Life::Ends),
        ]
    }

    /// Who was in hand at two falls in a row, no fall counted twice.
    fn twice(falls: &[Option<u8>]) -> Vec<Suspect> {
        let (mut culprits, mut last) = (Vec::new(), None);
        for fell in falls {
            if fell.is_some() && *fell == last {
                culprits.extend(fell.map(suspect));
                last = None;
            } else {
                last = *fell;
            }
        }
        culprits
    }

    proptest! {
        /// Against a list of all falls since the last commit or end: it steps from the third start on, and the culprits are
        /// exactly those that were in hand twice in a row.
        #[test]
        fn falls_are_counted_from_one_commit_and_who_was_in_hand_twice_is_the_culprit(
            lives in proptest::collection::vec(life(), 0..60),
        ) {
            let (mut kept, mut journal, mut epoch): (Option<Falls>, Option<InHand>, _) = (None, None, Epoch(0));
            let mut fell: Vec<Option<u8>> = Vec::new();
            for life in lives {
                let falls = Falls::at_start(kept.take(), epoch, journal.as_ref());
                prop_assert_eq!((falls.starts as usize, &falls.culprits), (fell.len() + 1, &twice(&fell)));
                prop_assert_eq!(falls.is_stepping(), fell.len() >= 2);
                // Who steps begins with nobody in hand.
                journal = journal.filter(|_| !falls.is_stepping());
                match life {
                    Life::Falls(number) => {
                        let number = number.filter(|_| falls.is_stepping());
                        if let Some(number) = number {
                            let (pipeline, start) = ("p".to_owned(), falls.starts);
                            journal = Some(InHand { pipeline, epoch, start, suspect: suspect(number) });
                        }
                        fell.push(number);
                    }
                    Life::Commits => (fell, epoch) = (vec![None], epoch.next()),
                    Life::Ends => fell.clear(),
                }
                kept = Some(falls).filter(|_| !matches!(life, Life::Ends));
            }
        }
    }
}
