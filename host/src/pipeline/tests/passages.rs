//! Durable edges: parts of a pipeline with epochs of their own, and exactly what comes of an edge that blocks.

use std::path::Path;

use super::{durable::store, *};
use crate::{
    config::graph::{self, Graph, Input, Medium, Output, Passage, WhenFull},
    disk::{Sim, sim::Failure},
    pipeline::{
        Parts, Running,
        durable::{Durable, Signature},
        topics::{self, part},
    },
    queue::Queues,
    sink::{self, Sink},
    source::{self, Source},
    store::Store,
    topic::Topics,
    unit::Size,
};

const STATE: &str = "/state";

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn loaded(store: &Store, disk: &Sim) -> Arc<Topics> {
    Arc::new(topics::load(store, Arc::new(disk.clone()), Path::new(STATE)).unwrap())
}

/// The parts of a plan whose edges to `behind` are durable, over the store, as a process opens them.
fn parts(plan: &Plan, behind: &[&str], max: u64, store: &Arc<Store>, disk: &Sim, collected: &Collected) -> Vec<Parts> {
    let durable = WhenFull::Durable(Size(max));
    divided(plan, behind, durable, store, disk, collected)
}

/// The same, whose edges to `behind` do that when they are full.
pub(super) fn divided(
    plan: &Plan,
    behind: &[&str],
    when_full: WhenFull,
    store: &Arc<Store>,
    disk: &Sim,
    collected: &Collected,
) -> Vec<Parts> {
    let Parts { graph, sources, plugins, sinks, .. } = plan.parts_into(collected);
    let mut whole = Graph::clone(&graph);
    for at in 0..whole.edges.len() {
        if behind.contains(&graph.consumer(whole.edges[at].to)) {
            whole.edges[at].when_full = when_full;
        }
    }
    let (topics, queues) = (loaded(store, disk), Queues::default());
    let named = |graph: &Graph| graph.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
    let mut sources: Vec<_> = named(&graph).into_iter().zip(sources).collect();
    let mut sinks: Vec<_> = graph.sinks.iter().map(|sink| sink.name.clone()).zip(sinks).collect();
    let opened = whole.domains().into_iter().map(|graph::Domain { graph, stages, .. }| {
        let source = |source: &graph::Source| match &source.input {
            Input::Passage(Passage { name, writer, reader: group, medium: Medium::Log(_) }) => {
                let (topic, writer) = (topics.topic(name), part(writer, &source.name));
                let reader = part(&graph.name, &source.name);
                Box::new(source::passage::open(topic, &writer, group, &reader).unwrap()) as Box<dyn Source>
            }
            Input::Passage(Passage { name, medium: Medium::Queue(capacity, drops), .. }) => {
                Box::new(source::queue::open(queues.queue(name, *capacity, *drops)))
            }
            _ => sources.remove(sources.iter().position(|(name, _)| *name == source.name).unwrap()).1,
        };
        let sources = graph.sources.iter().map(source).collect();
        let sink = |sink: &graph::Sink| match &sink.output {
            Output::Passage(Passage { name, writer, medium: Medium::Log(max), .. }) => {
                let (topic, writer) = (topics.topic(name), part(writer, &sink.name));
                let (disk, state) = (topics.disk().clone(), topics.state());
                Box::new(sink::passage::open(topic, &writer, *max, disk, state)) as Box<dyn Sink>
            }
            Output::Passage(Passage { name, medium: Medium::Queue(capacity, drops), .. }) => {
                Box::new(sink::queue::open(queues.queue(name, *capacity, *drops)))
            }
            _ => sinks.remove(sinks.iter().position(|(name, _)| *name == sink.name).unwrap()).1,
        };
        let sinks = graph.sinks.iter().map(sink).collect();
        let plugins = stages.iter().map(|at| plugins[*at].clone()).collect();
        let signatures = graph.stages.iter().map(|stage| Signature::of(stage, "fake", 1)).collect();
        let graph = Arc::new(graph);
        let durable = Durable::new(store.clone(), graph.clone(), signatures);
        let restored = durable.restore().unwrap();
        let (durable, topics) = (Some((durable, restored)), Some(topics.clone()));
        Parts {
            graph,
            sources,
            plugins,
            sinks,
            office: Default::default(),
            reloading: None,
            journal: None,
            topics,
            durable,
        }
    });
    opened.collect()
}

/// Two paths: numbers through a filter, and the sums of windows behind a durable edge; what the filter left out goes to
/// a sink behind another one.
fn plan(values: &[String], workers: usize) -> Plan {
    Plan::new(values)
        .batch(20)
        .rate("6000/s")
        .truncating()
        .stage("evens", Kind::Filter, "in", workers)
        .stage("sums", Kind::Aggregate, "evens", workers)
        .windows(50)
        .sink("near", "evens")
        .sink("sums_out", "sums")
        .sink("odd", "evens.rest")
}

const BEHIND: &[&str] = &["sums", "odd"];

/// What a run comes to whose edges all block.
pub(super) fn blocking(plan: &Plan) -> Collected {
    let (parts, collected) = plan.parts();
    assert_eq!(runtime().block_on(async { end(start(parts)).await }).ending, Ending::Completed);
    collected
}

pub(super) async fn all(running: Vec<Running>) -> Vec<Ended> {
    futures::future::join_all(running.into_iter().map(end)).await
}

fn same(collected: &Collected, expected: &Collected, sinks: &[&str]) {
    for sink in sinks {
        assert_eq!(collected.values(sink), expected.values(sink), "{sink}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the machine falls, every part goes on from its own commit, and what they write together is what one
    /// pipeline writes whose edges block and that nothing happened to: to the last record and window, and in order.
    #[test]
    fn a_fall_at_any_operation_of_the_disk_leaves_no_trace_behind_a_durable_edge(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..200, any::<bool>()), 1..4),
        workers in 1usize..3,
    ) {
        let (values, runtime) = (numbers(600), runtime());
        let expected = blocking(&plan(&values, workers));
        let (disk, collected) = (Sim::new(), Collected::default());
        let mut falls = falls.into_iter();
        loop {
            if let Some((operation, is_before)) = falls.next() {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let parts = parts(&plan(&values, workers), BEHIND, 1 << 20, &store, &disk, &collected);
                runtime.block_on(async {
                    let running: Vec<Running> = parts.into_iter().map(start).collect();
                    let orders: Vec<_> = running.iter().map(|running| running.commands.clone()).collect();
                    let mut ended = Vec::new();
                    // The parts behind one that fell hear of its end.
                    for running in running {
                        ended.push(end(running).await);
                        if disk.is_down() {
                            for orders in &orders {
                                let _ = orders.try_send(Command::Drain(Drain::within(PATIENCE)));
                            }
                        }
                    }
                    ended
                })
            });
            if !disk.is_down() {
                for ended in ended.expect("the store opens on a disk that works") {
                    prop_assert_eq!(&ended.ending, &Ending::Completed);
                    prop_assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
                }
                break;
            }
            disk.restart(seed);
        }
        same(&collected, &expected, &["near", "sums_out", "odd"]);
    }

    /// Windows and watermarks cross a durable edge as they cross one that blocks.
    #[test]
    fn windows_behind_a_durable_edge_are_those_behind_one_that_blocks(
        batch in 1usize..90,
        lag in 1u64..300,
        size in 1u64..200,
        epoch in 1u64..60,
    ) {
        let values = numbers(500);
        let clocks = (Duration::from_millis(lag), Duration::from_secs(3600));
        let plan = || {
            let plan = Plan::new(&values).batch(batch).clocks(clocks.0, clocks.1).epoch(Duration::from_millis(epoch)).ids();
            let plan = plan.stage("evens", Kind::Filter, "in", 2).stage("sums", Kind::Aggregate, "evens", 2);
            plan.windows(size).sink("out", "sums").sink("odd", "evens.rest")
        };
        let expected = blocking(&plan());
        let (disk, collected) = (Sim::new(), Collected::default());
        let parts = parts(&plan(), &["sums"], 1 << 20, &store(&disk).unwrap(), &disk, &collected);
        for ended in runtime().block_on(async { all(parts.into_iter().map(start).collect()).await }) {
            prop_assert_eq!(&ended.ending, &Ending::Completed);
        }
        same(&collected, &expected, &["out", "odd"]);
    }
}

/// The part behind has epochs of its own: who waits there is waited for by nobody in front.
#[test]
fn a_sink_that_hangs_behind_a_durable_edge_holds_nobody_in_front_of_it() {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(4000));
    let plan = Plan::new(&values).batch(20).capacity(40).only("far").sink("near", "in").sink("far", "in");
    let gate = plan.gate();
    let store = store(&disk).unwrap();
    let parts = parts(&plan, &["far"], 1 << 20, &store, &disk, &collected);
    runtime().block_on(async {
        let mut running: Vec<Running> = parts.into_iter().map(start).collect();
        let (behind, front) = (running.pop().unwrap(), running.pop().unwrap());
        gate.add_permits(1);
        let front = end(front).await;
        assert_eq!((&front.ending, front.committed.sources[0].tally.received), (&Ending::Completed, 4000));
        assert!(!behind.task.is_finished() && collected.values("far").len() < values.len());
        gate.add_permits(tokio::sync::Semaphore::MAX_PERMITS / 2);
        assert_eq!(end(behind).await.ending, Ending::Completed);
    });
    assert_eq!((collected.values("near"), collected.values("far")), (values.clone(), values));
}

#[test]
fn a_full_durable_edge_holds_its_sender_and_says_for_whom_and_what_was_read_makes_room() {
    let values: Vec<String> = (0..1000).map(|at| format!("{at:0>8000}")).collect();
    let (disk, collected) = (Sim::new(), Collected::default());
    let plan = Plan::new(&values).batch(20).rate("1000/s").only("far").sink("near", "in").sink("far", "in");
    let gate = plan.gate();
    let store = store(&disk).unwrap();
    let parts = parts(&plan, &["far"], 1 << 20, &store, &disk, &collected);
    runtime().block_on(async {
        let running: Vec<Running> = parts.into_iter().map(start).collect();
        let board = running[0].board.clone();
        while !board.not_ready().iter().any(|it| it.who == "in>far" && it.why.contains("`test.far` has")) {
            assert!(!running[0].task.is_finished(), "it did not wait");
            tokio::task::yield_now().await;
        }
        // Eight times as much as there is room for passes, once it is read.
        gate.add_permits(tokio::sync::Semaphore::MAX_PERMITS / 2);
        for ended in all(running).await {
            assert_eq!(ended.ending, Ending::Completed);
        }
    });
    assert_eq!(collected.values("far"), values);
    let status = loaded(&store, &disk).status().unwrap();
    assert_eq!((status.len(), status[0].groups[0].behind), (1, 0), "{status:?}");
    assert!(status[0].writers[0].records < 500, "what has been read goes: {status:?}");
}

#[test]
fn what_a_part_left_behind_is_read_in_later_runs_though_the_one_in_front_is_over() {
    let (disk, collected, values) = (Sim::new(), Collected::default(), numbers(400));
    let store = store(&disk).unwrap();
    let plan = || plan(&values, 1).only("sums_out");
    let expected = blocking(&plan());
    let held = plan();
    held.gate();
    runtime().block_on(async {
        let parts = parts(&held, &["sums"], 1 << 20, &store, &disk, &collected);
        let mut running: Vec<Running> = parts.into_iter().map(start).collect();
        let (behind, front) = (running.pop().unwrap(), running.pop().unwrap());
        assert_eq!(end(front).await.ending, Ending::Completed);
        behind.commands.send(Command::Drain(Drain::within(Duration::from_millis(20)))).await.unwrap();
        assert_eq!(end(behind).await.ending, Ending::DeadlinePassed);
    });
    assert!(collected.values("sums_out").len() < expected.values("sums_out").len());
    for _ in 0..2 {
        let parts = parts(&plan(), &["sums"], 1 << 20, &store, &disk, &collected);
        for ended in runtime().block_on(async { all(parts.into_iter().map(start).collect()).await }) {
            assert_eq!(ended.ending, Ending::Completed);
        }
        same(&collected, &expected, &["near", "sums_out", "odd"]);
    }
}

/// A panic of the host's own code takes one part back to its commit, and leaves the others alone.
#[test]
fn a_panic_in_front_of_a_durable_edge_or_behind_it_leaves_no_trace() {
    let mut values = numbers(600);
    values.insert(300, "panic".to_owned());
    for (behind, restarted) in [("out", 0), ("all", 1)] {
        let plan = || {
            let plan = Plan::new(&values).batch(20).truncating().rate("6000/s");
            plan.stage("all", Kind::Map, "in", 1).sink("near", "in").sink("out", "all")
        };
        let expected = blocking(&plan());
        let (disk, collected) = (Sim::new(), Collected::default());
        let parts = parts(&plan().panics(), &[behind], 1 << 20, &store(&disk).unwrap(), &disk, &collected);
        let ended = runtime().block_on(async { all(parts.into_iter().map(start).collect()).await });
        for (at, ended) in ended.iter().enumerate() {
            assert_eq!(ended.ending, Ending::Completed);
            assert_eq!(ended.board.status().restarts, u64::from(at == restarted), "part {at}");
        }
        same(&collected, &expected, &["near", "out"]);
    }
}
