//! What stages remember: how much, under how many workers, and with keys that are anything but alike.

use std::{collections::BTreeMap, path::Path};

use super::*;
use crate::{
    config::WhenFull,
    disk::Sim,
    store::{Lock, Settings, Store},
};

/// What a group of these tests takes in memory.
const GROUP: u64 = 136;

fn store() -> Arc<Store> {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let settings = Settings { ballast: 4096, ..Settings::default() };
    Arc::new(Store::open(Arc::new(Sim::new()), Path::new("/state"), lock, settings).unwrap())
}

async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it comes to that");
}

/// Row 78, its default: nothing is lost, nothing is read beyond what the lanes hold, and who waits for what is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_at_its_cap_waits_says_so_and_goes_on_where_there_is_more_room() {
    let values = numbers(2000);
    for workers in [1, 2] {
        let (store, collected) = (store(), Collected::default());
        let plan = |groups: u64| {
            let plan = Plan::new(&values).batch(10).capacity(20).endless();
            plan.stage("sums", Kind::Aggregate, "in", workers)
                .sink("out", "sums")
                .state(groups * GROUP, WhenFull::Pause)
        };
        let running = start(plan(4).parts_after(&store, &collected).unwrap());
        let board = running.board.clone();
        let reading = || board.stages[0].read();
        until(|| board.not_ready().iter().any(|part| part.who == "sums" && part.why.contains("`state.max"))).await;
        let taken = reading().tally.received;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        // Of several workers each may have two turns in hand when one of them is full.
        assert!(taken <= 10 * 2 * workers as u64 && reading().tally.received <= 40, "{:?}", reading());
        assert!(reading().groups <= 10 && reading().state_bytes == reading().groups * GROUP, "{:?}", reading());
        running.commands.send(Command::Drain(Drain::within(Duration::from_millis(50)))).await.unwrap();
        assert_eq!(end(running).await.ending, Ending::DeadlinePassed);

        let running = start(plan(1000).parts_after(&store, &collected).unwrap());
        let board = running.board.clone();
        until(|| board.stages[0].read().tally.received == 2000).await;
        assert_eq!(board.not_ready(), []);
        running.commands.send(Command::Drain(Drain { deadline: PATIENCE, windows: OpenWindows::Close })).await.unwrap();
        assert_eq!(end(running).await.ending, Ending::Drained);
        let expected: Vec<String> =
            (0..10).map(|key| format!("{key}@-1={}/200 Early", (key..2000).step_by(10).sum::<u64>())).collect();
        assert_eq!(collected.values("out"), expected);
    }
}

/// The watermark lags by eight windows, and each step of it, which stands behind the batch that fills the stage, closes one.
#[tokio::test(flavor = "multi_thread")]
async fn windows_that_close_make_room_for_the_batch_that_waits() {
    let values = numbers(3000);
    let plan = || Plan::new(&values).stage("sums", Kind::Aggregate, "in", 1).windows(10).sink("out", "sums");
    let (parts, expected) = plan().parts();
    assert_eq!(end(start(parts)).await.ending, Ending::Completed);
    let (parts, collected) = plan().state(95 * GROUP, WhenFull::Pause).parts();
    let running = start(parts);
    let commands = running.commands.clone();
    let ended = end(running);
    tokio::pin!(ended);
    let Ok(ended) = tokio::time::timeout(Duration::from_secs(30), &mut ended).await else {
        commands.send(Command::Drain(Drain::within(Duration::ZERO))).await.unwrap();
        panic!("it is stuck: {:?}", ended.await.board.stages[0].read());
    };
    assert_eq!((ended.ending, collected.values("out")), (Ending::Completed, expected.values("out")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_is_refused_or_makes_others_go_and_the_ledger_balances() {
    let values = numbers(1000);
    let keys: Vec<String> = (0..1000).map(|at| at.to_string()).collect();
    let plan = |when_full| {
        let plan = Plan::new(&values).keys(&keys).stage("sums", Kind::Aggregate, "in", 1).state(100 * GROUP, when_full);
        plan.sink("out", "sums").sink("bad", "sums.refused")
    };
    let (parts, collected) = plan(WhenFull::Refuse).parts();
    let ended = end(start(parts)).await;
    assert_eq!((ended.ending, ledger::audit(ended.board.graph(), &ended.committed)), (Ending::Completed, vec![]));
    let (out, bad) = (collected.values("out").len(), collected.values("bad").len());
    assert!(out + bad == 1000 && (100..164).contains(&out), "{out} and {bad}");
    assert_eq!(ended.committed.stages[0].tally.refused, bad as u64);

    let (parts, collected) = plan(WhenFull::Evict).parts();
    let ended = end(start(parts)).await;
    assert_eq!((ended.ending, ledger::audit(ended.board.graph(), &ended.committed)), (Ending::Completed, vec![]));
    let (out, gone) = (collected.values("out"), ended.board.stages[0].read().evicted);
    assert_eq!((out.len() as u64 + gone, collected.values("bad").len()), (1000, 0));
    assert!(out.contains(&"999@-1=999/1 Closed".to_owned()) && !out.contains(&"0@-1=0/1 Closed".to_owned()));
}

/// A changed number of workers moves slots, with all that lies in them, whether it is in memory or not.
#[test]
fn another_number_of_workers_goes_on_with_every_group_and_every_count() {
    for (memory, is_enough) in [(1 << 20, true), (12 * GROUP, false)] {
        let reads = by_other_workers(memory);
        assert_eq!(reads == 0, is_enough, "{reads} groups read");
    }
}

/// How many groups were read from the store where memory may hold so much.
fn by_other_workers(memory: u64) -> u64 {
    let values = numbers(3000);
    let keys: Vec<String> = (0..3000).map(|at| format!("key-{}", at * 7 % 97)).collect();
    let plan = |workers| {
        let plan = Plan::new(&values).keys(&keys).batch(20).truncating();
        plan.stage("sums", Kind::Aggregate, "in", workers).counts(10).sink("out", "sums").memory(memory)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (parts, clean) = plan(1).parts();
    let mut reads = 0;
    assert_eq!(runtime.block_on(async { end(start(parts)).await }).ending, Ending::Completed);
    let (store, collected, mut read) = (store(), Collected::default(), 0);
    for workers in [1, 4, 3, 7, 1] {
        let mut plan = plan(workers);
        let allowance = plan.allowance();
        read += 480;
        allowance.add_permits(if workers == 1 && read > 480 { 1 << 20 } else { 24 });
        let parts = plan.parts_after(&store, &collected).unwrap();
        let ended = runtime.block_on(async {
            let running = start(parts);
            let board = running.board.clone();
            let all = if workers == 1 && read > 480 { 3000 } else { read };
            until(|| board.sources[0].read().tally.received >= all).await;
            running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
            end(running).await
        });
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        reads += ended.board.stages[0].read().cold_reads;
        assert!(matches!(ended.ending, Ending::Drained | Ending::Completed), "{:?}", ended.ending);
    }
    assert_eq!(collected.values("out"), clean.values("out"));
    let restored = plan(2).durable_on(&store).restore().unwrap().unwrap();
    let tally = restored.stages[0].as_ref().unwrap().tally;
    assert_eq!((tally.received, tally.absorbed), (3000, 3000));
    reads
}

/// What a stage shows of it, that only so much is in memory however many groups there are, and that a process that begins
/// takes no more in than that.
#[tokio::test(flavor = "multi_thread")]
async fn groups_above_the_limit_lie_in_the_store_alone_and_come_back() {
    let values = numbers(3000);
    let keys: Vec<String> = (0..3000).map(|at| format!("key-{}", at % 500)).collect();
    let plan = |ends: bool| {
        let plan = Plan::new(&values).keys(&keys).batch(20).truncating();
        let plan = plan.stage("sums", Kind::Aggregate, "in", 1).sink("out", "sums").memory(50 * GROUP);
        if ends { plan } else { plan.endless() }
    };
    let (store, collected) = (store(), Collected::default());
    let running = start(plan(false).parts_after(&store, &collected).unwrap());
    let board = running.board.clone();
    let reading = || board.stages[0].read();
    until(|| reading().tally.received == 3000).await;
    // Barriers come also while it idles, and groups may leave behind each.
    until(|| reading().groups <= 50 && reading().groups + reading().cold_groups == 500).await;
    assert!(reading().state_bytes <= 50 * GROUP, "{:?}", reading());
    running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
    assert_eq!(end(running).await.ending, Ending::Drained);

    let plan = plan(true);
    let restored = plan.durable_on(&store).restore().unwrap().unwrap();
    assert_eq!(restored.stages[0].as_ref().unwrap().groups.len(), 0, "workers read them");
    let ended = end(start(plan.parts_after(&store, &collected).unwrap())).await;
    assert_eq!(ended.ending, Ending::Completed);
    let reading = ended.board.stages[0].read();
    assert!((450..=500).contains(&reading.cold_reads), "{reading:?}");
    let mut out = collected.values("out");
    out.sort();
    let mut expected: Vec<String> = (0..500u64)
        .map(|key| format!("key-{key}@-1={}/6 Closed", (0..6).map(|nth| key + nth * 500).sum::<u64>()))
        .collect();
    expected.sort();
    assert_eq!(out, expected);
}

/// What a store keeps is nowhere else in memory but in the workers, and comes from there when they begin again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_restarts_finds_its_groups_in_the_store_and_holds_no_second_copy() {
    let mut values = numbers(3000);
    for workers in [1, 3] {
        let plan = |values: &[String]| {
            let plan = Plan::new(values).batch(20).rate("6000/s").truncating();
            plan.stage("sums", Kind::Aggregate, "in", workers).windows(1 << 30).sink("out", "sums")
        };
        values[2000] = "0".to_owned();
        let (parts, clean) = plan(&values).parts();
        assert_eq!(end(start(parts)).await.ending, Ending::Completed);
        values[2000] = "panic".to_owned();
        let (store, collected) = (store(), Collected::default());
        let ended = end(start(plan(&values).panics().parts_after(&store, &collected).unwrap())).await;
        assert_eq!((ended.ending, ended.board.status().restarts), (Ending::Completed, 1));
        assert_eq!(collected.values("out"), clean.values("out"));

        let plan = plan(&values[..1000]).endless();
        let (store, collected) = (self::store(), Collected::default());
        let running = start(plan.parts_after(&store, &collected).unwrap());
        until(|| running.board.stages[0].read().tally.received == 1000).await;
        running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
        let ended = end(running).await;
        assert_eq!((ended.ending, ended.committed.stages[0].groups.len()), (Ending::Drained, 0));
        let restored = plan.durable_on(&store).restore().unwrap().unwrap();
        assert_eq!(restored.stages[0].as_ref().unwrap().groups.len(), 10);
    }
}

/// Row 79: where a few keys have most of the records, the others have what is theirs, in the order in which it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_costs_the_others_nothing() {
    // The inverse of a Pareto distribution of exponent 1.2, at fractions that lie evenly and come in no order.
    let rank = |at: u64| {
        let fraction = ((at * 7919) % 10_000) as f64 / 10_000.0;
        ((1.0 - fraction).powf(-1.0 / 0.2)).min(400.0) as u64
    };
    let keys: Vec<String> = (0..10_000).map(|at| format!("key-{}", rank(at))).collect();
    let values = numbers(10_000);
    let mut expected: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
    keys.iter().zip(0..).for_each(|(key, number)| expected.entry(key).or_default().push(number));
    assert!(expected.len() > 50 && expected.values().any(|of| of.len() > 1000), "{} keys", expected.len());
    for workers in [1, 4] {
        let plan = Plan::new(&values).keys(&keys).stage("sums", Kind::Aggregate, "in", workers).counts(5);
        let (parts, collected) = plan.sink("out", "sums").parts();
        assert_eq!(end(start(parts)).await.ending, Ending::Completed);
        let out = collected.values("out");
        for (key, numbers) in &expected {
            let prefix = format!("{key}@");
            let found: Vec<&String> = out.iter().filter(|value| value.starts_with(&prefix)).collect();
            let panes = numbers.chunks(5).map(|pane| {
                let why = if pane.len() == 5 { "Closed" } else { "Early" };
                format!("{key}@-1={}/{} {why}", pane.iter().sum::<u64>(), pane.len())
            });
            assert_eq!(found, panes.collect::<Vec<_>>().iter().collect::<Vec<_>>(), "{workers} workers");
        }
    }
}
