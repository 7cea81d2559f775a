//! What comes before what, and what the ledger says where it does not hold.

use super::{
    build::{spec, stage, wire},
    committed::{Committed, StagePoint},
    *,
};
use crate::{
    batch::Batch,
    config::graph::{Consumer, Producer},
    epoch::Epoch,
    stage::{
        conductor::{Handed, work},
        outlet::{Control, Port},
    },
    time::{BEGIN, Mark},
};

#[test]
fn a_stage_hands_over_what_stood_in_front_of_the_barrier_before_it_sends_it_on() {
    for workers in [1, 2] {
        let plan = Plan::new(&[]).stage("sums", Kind::Aggregate, "in", workers).sink("out", "sums");
        let parts = plan.parts().0;
        let board = Board::new(parts.graph.clone(), parts.office.clone(), None);
        let mut wiring = wire(&parts.graph, &board, &Committed::default());
        let spec = spec(&parts.graph, 0, &parts.plugins[0], &board, &Interrupt::default()).unwrap();
        let inbox = wiring.inboxes.remove(&Consumer::Stage(0)).unwrap();
        let waiting = inbox.handle();
        let source = wiring.outlets.remove(&Producer::Source(0)).unwrap();
        let outlet = wiring.outlets.remove(&Producer::Stage(0)).unwrap();
        let below = Arc::new(wiring.inboxes.remove(&Consumer::Sink(0)).unwrap());
        let handed = Arc::new(Mutex::new(Vec::new()));
        let (keep, look) = (handed.clone(), below.clone());
        let report = Box::new(move |handed: Handed| {
            let is_first = look.wait_blocking(|lanes| Some(lanes[0].peek().is_none())).unwrap();
            keep.lock().unwrap().push((
                handed.epoch,
                handed.changes.len(),
                handed.received[0],
                handed.watermark,
                is_first,
            ));
            Ok(())
        });
        let answers = wiring.answers.remove(&0).unwrap_or_default();
        let point = StagePoint::new(1, 1);
        let (conductor, hands) =
            stage(&parts.graph.stages[0], spec, (&point, None), inbox, outlet, answers, report).unwrap();
        let keys = ["a", "b", "c"].iter().collect();
        let batch = Batch::of_values(["1", "2", "3"].iter().collect()).with_keys(keys).unwrap();
        source.send_blocking(Port::Main, &batch).unwrap();
        source.control(Control::Barrier(Epoch(1))).unwrap();
        source.control(Control::Mark(Mark::At(7))).unwrap();
        source.send_blocking(Port::Main, &batch).unwrap();
        drop(source);
        std::thread::scope(|scope| {
            scope.spawn(|| conductor.run().unwrap());
            // Slow workers: the conductor has taken in what follows the barrier before they have come to it.
            while waiting.fill()[0].records > 0 {
                std::thread::yield_now();
            }
            for (number, worker, inbox, answers) in hands {
                scope.spawn(move || work(worker, number, &inbox, &answers));
            }
        });
        assert_eq!(*handed.lock().unwrap(), [(Epoch(1), 3, 3, BEGIN, true)], "{workers} workers");
    }
}

/// Nobody knows how far an interrupted write has come, so that nobody may write on.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_write_was_interrupted_is_not_used_again() {
    let mut values = numbers(100);
    values[60] = "panic".to_owned();
    let plan = Plan::new(&values).batch(10).stage("evens", Kind::Filter, "in", 1).sink("out", "evens").panics();
    let gate = plan.gate();
    let (parts, collected) = plan.parts();
    let ended = end(start(parts)).await;
    assert!(matches!(&ended.ending, Ending::Failed(why) if why.contains("panic")), "{:?}", ended.ending);
    drop(gate);
    assert_eq!(collected.values("out"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_names_every_place_and_every_edge_that_does_not_balance() {
    let plan = Plan::new(&numbers(100)).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let ended = end(start(plan.parts().0)).await;
    let audit = |change: fn(&mut Committed)| {
        let mut committed = ended.committed.clone();
        change(&mut committed);
        let found = ledger::audit(ended.board.graph(), &committed);
        found.into_iter().map(|off| (off.place, off.left, off.right)).collect::<Vec<_>>()
    };
    let off = |place: &str, left, right| vec![(place.to_owned(), left, right)];
    assert_eq!(audit(|_| {}), []);
    assert_eq!(audit(|committed| committed.sources[0].tally.passed -= 1), off("in", 100, 99));
    assert_eq!(audit(|committed| committed.stages[0].tally.filtered += 2), off("evens", 100, 102));
    assert_eq!(audit(|committed| committed.sinks[0].tally.received += 1), off("out", 51, 50));
    assert_eq!(audit(|committed| committed.sources[0].sent[0] += 1), off("in → evens", 101, 100));
    assert_eq!(audit(|committed| committed.sinks[0].received[0] -= 3), off("evens → out", 50, 47));
}
