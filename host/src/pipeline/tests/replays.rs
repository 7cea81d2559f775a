//! Letters that are replayed: each comes to what it comes to once, whatever falls, and what fails again comes back.

use tokio::sync::watch;

use super::{
    letters::{STATE, all, parts, parts_for, runtime, store},
    *,
};
use crate::{
    disk::{Sim, sim::Failure},
    letter::{Insistence, Lateness, Letter, Order, Progress, Query},
    pipeline::letters::Resting,
    source::Role,
    stage::fake::Mood,
    store::Store,
};

/// Numbers of which the stage refuses every tenth.
fn values(count: usize) -> Vec<String> {
    (0..count).map(|at| if at % 10 == 3 { format!("refuse{at}") } else { at.to_string() }).collect()
}

fn plan(values: &[String], workers: usize) -> Plan {
    let plan = Plan::new(values).batch(20).truncating().ids().on_error(OnError::DeadLetter);
    plan.stage("evens", Kind::Filter, "in", workers).sink("even", "evens")
}

fn refused(values: &[String]) -> Vec<String> {
    values.iter().filter(|value| value.starts_with("refuse")).cloned().collect()
}

fn resting(disk: &Sim, store: &Arc<Store>) -> Resting {
    Resting { disk: Arc::new(disk.clone()), store: store.clone(), state: STATE.into() }
}

fn at_rest(disk: &Sim, store: &Arc<Store>) -> Vec<Letter> {
    all(&resting(disk, store).of("test").unwrap().letters.unwrap())
}

/// Asks for a replay as soon as it can be asked for, and waits until it is over or the pipeline has ended.
async fn replay(running: &Running, order: &Order) -> Option<Progress> {
    let mut told = running.board.desk().ask(order.clone())?;
    over(running, &mut told).await
}

async fn over(running: &Running, told: &mut watch::Receiver<Progress>) -> Option<Progress> {
    let (mut pulse, _) = running.board.pulse();
    let over = async {
        tokio::select! {
            progress = told.wait_for(|progress| progress.is_over) => progress.ok().map(|progress| progress.clone()),
            _ = pulse.wait_for(|pulse| pulse.is_over) => None,
        }
    };
    let over = tokio::time::timeout(PATIENCE, over).await;
    over.unwrap_or_else(|_| panic!("neither the replay nor the pipeline is over: {:?}", running.board.not_ready()))
}

async fn until(mut is_so: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it comes to that");
}

async fn drain(running: Running) -> Ended {
    let drain = Command::Drain(Drain::within(PATIENCE));
    // Who has ended hears nothing.
    let _ = running.commands.send(drain).await;
    end(running).await
}

#[test]
fn letters_go_back_into_a_running_pipeline_and_are_gone_with_the_commit_of_what_they_came_to() {
    let (values, runtime) = (values(400), runtime());
    for workers in [1, 2] {
        let (disk, collected) = (Sim::new(), Collected::default());
        let store = store(&disk).unwrap();
        let plan = plan(&values, workers).endless();
        runtime.block_on(async {
            let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
            let board = running.board.clone();
            until(|| board.status().dead_letters == Some(40)).await;
            let before = all(&board.letters().readable().unwrap());

            *plan.fake.mood.lock().unwrap() = Mood::Mended;
            let some = Order { query: Query { until: Some(before[4].offset), ..Query::default() }, ..Order::default() };
            let progress = replay(&running, &some).await.unwrap();
            assert_eq!((progress.replayed, progress.spared, progress.cut), (4, 0, None));
            assert_eq!(all(&board.letters().readable().unwrap()), before[4..]);
            let most = Order { most: Some(6), ..Order::default() };
            assert_eq!(replay(&running, &most).await.unwrap().replayed, 6);
            assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, 30);
            assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, 0);

            let ended = drain(running).await;
            assert_eq!(ended.ending, Ending::Drained);
            assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
            assert_eq!(ended.board.status().dead_letters, Some(0));
            let stage = ended.committed.stages[0].tally;
            assert_eq!((stage.received, stage.refused, stage.passed), (440, 40, 240));
        });
        assert_eq!(at_rest(&disk, &store), []);
        let mut found = collected.values("even");
        let again = found.split_off(found.iter().position(|value| value.starts_with("refuse")).unwrap());
        assert_eq!(again, refused(&values), "in the order in which they were refused, after all others");
        assert_eq!(found, evens(&values));
    }
}

#[test]
fn what_fails_again_comes_back_with_its_count_and_after_three_somebody_has_to_insist() {
    let (values, runtime) = (values(100), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let plan = plan(&values, 1).endless();
    runtime.block_on(async {
        let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
        let board = running.board.clone();
        let kept = || all(&board.letters().readable().unwrap());
        until(|| board.status().dead_letters == Some(10)).await;
        let mut before = kept();
        for attempts in [2, 3] {
            let progress = replay(&running, &Order::default()).await.unwrap();
            assert_eq!((progress.replayed, progress.from), (10, before[9].offset + 1));
            // Whoever asked is told at the commit, as is the sink that then shows what came back.
            until(|| kept().len() == 10).await;
            let after = kept();
            for (was, is) in before.iter().zip(&after) {
                let same = Letter { offset: is.offset, epoch: is.epoch, was: is.was, ..was.clone() };
                let refused = (was.refused.0, is.refused.1);
                assert_eq!(*is, Letter { attempts, refused, was: Some(was.offset), ..same });
            }
            before = after;
        }
        let progress = replay(&running, &Order::default()).await.unwrap();
        assert_eq!((progress.replayed, progress.spared), (0, 10));
        let forced = Order { insistence: Insistence::Insists, ..Order::default() };
        assert_eq!(replay(&running, &forced).await.unwrap().replayed, 10);
        until(|| kept().len() == 10).await;
        assert!(kept().iter().all(|letter| letter.attempts == 4));
        let ended = drain(running).await;
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    });
    assert_eq!(collected.values("even"), evens(&values));
}

#[test]
fn a_replay_that_nobody_waits_for_any_more_ends_and_what_was_not_handed_out_stays() {
    let (values, runtime) = (values(400), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let plan = plan(&values, 1).endless();
    runtime.block_on(async {
        let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
        let board = running.board.clone();
        until(|| board.status().dead_letters == Some(40)).await;
        *plan.fake.mood.lock().unwrap() = Mood::Mended;
        let slowly = Order { rate: Some("50/s".parse().unwrap()), ..Order::default() };
        let told = board.desk().ask(slowly).unwrap();
        assert!(board.desk().ask(Order::default()).is_none(), "there is one at a time");
        until(|| board.status().dead_letters.is_some_and(|left| left < 40)).await;
        drop(told);
        // The next one is taken as soon as the one before has come to its end.
        let mut next = None;
        until(|| {
            next = next.take().or_else(|| board.desk().ask(Order { most: Some(0), ..Order::default() }));
            next.is_some()
        })
        .await;
        over(&running, &mut next.unwrap()).await.unwrap();
        let left = board.status().dead_letters.unwrap();
        assert!(left > 0, "it went on though nobody waited");
        assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, left);
        drain(running).await;
    });
    let again: Vec<_> = collected.values("even").into_iter().filter(|value| value.starts_with("refuse")).collect();
    assert_eq!(again, refused(&values));
}

#[test]
fn a_replay_holds_nobody_and_moves_no_event_time() {
    let (values, runtime) = (values(400), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    // Event time is the number: what is refused of the last window comes again when that is open still.
    let plan = Plan::new(&values).batch(20).truncating().on_error(OnError::DeadLetter).endless();
    let plan = plan.stage("sums", Kind::Aggregate, "in", 1).windows(100).sink("out", "sums");
    runtime.block_on(async {
        let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
        let board = running.board.clone();
        until(|| board.status().dead_letters == Some(40)).await;
        *plan.fake.mood.lock().unwrap() = Mood::Mended;
        let before = board.status().stages[0].reading;
        // Those of the windows that were closed long ago, and of one that is not.
        let progress = replay(&running, &Order::default()).await.unwrap();
        assert_eq!(progress.replayed, 40);
        let ended = drain(running).await;
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        assert_eq!(ended.committed.stages[0].tally.late, 0);
        assert!(before.tally.late == 0);
        assert!(ended.committed.stages[0].watermark < 400, "{}", ended.committed.stages[0].watermark);
    });
    let late: Vec<_> = collected.values("out").into_iter().filter(|value| value.ends_with("Late")).collect();
    assert_eq!(late, ["3@0=0/10 Late", "3@100=0/10 Late", "3@200=0/10 Late"], "once each, of what came again alone");
}

#[test]
fn letters_may_be_late_if_somebody_wants_that() {
    let (values, runtime) = (values(400), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let plan = Plan::new(&values).batch(20).truncating().on_error(OnError::DeadLetter).endless();
    let plan = plan.stage("sums", Kind::Aggregate, "in", 1).windows(100).sink("out", "sums");
    runtime.block_on(async {
        let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
        let board = running.board.clone();
        until(|| board.status().dead_letters == Some(40)).await;
        *plan.fake.mood.lock().unwrap() = Mood::Mended;
        let strictly = Order { lateness: Lateness::Counts, ..Order::default() };
        assert_eq!(replay(&running, &strictly).await.unwrap().replayed, 40);
        let ended = drain(running).await;
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        assert_eq!(ended.committed.stages[0].tally.late, 30);
    });
    assert!(!collected.values("out").iter().any(|value| value.ends_with("Late")));
}

/// A pipeline that is over: its letters are replayed by a host of their own, while its sources rest.
#[test]
fn letters_of_a_pipeline_that_is_over_are_replayed_without_its_sources() {
    let (values, runtime) = (values(400), runtime());
    for workers in [1, 2] {
        let (disk, collected) = (Sim::new(), Collected::default());
        let store = store(&disk).unwrap();
        let plan = Plan::new(&values).batch(20).truncating().on_error(OnError::DeadLetter);
        let plan = plan.stage("sums", Kind::Aggregate, "in", workers).windows(100).sink("out", "sums");
        runtime.block_on(async {
            let first = end(start(parts(&plan, &store, &disk, 1 << 20, &collected))).await;
            assert_eq!(first.ending, Ending::Completed);
            let before = collected.values("out").len();
            *plan.fake.mood.lock().unwrap() = Mood::Mended;
            let running = start(parts_for(&plan, &store, &disk, 1 << 20, &collected, Role::Leads));
            assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, 40);
            let ended = drain(running).await;
            assert_eq!(ended.ending, Ending::Drained);
            assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
            assert_eq!(ended.committed.sources[0], first.committed.sources[0], "it stands where it stood");
            let again = &collected.values("out")[before..];
            let expected: Vec<_> = (0..4).map(|window| format!("3@{}=0/10 Late", window * 100)).collect();
            assert_eq!(*again, expected);
            // It still is over.
            let third = end(start(parts(&plan, &store, &disk, 1 << 20, &collected))).await;
            assert_eq!(third.ending, Ending::Completed);
        });
        assert_eq!((at_rest(&disk, &store), collected.values("out").len()), (vec![], 40));
    }
}

#[test]
fn a_group_that_faulted_when_it_ended_ends_again_from_its_state() {
    let (numbers, runtime) = (numbers(300), runtime());
    let keys: Vec<String> =
        (0..300).map(|at| if at % 3 == 0 { "bad!".to_owned() } else { "good".to_owned() }).collect();
    for workers in [1, 2] {
        let (disk, collected) = (Sim::new(), Collected::default());
        let store = store(&disk).unwrap();
        let plan = Plan::new(&numbers).batch(20).truncating().keys(&keys).ids().on_error(OnError::DeadLetter);
        let plan = plan.stage("sums", Kind::Aggregate, "in", workers).windows(100).sink("out", "sums");
        runtime.block_on(async {
            let first = end(start(parts(&plan, &store, &disk, 1 << 20, &collected))).await;
            assert_eq!(first.ending, Ending::Completed);
            let letters = at_rest(&disk, &store);
            assert!(letters.len() == 3 && letters.iter().all(Letter::is_group), "{letters:?}");

            // What faults again comes back whole.
            let running = start(parts_for(&plan, &store, &disk, 1 << 20, &collected, Role::Leads));
            assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, 3);
            drain(running).await;
            let back = at_rest(&disk, &store);
            let counts: Vec<_> = back.iter().map(|letter| (letter.attempts, letter.is_group())).collect();
            assert_eq!(counts, [(2, true); 3]);
            assert_eq!(back[0].headers, letters[0].headers);

            *plan.fake.mood.lock().unwrap() = Mood::Mended;
            let running = start(parts_for(&plan, &store, &disk, 1 << 20, &collected, Role::Leads));
            assert_eq!(replay(&running, &Order::default()).await.unwrap().replayed, 3);
            let ended = drain(running).await;
            assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        });
        let bad: Vec<_> = collected.values("out").into_iter().filter(|value| value.starts_with("bad")).collect();
        let sum = |window: usize| (window * 100..(window + 1) * 100).filter(|n| n % 3 == 0).sum::<usize>();
        let count = |window: usize| (window * 100..(window + 1) * 100).filter(|n| n % 3 == 0).count();
        let expected: Vec<_> = (0..3).map(|at| format!("bad!@{}={}/{} Closed", at * 100, sum(at), count(at))).collect();
        assert_eq!((bad, at_rest(&disk, &store)), (expected, vec![]));
    }
}

#[test]
fn a_panic_of_the_host_in_the_middle_of_a_replay_doubles_and_loses_nothing() {
    let (mut values, runtime) = (values(400), runtime());
    values[399] = "panic".to_owned();
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let mut plan = plan(&values, 1).endless();
    let allowance = plan.allowance();
    allowance.add_permits(19);
    plan.fake.panics.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        let running = start(parts(&plan, &store, &disk, 1 << 20, &collected));
        let board = running.board.clone();
        until(|| board.status().dead_letters == Some(38)).await;
        *plan.fake.mood.lock().unwrap() = Mood::Mended;
        let slowly = Order { rate: Some("100/s".parse().unwrap()), ..Order::default() };
        let mut told = board.desk().ask(slowly).unwrap();
        until(|| board.sources[1].read().tally.received > 10).await;
        allowance.add_permits(1);
        let progress = over(&running, &mut told).await.unwrap();
        assert_eq!((progress.replayed, board.status().restarts), (38, 1));
        let ended = drain(running).await;
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    });
    let mut again: Vec<_> = collected.values("even").into_iter().filter(|value| value.starts_with("refuse")).collect();
    let mut expected = refused(&values[..380]);
    again.sort();
    expected.sort();
    assert_eq!(again, expected);
}

#[test]
fn single_letters_are_given_up_and_files_go_with_the_last_of_theirs() {
    let (values, runtime) = (values(4000), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    runtime.block_on(async { end(start(parts(&plan(&values, 1), &store, &disk, 128 << 10, &collected))).await });
    let resting = resting(&disk, &store);
    let kept = at_rest(&disk, &store);
    let bytes = || resting.of("test").unwrap().letters.unwrap().log.bytes();
    let (before, offsets) = (bytes(), kept.iter().map(|letter| letter.offset).collect::<Vec<_>>());
    let (odd, even): (Vec<u64>, Vec<u64>) = offsets.iter().partition(|offset| *offset % 2 == 1);
    runtime.block_on(resting.strike("test", &odd)).unwrap();
    assert_eq!(at_rest(&disk, &store).iter().map(|letter| letter.offset).collect::<Vec<_>>(), even);
    assert_eq!(bytes(), before, "each file still has one");
    runtime.block_on(resting.strike("test", &even)).unwrap();
    assert_eq!(at_rest(&disk, &store), []);
    assert!(bytes() < before, "{before}");
    // All of them are given up, and what comes next begins at the first offset: nothing of before holds of it.
    runtime.block_on(resting.purge("test", None)).unwrap();
    let plan = plan(&["refuse".to_owned(), "2".to_owned()], 1).another("more", &[]);
    runtime.block_on(async {
        durable_anew(&store).await;
        end(start(parts(&plan, &store, &disk, 128 << 10, &collected))).await
    });
    assert_eq!(at_rest(&disk, &store).len(), 1);
}

/// Begins the source anew.
async fn durable_anew(store: &Arc<Store>) {
    super::super::durable::reset(store, "test".into(), &["in".to_owned(), "even".to_owned()]).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the machine falls while letters are replayed, in a running pipeline or at rest: each comes out once, and
    /// none is left.
    #[test]
    fn a_fall_at_any_operation_of_the_disk_replays_each_letter_once(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..60, any::<bool>()), 1..4),
        role in prop_oneof![Just(Role::Attends), Just(Role::Leads)],
        workers in 1usize..3,
        batch in 1usize..30,
    ) {
        let (values, runtime) = (values(600), runtime());
        let (disk, collected) = (Sim::new(), Collected::default());
        let plan = || {
            let plan = plan(&values, workers).batch(batch);
            if role == Role::Attends { plan.endless() } else { plan }
        };
        // What has been refused has been committed before anything falls.
        {
            let store = store(&disk).unwrap();
            runtime.block_on(async {
                let running = start(parts(&plan(), &store, &disk, 1 << 20, &collected));
                let board = running.board.clone();
                until(|| board.status().dead_letters == Some(60)).await;
                drain(running).await
            });
        }
        let mut falls = falls.into_iter();
        loop {
            let fall = falls.next();
            if let Some((operation, is_before)) = fall {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let plan = plan();
                *plan.fake.mood.lock().unwrap() = Mood::Mended;
                let parts = parts_for(&plan, &store, &disk, 1 << 20, &collected, role);
                let ended = runtime.block_on(async {
                    let running = start(parts);
                    let order = Order { rate: Some("600/s".parse().unwrap()), ..Order::default() };
                    replay(&running, &order).await;
                    drain(running).await
                });
                (ended, store)
            });
            if !disk.is_down() {
                disk.fail(u64::MAX, Failure::CrashBefore);
                let (ended, store) = ended.expect("the store opens on a disk that works");
                prop_assert_eq!(&ended.ending, &Ending::Drained);
                prop_assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
                prop_assert_eq!(at_rest(&disk, &store), vec![]);
                break;
            }
            disk.restart(seed);
        }
        let again: Vec<_> = collected.values("even").into_iter().filter(|value| value.starts_with("refuse")).collect();
        prop_assert_eq!(again, refused(&values));
    }
}
