//! Guests of `tests/guests` in a whole pipeline, where the fake cannot stand in for them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    plugin::{
        self, Fault, FaultKind, Instance, Plugin,
        tests::{ENGINE, guest},
    },
    stage::worker::Maker,
};

/// A wasm guest in place of the fake.
struct Real(Plugin, plugin::Limits);

impl Maker for Real {
    fn make(&self, interrupt: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>> {
        Ok(Box::new(self.0.instantiate(&self.1, &serde_json::json!({}))?.under(interrupt)))
    }
}

fn with_guest(mut parts: Parts, name: &str, limits: plugin::Limits) -> Parts {
    let plugin = Plugin::load(&ENGINE, &guest(Kind::Filter, name)).unwrap();
    parts.plugins[0].maker = Arc::new(Real(plugin, limits));
    parts
}

/// Guest S1: neither its fuel nor its time ends the call, only the deadline of the drain does.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_drain_interrupts_a_plugin_that_does_not_come_back() {
    for workers in [1, 2] {
        let plan = Plan::new(&numbers(100)).stage("spin", Kind::Filter, "in", workers).sink("out", "spin");
        let acknowledged = plan.source().acknowledged.clone();
        let limits =
            plugin::Limits { fuel_per_record: 1 << 50, time: Duration::from_secs(3600), ..plugin::Limits::default() };
        let running = start(with_guest(plan.parts().0, "spin", limits));
        while running.board.sources[0].read().tally.received < 100 {
            tokio::task::yield_now().await;
        }
        running.commands.send(Command::Drain(Drain::within(Duration::from_millis(100)))).await.unwrap();
        let asked = Instant::now();
        let ended = end(running).await;
        assert!(asked.elapsed() < Duration::from_millis(100 + 1000), "{:?}", asked.elapsed());
        assert_eq!(ended.ending, Ending::DeadlinePassed, "not a fault of the plugin");
        assert_eq!(ended.board.uncommitted(&ended.committed), 100);
        assert_eq!((ended.committed.stages[0].tally, acknowledged.load(Ordering::SeqCst)), (Tally::default(), 0));
    }
}

/// Guest S16.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_host_function_restarts_its_pipeline_and_leaves_others_alone() {
    let mut values = numbers(20);
    values[13] = "j: a counter called panic".to_owned();
    let plan =
        |values: &[String]| Plan::new(values).batch(1).stage("abuse", Kind::Filter, "in", 1).sink("out", "abuse");
    let parts = |values: &[String]| with_guest(plan(values).parts().0, "abuse", plugin::Limits::default());
    let spoilt = start(parts(&values));
    tokio::time::timeout(PATIENCE, async {
        while spoilt.board.status().restarts < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a panic restarts the pipeline");
    let healthy = end(start(parts(&numbers(20)))).await;
    assert_eq!((healthy.ending, healthy.board.status().restarts), (Ending::Completed, 0));
    spoilt.commands.send(Command::Drain(Drain::within(Duration::ZERO))).await.unwrap();
    let ended = end(spoilt).await;
    assert_eq!(ended.ending, Ending::DeadlinePassed);
    assert!(ended.committed.sources[0].position.0.as_u64().unwrap() <= 13);
}

/// Rows 39 to 45, scenario T10: whatever a record makes the plugin do, exactly the records that do are refused, and the
/// others come out as they would without them, here and in a pipeline beside.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_records_that_make_a_plugin_fault_are_refused() {
    let misdeeds = [
        ("spin", FaultKind::OutOfFuel),
        ("fill", FaultKind::OutOfFuel),
        ("recurse", FaultKind::Trap),
        ("panic", FaultKind::Trap),
        ("wrong name", FaultKind::Trap),
        ("nameless", FaultKind::Trap),
        ("divide", FaultKind::Trap),
        ("outside", FaultKind::Trap),
        ("exit", FaultKind::Exit),
        ("tables", FaultKind::MemoryLimit),
        ("hoard", FaultKind::MemoryLimit),
        ("large", FaultKind::OutputLimit),
        ("beyond", FaultKind::BadReply),
        ("chatter", FaultKind::OutputLimit),
    ];
    for workers in [1, 2] {
        let mut values = numbers(1500);
        for (at, (misdeed, _)) in misdeeds.iter().enumerate() {
            values[at * 97 + 5] = (*misdeed).to_owned();
        }
        // Two side by side, and one that is the first.
        (values[0], values[6]) = ("panic".to_owned(), "panic".to_owned());
        let plan = Plan::new(&values).stage("work", Kind::Filter, "in", workers).sink("out", "work");
        let (parts, collected) = plan.sink("bad", "work.refused").parts();
        let running = start(with_guest(parts, "poison", plugin::Limits::default()));
        let (beside, untouched) = Plan::new(&numbers(1500)).stage("s", Kind::Filter, "in", 1).sink("out", "s").parts();
        let sibling = end(start(beside)).await;
        assert_eq!((sibling.ending, untouched.values("out").len()), (Ending::Completed, 750));

        let ended = end(running).await;
        assert_eq!(ended.ending, Ending::Completed);
        let (good, bad): (Vec<String>, Vec<String>) =
            values.into_iter().partition(|value| value.starts_with(|first: char| first.is_ascii_digit()));
        assert_eq!((collected.values("out"), collected.values("bad")), (good, bad));
        assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
        assert_eq!(ended.committed.stages[0].tally.refused, 16);
        let faults: BTreeSet<FaultKind> = ended.board.stages[0].read_faults().into_keys().collect();
        assert_eq!(faults, misdeeds.iter().map(|(_, kind)| *kind).collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_refused_records_stop_the_pipeline_a_fault_does_and_names_the_one() {
    let mut values = numbers(300);
    values[217] = "nameless".to_owned();
    let plan = Plan::new(&values).stage("work", Kind::Filter, "in", 1).sink("out", "work");
    let ended = end(start(with_guest(plan.parts().0, "poison", plugin::Limits::default()))).await;
    let Ending::Faulted(report) = ended.ending else { panic!("{:?}", ended.ending) };
    assert_eq!((report.fault.kind, report.record.unwrap().value.as_str()), (FaultKind::Trap, "nameless"));
    assert!(ended.committed.sources[0].position.0.as_u64().unwrap() <= 217);
}

/// What calls that succeeded have counted stays although their instance is gone, and what one that failed has does not.
#[tokio::test(flavor = "multi_thread")]
async fn counts_outlive_an_instance_that_faults() {
    let mut values = numbers(20);
    values[13] = "! traps".to_owned();
    let plan = Plan::new(&values).batch(1).stage("report", Kind::Filter, "in", 1).sink("out", "report");
    let parts = plan.on_error(OnError::Drop).parts().0;
    let ended = end(start(with_guest(parts, "report", plugin::Limits::default()))).await;
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(ended.board.stages[0].read_plugin_counts(), BTreeMap::from([("seen".into(), 2 * 19)]));
    assert_eq!(ended.board.stages[0].read_faults(), BTreeMap::from([(FaultKind::Trap, 2)]));
}

/// A plugin's memory never shrinks, and this guest never gives any back.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_grows_is_replaced_before_it_comes_to_its_limit() {
    let values: Vec<String> = (0..2000).map(|n| format!("{n:0>1000}")).collect();
    let plan = Plan::new(&values).batch(100).stage("keep", Kind::Filter, "in", 1).sink("out", "keep");
    let limits = plugin::Limits { memory: 1 << 20, ..plugin::Limits::default() };
    let (parts, collected) = plan.parts();
    let ended = end(start(with_guest(parts, "keep", limits))).await;
    assert_eq!((ended.ending, collected.values("out").len()), (Ending::Completed, 2000));
    let (reading, faults) = (ended.board.stages[0].read(), ended.board.stages[0].read_faults());
    assert_eq!(faults, BTreeMap::new());
    assert!(reading.recycled >= 2, "{reading:?}");
    assert!(reading.plugin_memory <= 1 << 20 && reading.plugin_memory_budget == 1 << 20, "{reading:?}");
    let fuel = reading.fuel_per_record;
    assert!(0 < fuel.p50 && fuel.p50 <= fuel.p99 && fuel.p99 <= fuel.max, "{fuel:?}");
    assert!(reading.fuel_peak < 1000, "{reading:?}");
}
