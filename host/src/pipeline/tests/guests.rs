//! Guests of `tests/guests` in a whole pipeline, where the fake cannot stand in for them.

use super::*;
use crate::{
    plugin::{
        self, Fault, Instance, Plugin,
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
