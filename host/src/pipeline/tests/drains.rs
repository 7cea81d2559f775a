//! Model P14: whatever is going on when a drain is asked for, and whatever sinks do, every record that was accepted is
//! accounted for.
//!
//! A pipeline with real lanes, threads and barriers, driven by random steps, beside the algebra of sets: what becomes of
//! a record is a function of its number, so that every count follows from how far the source was read and committed.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

/// Records that there are; no case reads them all.
const RECORDS: u64 = 4000;

/// What a record comes to, if it comes to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The stage refuses it.
    Refused,
    /// The stage filters it out.
    Filtered,
    /// The sinks refuse it.
    TurnedDown,
    /// The sinks write it.
    Delivered,
}

fn fate(number: u64) -> Fate {
    match number {
        n if n % 7 == 3 => Fate::Refused,
        n if n % 2 == 1 => Fate::Filtered,
        n if n % 10 == 4 => Fate::TurnedDown,
        _ => Fate::Delivered,
    }
}

/// Those of the first `count` records that come to `wanted`.
fn of(count: u64, wanted: Fate) -> impl Iterator<Item = u64> {
    (0..count).filter(move |number| fate(*number) == wanted)
}

/// What is wrong with the sink `right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// It fails a few times.
    FailsForAWhile,
    FailsForEver,
    /// Each write waits for a permit, which may never come.
    Hangs,
}

/// Runs one pipeline through random steps, a drain among them, and settles accounts.
async fn drained(seed: u64) -> (Trouble, Ending) {
    let random = &mut SmallRng::seed_from_u64(seed);
    let trouble = [Trouble::None, Trouble::FailsForAWhile, Trouble::FailsForEver, Trouble::Hangs][seed as usize % 4];
    let value = |number| if fate(number) == Fate::Refused { "refuse".to_owned() } else { number.to_string() };
    let values: Vec<String> = (0..RECORDS).map(value).collect();
    let mut plan = Plan::new(&values)
        .batch(random.random_range(1..20))
        .capacity(random.random_range(1..60))
        .seek(random.random())
        .endless()
        .on_error(OnError::Drop)
        .refusing('4')
        .stage("evens", Kind::Filter, "in", random.random_range(1..4))
        .sink("left", "evens")
        .sink("right", "evens")
        .only("right")
        .failing(match trouble {
            Trouble::None | Trouble::Hangs => 0,
            Trouble::FailsForAWhile => random.random_range(1..3),
            Trouble::FailsForEver => usize::MAX,
        });
    let reads = plan.allowance();
    let gate = (trouble == Trouble::Hangs).then(|| plan.gate());
    let (accepted, acknowledged) = (plan.source().accepted.clone(), plan.source().acknowledged.clone());
    let (parts, collected) = plan.parts();
    let running = start(parts);
    // One that hangs may come back, in time or not.
    let comes_back = trouble == Trouble::Hangs && random.random();
    let is_bound_to_end = comes_back || matches!(trouble, Trouble::None | Trouble::FailsForAWhile);
    let deadline = if is_bound_to_end { PATIENCE } else { Duration::from_millis(random.random_range(1..200)) };
    let steps = random.random_range(0..30);
    let signal = random.random_range(0..=steps);
    for step in 0..=steps {
        if step == signal {
            running.commands.send(Command::Drain(Drain::within(deadline))).await.unwrap();
        }
        match random.random_range(0..4) {
            0 | 1 => reads.add_permits(random.random_range(1..5)),
            // A pipeline that has ended needs no telling.
            2 => drop(running.commands.send(Command::Epoch).await),
            _ => gate.iter().for_each(|gate| gate.add_permits(1)),
        }
        for _ in 0..random.random_range(0..40) {
            tokio::task::yield_now().await;
        }
    }
    if comes_back {
        gate.iter().for_each(|gate| gate.add_permits(tokio::sync::Semaphore::MAX_PERMITS / 2));
    }
    let ended = end(running).await;

    let (accepted, acknowledged) = (accepted.load(Ordering::SeqCst), acknowledged.load(Ordering::SeqCst));
    let committed = ended.committed.sources[0].position.0.as_u64().unwrap();
    let case = format!("case {seed}: {trouble:?}, {:?}, {accepted} accepted, {committed} committed", ended.ending);
    let count = |fate| of(committed, fate).count() as u64;
    let [refused, filtered, turned_down, delivered] =
        [Fate::Refused, Fate::Filtered, Fate::TurnedDown, Fate::Delivered].map(count);
    // What was counted is what the sets say.
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{case}");
    let stage = ended.committed.stages[0].tally;
    assert_eq!((stage.refused, stage.filtered, stage.passed), (refused, filtered, turned_down + delivered), "{case}");
    for sink in &ended.committed.sinks {
        assert_eq!((sink.tally.passed, sink.tally.refused), (delivered, turned_down), "{case}");
    }
    let uncommitted = ended.board.uncommitted(&ended.committed);
    assert_eq!(accepted, delivered + filtered + refused + turned_down + uncommitted, "{case}");
    // What was delivered is in order and once; what is acknowledged, all of it.
    for sink in ["left", "right"] {
        let found: Vec<u64> = collected.values(sink).iter().map(|value| value.parse().unwrap()).collect();
        let all: Vec<u64> = of(accepted, Fate::Delivered).collect();
        assert!(all.starts_with(&found), "{case}: {sink} {found:?}");
        assert!(found.len() as u64 >= delivered, "{case}: {sink}");
    }
    assert!(acknowledged <= committed, "{case}: {acknowledged} acknowledged");
    match ended.ending {
        Ending::Drained => assert_eq!((uncommitted, acknowledged), (0, accepted), "{case}"),
        Ending::DeadlinePassed => assert!(!is_bound_to_end, "{case}"),
        _ => panic!("{case}"),
    }
    if trouble == Trouble::FailsForEver {
        assert_eq!((&ended.ending, committed), (&Ending::DeadlinePassed, 0), "{case}");
    }
    (trouble, ended.ending)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_accounts_for_every_record_that_was_accepted() {
    let cases: Vec<_> = (0..96).map(|seed| tokio::spawn(drained(seed))).collect();
    let mut seen = Vec::new();
    for case in cases {
        seen.push(case.await.unwrap());
    }
    for expected in [
        (Trouble::None, Ending::Drained),
        (Trouble::FailsForAWhile, Ending::Drained),
        (Trouble::FailsForEver, Ending::DeadlinePassed),
        (Trouble::Hangs, Ending::DeadlinePassed),
        (Trouble::Hangs, Ending::Drained),
    ] {
        assert!(seen.contains(&expected), "{expected:?} never came up");
    }
}
