//! Plugins that stand in for others while these are left alone.

use super::{
    super::coordinator::Participant,
    breakers::{opening, until},
    *,
};
use crate::{
    config::Then,
    stage::{fake::Mood, gate::Lever},
};

#[tokio::test(flavor = "multi_thread")]
async fn while_a_breaker_is_open_another_plugin_has_the_records_and_they_are_counted_apart() {
    let values = numbers(1000);
    for (workers, kind) in [(1, Kind::Filter), (3, Kind::Filter), (1, Kind::Map), (3, Kind::Map)] {
        let what = format!("{kind:?} with {workers} workers");
        let plan =
            || Plan::new(&values).stage("s", kind, "in", workers).sink("out", "s").sink("side", "s.side, s.refused");
        let (parts, clean) = plan().parts();
        let clean_tally = end(start(parts)).await.committed.stages[0].tally;
        let mut plan = plan().standby().breaker(opening(3_600_000, Then::Fallback));
        let (reads, own) = (plan.allowance(), plan.fake.mood.clone());
        // The breaker opens by itself, and nobody misses anything.
        *own.lock().unwrap() = Mood::Hangs;
        let (parts, collected) = plan.parts();
        let standby = parts.plugins[0].fallback.as_ref().unwrap().service.clone();
        let running = start(parts);
        reads.add_permits(1 << 20);
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed, "{what}");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{what}");
        let tally = ended.committed.stages[0].tally;
        // What faulted before the breaker opened is what a deadline of a single record comes to.
        assert!(tally.stood_in > 600 && tally.stood_in + tally.refused == 1000, "{tally:?}: {what}");
        assert_eq!((standby.read().records, standby.read().refused), (tally.stood_in, 0), "{what}");
        if tally.refused == 0 {
            assert_eq!(Tally { stood_in: 0, ..tally }, clean_tally, "{what}");
            assert_eq!(collected.values("side"), clean.values("side"), "{what}");
            assert_eq!(collected.values("out"), clean.values("out"), "{what}");
        }
        assert!(!ended.board.is_paused(), "nothing waits while something stands in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_has_a_breaker_of_its_own_at_which_records_wait() {
    let values = numbers(1000);
    for workers in [1, 3] {
        let plan = Plan::new(&values).stage("s", Kind::Filter, "in", workers).sink("out", "s").standby();
        let mut plan = plan.breaker(opening(3_600_000, Then::Fallback));
        let (reads, own, other) = (plan.allowance(), plan.fake.mood.clone(), plan.mood_of_standby());
        let (parts, collected) = plan.parts();
        let running = start(parts);
        let board = running.board.clone();
        until("it runs", || board.phase() == Phase::Running).await;
        // Neither can be made: no record is to blame.
        (*own.lock().unwrap(), *other.lock().unwrap()) = (Mood::Gone, Mood::Gone);
        reads.add_permits(1 << 20);
        until("both are open", || board.gates().filter(|(_, gate)| gate.opened().is_some()).count() == 2).await;
        let names: Vec<&str> = board.gates().map(|(name, _)| name).collect();
        assert_eq!(names, ["s", "s.fallback", "out"]);
        assert!(board.is_paused(), "now records wait");
        let told = board.not_ready();
        assert!(told.iter().any(|it| it.why.contains("the breaker of what stands in for it is open")), "{told:?}");
        assert_eq!(board.stages[0].read().tally.received, 0);
        *other.lock().unwrap() = Mood::Well;
        running.commands.send(Command::Fallback(0, Lever::Reset)).await.unwrap();
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(collected.values("out"), evens(&values), "{workers} workers");
        assert_eq!(ended.committed.stages[0].tally.stood_in, 1000);
        assert!(ended.board.gate(Participant::Stage(0)).unwrap().opened().is_some());
    }
}

/// However often the two take turns, every record is done once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_that_take_turns_leave_no_trace() {
    let values = numbers(3000);
    for workers in [1, 3] {
        let plan = Plan::new(&values).batch(20).rate("8000/s").stage("s", Kind::Filter, "in", workers).sink("out", "s");
        let plan = plan.standby().breaker(opening(3_600_000, Then::Fallback));
        let (parts, collected) = plan.parts();
        let running = start(parts);
        let board = running.board.clone();
        until("it runs", || board.phase() == Phase::Running).await;
        let mut nth = 0;
        while !running.task.is_finished() {
            nth += 1;
            let received = board.stages[0].read().tally.received;
            let lever = if nth % 2 == 1 { Lever::Trip } else { Lever::Reset };
            if running.commands.send(Command::Breaker(Participant::Stage(0), lever)).await.is_err() {
                break;
            }
            until("it goes on", || {
                board.stages[0].read().tally.received >= received + 200 || running.task.is_finished()
            })
            .await;
        }
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(collected.values("out"), evens(&values), "{workers} workers");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        let tally = ended.committed.stages[0].tally;
        assert!(tally.stood_in > 500 && tally.stood_in < 2500 && nth > 4, "{tally:?}, {nth} turns");
    }
}

/// A fallen host finds both breakers as they were.
#[test]
fn the_breaker_of_what_stands_in_is_found_open_after_a_fall() {
    let (disk, collected) = (crate::disk::Sim::new(), Collected::default());
    let values = numbers(100);
    let plan = || {
        let plan = Plan::new(&values).truncating().stage("s", Kind::Filter, "in", 1).sink("out", "s").standby();
        plan.breaker(opening(60_000, Then::Fallback))
    };
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plan_of = |levers: Option<Lever>| {
        let store = durable::store(&disk).unwrap();
        let plan = plan().rate("10/s");
        let parts = plan.parts_after(&store, &collected).unwrap();
        runtime().block_on(async {
            let running = start(parts);
            let board = running.board.clone();
            until("it runs", || board.phase() == Phase::Running).await;
            if let Some(lever) = levers {
                running.commands.send(Command::Fallback(0, lever)).await.unwrap();
                until("it is pulled", || board.fallback_gates[&0].opened().is_some()).await;
            }
            let opened = board.fallback_gates[&0].opened();
            running.commands.send(Command::Drain(Drain::within(Duration::from_millis(500)))).await.unwrap();
            end(running).await;
            opened
        })
    };
    let tripped = plan_of(Some(Lever::Trip));
    assert!(tripped.is_some());
    assert_eq!(plan_of(None), tripped);
}
