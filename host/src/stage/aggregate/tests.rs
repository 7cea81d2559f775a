use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::ID,
    stage::{
        fake::{Fake, live},
        worker::SavedGroups,
    },
    time::{Clock, Cut},
};

const SIZE: i64 = 100;

fn rules(windowing: Windowing) -> Rules {
    let (stage, has_ids, peers) = ("s".to_owned(), true, Peers::None);
    let room = Room { most: 1 << 30, when_full: WhenFull::Pause };
    Rules { stage, windowing, ttl: None, room, groups: 3, has_ids, peers, state_version: 3 }
}

/// Running groups that are kept so long after their last record.
fn expiring(ttl: i64) -> Rules {
    Rules { ttl: Some(ttl), ..rules(Windowing::None) }
}

fn tumbling(lateness: u64) -> Windowing {
    Windowing::Tumbling(Tumbling::new(Duration::from_millis(SIZE as u64), Duration::from_millis(lateness)))
}

/// The records, of which the first is the record number `first`.
fn batch(records: &[(u8, i64, u64)], first: usize) -> Batch {
    Batch::of_values(records.iter().map(|(_, _, n)| n.to_string()).collect())
        .with_keys(records.iter().map(|(key, ..)| [b'a' + key]).collect())
        .and_then(|batch| batch.with_timestamps(records.iter().map(|(_, time, _)| *time).collect()))
        .and_then(|batch| {
            batch.with_named(ID.into(), (first..).take(records.len()).map(|n| (n as u128).to_le_bytes()).collect())
        })
        .unwrap()
}

fn values(outcome: &Outcome) -> Vec<String> {
    let main = outcome.outputs.iter().filter(|output| output.port == super::super::outlet::Port::Main);
    main.flat_map(|output| {
        output.batch.values().iter().map(|v| String::from_utf8(v.to_vec()).unwrap()).collect::<Vec<_>>()
    })
    .collect()
}

/// The ids of what stands in the main output.
fn ids(outcome: &Outcome) -> Vec<Vec<u8>> {
    let main = outcome.outputs.iter().filter(|output| output.port == super::super::outlet::Port::Main);
    main.flat_map(|output| output.batch.named(ID).unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

/// What a run put out, under which ids, and which records were late.
#[derive(Debug, Default, PartialEq)]
struct Run {
    out: Vec<String>,
    ids: Vec<Vec<u8>>,
    late: Vec<u64>,
}

/// Feeds `records` in the batches that `splits` make, watermarks where the clock of a source puts them, and puts the
/// aggregate away and back from its commits at every `restarts`-th batch.
fn run(rules: &Rules, records: &[(u8, i64, u64)], splits: &[usize], restarts: Option<usize>) -> Run {
    let mut clock = Clock::new(Duration::from_millis(80), Duration::from_secs(1 << 40));
    let mut aggregate = Aggregate::new(rules.clone(), BEGIN, std::iter::empty());
    let (mut saved, mut fake, mut watermark, mut run) = (SavedGroups::new(), Fake::default(), BEGIN, Run::default());
    let mut live = live();
    let mut bounds = splits.to_vec();
    bounds.extend([0, records.len()]);
    bounds.iter_mut().for_each(|bound| *bound = (*bound).min(records.len()));
    bounds.sort_unstable();
    for (nth, pair) in bounds.windows(2).enumerate() {
        let part = &records[pair[0]..pair[1]];
        let times: Vec<i64> = part.iter().map(|(_, time, _)| *time).collect();
        let mut start = 0;
        for Cut { end, watermark: mark } in clock.advance(&times) {
            let mut outcome = Outcome::default();
            let records = batch(&part[start..end], pair[0] + start);
            let folded = aggregate.fold(watermark, &records, &mut fake, &mut outcome).unwrap();
            let refused = aggregate.finish_full(watermark, &records, &folded.full, &mut live, &mut outcome).unwrap();
            assert!(refused.is_empty());
            run.late.extend(folded.late.iter().map(|&at| part[start + at as usize].2));
            start = end;
            if let Some(mark) = mark {
                watermark = mark;
                aggregate.advance(mark, &Upto::All, &mut live, &mut outcome).unwrap();
            }
            run.out.extend(values(&outcome));
            run.ids.extend(ids(&outcome));
        }
        for change in aggregate.take_changes().iter() {
            let (group, kept) = change.to_owned();
            match kept {
                Some(change) => saved.insert(group, change),
                None => saved.remove(&group),
            };
        }
        if restarts.is_some_and(|every| nth % every == 0) {
            aggregate = Aggregate::new(rules.clone(), watermark, saved.iter());
        }
    }
    let mut outcome = Outcome::default();
    aggregate.advance(END, &Upto::All, &mut live, &mut outcome).unwrap();
    run.out.extend(values(&outcome));
    run.ids.extend(ids(&outcome));
    let once: std::collections::BTreeSet<_> = run.ids.iter().collect();
    assert_eq!((once.len(), run.ids.len()), (run.ids.len(), run.out.len()), "an id of its own for each output");
    assert!(aggregate.is_empty());
    run
}

fn records() -> impl Strategy<Value = Vec<(u8, i64, u64)>> {
    proptest::collection::vec((0u8..3, prop_oneof![10 => 0i64..1500, 1 => -300i64..0], 0u64..100), 0..60)
}

fn splits() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0usize..60, 0..8)
}

fn all_rules() -> impl Strategy<Value = Rules> {
    let windowings =
        prop_oneof![Just(Windowing::None), Just(tumbling(0)), Just(tumbling(60)), (1u64..5).prop_map(Windowing::Count)];
    prop_oneof![4 => windowings.prop_map(rules), 1 => (1i64..500).prop_map(expiring)]
}

proptest! {
    /// P6: any partition of the input into batches gives the same panes in the same order.
    #[test]
    fn splitting_the_input_into_other_batches_changes_nothing(rules in all_rules(), records in records(), splits in splits()) {
        prop_assert_eq!(run(&rules, &records, &splits, None), run(&rules, &records, &[], None));
    }

    /// P6: restoring at any barrier is as if nothing had happened.
    #[test]
    fn restoring_at_a_barrier_changes_nothing(rules in all_rules(), records in records(), splits in splits(), every in 1usize..4) {
        prop_assert_eq!(run(&rules, &records, &splits, Some(every)), run(&rules, &records, &splits, None));
    }

    /// P6, against an offline group-by: with no lateness every window fires once, with exactly its punctual records.
    #[test]
    fn every_window_fires_once_with_exactly_its_punctual_records(records in records(), splits in splits()) {
        let found = run(&rules(tumbling(0)), &records, &splits, None);
        let mut groups: BTreeMap<(i64, u8), (u64, u64)> = BTreeMap::new();
        let (mut highest, mut late) = (BEGIN, Vec::new());
        let mut watermark = BEGIN;
        for &(key, time, n) in &records {
            let start = time - time.rem_euclid(SIZE);
            if watermark >= start + SIZE {
                late.push(n);
            } else {
                let group = groups.entry((start, key)).or_default();
                *group = (group.0 + n, group.1 + 1);
            }
            if time > highest {
                highest = time;
                let behind = time - 80;
                watermark = watermark.max(behind - behind.rem_euclid(10));
            }
        }
        let expected: Vec<String> = groups
            .iter()
            .map(|((start, key), (sum, count))| format!("{}@{start}={sum}/{count} Closed", (b'a' + key) as char))
            .collect();
        prop_assert_eq!(found.out, expected);
        prop_assert_eq!(found.late, late);
    }

    /// A window of `n` records of a key, against chunks of a list.
    #[test]
    fn count_windows_are_chunks_of_each_key_in_the_order_in_which_they_fill(records in records(), splits in splits(), n in 1usize..5) {
        let found = run(&rules(Windowing::Count(n as u64)), &records, &splits, None);
        let (mut open, mut expected): (BTreeMap<u8, (u64, u64)>, Vec<String>) = Default::default();
        for &(key, _, value) in &records {
            let group = open.entry(key).or_default();
            *group = (group.0 + value, group.1 + 1);
            if group.1 == n as u64 {
                expected.push(format!("{}@-1={}/{} Closed", (b'a' + key) as char, group.0, group.1));
                open.remove(&key);
            }
        }
        expected.extend(open.iter().map(|(key, (sum, count))| format!("{}@-1={sum}/{count} Early", (b'a' + key) as char)));
        prop_assert_eq!(found.out, expected);
    }
}

#[test]
fn a_record_within_the_lateness_gives_a_further_pane_and_one_after_it_is_late() {
    let records = [(0, 10, 1), (0, 190, 2), (0, 20, 4), (0, 200, 8), (0, 400, 16), (0, 30, 32)];
    let found = run(&rules(tumbling(60)), &records, &[], None);
    assert_eq!(found.late, [32]);
    assert_eq!(
        found.out,
        ["a@0=1/1 Closed", "a@0=5/2 Late", "a@100=2/1 Closed", "a@200=8/1 Closed", "a@400=16/1 Closed"]
    );
}

#[test]
fn a_fault_leaves_every_group_as_it_was() {
    for windowing in [Windowing::None, tumbling(0), Windowing::Count(2)] {
        let mut aggregate = Aggregate::new(rules(windowing), BEGIN, std::iter::empty());
        let mut fake = Fake::default();
        aggregate.fold(BEGIN, &batch(&[(0, 1, 5)], 0), &mut fake, &mut Outcome::default()).unwrap();
        aggregate.take_changes();
        let poison = Batch::of_values(["7", "8", "fault"].iter().collect())
            .with_keys(["a", "b", "a"].iter().collect())
            .and_then(|batch| batch.with_timestamps(vec![900, 900, 900]))
            .unwrap();
        let mut outcome = Outcome::default();
        aggregate.fold(BEGIN, &poison, &mut fake, &mut outcome).unwrap_err();
        assert_eq!((outcome, aggregate.len()), (Outcome::default(), 1));
        let mut closed = Outcome::default();
        aggregate.close(BEGIN, &mut live(), &mut closed).unwrap();
        assert!(values(&closed)[0].contains("=5/1 Early"), "{:?}", values(&closed));
        assert_eq!(closed.outputs[0].batch.timestamps().unwrap(), [if windowing == tumbling(0) { 99 } else { 1 }]);
    }
}

#[test]
fn a_fault_leaves_no_timer_to_the_group_that_comes_after() {
    let mut aggregate = Aggregate::new(rules(tumbling(60)), BEGIN, std::iter::empty());
    let (mut fake, mut outcome) = (Fake::default(), Outcome::default());
    let poison = Batch::of_values(["fault"].iter().collect())
        .with_keys(["b"].iter().collect())
        .and_then(|batch| batch.with_timestamps(vec![0]))
        .unwrap();
    aggregate.fold(BEGIN, &poison, &mut fake, &mut outcome).unwrap_err();
    aggregate.fold(BEGIN, &batch(&[(0, 550, 5)], 0), &mut fake, &mut outcome).unwrap();
    aggregate.advance(SIZE + 60, &Upto::All, &mut live(), &mut outcome).unwrap();
    assert_eq!((values(&outcome), aggregate.len()), (Vec::new(), 1));
    aggregate.advance(600, &Upto::All, &mut live(), &mut outcome).unwrap();
    assert_eq!(values(&outcome), ["a@500=5/1 Closed"]);
}

#[test]
fn a_group_was_seen_when_a_record_came_by_the_watermark_or_by_its_own_time() {
    let mut aggregate = Aggregate::new(rules(Windowing::None), BEGIN, std::iter::empty());
    let (mut fake, mut outcome) = (Fake::default(), Outcome::default());
    for (watermark, time, seen) in [(70, 10, 70), (71, 200, 200), (80, 90, 200)] {
        aggregate.fold(watermark, &batch(&[(0, time, 5)], 0), &mut fake, &mut outcome).unwrap();
        let changes = aggregate.take_changes();
        assert_eq!(
            changes.iter().filter_map(|change| change.kept).map(|(_, facts)| facts.seen).collect::<Vec<_>>(),
            [seen]
        );
    }
}

#[test]
fn a_group_is_gone_once_the_watermark_has_left_its_last_record_behind_by_its_time_to_live() {
    let alive = |ttl| run(&expiring(ttl), &[(0, 0, 1), (1, 190, 2), (0, 200, 4)], &[], None).out;
    // The clock lags by 80: the watermark was 110 when the third record came.
    assert_eq!(alive(109), ["a@-1=4/1 Closed", "b@-1=2/1 Closed"]);
    assert_eq!(alive(110), ["a@-1=5/2 Closed", "b@-1=2/1 Closed"]);

    let mut aggregate = Aggregate::new(expiring(100), BEGIN, std::iter::empty());
    let (mut fake, mut live, mut outcome) = (Fake::default(), live(), Outcome::default());
    aggregate.fold(BEGIN, &batch(&[(0, 0, 5), (1, 60, 6)], 0), &mut fake, &mut outcome).unwrap();
    aggregate.take_changes();
    aggregate.advance(101, &Upto::All, &mut live, &mut outcome).unwrap();
    let changes = aggregate.take_changes();
    let gone: Vec<_> = changes.iter().map(|change| (change.key.to_vec(), change.kept.is_some())).collect();
    assert_eq!(
        (gone, aggregate.len()),
        (vec![(b"a".to_vec(), false)], 1),
        "its memory is free, and the commit forgets it"
    );
}

#[test]
fn what_a_drain_puts_out_is_marked_incomplete() {
    let mut aggregate = Aggregate::new(rules(tumbling(0)), BEGIN, std::iter::empty());
    let (mut fake, mut outcome) = (Fake::default(), Outcome::default());
    aggregate.fold(BEGIN, &batch(&[(0, 1, 5)], 0), &mut fake, &mut outcome).unwrap();
    aggregate.close(BEGIN, &mut live(), &mut outcome).unwrap();
    assert_eq!(values(&outcome), ["a@0=5/1 Early"]);
    let headers = outcome.outputs[0].batch.headers().unwrap().get(0).unwrap().to_vec();
    assert_eq!(crate::batch::Headers::new(&headers).collect::<Vec<_>>(), [INCOMPLETE]);
    assert!(aggregate.is_empty());
}

/// A group that faults at its end goes no further, and says all there is of it; the others come out as without it.
#[test]
fn a_group_that_faults_at_its_end_leaves_the_others_alone() {
    for (windowing, headers) in [
        (tumbling(0), vec!["tidegate-window-start 0", "tidegate-window-end 100", "tidegate-state-version 3"]),
        (Windowing::None, vec!["tidegate-state-version 3"]),
        (Windowing::Count(2), vec!["tidegate-state-version 3"]),
    ] {
        let mut runs = Vec::new();
        for keys in [["a", "b!", "c", "d!", "e", "f"], ["a", "b", "c", "d", "e", "f"]] {
            let twice: Vec<&str> = keys.into_iter().chain(keys).collect();
            let records = Batch::of_values((1..=12).map(|n| n.to_string()).collect())
                .with_keys(twice.iter().collect())
                .and_then(|batch| batch.with_timestamps(vec![7; 12]))
                .unwrap();
            let (mut live, mut outcome) = (live(), Outcome::default());
            let mut aggregate = Aggregate::new(Rules { groups: 4, ..rules(windowing) }, BEGIN, std::iter::empty());
            let folded = aggregate.fold(BEGIN, &records, &mut Fake::default(), &mut outcome).unwrap();
            let mut refused = aggregate.finish_full(BEGIN, &records, &folded.full, &mut live, &mut outcome).unwrap();
            refused.extend(aggregate.advance(END, &Upto::All, &mut live, &mut outcome).unwrap().refused);
            assert!(aggregate.is_empty(), "what goes no further counts as closed");
            let told = refused.iter().map(|groups| {
                assert_eq!((groups.groups.len(), groups.reasons.len(), groups.ranks.len()), (1, 1, 1));
                let headers = groups.groups.headers().unwrap().get(0).unwrap().to_vec();
                (groups.groups.keys().unwrap().get(0).unwrap().to_vec(), groups.fault.is_some(), headers)
            });
            runs.push((values(&outcome), told.collect::<Vec<_>>()));
        }
        let (clean, with) = (runs.pop().unwrap(), runs.pop().unwrap());
        let kept: Vec<&String> = clean.0.iter().filter(|value| !value.starts_with(['b', 'd'])).collect();
        assert_eq!((with.0.iter().collect::<Vec<_>>(), clean.1.len()), (kept, 0));
        assert_eq!(with.1.iter().map(|(key, ..)| key.as_slice()).collect::<Vec<_>>(), [b"b!", b"d!"]);
        for (_, is_fault, item) in &with.1 {
            let pairs: Vec<(&[u8], &[u8])> = crate::batch::Headers::new(item).collect();
            let (state, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| *name == b"tidegate-state");
            let others: Vec<String> = others
                .iter()
                .map(|(name, value)| format!("{} {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
                .collect();
            assert_eq!(
                (others, state.len(), state[0].1.len(), *is_fault),
                (headers.iter().map(|s| (*s).to_owned()).collect(), 1, 16, true)
            );
        }
    }
}
