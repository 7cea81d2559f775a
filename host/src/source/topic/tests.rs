//! A topic between a sink and a source, over a simulated disk.

use std::{path::Path, time::Duration};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    disk::Sim,
    sink::{
        Sink as _, SinkError,
        log::LogSink,
        topic::{Config as Written, WhenFull, open as open_sink, written},
    },
    topic::Topics,
    unit::{Size, Span},
};

fn topics(disk: &Sim) -> Topics {
    use crate::disk::Disk as _;
    disk.create_folder(Path::new("/state")).unwrap();
    Topics::new(Arc::new(disk.clone()), Path::new("/state"))
}

fn config(max: u64, when_full: WhenFull) -> Written {
    Written { name: "orders".into(), keep: Span(Duration::from_secs(3600)), max: Size(max), when_full }
}

/// A sink that writes as `writer`, opened where `at` says.
async fn sink_at(topics: &Topics, writer: &str, at: &Value, config: &Written) -> LogSink {
    let (disk, topic) = (topics.disk().clone(), topics.topic("orders"));
    if let Some(at) = written(at) {
        topic.found(writer, at);
    }
    let mut sink = open_sink(config, topic, writer, disk, topics.state());
    sink.restore(at).await.unwrap();
    sink
}

async fn sink(topics: &Topics, writer: &str) -> LogSink {
    sink_at(topics, writer, &Value::Null, &config(1 << 20, WhenFull::Block)).await
}

fn source(topics: &Topics, group: &str, start: Start) -> TopicSource {
    let stamp = Stamp::default();
    let terms = Terms { reader: format!("p.{group}"), group: group.into(), start, stamp: &stamp, has_ids: true };
    open(topics.topic("orders"), terms).unwrap()
}

fn records(values: &[String]) -> Batch {
    let times = (0..values.len() as i64).collect();
    Batch::of_values(values.iter().collect()).with_timestamps(times).unwrap()
}

/// Values of one writer, numbered.
fn values(writer: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|at| format!("{writer}{at}")).collect()
}

/// Writes and commits a batch; where the log stands then.
async fn write(sink: &mut LogSink, values: &[String]) -> Value {
    sink.write(&records(values), &mut Vec::new()).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    let position = sink.position();
    sink.committed(&position);
    position
}

/// What a read gives at once; nothing where it would wait.
async fn read_now(source: &mut TopicSource, most: usize) -> Option<Chunk> {
    let most = Limit { records: most, bytes: 1 << 20 };
    match tokio::time::timeout(Duration::from_millis(50), source.read(most)).await {
        Ok(Ok(Read::Chunk(chunk))) => Some(chunk),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

fn texts(chunk: &Chunk) -> Vec<String> {
    chunk.batch.values().iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// Everything that can be read at once.
async fn all(source: &mut TopicSource) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(chunk) = read_now(source, 7).await {
        found.extend(texts(&chunk));
    }
    found
}

#[tokio::test]
async fn only_what_has_been_committed_is_read_and_a_reader_is_woken_by_the_commit() {
    let (disk, stamp) = (Sim::new(), Stamp::default());
    let topics = topics(&disk);
    let mut sink = sink(&topics, "p.out").await;
    let terms = Terms { reader: "q.in".into(), group: "g".into(), start: Start::End, stamp: &stamp, has_ids: false };
    let mut source = open(topics.topic("orders"), terms).unwrap();
    sink.write(&records(&values("a", 0..3)), &mut Vec::new()).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(read_now(&mut source, 10).await, None, "nothing is committed");
    let mut waiting = source.read(Limit::default());
    assert!(futures::poll!(&mut waiting).is_pending());
    let position = sink.position();
    sink.committed(&position);
    let Read::Chunk(chunk) = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap() else {
        panic!("it has ended");
    };
    assert_eq!(texts(&chunk), values("a", 0..3));
    assert_eq!(chunk.batch.timestamps().unwrap(), [0, 1, 2], "event times are kept");
}

#[tokio::test]
async fn each_group_reads_everything_in_the_order_of_each_writer() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let (mut a, mut b) = (sink(&topics, "p.a").await, sink(&topics, "p.b").await);
    for at in 0..5 {
        write(&mut a, &values("a", at * 10..at * 10 + 10)).await;
        write(&mut b, &values("b", at * 4..at * 4 + 4)).await;
    }
    for group in ["one", "two"] {
        let mut source = source(&topics, group, Start::Beginning);
        let first = texts(&read_now(&mut source, 7).await.unwrap());
        let second = texts(&read_now(&mut source, 7).await.unwrap());
        assert!(first[0].starts_with('a') && second[0].starts_with('b'), "they take turns: {first:?}, {second:?}");
        let read = [first, second, all(&mut source).await].concat();
        let of = |writer: char| read.iter().filter(|value| value.starts_with(writer)).cloned().collect::<Vec<_>>();
        assert_eq!(of('a'), values("a", 0..50));
        assert_eq!(of('b'), values("b", 0..20));
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed_and_ids_are_places() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink(&topics, "p.out").await;
    write(&mut out, &values("a", 0..20)).await;
    let mut first = source(&topics, "g", Start::Beginning);
    let chunk = read_now(&mut first, 8).await.unwrap();
    let at = first.position();
    let unread = read_now(&mut first, 5).await.unwrap();
    assert!(first.seek(&at).await.unwrap(), "a topic can be read again");
    let again = read_now(&mut first, 5).await.unwrap();
    assert_eq!(again, unread, "ids included");
    assert_ne!(chunk.batch.named(ID).unwrap().get(0), again.batch.named(ID).unwrap().get(0));
    first.commit(&at).await.unwrap();
    assert_eq!(topics.topic("orders").behind_of("g"), 12);

    // The source has another name by now; the position is the group's.
    let spots: Held = serde_json::from_value(at.0.clone()).unwrap();
    let later = self::topics(&disk);
    let mut out = sink_at(&later, "p.out", &out.position(), &config(1 << 20, WhenFull::Block)).await;
    later.topic("orders").found_group("g", &spots.spots);
    let mut renamed = source(&later, "g", Start::End);
    assert_eq!(all(&mut renamed).await, values("a", 8..20));
    // What another group committed under this source's name says nothing of this one.
    let mut other = source(&later, "h", Start::End);
    other.seek(&renamed.position()).await.unwrap();
    write(&mut out, &values("a", 20..22)).await;
    assert_eq!(all(&mut other).await, values("a", 20..22));
}

#[tokio::test]
async fn a_group_begins_where_it_is_told() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink(&topics, "p.out").await;
    write(&mut out, &values("a", 0..10)).await;
    let before = jiff::Timestamp::now().as_millisecond() + 1;
    while jiff::Timestamp::now().as_millisecond() < before {
        tokio::task::yield_now().await;
    }
    let at = write(&mut out, &values("a", 10..20)).await;
    topics.topic("orders").found("p.out", written(&at).unwrap());
    for (nth, (start, first)) in [
        (Start::Beginning, 0),
        (Start::End, 20),
        (Start::Offset(13), 13),
        (Start::Offset(22), 22),
        (Start::Time(before), 10),
    ]
    .into_iter()
    .enumerate()
    {
        let mut source = source(&topics, &format!("g{nth}"), start);
        assert_eq!(all(&mut source).await, values("a", first.min(20)..20), "{start}");
        let position = source.position();
        source.seek(&position).await.unwrap();
        write(&mut out, &values("a", 20..24)).await;
        let expected = values("a", first.max(20)..24);
        assert_eq!(all(&mut source).await, expected, "{start}, later");
        let at = serde_json::from_value::<crate::sink::log::Position>(at.clone()).unwrap();
        let back = serde_json::to_value(at).unwrap();
        out.restore(&back).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_does_not_run_is_read_up_to_its_commit() {
    let disk = Sim::new();
    let first = topics(&disk);
    let mut out = sink(&first, "p.out").await;
    let at = write(&mut out, &values("a", 0..5)).await;
    out.write(&records(&values("lost", 0..5)), &mut Vec::new()).await.unwrap();
    out.flush(&mut Vec::new()).await.unwrap();
    drop(out);
    let later = topics(&disk);
    later.topic("orders").found("p.out", written(&at).unwrap());
    assert_eq!(all(&mut source(&later, "g", Start::Beginning)).await, values("a", 0..5));
}

#[tokio::test]
async fn a_log_that_begins_anew_in_the_place_of_another_is_read_from_its_beginning() {
    let disk = Sim::new();
    let first = topics(&disk);
    let mut out = sink(&first, "p.out").await;
    let at = write(&mut out, &values("a", 0..5)).await;
    let mut reader = source(&first, "g", Start::Beginning);
    all(&mut reader).await;
    let held: Held = serde_json::from_value(reader.position().0).unwrap();
    drop((out, reader));
    let later = topics(&disk);
    // It was given up, and another began.
    crate::log::Log::open(
        later.disk().clone(),
        &Path::new("/state").join("logs/topics/orders/p.out"),
        None,
        Default::default(),
    )
    .unwrap();
    let mut out = sink(&later, "p.out").await;
    assert_ne!(written(&out.position()).unwrap().born, written(&at).unwrap().born);
    later.topic("orders").found_group("g", &held.spots);
    write(&mut out, &values("b", 0..9)).await;
    assert_eq!(all(&mut source(&later, "g", Start::End)).await, values("b", 0..9));
}

/// A batch that fills a segment of a topic of 1 MiB twice over.
fn large(at: usize) -> Vec<String> {
    (0..4).map(|nth| format!("{:0>65000}", at * 4 + nth)).collect()
}

#[tokio::test]
async fn a_topic_that_blocks_keeps_what_any_group_has_not_read_and_goes_on_when_it_has() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink(&topics, "p.out").await;
    let (mut fast, mut slow) = (source(&topics, "fast", Start::Beginning), source(&topics, "slow", Start::Beginning));
    let mut written = 0;
    let full = loop {
        assert!(written < 100, "it never fills");
        match out.write(&records(&large(written)), &mut Vec::new()).await {
            Ok(()) => {}
            Err(SinkError::Later(error)) => break error.to_string(),
            Err(error) => panic!("{error}"),
        }
        written += 1;
        out.flush(&mut Vec::new()).await.unwrap();
        let position = out.position();
        out.committed(&position);
    };
    assert!(
        full.contains("group `slow`, read by `p.slow`, has") && full.contains("tidegate topic forget orders"),
        "{full}"
    );
    let read = all(&mut fast).await;
    assert_eq!(read.len(), written * 4);
    fast.commit(&fast.position()).await.unwrap();
    assert!(matches!(out.flush(&mut Vec::new()).await, Err(SinkError::Later(_))), "one group is still to read");
    assert_eq!(all(&mut slow).await, read, "nothing has gone");
    assert!(matches!(out.flush(&mut Vec::new()).await, Err(SinkError::Later(_))), "it has not committed yet");
    slow.commit(&slow.position()).await.unwrap();
    out.flush(&mut Vec::new()).await.unwrap();
    let position = out.position();
    out.committed(&position);
    assert_eq!(all(&mut slow).await, large(written), "what waited was written once");
}

#[tokio::test]
async fn what_one_epoch_writes_waits_for_nobody_who_cannot_read_it_yet() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink(&topics, "p.out").await;
    let mut reader = source(&topics, "g", Start::Beginning);
    for at in 0..10 {
        out.write(&records(&large(at)), &mut Vec::new()).await.unwrap();
    }
    out.flush(&mut Vec::new()).await.unwrap();
    let position = out.position();
    out.committed(&position);
    assert_eq!(all(&mut reader).await.len(), 40);
}

#[tokio::test]
async fn a_topic_that_drops_its_oldest_counts_what_a_group_has_lost() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink_at(&topics, "p.out", &Value::Null, &config(1 << 20, WhenFull::DropOldest)).await;
    let mut reader = source(&topics, "g", Start::Beginning);
    write(&mut out, &large(0)).await;
    let mut read = texts(&read_now(&mut reader, 2).await.unwrap());
    for at in 1..20 {
        write(&mut out, &large(at)).await;
    }
    let mut lost = 0;
    while let Some(chunk) = read_now(&mut reader, 3).await {
        lost += chunk.lost;
        read.extend(texts(&chunk));
    }
    assert!(lost > 0);
    assert_eq!(read.len() as u64 + lost, 80);
    assert!(read.is_sorted() && read.last() == large(19).last());
    // Who begins when it has gone has lost nothing.
    let mut later = source(&topics, "later", Start::Beginning);
    assert_eq!(read_now(&mut later, 3).await.unwrap().lost, 0);
}

#[tokio::test]
async fn a_reader_that_is_dropped_while_it_waits_has_taken_nothing() {
    let disk = Sim::new();
    let topics = topics(&disk);
    let mut out = sink(&topics, "p.out").await;
    write(&mut out, &values("a", 0..30)).await;
    let mut reader = source(&topics, "g", Start::Beginning);
    let mut found = Vec::new();
    while found.len() < 30 {
        // Polled once, it has lent the work; what that finds is there the next time.
        match futures::poll!(reader.read(Limit { records: 4, bytes: 1 << 20 })) {
            std::task::Poll::Ready(Ok(Read::Chunk(chunk))) => found.extend(texts(&chunk)),
            _ => found.extend(texts(&read_now(&mut reader, 4).await.unwrap())),
        }
    }
    assert_eq!(found, values("a", 0..30));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However writes, commits, reads, commits of the group and returns to them come, each group has read what was
    /// committed, in order, each record once.
    #[test]
    fn a_group_reads_each_committed_record_once_in_order(
        steps in proptest::collection::vec((0u8..7, 1usize..12), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let disk = Sim::new();
            let topics = topics(&disk);
            let mut out = sink(&topics, "p.out").await;
            let mut reader = source(&topics, "g", Start::Beginning);
            // The model: what has been written, how much of it is committed, what the group has read and committed.
            let (mut written, mut committed) = (0, 0);
            let (mut read, mut kept, mut at, mut back) = (0, 0, reader.position(), out.position());
            for (step, count) in steps {
                match step {
                    0 | 1 => {
                        out.write(&records(&values("v", written..written + count)), &mut Vec::new()).await.unwrap();
                        written += count;
                    }
                    2 => {
                        out.flush(&mut Vec::new()).await.unwrap();
                        back = out.position();
                        out.committed(&back);
                        committed = written;
                    }
                    3 | 4 if read < committed => {
                        let chunk = read_now(&mut reader, count).await.unwrap();
                        let end = read + chunk.batch.len();
                        assert!(chunk.batch.len() <= count && chunk.lost == 0);
                        assert_eq!(texts(&chunk), values("v", read..end));
                        read = end;
                    }
                    5 => {
                        (kept, at) = (read, reader.position());
                        reader.commit(&at).await.unwrap();
                        assert_eq!(topics.topic("orders").behind_of("g"), (committed - kept) as u64);
                    }
                    6 if count % 2 == 0 => {
                        reader.seek(&at).await.unwrap();
                        read = kept;
                    }
                    6 => {
                        // The writer's pipeline starts again at its commit.
                        out.restore(&back).await.unwrap();
                        written = committed;
                    }
                    _ => {}
                }
            }
        });
    }
}
