use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::ID,
    config::WhenFull,
    stage::{
        aggregate::{Peers, Room},
        cellar::{Cellar, Visit},
        fake::{Fake, live},
        live::Live,
        outcome::Outcome,
        table::{Changes, slot},
        worker::SavedGroups,
    },
    time::{BEGIN, Tumbling},
};

/// What a group with a short key and a short state takes.
const GROUP: usize = 136;

/// Commits as a store would hold them, and how often they were asked.
#[derive(Debug, Default)]
struct Commits {
    slots: Mutex<BTreeMap<u8, SavedGroups>>,
    epoch: AtomicU64,
    reads: AtomicUsize,
    scans: AtomicUsize,
}

impl Commits {
    fn apply(&self, epoch: u64, changes: &Changes) {
        let mut slots = self.slots.lock().unwrap();
        for change in changes.iter() {
            let groups = slots.entry(slot(change.key)).or_default();
            let (group, kept) = change.to_owned();
            match kept {
                Some(saved) => groups.insert(group, saved),
                None => groups.remove(&group),
            };
        }
        self.epoch.store(epoch, SeqCst);
    }
}

impl Cellar for Commits {
    fn committed(&self) -> Epoch {
        Epoch(self.epoch.load(SeqCst))
    }

    fn read(&self, groups: &[(&[u8], Window)]) -> Result<Vec<(usize, Saved)>, Failure> {
        self.reads.fetch_add(1, SeqCst);
        let slots = self.slots.lock().unwrap();
        let find = |key: &[u8], window| slots.get(&slot(key))?.get(&(key.to_vec(), window)).cloned();
        let found = groups.iter().enumerate();
        Ok(found.filter_map(|(nth, (key, window))| Some((nth, find(key, *window)?))).collect())
    }

    fn scan(&self, wanted: u8, visit: &mut Visit<'_>) -> Result<(), Failure> {
        self.scans.fetch_add(1, SeqCst);
        for ((key, window), saved) in self.slots.lock().unwrap().get(&wanted).into_iter().flatten() {
            visit(key, *window, &saved.state, saved.facts);
        }
        Ok(())
    }
}

fn rules(windowing: Windowing, ttl: Option<i64>, room: Room) -> Rules {
    let (stage, has_ids, peers) = ("s".to_owned(), true, Peers::None);
    Rules { stage, windowing, ttl, room, groups: 3, has_ids, peers, state_version: 1 }
}

fn tumbling(size: u64, lateness: u64) -> Windowing {
    Windowing::Tumbling(Tumbling::new(Duration::from_millis(size), Duration::from_millis(lateness)))
}

/// An aggregate, and what drives it.
struct Side {
    aggregate: Aggregate,
    fake: Fake,
    live: Live,
    watermark: i64,
}

/// What a step came to: outputs with their ids, and which records were late or refused.
type Came = (Vec<(String, Vec<u8>)>, Vec<u32>, Vec<u32>);

fn outputs(outcome: &Outcome) -> Vec<(String, Vec<u8>)> {
    let batches = outcome.outputs.iter().map(|output| &output.batch);
    let rows = batches.flat_map(|batch| {
        let blank = Column::blank(batch.len());
        let ids = batch.named(ID).unwrap_or(&blank);
        let both = batch.values().iter().zip(ids.iter());
        both.map(|(value, id)| (String::from_utf8(value.to_vec()).unwrap(), id.to_vec())).collect::<Vec<_>>()
    });
    rows.collect()
}

impl Side {
    /// With the groups of `commits`: all of them in memory, or as many as a share lets.
    fn new(rules: &Rules, watermark: i64, commits: &Arc<Commits>, most: Option<usize>) -> Self {
        let slots = commits.slots.lock().unwrap().clone();
        let groups = slots.values().flatten().filter(|_| most.is_none());
        let mut aggregate = Aggregate::new(rules.clone(), watermark, groups);
        if let Some(most) = most {
            let share = Share { most, slots: 0..=u8::MAX, cellar: commits.clone() };
            aggregate.recover(share, watermark).unwrap();
        }
        Self { aggregate, fake: Fake::default(), live: live(), watermark }
    }

    fn fold(&mut self, batch: &Batch) -> Came {
        let mut outcome = Outcome::default();
        self.aggregate.fetch(self.watermark, batch).unwrap();
        let Ok(folded) = self.aggregate.fold(self.watermark, batch, &mut self.fake, &mut outcome) else {
            self.aggregate.chill();
            return Came::default();
        };
        let full = &folded.full;
        let refused = self.aggregate.finish_full(self.watermark, batch, full, &mut self.live, &mut outcome).unwrap();
        assert!(refused.is_empty());
        self.aggregate.chill();
        (outputs(&outcome), folded.late, folded.refused.at)
    }

    fn advance(&mut self, time: i64) -> Came {
        self.watermark = time;
        let mut outcome = Outcome::default();
        loop {
            let upto = self.aggregate.recall(time).unwrap();
            self.aggregate.advance(time, &upto, &mut self.live, &mut outcome).unwrap();
            if upto == Upto::All {
                self.aggregate.chill();
                return (outputs(&outcome), vec![], vec![]);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Records: key, how far behind or ahead of the watermark, value.
    Fold(Vec<(u8, i64, String)>),
    /// Event time goes on.
    Advance(i64),
    Barrier,
    /// The oldest epoch that was handed over is committed.
    Commit,
    /// Everything is committed, and another process goes on.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        40 => (0u32..100).prop_map(|n| n.to_string()),
        1 => Just("fault".to_owned()),
        2 => Just("refuse".to_owned()),
    ];
    let records = proptest::collection::vec((0u8..30, -120i64..150, value), 1..10);
    let step = prop_oneof![
        8 => records.prop_map(Step::Fold),
        3 => (1i64..90).prop_map(Step::Advance),
        3 => Just(Step::Barrier),
        3 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..70)
}

fn all_rules() -> impl Strategy<Value = Rules> {
    let roomy = || Just((1usize << 30, WhenFull::Pause));
    let full = || prop_oneof![roomy(), (1usize..40).prop_map(|groups| (groups * GROUP, WhenFull::Refuse))];
    let windows = prop_oneof![Just(tumbling(50, 0)), Just(tumbling(100, 70)), Just(tumbling(40, 300))];
    prop_oneof![
        (Just(Windowing::None), Just(None), full()),
        (Just(Windowing::None), (20i64..300).prop_map(Some), roomy()),
        ((2u64..6).prop_map(Windowing::Count), Just(None), full()),
        (windows, Just(None), full()),
    ]
    .prop_map(|(windowing, ttl, (most, when_full))| rules(windowing, ttl, Room { most, when_full }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, however late commits are, and however often a process goes on from one: what comes out, under which
    /// ids, what is late and what is refused are as if all groups were in memory; and what is committed is the same.
    #[test]
    fn what_leaves_memory_comes_back_as_if_it_had_never_left(rules in all_rules(), steps in steps(), room in 0usize..12) {
        let most = room * GROUP;
        let (all, some) = (Arc::new(Commits::default()), Arc::new(Commits::default()));
        let mut plain = Side::new(&rules, BEGIN, &all, None);
        let mut tight = Side::new(&rules, BEGIN, &some, Some(most));
        let (mut handed, mut epoch, mut number) = (VecDeque::new(), 0, 0u128);
        for step in steps.into_iter().chain([Step::Restart, Step::Advance(i64::MAX)]) {
            let is_restart = matches!(step, Step::Restart);
            let commits = match step {
                Step::Fold(records) => {
                    let base = plain.watermark.max(0);
                    let ids: Vec<[u8; 16]> = records.iter().map(|_| { number += 1; number.to_le_bytes() }).collect();
                    let batch = Batch::of_values(records.iter().map(|(.., value)| value).collect())
                        .with_keys(records.iter().map(|(key, ..)| [b'a', *key]).collect())
                        .and_then(|batch| batch.with_timestamps(records.iter().map(|(_, time, _)| base + time).collect()))
                        .and_then(|batch| batch.with_named(ID.into(), ids.iter().collect()))
                        .unwrap();
                    prop_assert_eq!(plain.fold(&batch), tight.fold(&batch));
                    0
                }
                Step::Advance(by) => {
                    let time = if by == i64::MAX { END } else { plain.watermark.max(0) + by };
                    prop_assert_eq!(plain.advance(time), tight.advance(time));
                    0
                }
                Step::Barrier | Step::Restart => {
                    epoch += 1;
                    [&mut plain, &mut tight].into_iter().for_each(|side| side.aggregate.barrier(Epoch(epoch)));
                    handed.push_back((epoch, plain.aggregate.take_changes(), tight.aggregate.take_changes()));
                    if is_restart { handed.len() } else { 0 }
                }
                Step::Commit => 1,
            };
            for (epoch, of_plain, of_tight) in handed.drain(..commits.min(handed.len())) {
                all.apply(epoch, &of_plain);
                some.apply(epoch, &of_tight);
            }
            if handed.is_empty() && commits > 0 {
                tight.aggregate.chill();
            }
            if is_restart {
                prop_assert!(tight.aggregate.table.clean().is_empty() || tight.aggregate.bytes() <= most);
                plain = Side::new(&rules, plain.watermark, &all, None);
                tight = Side::new(&rules, tight.watermark, &some, Some(most));
                let late = tight.aggregate.late.len() * GROUP;
                prop_assert!(tight.aggregate.bytes() <= most + late, "no more comes in than may");
            }
            if rules.ttl.is_none() {
                let (cold, bytes) = tight.aggregate.cold();
                prop_assert_eq!(plain.aggregate.len(), tight.aggregate.len() + cold);
                prop_assert_eq!(plain.aggregate.bytes(), tight.aggregate.bytes() + bytes);
            }
        }
        prop_assert!(tight.aggregate.is_empty() || rules.ttl.is_some(), "only what has expired may wait to be swept");
        for side in [&mut plain, &mut tight] {
            side.aggregate.barrier(Epoch(epoch + 1));
        }
        all.apply(epoch + 1, &plain.aggregate.take_changes());
        some.apply(epoch + 1, &tight.aggregate.take_changes());
        // When what has expired is swept is nobody's business.
        let horizon = plain.aggregate.table.horizon();
        let groups = |commits: &Commits| {
            let slots = commits.slots.lock().unwrap().clone();
            let lasting = slots.into_values().flatten().filter(|(_, saved)| saved.facts.seen >= horizon);
            lasting.collect::<SavedGroups>()
        };
        prop_assert_eq!(groups(&all), groups(&some));
    }
}

fn batch(keys: impl Iterator<Item = u32>, time: i64) -> Batch {
    let keys: Vec<String> = keys.map(|key| format!("{key:08}")).collect();
    Batch::of_values(keys.iter().map(|_| "1").collect())
        .with_keys(keys.iter().collect())
        .and_then(|batch| batch.with_timestamps(vec![time; keys.len()]))
        .unwrap()
}

/// Folds batches of 1000 new keys each and commits behind each; returns the most that memory held.
fn fill(side: &mut Side, commits: &Commits, batches: u32, time: i64) -> usize {
    let mut most = 0;
    for n in 0..batches {
        side.aggregate.fetch(side.watermark, &batch(n * 1000..(n + 1) * 1000, time)).unwrap();
        let records = batch(n * 1000..(n + 1) * 1000, time);
        side.aggregate.fold(side.watermark, &records, &mut side.fake, &mut Outcome::default()).unwrap();
        most = most.max(side.aggregate.bytes());
        side.aggregate.barrier(Epoch(u64::from(n) + 1));
        commits.apply(u64::from(n) + 1, &side.aggregate.take_changes());
        side.aggregate.chill();
    }
    most
}

fn plain_rules(windowing: Windowing) -> Rules {
    Rules { has_ids: false, groups: 1024, ..rules(windowing, None, Room { most: 1 << 30, when_full: WhenFull::Pause }) }
}

#[test]
fn memory_stays_under_its_limit_and_a_batch_also_where_all_groups_end_at_once() {
    const MOST: usize = 4000 * GROUP;
    for (windowing, end) in [(Windowing::None, END), (tumbling(100, 0), 100)] {
        let commits = Arc::new(Commits::default());
        let mut side = Side::new(&plain_rules(windowing), BEGIN, &commits, Some(MOST));
        assert!(fill(&mut side, &commits, 40, 7) <= MOST + 1000 * GROUP);
        assert_eq!(side.aggregate.len() + side.aggregate.cold().0, 40_000);
        let (mut rounds, mut out, mut outcome) = (0, 0, Outcome::default());
        loop {
            let upto = side.aggregate.recall(end).unwrap();
            assert!(side.aggregate.bytes() <= MOST + MOST / ROUND, "{} in round {rounds}", side.aggregate.bytes());
            side.aggregate.advance(end, &upto, &mut side.live, &mut outcome).unwrap();
            out += outcome.outputs.drain(..).map(|output| output.batch.len()).sum::<usize>();
            rounds += 1;
            if upto == Upto::All {
                break;
            }
        }
        assert_eq!((out, side.aggregate.is_empty()), (40_000, true));
        assert!(rounds > 5 && rounds < 45, "{rounds} rounds");
    }
}

#[test]
fn what_is_new_or_in_memory_costs_no_read() {
    let commits = Arc::new(Commits::default());
    let mut side = Side::new(&plain_rules(Windowing::None), BEGIN, &commits, Some(2000 * GROUP));
    fill(&mut side, &commits, 10, 7);
    assert_eq!((commits.reads.load(SeqCst), side.aggregate.take_reads()), (0, 0), "all were new");
    let hot: Vec<u32> = side.aggregate.table.all().into_iter().take(500).collect();
    let hot = hot.into_iter().map(|at| side.aggregate.table.get(at).unwrap().key.to_vec());
    let hot: Vec<u32> = hot.map(|key| String::from_utf8(key).unwrap().parse().unwrap()).collect();
    side.aggregate.fetch(BEGIN, &batch(hot.into_iter().chain(1_000_000..1_000_500), 7)).unwrap();
    assert_eq!(commits.reads.load(SeqCst), 0);
    // The first keys left first; each is read once, in one look.
    side.aggregate.fetch(BEGIN, &batch((0..300).chain(0..300), 7)).unwrap();
    assert_eq!((commits.reads.load(SeqCst), side.aggregate.take_reads()), (1, 300));
}

#[test]
fn a_window_that_ends_while_no_group_of_it_is_elsewhere_costs_no_look() {
    let commits = Arc::new(Commits::default());
    let mut side = Side::new(&plain_rules(tumbling(100, 0)), BEGIN, &commits, Some(2000 * GROUP));
    fill(&mut side, &commits, 10, 1000);
    let before = commits.scans.load(SeqCst);
    for time in 0..1100 {
        side.advance(time);
    }
    assert_eq!(commits.scans.load(SeqCst), before);
    assert_eq!(side.advance(1100).0.len(), 10_000);
    assert!(commits.scans.load(SeqCst) > before && side.aggregate.is_empty());
}

#[test]
fn nothing_leaves_before_it_is_committed() {
    let commits = Arc::new(Commits::default());
    let mut side = Side::new(&plain_rules(Windowing::None), BEGIN, &commits, Some(100 * GROUP));
    side.aggregate.fold(BEGIN, &batch(0..1000, 7), &mut side.fake, &mut Outcome::default()).unwrap();
    side.aggregate.chill();
    assert_eq!(side.aggregate.len(), 1000, "it has changed");
    side.aggregate.barrier(Epoch(1));
    let first = side.aggregate.take_changes();
    side.aggregate.chill();
    assert_eq!(side.aggregate.len(), 1000, "its epoch is under way");
    side.aggregate.fold(BEGIN, &batch(0..950, 7), &mut side.fake, &mut Outcome::default()).unwrap();
    side.aggregate.barrier(Epoch(2));
    let second = side.aggregate.take_changes();
    commits.apply(1, &first);
    side.aggregate.chill();
    assert_eq!(side.aggregate.len(), 1000, "what was handed over last is of another epoch");
    commits.apply(2, &second);
    side.aggregate.chill();
    assert!(side.aggregate.len() <= 88, "{}", side.aggregate.len());
}

#[test]
fn groups_leave_also_where_nothing_comes_but_barriers() {
    let commits = Arc::new(Commits::default());
    let mut side = Side::new(&plain_rules(Windowing::None), BEGIN, &commits, Some(100 * GROUP));
    side.aggregate.fold(BEGIN, &batch(0..1000, 7), &mut side.fake, &mut Outcome::default()).unwrap();
    for epoch in 1..3 {
        side.aggregate.barrier(Epoch(epoch));
        // As a worker does, before it hands over.
        side.aggregate.chill();
        commits.apply(epoch, &side.aggregate.take_changes());
    }
    assert!(side.aggregate.len() <= 88, "{}", side.aggregate.len());
}
