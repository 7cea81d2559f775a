//! Whole pipelines in one process, real lanes, threads and barriers, with plugins in native Rust.

mod attempts;
mod bounds;
mod breakers;
mod clocks;
mod collect;
mod drains;
mod drops;
mod durable;
mod fallbacks;
mod guests;
mod letters;
mod model;
mod numbers;
mod order;
mod parts;
mod passages;
mod reloads;
mod replays;
mod restarts;
mod sinks;
mod state;
mod topics;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use collect::Collected;
use numbers::numbers;
use parts::Plan;
use proptest::prelude::*;

use super::*;
use crate::{
    config::OnError,
    plugin::{Interrupt, Kind},
    stage::tally::Tally,
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn end(running: Running) -> Ended {
    tokio::time::timeout(PATIENCE, running.task).await.expect("the pipeline ends").unwrap()
}

fn evens(values: &[String]) -> Vec<String> {
    values.iter().filter(|value| value.parse::<u64>().is_ok_and(|n| n % 2 == 0)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_comes_out_once_and_in_order_however_many_workers_there_are() {
    for workers in [1, 2, 3] {
        let values = numbers(5000);
        let plan = Plan::new(&values).stage("evens", Kind::Filter, "in", workers).sink("out", "evens");
        let (parts, collected) = plan.parts();
        let ended = end(start(parts)).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(collected.values("out"), evens(&values), "{workers} workers");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        let tally = ended.committed.stages[0].tally;
        assert_eq!((tally.received, tally.passed, tally.filtered), (5000, 2500, 2500));
        assert_eq!(ended.committed.sources[0].position.0, 5000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn side_outputs_fan_out_and_fan_in() {
    let values = numbers(1000);
    let plan = Plan::new(&values)
        .stage("evens", Kind::Filter, "in", 2)
        .stage("twice", Kind::Map, "evens.rest", 2)
        .sink("all", "twice, twice.side, evens")
        .sink("side", "twice.side");
    let (parts, collected) = plan.parts();
    let ended = end(start(parts)).await;
    assert_eq!(ended.ending, Ending::Completed);
    let odd: Vec<u64> = (0..1000).filter(|n| n % 2 == 1).collect();
    let side: Vec<String> = odd.iter().map(|n| (n + 1000).to_string()).collect();
    assert_eq!(collected.values("side"), side);
    let mut all = collected.values("all");
    all.sort_by_key(|value| value.parse::<u64>().unwrap());
    let mut expected: Vec<u64> =
        odd.iter().flat_map(|n| [*n, n + 1000]).chain((0..1000).filter(|n| n % 2 == 0)).collect();
    expected.sort_unstable();
    assert_eq!(all, expected.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_gives_the_same_windows_in_the_same_order_with_any_number_of_workers() {
    let values = numbers(4000);
    let mut runs = Vec::new();
    for workers in [1, 2, 4] {
        let plan = Plan::new(&values).stage("sums", Kind::Aggregate, "in", workers).windows(100).sink("out", "sums");
        let (parts, collected) = plan.parts();
        let ended = end(start(parts)).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert!(ended.committed.stages[0].groups.is_empty(), "closed windows are forgotten in the commit too");
        runs.push(collected.values("out"));
    }
    // Times are the numbers themselves, keys their last digit: 40 windows of 10 keys.
    assert_eq!(runs[0].len(), 400);
    assert_eq!(runs[0][0], "0@0=450/10 Closed");
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn count_windows_come_out_in_the_order_in_which_they_filled_with_any_number_of_workers() {
    let mut runs = Vec::new();
    for workers in [1, 2, 4] {
        let plan =
            Plan::new(&numbers(1000)).stage("sums", Kind::Aggregate, "in", workers).counts(3).sink("out", "sums");
        let (parts, collected) = plan.parts();
        assert_eq!(end(start(parts)).await.ending, Ending::Completed);
        runs.push(collected.values("out"));
    }
    assert_eq!(runs[0][..2], ["0@-1=30/3 Closed", "1@-1=33/3 Closed"]);
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_host_restarts_the_pipeline_from_its_last_commit() {
    let mut values = numbers(3000);
    values[2000] = "panic".to_owned();
    for can_seek in [true, false] {
        let plan =
            Plan::new(&values).seek(can_seek).stage("sums", Kind::Aggregate, "in", 2).windows(100).sink("out", "sums");
        let plan = plan.panics();
        let (parts, collected) = plan.parts();
        let ended = end(start(parts)).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(ended.board.status().restarts, 1);
        let mut found = collected.values("out");
        found.sort();
        found.dedup();
        let clean = Plan::new(&values).stage("sums", Kind::Aggregate, "in", 1).windows(100).sink("out", "sums");
        let (parts, clean) = clean.parts();
        end(start(parts)).await;
        let mut expected = clean.values("out");
        expected.sort();
        assert_eq!(found, expected, "state is the fold of the input, whether the source seeks ({can_seek}) or is kept");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        assert_eq!(ended.committed.stages[0].tally.received, 3000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_ends_the_pipeline_at_its_last_commit_and_names_the_record() {
    let mut values = numbers(3000);
    values[1500] = "fault".to_owned();
    let plan = Plan::new(&values).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let (parts, _) = plan.parts();
    let acknowledged = plan.source().acknowledged.clone();
    let ended = end(start(parts)).await;
    let Ending::Faulted(report) = ended.ending else { panic!("{:?}", ended.ending) };
    assert_eq!((report.stage.as_str(), report.record.unwrap().value.as_str()), ("evens", "fault"));
    assert!(ended.committed.sources[0].position.0.as_u64().unwrap() <= 1500);
    assert!(acknowledged.load(Ordering::SeqCst) <= 1500, "nothing after the fault is acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_that_nobody_reads_stops_or_is_dropped_and_counted_as_configured() {
    let mut values = numbers(100);
    values[50] = "refuse".to_owned();
    let plan = || Plan::new(&values).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let (parts, _) = plan().parts();
    let Ending::Stopped(stop) = end(start(parts)).await.ending else { panic!("it stops") };
    assert_eq!((stop.reason.as_str(), stop.record.value.as_str()), ("told to", "refuse"));

    let (parts, _) = plan().on_error(OnError::Drop).parts();
    let ended = end(start(parts)).await;
    assert_eq!(ended.ending, Ending::Completed);
    let expected = Tally { received: 100, passed: 49, filtered: 50, refused: 1, produced: 49, ..Tally::default() };
    assert_eq!(ended.committed.stages[0].tally, expected);

    let (parts, collected) = plan().sink("bad", "evens.refused").sink("odd", "evens.rest").parts();
    assert_eq!(end(start(parts)).await.ending, Ending::Completed);
    assert_eq!(collected.values("bad"), ["refuse"]);
    let odd: Vec<String> = (0..100).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
    assert_eq!(collected.values("odd"), odd, "what is refused is no rest");
}

/// Invariant 3: with a blocked sink exactly this many records are in flight, and not one more is read.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_blocked_sink_the_source_stops_at_the_sum_of_what_the_lanes_hold() {
    let values = numbers(10_000);
    let plan = Plan::new(&values).batch(10).capacity(50).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let gate = plan.gate();
    let (parts, collected) = plan.parts();
    let running = start(parts);
    let board = running.board.clone();
    // Batches of 10 are cut into 1 and 9 where the watermark moves. 10 in the source's hands; 50 in the lane; 9 in
    // the hands of the filter, which keeps every other; 50 in the next lane, made of 100; 1 in the sink's hands.
    let expected = 10 + 50 + 9 + 100 + 1;
    let read = || board.sources[0].read().tally.received;
    tokio::time::timeout(PATIENCE, async {
        while read() < expected {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(read(), expected);
    gate.add_permits(1 << 20);
    assert_eq!(end(running).await.ending, Ending::Completed);
    assert_eq!(collected.values("out"), evens(&values));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way_and_closes_windows_marked_incomplete() {
    let plan = Plan::new(&numbers(1000))
        .endless()
        .stage("sums", Kind::Aggregate, "in", 2)
        .windows(1 << 30)
        .sink("out", "sums");
    let (parts, collected) = plan.parts();
    let running = start(parts);
    while running.board.stages[0].read().tally.absorbed < 1000 {
        tokio::task::yield_now().await;
    }
    running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
    let ended = end(running).await;
    assert_eq!(ended.ending, Ending::Drained);
    assert_eq!(collected.values("out").len(), 10);
    assert!(collected.values("out").iter().all(|value| value.ends_with("Early")), "{:?}", collected.values("out"));
    assert_eq!(ended.committed.sources[0].position.0, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cannot_finish_ends_at_its_deadline_and_acknowledges_nothing_undelivered() {
    let plan = Plan::new(&numbers(1000)).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let _gate = plan.gate();
    let acknowledged = plan.source().acknowledged.clone();
    let (parts, _) = plan.parts();
    let running = start(parts);
    running.commands.send(Command::Drain(Drain::within(Duration::from_millis(300)))).await.unwrap();
    assert_eq!(end(running).await.ending, Ending::DeadlinePassed);
    assert_eq!(acknowledged.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_source_stops_nobody_once_it_is_idle() {
    let plan = Plan::new(&numbers(2000)).endless().silent_source().stage("sums", Kind::Aggregate, "in, silent", 1);
    let (parts, collected) = plan.windows(100).sink("out", "sums").parts();
    let running = start(parts);
    tokio::time::timeout(PATIENCE, async {
        while collected.values("out").len() < 180 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("windows close although the other source says nothing");
    running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
    assert_eq!(end(running).await.ending, Ending::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_for_a_while_is_named_and_loses_nothing() {
    let values = numbers(500);
    let plan = Plan::new(&values).stage("evens", Kind::Filter, "in", 1).sink("out", "evens").failing(3);
    let (parts, collected) = plan.parts();
    let ended = end(start(parts)).await;
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(collected.values("out"), evens(&values));
    assert_eq!(collected.failures(), 3);
}

/// Row 74: whichever of several sinks cannot write, nothing is acknowledged before it has written.
#[tokio::test(flavor = "multi_thread")]
async fn one_sink_of_three_that_fails_keeps_everything_from_being_acknowledged() {
    let values = numbers(400);
    let plan = || Plan::new(&values).sink("a", "in").sink("b", "in").sink("c", "in");
    for troubled in ["a", "b", "c"] {
        let others = ["a", "b", "c"].into_iter().filter(|name| *name != troubled).collect::<Vec<_>>();
        for plan in [plan().only(troubled).failing(usize::MAX), plan().only(troubled)] {
            let gate = (plan.flushes_that_fail() == 0).then(|| plan.gate());
            let acknowledged = plan.source().acknowledged.clone();
            let (parts, collected) = plan.parts();
            let running = start(parts);
            tokio::time::timeout(PATIENCE, async {
                while others.iter().any(|name| collected.values(name).len() < 400)
                    || (gate.is_none() && collected.failures() == 0)
                {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("the other sinks have everything");
            assert_eq!((acknowledged.load(Ordering::SeqCst), running.board.status().epoch), (0, 0), "{troubled}");
            if let Some(gate) = gate {
                gate.add_permits(1 << 20);
                let ended = end(running).await;
                assert_eq!((ended.ending, acknowledged.load(Ordering::SeqCst)), (Ending::Completed, 400));
                assert_eq!(collected.values(troubled), values);
            } else {
                running.commands.send(Command::Drain(Drain::within(Duration::from_millis(10)))).await.unwrap();
                let ended = end(running).await;
                assert_eq!((ended.ending, acknowledged.load(Ordering::SeqCst)), (Ending::DeadlinePassed, 0));
            }
        }
    }
}

/// Row 76.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_far_future_is_refused_and_closes_no_window() {
    let mut values = numbers(1000);
    let plan = |values: &[String]| {
        Plan::new(values).endless().stage("sums", Kind::Aggregate, "in", 1).windows(100).sink("out", "sums")
    };
    values[317] = "future".to_owned();
    // The last watermark lies the lag behind the last record: nine windows of ten keys close while the source waits.
    let run = async |plan: Plan| {
        let (parts, collected) = plan.parts();
        let running = start(parts);
        tokio::time::timeout(PATIENCE, async {
            while collected.values("out").len() < 90 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the watermark goes on");
        running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
        (end(running).await, collected)
    };
    let (ended, collected) = run(plan(&values).sink("bad", "in.refused")).await;
    assert_eq!(ended.ending, Ending::Drained);
    let source = ended.committed.sources[0].tally;
    assert_eq!((source.received, source.refused, source.passed), (1000, 1, 999));
    assert_eq!(ended.committed.stages[0].tally.late, 0, "the watermark has not moved with it");
    assert_eq!(collected.values("bad"), ["future"]);
    values[317] = "0".to_owned();
    let (_, clean) = run(plan(&values)).await;
    // It would have been the tenth of its group.
    let expected = clean
        .values("out")
        .into_iter()
        .map(|value| if value.starts_with("7@300=") { value.replace("/10", "/9") } else { value });
    assert_eq!(collected.values("out"), expected.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_refuses_is_counted_although_it_cannot_write_yet() {
    let plan = Plan::new(&numbers(500)).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let (parts, collected) = plan.refusing('4').failing(3).parts();
    let ended = end(start(parts)).await;
    assert_eq!((ended.ending, collected.failures()), (Ending::Completed, 3));
    let tally = ended.committed.sinks[0].tally;
    assert_eq!((tally.received, tally.passed, tally.refused), (250, 200, 50));
    assert_eq!(collected.values("out").len(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// P2, in part: whatever the batches, lanes and workers, and wherever the host panics, the final state is the fold
    /// of the input, and every output of a run without a panic is there.
    #[test]
    fn a_restart_anywhere_leaves_the_fold_of_the_input(
        batch in 1usize..40,
        capacity in 1usize..60,
        workers in (1usize..4, 1usize..4),
        panic_at in 0usize..600,
        can_seek in any::<bool>(),
    ) {
        let mut values = numbers(600);
        let build = |values: &[String]| {
            Plan::new(values).batch(batch).capacity(capacity)
                .stage("evens", Kind::Filter, "in", workers.0)
                .stage("sums", Kind::Aggregate, "evens, evens.rest", workers.1)
                .windows(50)
                .sink("out", "sums").sink("evens_out", "evens")
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (parts, clean) = build(&values).parts();
        let expected = runtime.block_on(async { end(start(parts)).await });
        prop_assert_eq!(expected.ending, Ending::Completed);
        values[panic_at] = "panic".to_owned();
        let (parts, collected) = build(&values).seek(can_seek).panics().parts();
        let ended = runtime.block_on(async { end(start(parts)).await });
        prop_assert_eq!(&ended.ending, &Ending::Completed);
        prop_assert_eq!(ended.board.status().restarts, 1);
        prop_assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
        prop_assert_eq!(ended.committed.stages.iter().map(|stage| stage.tally.received).collect::<Vec<_>>(), [600, 600]);
        // The panicking value counts as 0 once it no longer panics.
        let lost = panic_at as u64;
        let sum = |collected: &Collected| -> u64 {
            let mut all = collected.values("out");
            all.sort();
            all.dedup();
            all.iter().map(|v| v.split_once('=').unwrap().1.split_once('/').unwrap().0.parse::<u64>().unwrap()).sum()
        };
        prop_assert_eq!(sum(&collected) + lost, sum(&clean));
    }
}

#[test]
fn the_threads_of_a_graph_are_its_conductors_and_workers() {
    let plan = Plan::new(&[]).stage("a", Kind::Filter, "in", 1).stage("b", Kind::Filter, "a", 3).sink("out", "b");
    assert_eq!(run::threads(&plan.parts().0.graph), 1 + 4);
}
