//! What a source may read, and when: its rate, what it may keep for a restart, its idle clock.

use super::*;

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
