//! What is sent, in how many requests, and how many at once.

use tokio::sync::Semaphore;

use super::*;
use crate::batch::{Column, ID};

fn taken(_: usize, _: &Seen) -> Answering {
    answer(204, &[], "")
}

#[tokio::test]
async fn records_arrive_in_order_over_one_connection_in_requests_of_the_size_that_was_asked_for() {
    let receiver = Receiver::new(taken).await;
    let mut config = receiver.config();
    config.token = Some(Secret::new("tok".to_owned()));
    config.headers.insert("X-Scope".to_owned(), Secret::new("mine".to_owned()));
    let mut sink = sink(&config, of(100));
    for from in (0..1000).step_by(50) {
        assert_eq!(deliver_later(&mut sink, &numbers(from, from + 50)).await, []);
    }
    assert_eq!(settle(&mut sink).await, (vec![], vec![]));
    let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(receiver.bodies().concat(), expected);
    let seen = receiver.seen();
    assert_eq!((seen.len(), receiver.book.connections.load(Ordering::SeqCst)), (10, 1));
    let first = &seen[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/in?q=1"));
    for (name, value) in [
        ("content-type", "application/x-ndjson"),
        ("authorization", "Bearer tok"),
        ("x-scope", "mine"),
        ("user-agent", concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        ("content-encoding", ""),
    ] {
        assert_eq!(first.header(name), value, "{name}");
    }
}

/// Writes without a flush.
async fn deliver_later(sink: &mut HttpSink, batch: &Batch) -> Vec<Refused> {
    let mut refused = Vec::new();
    sink.write(batch, &mut refused).await.unwrap();
    refused
}

#[tokio::test]
async fn a_body_is_an_array_compressed_and_put_where_that_was_asked_for() {
    let receiver = Receiver::new(taken).await;
    let mut config = receiver.config();
    (config.format, config.compression, config.method) = (Form::Json, Compression::Gzip, Verb::Put);
    let mut sink = sink(&config, of(3));
    let (refused, _) = deliver(&mut sink, &batch(["{\"a\":1}", "no json", "2", "[3]", "4"])).await;
    assert_eq!(places(&refused), [1]);
    assert_eq!(receiver.bodies(), ["[{\"a\":1},2,[3]]", "[4]"]);
    let seen = receiver.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].header("content-encoding")), ("PUT", "gzip"));
    assert_eq!(seen[0].header("content-type"), "application/json");
}

#[tokio::test]
async fn exactly_so_many_requests_are_under_way_at_once() {
    for in_flight in [1, 3] {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let receiver = Receiver::new(move |_, _| {
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                answer(200, &[], "").await
            }
            .boxed()
        })
        .await;
        let mut sink = sink(&receiver.config(), Requests { in_flight, ..of(1) });
        let batch = numbers(0, 8);
        let mut refused = Vec::new();
        {
            let mut writing = sink.write(&batch, &mut refused);
            // It waits, for there are more requests than may be under way.
            while receiver.book.at_once.load(Ordering::SeqCst) < in_flight {
                assert!(futures::poll!(&mut writing).is_pending());
                tokio::task::yield_now().await;
            }
            assert!(futures::poll!(&mut writing).is_pending());
        }
        gate.add_permits(8);
        settle(&mut sink).await;
        assert_eq!(receiver.book.most_at_once.load(Ordering::SeqCst), in_flight);
        let mut bodies = receiver.bodies();
        if in_flight > 1 {
            bodies.sort();
        }
        assert_eq!(bodies, (0..8).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_request_that_is_not_full_waits_no_longer_than_linger() {
    let receiver = Receiver::new(taken).await;
    let mut sink = sink(&receiver.config(), Requests { linger: Duration::from_millis(20), ..of(100) });
    let before = Instant::now();
    assert_eq!(sink.due(), None);
    deliver_later(&mut sink, &numbers(0, 3)).await;
    let due = sink.due().unwrap();
    assert!(due >= before + Duration::from_millis(20) && sink.unsettled() == 3);
    deliver_later(&mut sink, &numbers(3, 5)).await;
    assert_eq!(sink.due(), Some(due), "the first record counts");
    sleep_until(due).await;
    deliver_later(&mut sink, &Batch::default()).await;
    assert_eq!((sink.filling.len(), sink.jobs.len()), (0, 1), "it is on its way");
    settle(&mut sink).await;
    assert_eq!(receiver.bodies(), ["0\n1\n2\n3\n4\n"]);
}

#[tokio::test]
async fn a_failure_is_found_though_nothing_follows() {
    let receiver = Receiver::new(|nth, _| answer(if nth == 0 { 503 } else { 200 }, &[], "")).await;
    let mut sink = sink(&receiver.config(), of(1));
    deliver_later(&mut sink, &numbers(0, 1)).await;
    let (nothing, mut refused) = (Batch::default(), Vec::new());
    let told = loop {
        sleep_until(sink.due().expect("a request is under way")).await;
        if let Err(told) = sink.write(&nothing, &mut refused).await {
            break told;
        }
    };
    assert!(matches!(told, SinkError::Later(_)), "{told:?}");
    settle(&mut sink).await;
    assert_eq!((sink.due(), receiver.bodies()), (None, vec!["0\n".to_owned(), "0\n".to_owned()]));
}

#[tokio::test]
async fn keys_follow_from_ids_and_are_random_without() {
    let receiver = Receiver::new(taken).await;
    let ids: Column = (0..4_u128).map(u128::to_le_bytes).collect();
    let known = numbers(0, 4).with_named(ID.into(), ids).unwrap();
    // The second sink is what the first one is after a restart.
    for batch in [&known, &known, &numbers(0, 4), &numbers(0, 4)] {
        deliver(&mut sink(&receiver.config(), of(2)), batch).await;
    }
    let keys: Vec<String> = receiver.seen().iter().map(|seen| seen.key().to_owned()).collect();
    assert_eq!(keys[..2], keys[2..4]);
    let all: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!((all.len(), keys.len()), (6, 8));
    assert!(keys.iter().all(|key| key.len() == 32), "{keys:?}");
}

#[tokio::test]
async fn a_call_that_was_given_up_loses_and_doubles_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let receiver = Receiver::new(move |_, _| {
        let held = held.clone();
        async move {
            held.acquire().await.unwrap().forget();
            listing("{\"refused\":[{\"index\":1,\"reason\":\"odd\"}]}").await
        }
        .boxed()
    })
    .await;
    let mut sink = sink(&receiver.config(), of(2));
    let (batch, mut refused) = (numbers(0, 6), Vec::new());
    assert!(futures::poll!(sink.write(&batch, &mut refused)).is_pending());
    for _ in 0..5 {
        gate.add_permits(1);
        assert!(refused.is_empty());
        let _ = futures::poll!(sink.flush(&mut refused));
    }
    let (more, _) = settle(&mut sink).await;
    refused.extend(more);
    assert_eq!(places(&refused), [1, 3, 5]);
    assert_eq!(receiver.bodies(), ["0\n1\n", "2\n3\n", "4\n5\n"]);
}

#[tokio::test]
async fn a_sink_that_is_taken_back_forgets_what_it_has_in_hand() {
    let receiver = Receiver::new(|nth, _| if nth == 0 { answer(503, &[], "") } else { answer(200, &[], "") }).await;
    let mut sink = sink(&receiver.config(), of(2));
    let mut refused = Vec::new();
    sink.write(&numbers(0, 3), &mut refused).await.unwrap();
    assert!(matches!(sink.flush(&mut refused).await, Err(SinkError::Later(_))));
    assert_eq!(sink.unsettled(), 3);
    sink.restore(&Value::Null).await.unwrap();
    assert_eq!(sink.unsettled(), 0);
    deliver(&mut sink, &numbers(7, 8)).await;
    assert_eq!(receiver.bodies()[1..], ["7\n"]);
}
