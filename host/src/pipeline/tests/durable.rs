//! Pipelines over a store: through crashes of the machine at any operation of the disk, and through changed files.

use std::path::Path;

use super::*;
use crate::{
    disk::{Sim, sim::Failure},
    pipeline::durable::Unfit,
    store::{Lock, Settings, Store},
};

/// A store on `disk` as a process opens it, with a lock of its own, for those before it have ended.
pub(super) fn store(disk: &Sim) -> Result<Arc<Store>, crate::store::StoreError> {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let settings = Settings { ballast: 4096, ..Settings::default() };
    Store::open(Arc::new(disk.clone()), Path::new("/state"), lock, settings).map(Arc::new)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn plan(values: &[String], workers: usize) -> Plan {
    Plan::new(values)
        .batch(20)
        .rate("6000/s")
        .truncating()
        .stage("evens", Kind::Filter, "in", workers)
        .stage("sums", Kind::Aggregate, "evens, evens.rest", workers)
        .windows(50)
        .sink("out", "sums")
        .sink("evens_out", "evens")
}

/// Groups that the store keeps of the second stage.
fn open(plan: &Plan, store: &Arc<Store>) -> usize {
    plan.durable_on(store).restore().unwrap().unwrap().stages[1].as_ref().unwrap().groups.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// P1 and P2, through the store: wherever the machine falls, and whatever it had not synced is lost or torn, the
    /// next process goes on from what was committed. With sinks that can take back, the outputs are those of a run
    /// without a fall, to the last one and in order, however few groups may be in memory; what was acknowledged to the source is never beyond the commit.
    #[test]
    fn a_fall_at_any_operation_of_the_disk_leaves_no_trace(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..120, any::<bool>()), 1..4),
        workers in 1usize..3,
        memory in proptest::option::of(0u64..8),
    ) {
        let values = numbers(1500);
        let runtime = runtime();
        let tight = |plan: Plan| match memory {
            None => plan,
            Some(groups) => plan.memory(groups * 136),
        };
        let (parts, clean) = plan(&values, workers).parts();
        prop_assert_eq!(runtime.block_on(async { end(start(parts)).await }).ending, Ending::Completed);

        let (disk, collected) = (Sim::new(), Collected::default());
        let mut falls = falls.into_iter();
        let committed = loop {
            let fall = falls.next();
            if let Some((operation, is_before)) = fall {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let plan = plan(&values, workers);
                let tight = tight(self::plan(&values, workers));
                let parts = tight.parts_after(&store, &collected).unwrap();
                let acknowledged = tight.source().acknowledged.clone();
                let ended = runtime.block_on(async { end(start(parts)).await });
                let position = ended.committed.sources[0].position.0.as_u64().unwrap();
                assert!(acknowledged.load(Ordering::SeqCst) <= position, "acknowledged beyond the commit");
                assert!(disk.is_down() || open(&plan, &store) == 0, "every window has closed");
                ended
            });
            if !disk.is_down() {
                let ended = ended.expect("the store opens on a disk that works");
                prop_assert_eq!(&ended.ending, &Ending::Completed);
                prop_assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
                break ended.committed;
            }
            disk.restart(seed);
        };
        prop_assert_eq!(collected.values("out"), clean.values("out"));
        prop_assert_eq!(collected.values("evens_out"), clean.values("evens_out"));
        prop_assert_eq!(committed.stages.iter().map(|stage| stage.tally.received).collect::<Vec<_>>(), [1500, 1500]);
    }
}

#[test]
fn what_has_been_completed_is_not_done_again() {
    let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
    let values = numbers(300);
    for _ in 0..2 {
        let store = store(&disk).unwrap();
        let parts = plan(&values, 1).parts_after(&store, &collected).unwrap();
        let ended = runtime.block_on(async { end(start(parts)).await });
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(ended.committed.sources[0].tally.received, 300);
        assert_eq!(collected.values("evens_out"), evens(&values));
    }
}

/// Row 5: an account that does not balance ends the pipeline, and nothing of that epoch is kept or acknowledged.
#[test]
fn what_does_not_balance_is_never_committed() {
    let (disk, collected) = (Sim::new(), Collected::default());
    let (store, values) = (store(&disk).unwrap(), numbers(300));
    let plan = plan(&values, 1).undecided(1);
    let acknowledged = plan.source().acknowledged.clone();
    let parts = plan.parts_after(&store, &collected).unwrap();
    let ended = runtime().block_on(async { end(start(parts)).await });
    let told = "the ledger does not balance at `";
    assert!(matches!(&ended.ending, Ending::Failed(why) if why.starts_with(told)), "{:?}", ended.ending);
    assert_eq!((ended.committed.epoch.0, acknowledged.load(Ordering::SeqCst)), (0, 0));
    let restored = plan.durable_on(&store).restore().unwrap().unwrap();
    assert_eq!((restored.epoch.0, restored.sources[0].as_ref().unwrap().position.0.as_u64()), (0, Some(0)));
}

/// What a pipeline of `values` comes to that is drained so when it has read 140 of them.
fn drained(values: &[String], store: &Arc<Store>, collected: &Collected, windows: OpenWindows) -> Ended {
    let mut first = plan(values, 1);
    let allowance = first.allowance();
    allowance.add_permits(7);
    let ended = runtime().block_on(async {
        let running = start(first.parts_after(store, collected).unwrap());
        while first.source().accepted.load(Ordering::SeqCst) < 140 {
            tokio::task::yield_now().await;
        }
        running.commands.send(Command::Drain(Drain { deadline: PATIENCE, windows })).await.unwrap();
        end(running).await
    });
    assert_eq!(ended.ending, Ending::Drained);
    ended
}

#[test]
fn a_drain_closes_the_open_windows_where_somebody_wants_it() {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(400));
    let store = store(&disk).unwrap();
    drained(&values, &store, &collected, OpenWindows::Close);
    assert_eq!(open(&plan(&values, 1), &store), 0, "no window is left");
    assert!(collected.values("out").iter().any(|value| value.ends_with("Early")), "{:?}", collected.values("out"));
}

#[test]
fn a_stage_that_was_renamed_goes_on_with_its_state() {
    for memory in [1 << 20, 136] {
        renamed_where_memory_holds(memory);
    }
}

fn renamed_where_memory_holds(memory: u64) {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(400));
    let store = store(&disk).unwrap();
    drained(&values, &store, &collected, OpenWindows::Keep);
    let renamed = |was: Option<&str>| {
        let plan = Plan::new(&values)
            .batch(20)
            .truncating()
            .stage("evens", Kind::Filter, "in", 1)
            .stage("totals", Kind::Aggregate, "evens, evens.rest", 1)
            .windows(50)
            .sink("out", "totals")
            .sink("evens_out", "evens");
        was.into_iter().fold(plan, |plan, was| plan.was(was))
    };
    let refused = renamed(None).parts_after(&store, &collected).err().unwrap();
    assert!(matches!(&refused, Unfit::Gone { name, .. } if name == "sums"), "{refused}");
    let parts = renamed(Some("sums")).memory(memory).parts_after(&store, &collected).unwrap();
    let restored = renamed(None).durable_on(&store).restore().unwrap().unwrap();
    assert!(!restored.stages[1].as_ref().unwrap().groups.is_empty(), "it lies under the new name");
    assert_eq!(runtime().block_on(async { end(start(parts)).await }).ending, Ending::Completed);
    let (parts, clean) = plan(&values, 1).parts();
    runtime().block_on(async { end(start(parts)).await });
    assert_eq!(collected.values("out"), clean.values("out"));
}

#[test]
fn a_drained_pipeline_goes_on_with_its_open_windows() {
    let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
    let (values, store) = (numbers(400), store(&disk).unwrap());
    drained(&values, &store, &collected, OpenWindows::Keep);
    assert!(open(&plan(&values, 1), &store) > 0, "a window is open");

    let parts = plan(&values, 1).parts_after(&store, &collected).unwrap();
    let ended = runtime.block_on(async { end(start(parts)).await });
    assert_eq!(ended.ending, Ending::Completed);
    let (parts, clean) = plan(&values, 1).parts();
    runtime.block_on(async { end(start(parts)).await });
    assert_eq!(collected.values("out"), clean.values("out"));
}

#[test]
fn a_full_disk_pauses_the_pipeline_until_there_is_room() {
    let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
    let values = numbers(900);
    let store = store(&disk).unwrap();
    disk.fail(3, Failure::NoSpace);
    let parts = plan(&values, 1).parts_after(&store, &collected).unwrap();
    let ended = runtime.block_on(async { end(start(parts)).await });
    assert!(disk.fired());
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(collected.values("evens_out"), evens(&values));
}

#[test]
fn a_failed_sync_ends_the_pipeline_and_acknowledges_nothing() {
    for nth in 0..40 {
        let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
        let store = store(&disk).unwrap();
        disk.fail(nth, Failure::Eio);
        let plan = plan(&numbers(100), 1);
        let parts = plan.parts_after(&store, &collected).unwrap();
        let ended = runtime.block_on(async { end(start(parts)).await });
        if !disk.fired() {
            return;
        }
        if let Ending::Failed(why) = &ended.ending {
            assert!(why.contains("/state/store"), "{why}");
            let position = ended.committed.sources[0].position.0.as_u64().unwrap();
            assert!(plan.source().acknowledged.load(Ordering::SeqCst) <= position);
        }
    }
}

#[test]
fn state_that_does_not_fit_is_refused_by_name_until_it_is_given_up() {
    let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
    let store = store(&disk).unwrap();
    let values = numbers(100);
    let run = |plan: &Plan| {
        let parts = plan.parts_after(&store, &collected)?;
        Ok::<_, Unfit>(runtime.block_on(async { end(start(parts)).await }))
    };
    run(&plan(&values, 1)).unwrap();
    // More workers are no change of the state.
    run(&plan(&values, 2)).unwrap();
    let other = plan(&values, 1).windows(70);
    let refused = run(&other).unwrap_err().to_string();
    assert!(refused.contains("stage `sums`"), "{refused}");
    let fewer = Plan::new(&values).stage("evens", Kind::Filter, "in", 1).sink("evens_out", "evens");
    assert!(matches!(run(&fewer), Err(Unfit::Gone { what: "stage", name }) if name == "sums"));

    let durable = other.durable_on(&store);
    runtime.block_on(durable.reset(&["sums".to_owned()])).unwrap();
    assert_eq!(run(&other).unwrap().ending, Ending::Completed);
    runtime.block_on(durable.reset(&["all".to_owned()])).unwrap();
    assert_eq!(run(&fewer).unwrap().committed.sources[0].tally.received, 100, "everything is read again");
}
