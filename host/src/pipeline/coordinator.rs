//! When epochs begin and when they commit.
//!
//! A pure state machine: `step(now, input) -> actions`. Invariants: one epoch at a time; an epoch is written exactly when
//! every participant has reported it, and counts as committed exactly when the store has written it; it is never given up,
//! only named late; nothing begins after the last one. Where commits are slow, epochs lie further apart; who waits for one
//! does not wait longer for that.

use std::{collections::BTreeSet, time::Duration};

use crate::{bug, epoch::Epoch, store::pace};

/// Shortest time between the beginnings of two epochs, however often somebody asks: a commit costs an fsync.
pub const SHORTEST: Duration = Duration::from_millis(50);

/// How long an epoch may take before it is named.
pub const LATE: Duration = Duration::from_secs(10);

/// Who has to report an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Participant {
    /// A source, by its position in the graph.
    Source(usize),
    /// A stage.
    Stage(usize),
    /// A sink.
    Sink(usize),
    /// What the commit is written to, which reports last.
    Store,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Somebody waits for a commit.
    Wanted,
    /// A participant other than the store has everything of the epoch.
    Reported(Participant, Epoch),
    /// The store has written the epoch, in this time.
    Written(Epoch, Duration),
    /// A source will send nothing more but barriers.
    Finished(usize),
    /// A sink has still to deliver what commits with the epoch: there will be another one.
    Waiting(Epoch),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell every source to put this barrier into its stream.
    Begin(Epoch),
    /// All but the store have reported: write the commit.
    Commit(Epoch),
    /// The commit is written: tell the sources.
    Committed(Epoch),
    /// Commits have begun to take longer than epochs should lie apart: the next one begins so long after the last began.
    Slow(Duration),
    /// They no longer do.
    Quick,
    /// The epoch takes long; these have not reported.
    Late(Epoch, Vec<Participant>),
    /// The last epoch has committed.
    Finish,
}

#[derive(Clone, Debug)]
struct UnderWay {
    epoch: Epoch,
    since: Duration,
    missing: BTreeSet<Participant>,
    is_last: bool,
    is_named: bool,
    is_being_written: bool,
}

/// The state of a pipeline's epochs.
#[derive(Clone, Debug)]
pub struct Coordinator {
    /// How far apart epochs should begin.
    every: Duration,
    /// How far apart they begin, so that commits take no more than their share of the time.
    apart: Duration,
    is_slow: bool,
    participants: BTreeSet<Participant>,
    running: BTreeSet<usize>,
    committed: Epoch,
    begun: Duration,
    is_wanted: bool,
    /// Whether only sinks have something left to do.
    is_waiting: bool,
    is_over: bool,
    under_way: Option<UnderWay>,
}

impl Coordinator {
    /// A coordinator of these participants, and the store, that begins an epoch `every` so often, after `committed`, from `now` on.
    pub fn new(
        every: Duration,
        participants: impl IntoIterator<Item = Participant>,
        committed: Epoch,
        now: Duration,
    ) -> Self {
        let participants: BTreeSet<Participant> = participants.into_iter().chain([Participant::Store]).collect();
        let running =
            participants.iter().filter_map(|who| if let Participant::Source(i) = who { Some(*i) } else { None });
        let every = every.max(SHORTEST);
        Self {
            every,
            apart: every,
            is_slow: false,
            running: running.collect(),
            participants,
            committed,
            begun: now,
            is_wanted: false,
            is_waiting: false,
            is_over: false,
            under_way: None,
        }
    }

    /// The last epoch that committed.
    pub fn committed(&self) -> Epoch {
        self.committed
    }

    /// The epoch under way, since when, and who has not reported.
    pub fn under_way(&self) -> Option<(Epoch, Duration, Vec<Participant>)> {
        self.under_way.as_ref().map(|way| (way.epoch, way.since, way.missing.iter().copied().collect()))
    }

    /// Whether the epoch under way is the last one: all sources had ended when it began.
    pub fn is_last(&self) -> bool {
        self.under_way.as_ref().is_some_and(|way| way.is_last)
    }

    /// Whether the last epoch has committed and everybody may go.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// When to call `step` with [`Input::Tick`] next.
    pub fn due(&self) -> Option<Duration> {
        match &self.under_way {
            Some(way) => (!way.is_named).then(|| way.since + LATE),
            None if self.is_over => None,
            None if self.is_wanted || self.running.is_empty() && !self.is_waiting => Some(self.begun + SHORTEST),
            None => Some(self.begun.saturating_add(self.apart)),
        }
    }

    /// Takes what happened at `now` and says what is to be done, in order.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Tick => {}
            Input::Wanted => self.is_wanted = true,
            Input::Finished(source) => {
                self.running.remove(&source);
            }
            Input::Reported(who, epoch) => self.reported(who, epoch),
            Input::Waiting(epoch) => {
                if let Some(way) = self.under_way.as_mut().filter(|way| way.epoch == epoch) {
                    (way.is_last, self.is_waiting) = (false, true);
                }
            }
            Input::Written(epoch, took) => {
                self.reported(Participant::Store, epoch);
                self.apart = pace(took, self.every);
                let is_slow = took > self.every;
                match (self.is_slow, is_slow) {
                    (false, true) => actions.push(Action::Slow(self.apart)),
                    (true, false) => actions.push(Action::Quick),
                    (true, true) | (false, false) => {}
                }
                self.is_slow = is_slow;
            }
        }
        if let Some(way) = self.under_way.as_mut()
            && !way.is_being_written
            && way.missing.iter().eq([&Participant::Store])
        {
            way.is_being_written = true;
            actions.push(Action::Commit(way.epoch));
            if bug::is_seeded("acknowledge-before-the-commit") {
                actions.push(Action::Committed(way.epoch));
            }
        }
        if let Some(way) = self.under_way.take_if(|way| way.missing.is_empty()) {
            self.committed = way.epoch;
            actions.push(Action::Committed(way.epoch));
            if way.is_last {
                self.is_over = true;
                actions.push(Action::Finish);
            }
        }
        if let Some(way) = self.under_way.as_mut().filter(|way| !way.is_named && now >= way.since + LATE) {
            way.is_named = true;
            actions.push(Action::Late(way.epoch, way.missing.iter().copied().collect()));
        }
        if self.under_way.is_none() && !self.is_over && self.due().is_some_and(|due| now >= due) {
            actions.push(Action::Begin(self.begin(now)));
        }
        actions
    }

    fn reported(&mut self, who: Participant, epoch: Epoch) {
        if let Some(way) = self.under_way.as_mut().filter(|way| way.epoch == epoch) {
            way.missing.remove(&who);
        }
    }

    /// Who has to report an epoch that begins.
    fn awaited(&self) -> BTreeSet<Participant> {
        let mut all = self.participants.clone();
        if bug::is_seeded("commit-without-the-sinks") {
            all.retain(|who| !matches!(who, Participant::Sink(_)));
        }
        all
    }

    fn begin(&mut self, now: Duration) -> Epoch {
        let epoch = self.committed.next();
        self.begun = now;
        (self.is_wanted, self.is_waiting) = (false, false);
        self.under_way = Some(UnderWay {
            epoch,
            since: now,
            missing: self.awaited(),
            is_last: self.running.is_empty(),
            is_named: false,
            is_being_written: false,
        });
        epoch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Those who work; the store reports when it has written what they reported.
    fn all() -> [Participant; 3] {
        [Participant::Source(0), Participant::Stage(0), Participant::Sink(0)]
    }

    fn report_all(coordinator: &mut Coordinator, now: Duration, epoch: Epoch) -> Vec<Action> {
        let mut actions: Vec<Action> =
            all().into_iter().flat_map(|who| coordinator.step(now, Input::Reported(who, epoch))).collect();
        if actions.contains(&Action::Commit(epoch)) {
            actions.extend(coordinator.step(now, Input::Written(epoch, Duration::ZERO)));
        }
        actions
    }

    #[test]
    fn an_epoch_begins_every_so_often_and_commits_when_all_have_reported() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(0), Duration::ZERO);
        assert_eq!(coordinator.step(SECOND / 2, Input::Tick), []);
        assert_eq!(coordinator.step(SECOND, Input::Tick), [Action::Begin(Epoch(1))]);
        assert_eq!(coordinator.step(SECOND, Input::Reported(Participant::Source(0), Epoch(1))), []);
        assert_eq!(coordinator.step(SECOND, Input::Reported(Participant::Sink(0), Epoch(1))), []);
        assert_eq!(
            coordinator.step(SECOND, Input::Reported(Participant::Stage(0), Epoch(1))),
            [Action::Commit(Epoch(1))]
        );
        assert_eq!(coordinator.committed(), Epoch(0), "nothing is committed before it is written");
        assert_eq!(coordinator.step(SECOND * 2, Input::Wanted), [], "no other epoch begins meanwhile");
        let written = Input::Written(Epoch(1), Duration::ZERO);
        assert_eq!(coordinator.step(SECOND * 2, written), [Action::Committed(Epoch(1)), Action::Begin(Epoch(2))]);
    }

    #[test]
    fn while_a_sink_has_something_to_deliver_there_is_another_epoch_and_not_in_haste() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(0), Duration::ZERO);
        coordinator.step(Duration::ZERO, Input::Finished(0));
        assert_eq!(coordinator.step(SHORTEST, Input::Tick), [Action::Begin(Epoch(1))]);
        assert_eq!(coordinator.step(SHORTEST, Input::Waiting(Epoch(1))), []);
        let both = [Action::Commit(Epoch(1)), Action::Committed(Epoch(1))];
        assert_eq!(report_all(&mut coordinator, SHORTEST, Epoch(1)), both);
        assert_eq!(coordinator.due(), Some(SHORTEST + SECOND));
        assert_eq!(coordinator.step(SHORTEST + SECOND, Input::Tick), [Action::Begin(Epoch(2))]);
        let all = [Action::Commit(Epoch(2)), Action::Committed(Epoch(2)), Action::Finish];
        assert_eq!(report_all(&mut coordinator, SHORTEST + SECOND, Epoch(2)), all);
    }

    #[test]
    fn who_waits_gets_an_epoch_but_not_more_often_than_the_shortest() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(0), Duration::ZERO);
        assert_eq!(coordinator.step(SHORTEST / 2, Input::Wanted), []);
        assert_eq!(coordinator.due(), Some(SHORTEST));
        assert_eq!(coordinator.step(SHORTEST, Input::Tick), [Action::Begin(Epoch(1))]);
        assert_eq!(coordinator.step(SHORTEST, Input::Wanted), []);
        let both = [Action::Commit(Epoch(1)), Action::Committed(Epoch(1))];
        assert_eq!(report_all(&mut coordinator, SHORTEST, Epoch(1)), both);
        assert_eq!(coordinator.due(), Some(SHORTEST * 2));
    }

    #[test]
    fn a_late_epoch_is_named_once_and_never_given_up() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(0), Duration::ZERO);
        coordinator.step(SECOND, Input::Tick);
        coordinator.step(SECOND, Input::Reported(Participant::Source(0), Epoch(1)));
        let late = Action::Late(Epoch(1), vec![Participant::Stage(0), Participant::Sink(0), Participant::Store]);
        assert_eq!(coordinator.step(SECOND + LATE, Input::Tick), [late]);
        assert_eq!(coordinator.step(SECOND * 3600, Input::Tick), []);
        assert_eq!(report_all(&mut coordinator, SECOND * 3600, Epoch(1))[0], Action::Commit(Epoch(1)));
    }

    /// Row 19.
    #[test]
    fn slow_commits_stretch_the_time_between_epochs_but_not_for_who_waits() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(0), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut commit = |coordinator: &mut Coordinator, number, took| {
            now = coordinator.due().unwrap();
            assert_eq!(coordinator.step(now, Input::Tick), [Action::Begin(Epoch(number))]);
            all().into_iter().for_each(|who| drop(coordinator.step(now, Input::Reported(who, Epoch(number)))));
            (now, coordinator.step(now + took, Input::Written(Epoch(number), took)))
        };
        let (begun, said) = commit(&mut coordinator, 1, SECOND / 5);
        assert_eq!((said, coordinator.due()), (vec![Action::Committed(Epoch(1))], Some(begun + SECOND)));
        let (begun, said) = commit(&mut coordinator, 2, SECOND * 2);
        assert_eq!(said, [Action::Slow(SECOND * 10), Action::Committed(Epoch(2))]);
        assert_eq!(coordinator.due(), Some(begun + SECOND * 10), "five times what a commit takes");
        let (_, said) = commit(&mut coordinator, 3, SECOND * 3);
        assert_eq!(said, [Action::Committed(Epoch(3))], "it is said once");
        let begun = coordinator.begun;
        coordinator.step(begun + SECOND * 3, Input::Wanted);
        assert_eq!(coordinator.under_way().map(|(epoch, ..)| epoch), Some(Epoch(4)));
        let now = begun + SECOND * 7 / 2;
        all().into_iter().for_each(|who| drop(coordinator.step(now, Input::Reported(who, Epoch(4)))));
        let said = coordinator.step(now, Input::Written(Epoch(4), SECOND / 10));
        assert_eq!(said, [Action::Quick, Action::Committed(Epoch(4))]);
    }

    #[test]
    fn when_all_sources_have_ended_a_last_epoch_commits_and_nothing_begins_after_it() {
        let mut coordinator = Coordinator::new(SECOND, all(), Epoch(7), Duration::ZERO);
        coordinator.step(Duration::ZERO, Input::Finished(0));
        assert_eq!(coordinator.step(SHORTEST, Input::Tick), [Action::Begin(Epoch(8))]);
        let end = [Action::Commit(Epoch(8)), Action::Committed(Epoch(8)), Action::Finish];
        assert_eq!(report_all(&mut coordinator, SHORTEST, Epoch(8)), end);
        assert_eq!(coordinator.due(), None);
        assert_eq!(coordinator.step(SECOND * 9, Input::Wanted), []);
    }

    proptest! {
        /// Against a naive record of who reported what: a commit is written exactly when the last report comes, stands
        /// when it is written, epochs count up by one, and no two are under way.
        #[test]
        fn an_epoch_commits_exactly_when_the_last_participant_reports(
            steps in proptest::collection::vec((0u64..400, prop_oneof![
                Just(Input::Tick),
                Just(Input::Wanted),
                (0usize..4, 1u64..6).prop_map(|(who, epoch)| Input::Reported([Participant::Source(0), Participant::Source(1), Participant::Stage(0), Participant::Sink(0)][who], Epoch(epoch))),
                (1u64..6, 0u64..5000).prop_map(|(epoch, took)| Input::Written(Epoch(epoch), Duration::from_millis(took))),
                (0usize..2).prop_map(Input::Finished),
            ]), 0..120),
        ) {
            let everyone = [Participant::Source(0), Participant::Source(1), Participant::Stage(0), Participant::Sink(0)];
            let mut coordinator = Coordinator::new(SECOND, everyone, Epoch(0), Duration::ZERO);
            let (mut now, mut open, mut last, mut over) = (Duration::ZERO, None::<(Epoch, BTreeSet<Participant>)>, Epoch(0), false);
            let (mut asked, mut written) = (false, false);
            for (wait, input) in steps {
                // The store writes only what it has been asked to.
                if matches!(input, Input::Written(..)) && !asked {
                    continue;
                }
                now += Duration::from_millis(wait);
                if let (Input::Written(epoch, _), Some((current, _))) = (input, &open) {
                    written |= epoch == *current;
                } else if let (Input::Reported(who, epoch), Some((current, reported))) = (input, &mut open)
                    && epoch == *current
                {
                    reported.insert(who);
                }
                let actions = coordinator.step(now, input);
                let complete = open.as_ref().is_some_and(|(_, reported)| reported.len() == everyone.len());
                prop_assert_eq!(actions.iter().any(|action| matches!(action, Action::Commit(_))), complete && !asked);
                prop_assert_eq!(actions.iter().any(|action| matches!(action, Action::Committed(_))), written);
                asked |= complete;
                for action in actions {
                    match action {
                        Action::Begin(epoch) => {
                            prop_assert!(open.is_none() && !over);
                            prop_assert_eq!(epoch, last.next());
                            open = Some((epoch, BTreeSet::new()));
                        }
                        Action::Commit(_) => {}
                        Action::Committed(epoch) => {
                            last = epoch;
                            open = None;
                            (asked, written) = (false, false);
                        }
                        Action::Finish => over = true,
                        Action::Late(..) | Action::Slow(_) | Action::Quick => {}
                    }
                }
            }
        }
    }
}
