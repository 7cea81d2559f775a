use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::Batch,
    stage::{
        aggregate::{Peers, Rules, Upto, Windowing},
        fake::{Fake, live},
        outcome::Outcome,
        worker::SavedGroups,
    },
    time::{BEGIN, Tumbling},
};

/// What a group with a short key and a short state takes.
const GROUP: usize = 136;

fn rules(windowing: Windowing, groups: usize, when_full: WhenFull) -> Rules {
    Rules {
        stage: "s".to_owned(),
        windowing,
        ttl: None,
        room: Room { most: groups * GROUP, when_full },
        groups: 1024,
        has_ids: false,
        peers: Peers::None,
        state_version: 1,
    }
}

fn aggregate(rules: &Rules, saved: &SavedGroups) -> Aggregate {
    Aggregate::new(rules.clone(), BEGIN, saved.iter())
}

fn batch(records: &[(u32, i64, String)]) -> Batch {
    Batch::of_values(records.iter().map(|(_, _, value)| value).collect())
        .with_keys(records.iter().map(|(key, ..)| key.to_be_bytes()).collect())
        .and_then(|batch| batch.with_timestamps(records.iter().map(|(_, time, _)| *time).collect()))
        .unwrap()
}

/// A group as the model has it: sum, count, when it was seen, in which call.
type Model = BTreeMap<u32, (u64, u64, i64, u64)>;

fn contents(aggregate: &Aggregate) -> BTreeMap<u32, (u64, u64, i64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let groups = aggregate.table.all().into_iter().filter_map(|at| aggregate.table.get(at));
    groups
        .map(|group| {
            let key = u32::from_be_bytes(group.key.try_into().unwrap());
            (key, (number(&group.state[..8]), number(&group.state[8..]), group.facts.seen))
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Fold(Vec<(u32, i64, String)>),
    Barrier,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        60 => (0u32..100).prop_map(|n| n.to_string()),
        1 => Just("fault".to_owned()),
        3 => Just("refuse".to_owned()),
    ];
    let records = proptest::collection::vec((0u32..40, 0i64..20, value), 1..12);
    let step = prop_oneof![6 => records.prop_map(Step::Fold), 1 => Just(Step::Barrier), 1 => Just(Step::Restart)];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against a map and the plainest rule there is: whatever the cap and whatever faults, the groups that stay, what
    /// they hold, which records are turned away, and what commits come to, are known.
    #[test]
    fn at_its_cap_a_stage_keeps_what_a_map_keeps_that_forgets_the_oldest_or_takes_none(
        steps in steps(),
        groups in 1usize..30,
        when_full in proptest::sample::select(vec![WhenFull::Pause, WhenFull::Evict, WhenFull::Refuse]),
    ) {
        let rules = rules(Windowing::None, groups, when_full);
        let (mut aggregate, mut fake) = (aggregate(&rules, &SavedGroups::new()), Fake::default());
        let (mut model, mut saved, mut calls, mut evicted) = (Model::new(), SavedGroups::new(), 0, 0);
        for step in steps {
            match step {
                Step::Fold(records) => {
                    calls += 1;
                    let is_full = model.len() >= groups;
                    let is_away = |key: &u32| when_full == WhenFull::Refuse && is_full && !model.contains_key(key);
                    let taken: Vec<_> = records.iter().filter(|(key, ..)| !is_away(key)).cloned().collect();
                    let refused = (0u32..).zip(&records).filter(|(_, (key, _, value))| is_away(key) || value == "refuse");
                    let refused: Vec<u32> = refused.map(|(at, _)| at).collect();
                    let folded = aggregate.fold(BEGIN, &batch(&records), &mut fake, &mut Outcome::default());
                    if taken.iter().any(|(_, _, value)| value == "fault") {
                        prop_assert!(folded.is_err());
                    } else {
                        let folded = folded.unwrap();
                        prop_assert_eq!(&folded.refused.at, &refused);
                        for (at, reason) in refused.iter().zip(folded.refused.reasons.iter()) {
                            prop_assert_eq!(reason == STATE_FULL, is_away(&records[*at as usize].0));
                        }
                        for (key, time, value) in taken {
                            let group = model.entry(key).or_insert((0, 0, time, calls));
                            (group.2, group.3) = (group.2.max(time), calls);
                            if let Ok(number) = value.parse::<u64>() {
                                (group.0, group.1) = (group.0 + number, group.1 + 1);
                            }
                        }
                        // One that had nothing but refused records is over.
                        model.retain(|_, (_, count, ..)| *count > 0);
                        if when_full == WhenFull::Evict && model.len() >= groups {
                            let aim = (groups * GROUP - groups * GROUP / PART) / GROUP;
                            while model.len() > aim {
                                let oldest = model.iter().min_by_key(|(key, group)| (group.2, group.3, **key));
                                let oldest = *oldest.unwrap().0;
                                model.remove(&oldest);
                                evicted += 1;
                            }
                        }
                    }
                }
                Step::Barrier => commit(&mut aggregate, &mut saved),
                Step::Restart => {
                    commit(&mut aggregate, &mut saved);
                    prop_assert_eq!(std::mem::take(&mut evicted), aggregate.take_evicted());
                    aggregate = super::tests::aggregate(&rules, &saved);
                    calls = 0;
                    model.values_mut().for_each(|group| group.3 = 0);
                }
            }
            let expected = model.iter().map(|(key, (sum, count, seen, _))| (*key, (*sum, *count, *seen))).collect();
            prop_assert_eq!(contents(&aggregate), expected);
            prop_assert_eq!(aggregate.is_full(), model.len() >= groups);
        }
        commit(&mut aggregate, &mut saved);
        prop_assert_eq!(contents(&super::tests::aggregate(&rules, &saved)), contents(&aggregate));
    }

    /// Groups of any size: there is room behind every call, and none that stays was seen before one that went.
    #[test]
    fn however_large_groups_are_the_oldest_go_until_there_is_room(keys in proptest::collection::vec(0usize..40, 1..200)) {
        let mut table = aggregate(&rules(Windowing::None, 40, WhenFull::Evict), &SavedGroups::new());
        let most = 40 * GROUP;
        for (at, len) in keys.into_iter().enumerate() {
            let key = [at.to_be_bytes().to_vec(), vec![7; len * 20]].concat();
            let one = Batch::of_values(["1"].iter().collect()).with_keys([key].iter().collect());
            let one = one.and_then(|batch| batch.with_timestamps(vec![at as i64])).unwrap();
            table.fold(BEGIN, &one, &mut Fake::default(), &mut Outcome::default()).unwrap();
            prop_assert!(table.bytes() < most, "{} of {most}", table.bytes());
            let seen: Vec<i64> = contents_seen(&table);
            prop_assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seen:?}");
            prop_assert!(seen.last() == Some(&(at as i64)) || seen.is_empty());
        }
    }
}

fn contents_seen(aggregate: &Aggregate) -> Vec<i64> {
    let mut seen: Vec<i64> = aggregate
        .table
        .all()
        .into_iter()
        .filter_map(|at| aggregate.table.get(at))
        .map(|group| group.facts.seen)
        .collect();
    seen.sort_unstable();
    seen
}

fn commit(aggregate: &mut Aggregate, saved: &mut SavedGroups) {
    for change in aggregate.table.take_changes().iter() {
        let (group, kept) = change.to_owned();
        match kept {
            Some(change) => saved.insert(group, change),
            None => saved.remove(&group),
        };
    }
}

#[test]
fn a_window_that_was_given_up_leaves_no_timer_to_the_group_that_comes_after() {
    let tumbling = Tumbling::new(Duration::from_millis(100), Duration::from_millis(50));
    let mut table = aggregate(&rules(Windowing::Tumbling(tumbling), 4, WhenFull::Evict), &SavedGroups::new());
    let (mut fake, mut live, mut outcome) = (Fake::default(), live(), Outcome::default());
    let mut fold = |table: &mut Aggregate, key: u32, time: i64| {
        table.fold(BEGIN, &batch(&[(key, time, "1".to_owned())]), &mut fake, &mut Outcome::default()).unwrap();
    };
    (0..4).for_each(|key| fold(&mut table, key, i64::from(key)));
    assert_eq!((table.len(), table.take_evicted()), (3, 1), "the first has gone");
    // Takes the place of the one that went.
    fold(&mut table, 9, 550);
    assert_eq!(table.take_evicted(), 1, "and the second with it");
    table.advance(150, &Upto::All, &mut live, &mut outcome).unwrap();
    let closed = |outcome: &Outcome| outcome.outputs.iter().map(|output| output.batch.len()).sum::<usize>();
    assert_eq!((closed(&outcome), table.len()), (2, 1));
    table.advance(650, &Upto::All, &mut live, &mut outcome).unwrap();
    assert_eq!((closed(&outcome), table.len()), (3, 0));
}

/// Row 78: a million keys where there is room for a hundred thousand.
#[test]
fn a_million_keys_take_no_more_than_the_cap_and_a_batch() {
    const CAP: usize = 100_000;
    const BATCH: u32 = 8192;
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let mut table = aggregate(&rules(Windowing::None, CAP, when_full), &SavedGroups::new());
        let (mut fake, mut refused) = (Fake::default(), 0);
        for first in (0..1_000_000).step_by(BATCH as usize) {
            let keys: Vec<[u8; 4]> = (first..first + BATCH).map(u32::to_be_bytes).collect();
            let records = Batch::of_values(keys.iter().map(|_| "1").collect())
                .with_keys(keys.iter().collect())
                .and_then(|batch| batch.with_timestamps(vec![i64::from(first); keys.len()]))
                .unwrap();
            let folded = table.fold(BEGIN, &records, &mut fake, &mut Outcome::default()).unwrap();
            refused += folded.refused.at.len();
            assert!(table.bytes() < (CAP + BATCH as usize) * GROUP);
            table.table.take_changes();
        }
        let (sent, evicted) = (1_000_000usize.next_multiple_of(BATCH as usize), table.take_evicted() as usize);
        assert_eq!(table.len() + evicted + refused, sent, "every group is there, given up or never begun");
        assert!(table.len() <= CAP + BATCH as usize && table.len() > CAP * 3 / 4);
        // What the system has given is what was needed at most, and what growing by halves adds.
        assert!(table.table.bytes().reserved < 2 * (CAP + BATCH as usize) * GROUP, "{:?}", table.table.bytes());
    }
}
