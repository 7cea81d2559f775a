//! Crashes and failures at any operation.

use super::{rig::Random, *};
use crate::disk::sim::Failure;

/// A store with something in it, on a disk that was synced.
fn seeded(random: &mut Random) -> (Rig, Model) {
    let (disk, mut model) = (Rig::default(), Model::new());
    let store = open(&disk).unwrap();
    for epoch in 1..4 {
        block_on(store.commit(random_commit(random, epoch, &mut model))).unwrap();
    }
    drop(store);
    (disk, model)
}

/// Opens what a crash or a failure left, without further failures, and checks that it is one of two states.
#[track_caller]
fn one_of(disk: &Rig, random: &mut Random, before: &Model, after: &Model, what: &str) -> Model {
    disk.sim.restart(random.below(u64::MAX));
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = content(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == *before || found == *after, "{what}: neither before nor after the commit in flight");
    found
}

#[test]
fn a_store_equals_what_was_acknowledged_after_any_crash() {
    let mut lost_in_flight = 0;
    let mut kept_in_flight = 0;
    for seed in 0..150 {
        let mut random = Random(seed);
        let (disk, mut model) = (Rig::default(), Model::new());
        let mut epoch = 0;
        for life in 0..4 {
            disk.sim.fail(1 + random.below(900), [Failure::CrashBefore, Failure::CrashAfter][random.below(2) as usize]);
            let mut after = model.clone();
            if let Ok(store) = open(&disk) {
                for _ in 0..8 {
                    epoch += 1;
                    after = model.clone();
                    let commit = random_commit(&mut random, epoch, &mut after);
                    if block_on(store.commit(commit)).is_err() {
                        break;
                    }
                    model = after.clone();
                }
            }
            let found = one_of(&disk, &mut random, &model, &after, &format!("seed {seed}, life {life}"));
            lost_in_flight += u32::from(found != after);
            kept_in_flight += u32::from(found != model);
            model = found;
        }
    }
    // Sometimes: both ways out of a crash were taken.
    assert!(lost_in_flight > 10 && kept_in_flight > 0, "{lost_in_flight} lost, {kept_in_flight} kept");
}

/// Opens, commits three times and closes with a failure at operation n, for every n there is.
fn every_operation(failure: Failure) {
    let mut random = Random(7);
    let (start, model) = seeded(&mut random);
    for n in 1.. {
        let disk = start.copy(&folder());
        disk.sim.fail(n, failure);
        let (mut before, mut after) = (model.clone(), model.clone());
        let what = format!("{failure:?} at operation {n}");
        if let Ok(store) = open(&disk) {
            let mut random = Random(9);
            let mut ended = None;
            for epoch in 4..7 {
                after = before.clone();
                let commit = random_commit(&mut random, epoch, &mut after);
                let mut answer = block_on(store.commit(commit.clone()));
                if let Err(StoreError::Full { .. }) = answer {
                    // There is room again, for a failure happens once.
                    assert!(block_on(store.room()).unwrap(), "{what}");
                    answer = block_on(store.commit(commit));
                    assert!(answer.is_ok(), "{what}: {answer:?}");
                }
                match answer {
                    Ok(_) => before = after.clone(),
                    Err(error) => {
                        ended = Some(error);
                        break;
                    }
                }
            }
            if let Some(error) = ended {
                assert_ne!(failure, Failure::NoSpace, "{what}: a full disk ends nothing: {error}");
                assert_ne!(failure, Failure::Short, "{what}: a short write ends nothing: {error}");
                // Nothing is tried again after a failure.
                assert_eq!(block_on(store.commit(put("a", 9, &[]))), Err(error.clone()), "{what}");
                assert_eq!(block_on(store.room()), Err(error), "{what}");
            }
        }
        let fired = disk.sim.fired();
        one_of(&disk, &mut random, &before, &after, &what);
        if !fired {
            assert!(n > 50, "{what}");
            return;
        }
    }
}

#[test]
fn a_failure_of_any_operation_loses_nothing_that_was_acknowledged() {
    every_operation(Failure::Eio);
}

#[test]
fn a_disk_without_room_at_any_operation_loses_nothing_and_ends_nothing() {
    every_operation(Failure::NoSpace);
}

#[test]
fn a_short_write_at_any_operation_is_completed() {
    every_operation(Failure::Short);
}

#[test]
fn a_crash_before_any_operation_loses_nothing_that_was_acknowledged() {
    every_operation(Failure::CrashBefore);
}

#[test]
fn a_crash_after_any_operation_loses_nothing_that_was_acknowledged() {
    every_operation(Failure::CrashAfter);
}

#[test]
fn a_crash_while_the_store_is_made_leaves_none_or_a_whole_one() {
    for failure in [Failure::CrashBefore, Failure::CrashAfter, Failure::Eio, Failure::NoSpace] {
        for n in 1.. {
            let disk = Rig::default();
            disk.sim.fail(n, failure);
            drop(open(&disk));
            let fired = disk.sim.fired();
            let empty = Model::new();
            one_of(&disk, &mut Random(n), &empty, &empty, &format!("{failure:?} at operation {n}"));
            if !fired {
                break;
            }
        }
    }
}
