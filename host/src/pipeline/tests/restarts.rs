//! Model P2 where something has been committed before the host panics.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

const RECORDS: usize = 600;

/// What the windows come to, whatever happens on the way: a function of the values alone.
fn expected(values: &[String]) -> Vec<String> {
    let mut groups = std::collections::BTreeMap::<(usize, usize), (u64, u64)>::new();
    for (at, value) in values.iter().enumerate() {
        let group = groups.entry((at / 50 * 50, at % 10)).or_default();
        *group = (group.0 + value.parse::<u64>().unwrap_or_default(), group.1 + 1);
    }
    let shown = groups.iter().map(|((start, key), (sum, count))| format!("{key}@{start}={sum}/{count} Closed"));
    let mut all: Vec<String> = shown.collect();
    all.sort();
    all
}

/// The ids of all windows, by key and beginning.
async fn restarted(seed: u64) -> BTreeMap<String, Vec<u8>> {
    let random = &mut SmallRng::seed_from_u64(seed);
    let panic_at = random.random_range(1..RECORDS);
    let commits: Vec<usize> = (0..random.random_range(1..3)).map(|_| random.random_range(0..panic_at)).collect();
    let mut values = numbers(RECORDS);
    values[panic_at] = "panic".to_owned();
    let mut plan = Plan::new(&values)
        .batch(random.random_range(1..30))
        .capacity(random.random_range(1..60))
        .seek(random.random())
        .stage("evens", Kind::Filter, "in", random.random_range(1..4))
        .stage("sums", Kind::Aggregate, "evens, evens.rest", random.random_range(1..4))
        .windows(50)
        .sink("out", "sums")
        .ids()
        .panics();
    let reads = plan.allowance();
    let (accepted, acknowledged) = (plan.source().accepted.clone(), plan.source().acknowledged.clone());
    let (parts, collected) = plan.parts();
    let running = start(parts);
    let case = format!("case {seed}: panic at {panic_at}, commits at {commits:?}");
    for commit in commits {
        tokio::time::timeout(PATIENCE, async {
            // Up to the record at which it panics, and wherever the epoch happens to begin.
            while (accepted.load(Ordering::SeqCst) as usize) < commit {
                if reads.available_permits() == 0 {
                    reads.add_permits(1);
                }
                tokio::task::yield_now().await;
            }
            while acknowledged.load(Ordering::SeqCst) < accepted.load(Ordering::SeqCst)
                && running.board.status().restarts == 0
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("what was read commits");
    }
    reads.add_permits(1 << 20);
    let ended = end(running).await;
    assert_eq!((&ended.ending, ended.board.status().restarts), (&Ending::Completed, 1), "{case}");
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{case}");
    let received: Vec<u64> = ended.committed.stages.iter().map(|stage| stage.tally.received).collect();
    assert_eq!(received, [RECORDS as u64; 2], "{case}");
    assert_eq!(ended.committed.stages[1].tally.late, 0, "{case}");
    assert!(ended.committed.stages[1].groups.is_empty(), "{case}");
    // What was sent between the last commit and the panic comes again, the same.
    let mut found = collected.values("out");
    found.sort();
    found.dedup();
    assert_eq!(found, expected(&values), "{case}");
    let known = collected.known();
    assert_eq!(known.len(), found.len(), "{case}: what comes again comes under the same id");
    known.into_iter().map(|(value, id)| (value.split('=').next().unwrap_or_default().to_owned(), id)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_after_a_commit_leaves_the_fold_of_the_input() {
    let cases: Vec<_> = (0..64).map(|seed| tokio::spawn(restarted(seed))).collect();
    // P11: neither batches, lanes, workers nor restarts change an id.
    let mut first = None;
    for case in cases {
        let ids = case.await.unwrap();
        assert_eq!(&ids, first.get_or_insert_with(|| ids.clone()));
    }
}
