//! The world of a pipeline: what outlives its processes, who goes on next, and what has to be true after each step.

use futures::executor::block_on;
use rand::{Rng, rngs::SmallRng};
use tokio::sync::Semaphore;

use super::{
    super::*,
    Seen,
    life::{self, Life, Turn},
    shape::{Shape, shown},
};
use crate::{
    disk::Sim,
    epoch::Epoch,
    pipeline::{
        committed::{Committed, Point},
        coordinator::{Action, Input, LATE},
        durable::Restored,
        source_task::{Order, Word},
    },
    time::Window,
};

/// Epochs that are begun while there is something to read.
const BARRIERS: u64 = 6;

/// Steps after which something is wrong.
const STEPS: usize = 200_000;

/// How a life ends that does not come to its end.
#[derive(Debug)]
pub(super) enum Fall {
    /// Of everything but the disk.
    Machine,
    /// A panic of the host, who restarts the pipeline.
    Panic,
}

pub(super) struct World<'a> {
    pub(super) shape: &'a Shape,
    pub(super) plan: Plan,
    pub(super) collected: Collected,
    pub(super) reads: Vec<Arc<Semaphore>>,
    pub(super) gate: Arc<Semaphore>,
    pub(super) disk: Option<Sim>,
    pub(super) committed: Committed,
    pub(super) is_over: bool,
    pub(super) now: Duration,
    /// Who had nothing to do when last asked, since somebody had.
    pub(super) resting: Vec<bool>,
    pub(super) seen: Seen,
}

impl World<'_> {
    /// Whether `turn` can do anything.
    fn may(&self, life: &Life, turn: Turn) -> bool {
        let workers = life.leading.len();
        match turn {
            Turn::Allow(at) => !life.sources[at].is_over() && self.reads[at].available_permits() == 0,
            Turn::Source(at) => life.sources[at].is_woken(),
            Turn::Leading(at) => {
                !self.resting[at] && life.leading[at].as_ref().is_some_and(|leading| life.has_room(leading))
            }
            Turn::Working(at) => !self.resting[workers + at] && life.working[at].is_some(),
            Turn::Admit => self.gate.available_permits() == 0,
            Turn::Sink(at) => life.sinks[at].is_woken(),
            Turn::Hear => !(life.words.is_empty() && life.reports.is_empty() && life.points.lock().unwrap().is_empty()),
            Turn::Write => life.writing.is_some(),
            Turn::Tick => false,
        }
    }

    /// Somebody who can go on, if anybody can.
    fn turn(&self, life: &Life, all: &[Turn], random: &mut SmallRng) -> Option<Turn> {
        let (before, after) = all.split_at(random.random_range(0..all.len()));
        after.iter().chain(before).copied().find(|turn| self.may(life, *turn))
    }

    fn take(&mut self, life: &mut Life, turn: Turn, random: &mut SmallRng) -> Result<(), Fall> {
        let workers = life.leading.len();
        let has_sent = match turn {
            Turn::Source(at) => {
                if let Some((task, result)) = life.sources[at].poll() {
                    result.unwrap();
                    life.ended[at] = Some(task);
                }
                let acknowledged = self.plan.sources()[at].acknowledged.load(Ordering::SeqCst);
                let upto = self.upto()[at] as u64;
                assert!(acknowledged <= upto, "{acknowledged} acknowledged, {upto} committed");
                true
            }
            Turn::Leading(at) => {
                let did = life::lead(&mut life.leading[at]).map_err(|failure| failure.to_string()).unwrap();
                self.resting[at] = !did;
                did
            }
            Turn::Working(at) => {
                let did = life::work(&mut life.working[at]).unwrap();
                self.resting[workers + at] = !did;
                did
            }
            other => {
                match other {
                    Turn::Allow(at) => self.reads[at].add_permits(1),
                    Turn::Admit => self.gate.add_permits(1),
                    Turn::Sink(at) => {
                        let ended = life.sinks[at].poll();
                        ended.into_iter().for_each(|end| end.map_err(|failure| failure.to_string()).unwrap());
                    }
                    Turn::Hear => self.hear(life, random),
                    // Writing takes its time, in which others go on, or fall.
                    Turn::Write if random.random_bool(0.9) => {}
                    Turn::Write => self.write(life)?,
                    _ => self.step(life, Input::Tick),
                }
                false
            }
        };
        if has_sent {
            self.resting.fill(false);
        }
        Ok(())
    }

    fn hear(&mut self, life: &mut Life, random: &mut SmallRng) {
        match random.random_range(0..3) {
            0 => match life.words.try_recv() {
                Ok(Word::At(at, epoch, point)) => self.reported(life, epoch, Point::Source(at, point)),
                Ok(Word::Finished(at)) => self.step(life, Input::Finished(at)),
                Ok(Word::Wanted) => self.step(life, Input::Wanted),
                Err(_) => {}
            },
            1 => {
                let point = life.points.lock().unwrap().pop_front();
                point.into_iter().for_each(|(epoch, point)| self.reported(life, epoch, point));
            }
            _ => {
                let report = life.reports.try_recv().ok();
                report.into_iter().for_each(|(at, epoch, point)| self.reported(life, epoch, Point::Sink(at, point)));
            }
        }
    }

    fn reported(&mut self, life: &mut Life, epoch: Epoch, point: Point) {
        let who = point.of();
        life.reported.push(point);
        self.step(life, Input::Reported(who, epoch));
    }

    fn step(&mut self, life: &mut Life, input: Input) {
        for action in life.coordinator.step(self.now, input) {
            match action {
                Action::Begin(epoch) => {
                    assert_eq!(epoch, self.committed.epoch.next());
                    life.order(Order::Begin(epoch));
                }
                Action::Commit(epoch) => {
                    let points = std::mem::take(&mut life.reported);
                    assert_eq!(ledger::audit(&life.graph, &self.committed.with(epoch, &points)), []);
                    let is_over = life.coordinator.is_last();
                    assert!(life.writing.replace((epoch, points, is_over)).is_none(), "one commit at a time");
                }
                Action::Committed(epoch) => {
                    life.told.send_replace(epoch);
                    life.order(Order::Committed(epoch));
                }
                Action::Late(..) => self.seen.late_epochs += 1,
                Action::Finish => life.order(Order::Quit),
                Action::Slow(_) | Action::Quick => {}
            }
        }
    }

    /// Writes the commit that is under way.
    pub(super) fn write(&mut self, life: &mut Life) -> Result<(), Fall> {
        let Some((epoch, points, is_over)) = life.writing.take() else { return Ok(()) };
        if let Some(durable) = &life.durable {
            let written = block_on(durable.write(durable.commit(epoch, &points, is_over), |_| ()));
            written.map_err(|_| Fall::Machine)?;
        }
        self.committed.apply(epoch, points);
        self.is_over = is_over;
        self.seen.commits += 1;
        self.check();
        self.step(life, Input::Written(epoch, Duration::ZERO));
        Ok(())
    }

    /// Records of each source that are committed.
    fn upto(&self) -> Vec<usize> {
        self.committed.sources.iter().map(|point| point.position.0.as_u64().unwrap() as usize).collect()
    }

    /// P1: what is committed is the fold of the committed prefix.
    pub(super) fn check(&self) {
        let outcome = self.shape.outcome(&self.upto());
        let mut closed = std::collections::BTreeMap::new();
        for (at, expected) in &outcome.groups {
            let point = &self.committed.stages[*at];
            let mut left = point.groups.clone();
            let mut gone = Vec::new();
            for (group @ (start, key), folded) in expected {
                let window = Window { start: *start, end: Shape::end(group) };
                match left.remove(&(key.to_string().into_bytes(), window)) {
                    Some(saved) => {
                        let (sum, count) = saved.state.split_at(8);
                        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
                        assert_eq!((number(sum), number(count)), *folded, "group {key} of {start} in stage {at}");
                    }
                    None => {
                        assert!(window.end <= point.watermark, "group {key} of {start} in stage {at} is gone");
                        gone.push(shown(*group, *folded));
                    }
                }
            }
            assert!(left.is_empty(), "groups that nothing was folded into: {left:?}");
            closed.insert(*at, gone);
        }
        for (at, expected) in outcome.records.into_iter().enumerate() {
            let Some(len) = self.committed.sinks[at].position.as_u64() else { continue };
            let mut found = self.collected.values(&format!("out{at}"));
            found.truncate(len as usize);
            if self.shape.is_straight(at) {
                assert_eq!(found, expected, "sink {at}, in order");
                continue;
            }
            let folded = outcome.aggregates[at].iter().flat_map(|stage| closed[stage].clone());
            assert_eq!(sorted(found), sorted(expected.into_iter().chain(folded).collect()), "sink {at}");
        }
    }

    /// One life, to its end or to its fall.
    pub(super) fn live(&mut self, life: &mut Life, falls: &[(usize, bool)], random: &mut SmallRng) -> Result<(), Fall> {
        self.resting = vec![false; life.leading.len() + life.working.len()];
        let all = life.turns();
        for step in 0..STEPS {
            if life.is_over() {
                return Ok(());
            }
            if let Some((_, is_machine)) = falls.iter().find(|(at, _)| *at == step) {
                return Err(if *is_machine { Fall::Machine } else { Fall::Panic });
            }
            let turn = self.turn(life, &all, random);
            let is_done = life.sources.iter().all(life::Polled::is_over);
            let (epoch, due) = (life.coordinator.committed().0, life.coordinator.due());
            let turn = match turn {
                None => {
                    let under_way = life.coordinator.under_way();
                    assert!(under_way.is_none() && due.is_some(), "nobody can go on, and {under_way:?} waits");
                    self.now = self.now.max(due.unwrap_or_default());
                    Turn::Tick
                }
                Some(_) if !is_done && random.random_bool(0.03) => {
                    // Seldom so much that the epoch under way is late.
                    let is_late = life.coordinator.under_way().is_some() && random.random_bool(0.01);
                    let begins = life.coordinator.under_way().is_none() && epoch < BARRIERS;
                    self.now += if is_late {
                        LATE
                    } else if begins {
                        Duration::from_millis(50)
                    } else {
                        Duration::ZERO
                    };
                    Turn::Tick
                }
                Some(turn) => turn,
            };
            self.take(life, turn, random)?;
        }
        panic!("it does not come to its end");
    }

    /// What the next process finds.
    pub(super) fn restored(&self) -> Restored {
        let Committed { epoch, sources, stages, sinks } = self.committed.clone();
        Restored {
            epoch,
            sources: sources.into_iter().map(Some).collect(),
            stages: stages.into_iter().map(Some).collect(),
            sinks: sinks.into_iter().map(Some).collect(),
            is_over: self.is_over,
            ..Restored::default()
        }
    }

    pub(super) fn fell(&mut self, life: &Life) {
        let read = self.plan.sources().iter().map(|source| source.accepted.load(Ordering::SeqCst)).sum::<u64>();
        self.seen.repeated += read.saturating_sub(self.upto().iter().sum::<usize>() as u64);
        self.seen.falls_in_commits += u64::from(life.writing.is_some());
    }

    /// At the end everything has come out: once where it can be taken back, else at least once.
    pub(super) fn finish(mut self) -> Seen {
        assert_eq!(self.upto(), self.shape.lengths());
        self.check();
        assert!(self.committed.stages.iter().all(|stage| stage.groups.is_empty()), "all windows have closed");
        let outcome = self.shape.outcome(&self.shape.lengths());
        for (at, records) in outcome.records.into_iter().enumerate() {
            let folded = outcome.aggregates[at].iter().flat_map(|stage| &outcome.groups[stage]);
            let folded = folded.map(|(group, folded)| shown(*group, *folded));
            let expected = sorted(records.into_iter().chain(folded).collect());
            let mut found = sorted(self.collected.values(&format!("out{at}")));
            if self.shape.truncates {
                assert_eq!(found, expected, "sink {at}");
                continue;
            }
            for value in &expected {
                let at = found.binary_search(value).unwrap_or_else(|_| panic!("{value} is lost"));
                found.remove(at);
            }
            assert!(found.iter().all(|value| expected.binary_search(value).is_ok()), "{found:?} came from nowhere");
            self.seen.doubled += found.len() as u64;
        }
        self.seen
    }
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}
