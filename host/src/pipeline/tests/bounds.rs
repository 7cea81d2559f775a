//! What a source may read, and when: its rate, what it may keep for a restart, its idle clock.

use super::{super::coordinator::Participant, breakers::until, *};
use crate::{epoch::Epoch, pipeline::board::Wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_keeps_its_rate() {
    let values = numbers(300);
    let plan = Plan::new(&values).rate("1000/s").sink("out", "in");
    let (parts, collected) = plan.parts();
    let began = Instant::now();
    assert_eq!(end(start(parts)).await.ending, Ending::Completed);
    // A tenth of a second's records may come at once.
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    assert_eq!(collected.values("out"), values);
}

/// Invariant 3, of what a source that cannot seek keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_seek_reads_no_more_than_it_may_keep() {
    let values = numbers(10_000);
    let plan = Plan::new(&values).seek(false).batch(10).uncommitted(2000).sink("out", "in");
    let gate = plan.gate();
    let (parts, collected) = plan.parts();
    let running = start(parts);
    let read = || running.board.sources[0].read().tally.received;
    // A record takes at least 16 bytes, and a batch of ten is read while there is room for a byte.
    let most = 2000 / 16 + 10;
    tokio::time::timeout(PATIENCE, async {
        while read() < 30 {
            tokio::task::yield_now().await;
        }
        let mut last = read();
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
            last = last.max(read());
        }
        assert!(last <= most, "{last} records were read");
    })
    .await
    .unwrap();
    gate.add_permits(1 << 20);
    let ended = end(running).await;
    assert_eq!((ended.ending, collected.values("out")), (Ending::Completed, values));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_kept_half_of_what_it_may_asks_for_an_epoch() {
    let values = numbers(10_000);
    let hour = Duration::from_secs(3600);
    let (parts, collected) = Plan::new(&values).seek(false).epoch(hour).uncommitted(64 << 10).sink("out", "in").parts();
    let ended = end(start(parts)).await;
    assert_eq!((ended.ending, collected.values("out")), (Ending::Completed, values));
    assert!(ended.committed.epoch.0 > 2, "{:?}", ended.committed.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn backpressure_makes_no_source_idle() {
    let values = numbers(2000);
    let plan = Plan::new(&values)
        .another("silent", &[])
        .batch(10)
        .capacity(20)
        .stage("sums", Kind::Aggregate, "in, silent", 1)
        .windows(10)
        .sink("out", "sums");
    let gate = plan.gate();
    let running = start(plan.parts().0);
    // Three times as long as a source may be silent, the sink takes nothing.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(150) {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1 << 20);
    let ended = end(running).await;
    assert_eq!((ended.ending, ended.committed.stages[0].tally.late), (Ending::Completed, 0));
}

/// A stage's rate holds what is above it, a drain's deadline holds for it, and what it has not taken in is not committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_keeps_its_rate_and_a_drain_its_deadline() {
    for workers in [1, 3] {
        let values = numbers(300);
        let plan = Plan::new(&values).stage_rate("1000/s").stage("s", Kind::Filter, "in", workers).sink("out", "s");
        let (parts, collected) = plan.parts();
        let began = Instant::now();
        let ended = end(start(parts)).await;
        assert_eq!(ended.ending, Ending::Completed);
        // A tenth of a second's records may come at once.
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        assert_eq!(collected.values("out"), evens(&values));
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);

        let plan = Plan::new(&values).batch(10).capacity(20).stage_rate("60/h").stage("s", Kind::Filter, "in", workers);
        let (parts, _) = plan.sink("out", "s").parts();
        let running = start(parts);
        let board = running.board.clone();
        let waits = || board.waits().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        until("it waits", || waits() == "`in` waits for `s`: its rate limit of 60/h lets no more through").await;
        running.commands.send(Command::Drain(Drain::within(Duration::from_millis(50)))).await.unwrap();
        let ended = end(running).await;
        assert_eq!((ended.ending, ended.committed.epoch.0), (Ending::DeadlinePassed, 0));
        assert!(ended.board.uncommitted(&ended.committed) > 0);
    }
}

/// Who waits is told with the one that everybody waits for, and so is who holds an epoch that is late.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_with_whom_they_all_wait_for_in_the_end() {
    // More than passes before the first barrier, at which the sink fails.
    let values = numbers(200_000);
    let plan = Plan::new(&values).batch(10).capacity(20).stage("first", Kind::Filter, "in", 1);
    let plan = plan.stage("second", Kind::Filter, "first", 2).sink("slow", "second").sink("quick", "first");
    let plan = plan.failing(1 << 40).only("slow");
    let running = start(plan.parts().0);
    let board = running.board.clone();
    let of = |who: &str| board.waits().into_iter().find(|wait| wait.who == who);
    let has_failed = |wait: &Wait| wait.why.as_ref().is_some_and(|why| why.contains("it tries again"));
    until("they all wait", || {
        let waits = board.status().waits;
        waits.len() == 3
            && waits.iter().all(has_failed)
            && of("in").is_some_and(|wait| wait.on == ["first", "second", "slow"])
    })
    .await;
    let waits = board.status().waits;
    assert_eq!(waits.iter().map(|wait| wait.who.as_str()).collect::<Vec<_>>(), ["in", "first", "second"]);
    board.epoch_begun();
    board.epoch_late(Epoch(1), vec![Participant::Source(0), Participant::Sink(0), Participant::Sink(1)]);
    let told = board.not_ready();
    let of = |who: &str| told.iter().find(|it| it.who == who).map(|it| it.why.as_str()).unwrap_or_default();
    assert!(of("in").contains("; it waits for `first`, which waits for `second`, which waits for `slow`: it tries"));
    assert!(of("slow").starts_with("it tries again"), "{told:?}");
    running.commands.send(Command::Drain(Drain::within(Duration::ZERO))).await.unwrap();
    assert_eq!(end(running).await.ending, Ending::DeadlinePassed);
}
