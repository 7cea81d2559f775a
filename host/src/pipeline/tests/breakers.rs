//! Stages that are told to stop, or stop by themselves: what they keep, and that nothing is lost meanwhile.

use super::*;
use crate::stage::control::Control;

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_is_tripped_takes_nothing_in_until_it_is_reset_and_keeps_the_order() {
    for workers in [1, 2] {
        let values = numbers(2000);
        let mut plan = Plan::new(&values).batch(10).capacity(50).stage("evens", Kind::Filter, "in", workers);
        let reads = plan.allowance();
        let (parts, collected) = plan.sink("out", "evens").parts();
        let running = start(parts);
        running.commands.send(Command::Stage(0, Control::Trip)).await.unwrap();
        reads.add_permits(1 << 20);
        let board = running.board.clone();
        // What it is told comes in by another lane than records: a few may have been before it.
        until(|| board.status().edges[0].waiting.records == 50).await;
        let taken = board.stages[0].read().tally.received;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(board.stages[0].read().tally.received, taken, "{workers} workers");
        running.commands.send(Command::Stage(0, Control::Reset)).await.unwrap();
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(collected.values("out"), evens(&values), "{workers} workers");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    }
}

async fn until(is_so: impl Fn() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it comes to that");
}
