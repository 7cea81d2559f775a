//! A topic between two pipelines: exactly what was written, whatever falls.

use std::path::Path;

use super::*;
use crate::{
    config::graph::{Graph, Input, Output},
    disk::{Disk as _, Sim, sim::Failure},
    pipeline::{
        Parts, Running,
        durable::{Durable, Signature},
        topics::{self, part},
    },
    sink::topic::{Config, WhenFull},
    source::topic::{Start, Terms, open},
    store::{Lock, Settings, Store},
    topic::Topics,
    unit::{Size, Span},
};

const STATE: &str = "/state";

fn store(disk: &Sim) -> Result<Arc<Store>, crate::store::StoreError> {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let settings = Settings { ballast: 4096, ..Settings::default() };
    Store::open(Arc::new(disk.clone()), Path::new(STATE), lock, settings).map(Arc::new)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn loaded(store: &Store, disk: &Sim) -> Arc<Topics> {
    Arc::new(topics::load(store, Arc::new(disk.clone()), Path::new(STATE)).unwrap())
}

fn config() -> Config {
    Config {
        name: "evens".into(),
        keep: Span(Duration::from_secs(3600)),
        max: Size(1 << 20),
        when_full: WhenFull::Block,
    }
}

/// `parts` under another name, over the store.
fn durable(parts: Parts, graph: Graph, store: &Arc<Store>, topics: &Arc<Topics>) -> Parts {
    let signatures = graph.stages.iter().map(|stage| Signature::of(stage, "fake", 1)).collect();
    let graph = Arc::new(graph);
    let durable = Durable::new(store.clone(), graph.clone(), signatures);
    let restored = durable.restore().unwrap();
    let topics = Some(topics.clone());
    Parts { graph, durable: Some((durable, restored)), topics, ..parts }
}

/// The pipeline that writes: numbers, of which a filter keeps the even ones.
fn writer(values: &[String], store: &Arc<Store>, topics: &Arc<Topics>, rate: &str) -> Parts {
    let plan = Plan::new(values).batch(20).rate(rate).stage("evens", Kind::Filter, "in", 1).sink("out", "evens");
    let mut parts = plan.parts().0;
    let mut graph = Graph::clone(&parts.graph);
    graph.name = "writes".to_owned();
    graph.sinks[0].output = Output::Topic(config());
    let topic = topics.topic("evens");
    let sink = crate::sink::topic::open(&config(), topic, "writes.out", topics.disk().clone(), topics.state());
    parts.sinks = vec![Box::new(sink)];
    durable(parts, graph, store, topics)
}

/// The pipeline that reads: sums of windows, and every record as it came.
fn reader(store: &Arc<Store>, topics: &Arc<Topics>, collected: &Collected) -> Parts {
    let plan = Plan::new(&[])
        .batch(16)
        .truncating()
        .stage("sums", Kind::Aggregate, "in", 1)
        .windows(50)
        .sink("sums_out", "sums")
        .sink("out", "in");
    let mut parts = plan.parts_into(collected);
    let mut graph = Graph::clone(&parts.graph);
    graph.name = "reads".to_owned();
    let (read, group) =
        (crate::source::topic::Config { name: "evens".into(), group: None, start: Start::Beginning }, "g");
    graph.sources[0].input = Input::Topic(read, group.to_owned());
    let stamp = crate::codec::Stamp::default();
    let (reader, group) = (part("reads", "in"), group.to_owned());
    let terms = Terms { reader, group, start: Start::Beginning, stamp: &stamp, has_ids: false };
    parts.sources = vec![Box::new(open(topics.topic("evens"), terms).unwrap())];
    durable(parts, graph, store, topics)
}

/// What the reader comes to once it has handed out so many records, or has ended by itself.
async fn read(running: Running, collected: &Collected, records: usize) -> Ended {
    while collected.values("out").len() < records && !running.task.is_finished() {
        tokio::task::yield_now().await;
    }
    // Who has ended takes no orders.
    let _ = running.commands.send(Command::Drain(Drain::within(PATIENCE))).await;
    end(running).await
}

/// What a run without a fall comes to.
fn clean(values: &[String]) -> Collected {
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let topics = loaded(&store, &disk);
    runtime().block_on(async {
        let (writes, reads) =
            (start(writer(values, &store, &topics, "6000/s")), start(reader(&store, &topics, &collected)));
        assert_eq!(end(writes).await.ending, Ending::Completed);
        assert_eq!(read(reads, &collected, values.len() / 2).await.ending, Ending::Drained);
    });
    collected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the machine falls, what the second pipeline writes is what it writes without a fall, to the last record
    /// and in order: each record of the topic counts once.
    #[test]
    fn a_fall_at_any_operation_of_the_disk_leaves_no_trace_behind_a_topic(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..160, any::<bool>()), 1..4),
    ) {
        let (values, runtime) = (numbers(600), runtime());
        let expected = clean(&values);
        let (disk, collected) = (Sim::new(), Collected::default());
        let mut falls = falls.into_iter();
        loop {
            if let Some((operation, is_before)) = falls.next() {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let topics = loaded(&store, &disk);
                runtime.block_on(async {
                    let writes = start(writer(&values, &store, &topics, "6000/s"));
                    let reads = start(reader(&store, &topics, &collected));
                    let writes = end(writes).await;
                    (writes, read(reads, &collected, 300).await)
                })
            });
            if !disk.is_down() {
                let (writes, reads) = ended.expect("the store opens on a disk that works");
                prop_assert_eq!(&writes.ending, &Ending::Completed);
                prop_assert_eq!(&reads.ending, &Ending::Drained);
                prop_assert_eq!(ledger::audit(reads.board.graph(), &reads.committed), vec![]);
                prop_assert_eq!(reads.committed.sources[0].tally.received, 300);
                break;
            }
            disk.restart(seed);
        }
        prop_assert_eq!(collected.values("out"), expected.values("out"));
        prop_assert_eq!(collected.values("sums_out"), expected.values("sums_out"));
    }
}

#[test]
fn a_full_topic_holds_its_writer_until_a_reader_comes_and_nothing_is_lost() {
    let (disk, collected, runtime) = (Sim::new(), Collected::default(), runtime());
    let (values, store) = ((0..400).map(|at| format!("{:0>8000}", at * 2)).collect::<Vec<_>>(), store(&disk).unwrap());
    let topics = loaded(&store, &disk);
    // The group is known and does not run.
    topics.topic("evens").found_group("g", &Default::default());
    runtime.block_on(async {
        let writes = start(writer(&values, &store, &topics, "600/s"));
        let waits = |board: &Board| board.not_ready().iter().any(|it| it.why.contains("`g`, which nobody runs"));
        while !waits(&writes.board) {
            assert!(!writes.task.is_finished(), "it did not wait");
            tokio::task::yield_now().await;
        }
        let reads = start(reader(&store, &topics, &collected));
        assert_eq!(end(writes).await.ending, Ending::Completed);
        assert_eq!(read(reads, &collected, 400).await.ending, Ending::Drained);
    });
    assert_eq!(collected.values("out"), values);
}

#[test]
fn a_completed_pipeline_is_read_in_later_runs_and_a_group_that_was_given_up_begins_anew() {
    let (disk, runtime, values) = (Sim::new(), runtime(), numbers(100));
    let store = store(&disk).unwrap();
    let topics = loaded(&store, &disk);
    let ended = runtime.block_on(async { end(start(writer(&values, &store, &topics, "6000/s"))).await });
    assert_eq!(ended.ending, Ending::Completed);
    for expected in [50, 0] {
        let (collected, topics) = (Collected::default(), loaded(&store, &disk));
        runtime.block_on(async {
            let (writes, reads) =
                (start(writer(&values, &store, &topics, "6000/s")), start(reader(&store, &topics, &collected)));
            assert_eq!(end(writes).await.ending, Ending::Completed);
            read(reads, &collected, expected).await;
        });
        assert_eq!(collected.values("out").len(), expected, "what was read is not read again");
    }
    let topics = loaded(&store, &disk);
    assert_eq!((topics.topic("evens").behind_of("g"), topics::verify(&topics).unwrap()), (0, 50));
    runtime.block_on(async {
        assert!(topics::forget(&store, "evens", "g").await.unwrap());
        assert!(!topics::forget(&store, "evens", "g").await.unwrap());
    });
    assert_eq!(loaded(&store, &disk).topic("evens").groups(), []);
    // Who gives up a sink's place does not give up what it wrote; who gives up the pipeline does.
    let reset =
        |name: &str| runtime.block_on(crate::pipeline::durable::reset(&store, "writes".into(), &[name.to_owned()]));
    reset("out").unwrap();
    assert_eq!(loaded(&store, &disk).topic("evens").ends().len(), 1);
    let logs = topics::logs(&store, "writes").unwrap();
    reset("all").unwrap();
    assert_eq!(topics::discard(loaded(&store, &disk).disk(), Path::new(STATE), &logs).unwrap(), 1);
    assert!(disk.list(&Path::new(STATE).join("logs/topics/evens/writes.out")).unwrap().is_empty());
}
