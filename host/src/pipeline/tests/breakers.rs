//! Stages that are told to stop, or stop by themselves: what they keep, and that nothing is lost meanwhile.

use super::{super::coordinator::Participant, *};
use crate::{
    config::{Breaker, Then},
    stage::{
        fake::Mood,
        gate::{Lever, Word},
    },
    unit::Span,
};

/// A breaker that stays open for so many milliseconds first.
pub(super) fn opening(millis: u64, then: Then) -> Breaker {
    Breaker { open: Span(Duration::from_millis(millis)).into(), then: then.into(), ..Breaker::default() }
}

pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let patience = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("it does not come to that: {what}"));
}

async fn pull(running: &Running, lever: Lever) {
    running.commands.send(Command::Breaker(Participant::Stage(0), lever)).await.unwrap();
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort_by_key(|value| value.parse::<u64>().unwrap_or_default());
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_is_tripped_takes_nothing_in_until_it_is_reset_and_keeps_the_order() {
    for (workers, kind) in [(1, Kind::Filter), (3, Kind::Filter), (1, Kind::Aggregate), (3, Kind::Aggregate)] {
        let values = numbers(2000);
        let plan = |values: &[String]| {
            let plan = Plan::new(values).batch(10).capacity(50).stage("s", kind, "in", workers).windows(100);
            plan.sink("out", "s")
        };
        let mut tripped = plan(&values);
        let reads = tripped.allowance();
        let (parts, collected) = tripped.parts();
        let running = start(parts);
        let board = running.board.clone();
        pull(&running, Lever::Trip).await;
        until("it is open", || board.stage_gates[0].shown().state == Word::Open).await;
        reads.add_permits(1 << 20);
        until("its lane is full", || board.status().edges[0].waiting.records == 50).await;
        assert_eq!(board.stages[0].read().tally.received, 0, "{workers} workers");
        let told = board.not_ready();
        assert!(told.iter().any(|it| it.who == "s" && it.why.contains("somebody tripped it")), "{told:?}");
        pull(&running, Lever::Reset).await;
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        let (parts, clean) = plan(&values).parts();
        end(start(parts)).await;
        assert_eq!(collected.values("out"), clean.values("out"), "{kind:?} with {workers} workers");
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    }
}

/// Rows 48 and 81: however a plugin fails, and however often it is tried, few letters are made of it, and all else waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_always_fails_is_left_alone_and_what_it_has_not_had_waits_in_order() {
    for mood in [Mood::Refuses, Mood::Faults, Mood::Hangs, Mood::Gone] {
        for (workers, kind) in
            [(1, Kind::Filter), (3, Kind::Filter), (2, Kind::Map), (1, Kind::Aggregate), (3, Kind::Aggregate)]
        {
            let what = format!("{mood:?}, {kind:?} with {workers} workers");
            let values = numbers(1500);
            let plan = Plan::new(&values).stage("s", kind, "in", workers).windows(100).sink("out", "s");
            let mut plan = plan.sink("bad", "s.refused").breaker(opening(20, Then::Pause));
            let (reads, fails) = (plan.allowance(), plan.fake.mood.clone());
            let (parts, collected) = plan.parts();
            let running = start(parts);
            let board = running.board.clone();
            until("it runs", || board.phase() == Phase::Running).await;
            *fails.lock().unwrap() = mood;
            reads.add_permits(1 << 20);
            // It has been tried several times.
            until(&what, || board.stage_gates[0].opened().is_some_and(|opened| opened.nth >= 4)).await;
            let refused = board.stages[0].read().tally.refused;
            // Under way when it opened: a batch for each worker, or what a search had found by then.
            assert!(refused <= 20 + 64 * 2 * workers as u64, "{refused} refused: {what}");
            assert!(board.is_paused() && board.not_ready().iter().any(|it| it.who == "s"), "{what}");
            *fails.lock().unwrap() = Mood::Well;
            let ended = end(running).await;
            assert_eq!(ended.ending, Ending::Completed, "{what}");
            assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{what}");
            assert!(ended.board.stage_gates[0].opened().is_none(), "{what}");
            let bad = collected.values("bad");
            let tally = ended.committed.stages[0].tally;
            assert_eq!((tally.received, tally.refused as usize), (1500, bad.len()), "{what}");
            let left: Vec<String> = values.iter().filter(|value| !bad.contains(value)).cloned().collect();
            if kind == Kind::Filter {
                assert_eq!(collected.values("out"), evens(&left), "{what}");
                assert_eq!(bad, sorted(bad.clone()), "{what}");
            }
            assert!(bad.len() < 300, "{what}");
        }
    }
}

/// A state is what it would be without the pauses, whatever worker had what in hand.
#[tokio::test(flavor = "multi_thread")]
async fn pauses_leave_no_trace_in_states_and_windows() {
    for (workers, count) in [(1, 0), (3, 0), (2, 7)] {
        let values = numbers(3000);
        let plan = || {
            let plan = Plan::new(&values).batch(30).rate("4000/s").stage("s", Kind::Aggregate, "in", workers);
            let plan = if count > 0 { plan.counts(count) } else { plan.windows(100) };
            plan.sink("out", "s").breaker(opening(10, Then::Pause))
        };
        let (parts, clean) = plan().parts();
        end(start(parts)).await;
        let plan = plan();
        let fails = plan.fake.mood.clone();
        let (parts, collected) = plan.parts();
        let running = start(parts);
        let board = running.board.clone();
        until("it runs", || board.phase() == Phase::Running).await;
        let mut nth = 0;
        while !running.task.is_finished() {
            nth += 1;
            let received = board.stages[0].read().tally.received;
            // No record is ever to blame for that.
            *fails.lock().unwrap() = Mood::Gone;
            until("it opens, or has nothing to do", || {
                board.stage_gates[0].opened().is_some() || running.task.is_finished()
            })
            .await;
            *fails.lock().unwrap() = Mood::Well;
            // Openings in a row would grow; a pipeline that has ended meanwhile hears nothing.
            let _ = running.commands.send(Command::Breaker(Participant::Stage(0), Lever::Reset)).await;
            until("it goes on", || {
                board.stages[0].read().tally.received >= received + 200 || running.task.is_finished()
            })
            .await;
        }
        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        assert_eq!(collected.values("out"), clean.values("out"), "{workers} workers");
        assert!(nth > 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_open_records_are_dropped_passed_by_or_become_letters_as_the_stage_says() {
    let values = numbers(1000);
    for (then, kind) in [
        (Then::Drop, Kind::Filter),
        (Then::Bypass, Kind::Filter),
        (Then::Bypass, Kind::Map),
        (Then::DeadLetter, Kind::Filter),
    ] {
        for workers in [1, 3] {
            let what = format!("{then:?}, {kind:?} with {workers} workers");
            let plan = Plan::new(&values).stage("s", kind, "in", workers).sink("out", "s").sink("bad", "s.refused");
            let mut plan = plan.breaker(opening(3_600_000, then));
            let reads = plan.allowance();
            let (parts, collected) = plan.parts();
            let running = start(parts);
            pull(&running, Lever::Trip).await;
            let board = running.board.clone();
            until("it is open", || board.stage_gates[0].opened().is_some()).await;
            reads.add_permits(1 << 20);
            let ended = end(running).await;
            assert_eq!(ended.ending, Ending::Completed, "{what}");
            assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{what}");
            let (out, bad) = (collected.values("out"), collected.values("bad"));
            let expected = Tally { received: 1000, ..Tally::default() };
            let tally = ended.committed.stages[0].tally;
            match then {
                Then::Drop => {
                    assert_eq!((out.len(), bad.len(), tally), (0, 0, Tally { dropped: 1000, ..expected }), "{what}");
                }
                Then::Bypass => {
                    assert_eq!(out, values, "{what}");
                    assert_eq!(tally, Tally { passed: 1000, produced: 1000, ..expected }, "{what}");
                }
                _ => {
                    assert_eq!((out.len(), &bad, tally), (0, &values, Tally { refused: 1000, ..expected }), "{what}");
                }
            }
        }
    }
}

/// Row 81: whoever falls while a stage is paused has lost nothing, and finds it paused.
#[test]
fn a_breaker_that_is_open_is_found_open_after_a_fall_and_nothing_is_lost() {
    let (disk, collected) = (crate::disk::Sim::new(), Collected::default());
    let values = numbers(1000);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plan = || {
        let plan = Plan::new(&values).batch(20).truncating().stage("s", Kind::Filter, "in", 2).sink("out", "s");
        plan.breaker(opening(60_000, Then::Pause))
    };
    for _ in 0..2 {
        let store = durable::store(&disk).unwrap();
        let plan = plan();
        let parts = plan.parts_after(&store, &collected).unwrap();
        let mood = plan.fake.mood.clone();
        let ended = runtime().block_on(async {
            let running = start(parts);
            let board = running.board.clone();
            until("it runs", || board.phase() == Phase::Running).await;
            *mood.lock().unwrap() = Mood::Gone;
            until("it is open", || board.stage_gates[0].opened().is_some()).await;
            // Nobody commits the epoch that waits, and it is given up.
            running.commands.send(Command::Drain(Drain::within(Duration::from_millis(50)))).await.unwrap();
            end(running).await
        });
        assert_eq!(ended.ending, Ending::DeadlinePassed);
        let kept = plan.durable_on(&store).restore().unwrap().unwrap().openings;
        assert_eq!(kept.get("s"), ended.board.stage_gates[0].opened().as_ref());
    }
    let store = durable::store(&disk).unwrap();
    let plan = plan();
    let ended = runtime().block_on(async {
        let running = start(plan.parts_after(&store, &collected).unwrap());
        let board = running.board.clone();
        until("it runs", || board.phase() == Phase::Running).await;
        assert!(board.is_paused(), "a new process does not close it");
        pull(&running, Lever::Reset).await;
        end(running).await
    });
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(collected.values("out"), evens(&values));
    assert!(plan.durable_on(&store).restore().unwrap().unwrap().openings.is_empty());
}
