//! Edges that drop: who is slow behind one holds nobody, no record comes twice, and each that is missing is counted.

use super::{
    durable::store,
    passages::{all, blocking, divided, runtime},
    *,
};
use crate::{
    config::graph::WhenFull,
    disk::{Sim, sim::Failure},
    queue::Drops,
};

/// What of the numbers came out, and how many of them did not.
fn taken(ended: &Ended, collected: &Collected, sink: &str) -> (Vec<u64>, u64) {
    let values: Vec<u64> = collected.values(sink).iter().map(|value| value.parse().unwrap()).collect();
    let tally = ended.committed.sources[0].tally;
    assert_eq!(tally.received, tally.passed + tally.dropped);
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
    (values, tally.dropped)
}

/// A queue of 200 records between a source of 4,000 and a sink that hangs: all who are in front come to their end, with
/// epochs of their own; then what is left of the queue comes, the first of the records or the last.
#[test]
fn who_hangs_behind_an_edge_that_drops_holds_nobody_and_gets_the_first_or_the_last() {
    for drops in [Drops::Newest, Drops::Oldest] {
        let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(4000));
        let plan = Plan::new(&values).batch(20).capacity(200).only("far").sink("near", "in").sink("far", "in");
        let gate = plan.gate();
        let parts = divided(&plan, &["far"], WhenFull::Drop(drops), &store(&disk).unwrap(), &disk, &collected);
        let (front, behind) = runtime().block_on(async {
            let mut running: Vec<Running> = parts.into_iter().map(start).collect();
            let (behind, front) = (running.pop().unwrap(), running.pop().unwrap());
            let front = end(front).await;
            assert!(!behind.task.is_finished());
            gate.add_permits(tokio::sync::Semaphore::MAX_PERMITS / 2);
            (front, end(behind).await)
        });
        assert_eq!((&front.ending, &behind.ending), (&Ending::Completed, &Ending::Completed));
        assert_eq!(front.committed.sources[0].tally.received, 4000);
        assert_eq!(collected.values("near"), values);
        let (far, dropped) = taken(&behind, &collected, "far");
        assert!(far.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
        assert_eq!(far.len() as u64 + dropped, 4000, "{drops:?}");
        assert!(dropped > 1000, "{drops:?}: {dropped}");
        assert_eq!(far.last() == Some(&3999), drops == Drops::Oldest, "{drops:?}: {:?}", far.last());
    }
}

/// Where there is room nothing is dropped, and windows are those of an edge that blocks; the last watermark ends the part.
#[test]
fn an_edge_that_has_room_drops_nothing_and_windows_behind_it_are_the_same() {
    let values = numbers(600);
    let plan = || {
        let plan = Plan::new(&values).batch(20).rate("6000/s").stage("evens", Kind::Filter, "in", 2);
        plan.stage("sums", Kind::Aggregate, "evens", 2).windows(50).sink("out", "sums").sink("odd", "evens.rest")
    };
    let expected = blocking(&plan());
    let (disk, collected) = (Sim::new(), Collected::default());
    let drop = WhenFull::Drop(Drops::Oldest);
    let parts = divided(&plan(), &["sums"], drop, &store(&disk).unwrap(), &disk, &collected);
    let ended = runtime().block_on(async { all(parts.into_iter().map(start).collect()).await });
    assert!(ended.iter().all(|ended| ended.ending == Ending::Completed));
    assert_eq!(ended[1].committed.sources[0].tally.dropped, 0);
    assert_eq!(collected.values("out"), expected.values("out"));
}

/// An epoch of the part in front lasts an hour, and the queue holds a fraction of what flows: a commit is asked for before
/// there is no more room.
#[test]
fn a_queue_that_fills_before_a_commit_asks_for_one() {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(1500));
    let plan = Plan::new(&values).batch(20).rate("2000/s").capacity(1200).epoch(Duration::from_secs(3600));
    let plan = plan.sink("near", "in").sink("far", "in");
    let drop = WhenFull::Drop(Drops::Newest);
    let parts = divided(&plan, &["far"], drop, &store(&disk).unwrap(), &disk, &collected);
    let ended = runtime().block_on(async { all(parts.into_iter().map(start).collect()).await });
    assert_eq!(taken(&ended[1], &collected, "far"), ((0..1500).collect(), 0));
}

/// What a drain finds on the way goes with it, for no process after this one would find it.
#[test]
fn a_drain_takes_along_what_is_on_an_edge_that_drops() {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(3000));
    let plan = Plan::new(&values).batch(20).rate("6000/s").endless().sink("near", "in").sink("far", "in");
    let drop = WhenFull::Drop(Drops::Oldest);
    let parts = divided(&plan, &["far"], drop, &store(&disk).unwrap(), &disk, &collected);
    let ended = runtime().block_on(async {
        let running: Vec<Running> = parts.into_iter().map(start).collect();
        while collected.values("far").is_empty() {
            tokio::task::yield_now().await;
        }
        for running in &running {
            running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
        }
        all(running).await
    });
    assert!(ended.iter().all(|ended| ended.ending == Ending::Drained));
    assert_eq!(collected.values("far"), collected.values("near"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the machine falls: no record comes out twice behind an edge that drops, though its sink takes nothing back;
    /// what is missing is counted; and those in front are as if nothing had been.
    #[test]
    fn a_fall_doubles_nothing_behind_an_edge_that_drops_and_what_is_missing_is_counted(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..160, any::<bool>()), 1..4),
    ) {
        let (values, runtime) = (numbers(600), runtime());
        let (disk, collected) = (Sim::new(), Collected::default());
        let plan = || {
            let plan = Plan::new(&values).batch(20).rate("6000/s").capacity(100).truncating().stage("evens", Kind::Filter, "in", 1);
            plan.sink("near", "evens").sink("far", "in")
        };
        let plain = Collected::default();
        let mut falls = falls.into_iter();
        loop {
            if let Some((operation, is_before)) = falls.next() {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let drop = WhenFull::Drop(Drops::Oldest);
                let mut parts = divided(&plan(), &["far"], drop, &store, &disk, &collected);
                // Its sink keeps what it has written, whatever is committed.
                let mut whole = Plan::new(&values).sink("near", "in").sink("far", "in").parts_into(&plain);
                parts[1].sinks[0] = whole.sinks.remove(1);
                runtime.block_on(async {
                    let mut running: Vec<Running> = parts.into_iter().map(start).collect();
                    let (behind, front) = (running.pop().unwrap(), running.pop().unwrap());
                    let front = end(front).await;
                    let _ = behind.commands.try_send(Command::Drain(Drain::within(PATIENCE)));
                    (front, end(behind).await)
                })
            });
            if !disk.is_down() {
                let (front, behind) = ended.expect("the store opens on a disk that works");
                prop_assert_eq!(&front.ending, &Ending::Completed);
                let (far, dropped) = taken(&behind, &plain, "far");
                prop_assert!(far.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", far);
                let tally = behind.committed.sources[0].tally;
                prop_assert_eq!((tally.received, tally.passed + dropped), (600, 600));
                prop_assert!(tally.passed <= far.len() as u64);
                break;
            }
            disk.restart(seed);
        }
        prop_assert_eq!(collected.values("near"), evens(&values));
    }
}
