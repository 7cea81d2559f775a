use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

const TICK: Duration = Duration::from_millis(100);
const MOST: Limit = Limit { records: 1024, bytes: 1 << 20 };

fn source(every: Duration) -> Box<dyn Source> {
    let stamp = Stamp { key: Some("/metric".to_owned()), time: Some("/ts".to_owned()), ..Stamp::default() };
    open(&Config { every: Span(every) }, "machine", &stamp, 1 << 20).unwrap()
}

async fn chunk(source: &mut dyn Source, most: Limit) -> Chunk {
    match source.read(most).await.unwrap() {
        Read::Chunk(chunk) => chunk,
        Read::End | Read::Again(_) => panic!("the source has ended"),
    }
}

fn documents(chunk: &Chunk) -> Vec<Value> {
    chunk.batch.values().iter().map(|value| serde_json::from_slice(value).unwrap()).collect()
}

#[tokio::test]
async fn a_look_brings_every_metric_with_unit_labels_key_and_time() {
    let mut source = source(TICK);
    let chunk = chunk(source.as_mut(), MOST).await;
    assert_eq!(chunk.undecoded, []);
    let mut units = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (i, document) in documents(&chunk).iter().enumerate() {
        let metric = document["metric"].as_str().unwrap().to_owned();
        assert_eq!(chunk.batch.keys().unwrap().get(i).unwrap(), metric.as_bytes());
        assert_eq!(chunk.batch.timestamps().unwrap()[i], document["ts"].as_i64().unwrap());
        assert!(document["value"].as_f64().unwrap() >= 0.0 && !document["host"].as_str().unwrap().is_empty());
        let found = document["labels"].as_object().unwrap().iter().map(|(name, value)| format!("{name}={value}"));
        labels.entry(metric.clone()).or_default().extend(found);
        units.insert(metric, document["unit"].as_str().unwrap().to_owned());
    }
    let expected = [
        ("cpu.usage", "percent"),
        ("disk.total", "bytes"),
        ("disk.used", "bytes"),
        ("load.1", "processes"),
        ("load.15", "processes"),
        ("load.5", "processes"),
        ("memory.total", "bytes"),
        ("memory.used", "bytes"),
        ("network.received", "bytes/s"),
        ("network.received_total", "bytes"),
        ("network.sent", "bytes/s"),
        ("network.sent_total", "bytes"),
        ("processes.count", "processes"),
        ("swap.used", "bytes"),
    ];
    let found: Vec<(&str, &str)> = units.iter().map(|(metric, unit)| (metric.as_str(), unit.as_str())).collect();
    assert_eq!(found, expected);
    assert!(labels["cpu.usage"].contains("cpu=\"0\""));
    // What a plugin is there to filter has to be here: loopback and pseudo file systems.
    assert!(labels["network.received"].contains("interface=\"lo\""), "{labels:?}");
    assert!(labels["disk.used"].contains("fs=\"proc\"") && labels["disk.used"].contains("mount=\"/\""), "{labels:?}");
}

#[tokio::test]
async fn it_measures_no_more_often_than_it_was_told() {
    let mut source = source(TICK);
    let start = Instant::now();
    for tick in 1..4 {
        chunk(source.as_mut(), MOST).await;
        assert!(start.elapsed() >= TICK * tick);
    }
}

#[tokio::test]
async fn ticks_that_were_missed_are_skipped_and_reported() {
    let mut source = source(TICK);
    let start = Instant::now();
    chunk(source.as_mut(), MOST).await;
    tokio::time::sleep_until(start + TICK * 9 / 2).await;
    let report = |chunk: &Chunk| {
        let found = documents(chunk).into_iter().find(|document| document["metric"] == "host_metrics.missed");
        found.and_then(|document| document["value"].as_f64())
    };
    // The one that was due at 2 comes at once; those at 3 and 4 have gone by, the next is at 5 or later.
    chunk(source.as_mut(), MOST).await;
    let next = chunk(source.as_mut(), MOST).await;
    assert!(start.elapsed() >= TICK * 5);
    assert!(report(&next) >= Some(2.0), "{:?}", report(&next));
}

#[test]
fn only_ticks_in_between_count_as_missed() {
    let begin = Instant::now();
    for (ticks, expected) in [(0, 0), (1, 0), (2, 1), (5, 4)] {
        assert_eq!(missed(begin, begin + TICK * ticks, TICK), expected);
    }
}

#[tokio::test]
async fn a_look_is_handed_out_in_pieces_and_a_dropped_read_loses_none() {
    let mut source = source(TICK);
    let one = Limit { records: 1, bytes: 1 << 20 };
    // Dropped while it waits for the tick and while it looks: nothing has been taken.
    let first = loop {
        match tokio::time::timeout(Duration::from_millis(1), source.read(one)).await {
            Err(_) => assert_eq!(source.position(), Position(0.into())),
            Ok(Ok(Read::Chunk(chunk))) => break chunk,
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert_eq!((first.batch.len(), source.position()), (1, Position(1.into())));
    let rest = chunk(source.as_mut(), MOST).await;
    assert_eq!(documents(&first)[0]["ts"], documents(&rest)[0]["ts"]);
    assert_eq!(source.position(), Position((1 + rest.batch.len()).into()));
    assert!(!source.seek(&Position(0.into())).await.unwrap(), "a measurement cannot be taken again");
}

#[tokio::test]
async fn it_ends_when_it_is_stopped() {
    let mut source = source(TICK);
    chunk(source.as_mut(), Limit { records: 1, bytes: 1 << 20 }).await;
    source.stop();
    assert!(matches!(source.read(MOST).await.unwrap(), Read::Chunk(_)), "what was measured is handed out");
    assert!(matches!(source.read(MOST).await.unwrap(), Read::End));
}

#[tokio::test]
async fn no_time_between_two_looks_is_refused() {
    assert!(open(&Config { every: Span(Duration::ZERO) }, "machine", &Stamp::default(), 1 << 20).is_err());
}
