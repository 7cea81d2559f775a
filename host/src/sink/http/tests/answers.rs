//! What each answer comes to.

use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

/// A receiver that gives `answers` one after the other, and then takes everything.
async fn answering(answers: &'static [(u16, &'static str, &'static str)]) -> Receiver {
    Receiver::new(move |nth, _| match answers.get(nth) {
        Some((status, kind, body)) => answer(*status, &[("content-type", *kind)], body),
        None => answer(200, &[], "thanks"),
    })
    .await
}

#[tokio::test]
async fn what_may_be_taken_later_is_sent_again_under_the_same_key_and_in_its_turn() {
    for status in [408, 425, 429, 500, 503, 599, 401, 403, 404, 405, 410, 302, 307] {
        let receiver = Receiver::new(move |nth, _| answer(if nth < 2 { status } else { 202 }, &[], "why")).await;
        let mut sink = sink(&receiver.config(), of(2));
        let (refused, said) = deliver(&mut sink, &numbers(0, 4)).await;
        assert_eq!((refused, said.len()), (vec![], 2), "{status}");
        let shown = format!("http://{}/in answered {status}", receiver.address);
        assert!(said[0].starts_with(&shown) && !said[0].contains("q=1"), "{said:?}");
        assert_eq!(receiver.bodies(), ["0\n1\n", "0\n1\n", "0\n1\n", "2\n3\n"], "{status}");
        let seen = receiver.seen();
        assert_eq!((seen[0].key(), seen[1].key()), (seen[1].key(), seen[2].key()));
        assert_ne!(seen[2].key(), seen[3].key());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_garbled_is_none_and_neither_is_a_closed_port() {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"refused\": []";
    for (said, why) in [(HEAD, "read the answer"), ("what?\r\n\r\n", "invalid HTTP"), ("", "connection closed")] {
        let (address, _saying) = once("0\n1\n", said).await;
        let mut sink = sink(&config(&format!("http://{address}/")), of(9));
        let mut refused = Vec::new();
        sink.write(&numbers(0, 2), &mut refused).await.unwrap();
        for why in [why, "Connection refused"] {
            let told = sink.flush(&mut refused).await.unwrap_err();
            assert!(matches!(&told, SinkError::Later(told) if format!("{told:#}").contains(why)), "{why}: {told:?}");
            assert_eq!((refused.as_slice(), sink.unsettled()), (&[][..], 2));
        }
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_asked_again() {
    let receiver =
        Receiver::new(|nth, _| if nth == 0 { std::future::pending().boxed() } else { answer(200, &[], "") }).await;
    let mut config = receiver.config();
    config.timeout = Span(Duration::from_millis(200));
    let (_, said) = deliver(&mut sink(&config, of(9)), &numbers(0, 1)).await;
    assert!(said.len() == 1 && said[0].ends_with("no answer within 200ms"), "{said:?}");
    assert_eq!(receiver.bodies(), ["0\n", "0\n"]);
}

#[tokio::test]
async fn a_receiver_is_left_alone_as_long_as_it_asks_for() {
    for in_flight in [1, 2] {
        let receiver = Receiver::new(|nth, _| match nth {
            0 => answer(429, &[("retry-after", "1")], ""),
            _ => answer(200, &[], ""),
        })
        .await;
        let mut sink = sink(&receiver.config(), Requests { in_flight, ..of(1) });
        let mut refused = Vec::new();
        sink.write(&numbers(0, 1), &mut refused).await.unwrap();
        assert!(matches!(sink.flush(&mut refused).await, Err(SinkError::Later(_))));
        let begin = Instant::now();
        settle(&mut sink).await;
        assert!(begin.elapsed() > Duration::from_millis(900), "{:?}", begin.elapsed());
        assert_eq!(receiver.bodies(), ["0\n", "0\n"]);
    }
}

#[tokio::test]
async fn records_that_are_refused_are_found_and_the_others_arrive_in_order() {
    let bad = |line: &str| ["3", "11", "12", "19"].contains(&line);
    let receiver = Receiver::new(move |_, seen| match seen.lines().iter().any(|line| bad(line)) {
        true => answer(422, &[], "no such shape"),
        false => answer(200, &[], ""),
    })
    .await;
    let mut sink = sink(&receiver.config(), of(20));
    let (refused, said) = deliver(&mut sink, &numbers(0, 20)).await;
    assert_eq!((places(&refused), said.len()), (vec![3, 11, 12, 19], 0));
    assert!(refused[0].reason.contains("answered 422") && refused[0].reason.ends_with("no such shape"), "{refused:?}");
    let bodies = receiver.bodies();
    let taken = bodies.iter().filter(|body| !body.lines().any(bad));
    let expected: String = (0..20).map(|n| n.to_string()).filter(|n| !bad(n)).map(|n| n + "\n").collect();
    assert_eq!(taken.cloned().collect::<String>(), expected);
    let keys: std::collections::BTreeSet<String> = receiver.seen().iter().map(|seen| seen.key().to_owned()).collect();
    assert_eq!(keys.len(), bodies.len(), "other records are another request");
}

#[tokio::test]
async fn refusals_that_an_answer_lists_are_told_once_with_places_that_reach_back() {
    let body =
        r#"{"accepted":3,"refused":[{"index":1,"reason":"odd"},{"index":3,"reason":"too"},{"index":9,"reason":"-"}]}"#;
    let receiver = answering(Box::leak(Box::new([(200, "application/json", body)]))).await;
    let mut sink = sink(&receiver.config(), of(5));
    let mut refused = Vec::new();
    // A line break makes the second record unfit for a line; the request is full with the third batch.
    for records in [vec!["1", "a\nb", "2"], vec!["3"], vec!["4", "5"]] {
        sink.write(&batch(records), &mut refused).await.unwrap();
    }
    assert_eq!((places(&refused), sink.unsettled()), (vec![1], 5));
    refused.clear();
    let (refused, _) = settle(&mut sink).await;
    // The batch written last is `4`, `5`; in front of it are `3` at -1 and `2` at -2.
    assert_eq!(places(&refused), [-2, 0]);
    assert_eq!((refused[0].reason.as_str(), refused[1].reason.as_str()), ("odd", "too"));
    assert_eq!(receiver.bodies().len(), 1);
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let endless = || {
        let part = || Some((Ok(Frame::data(Bytes::from(vec![b'x'; 64 << 10]))), ()));
        let body = StreamBody::new(futures::stream::unfold((), move |()| std::future::ready(part()))).boxed_unsync();
        std::future::ready(Response::builder().header("content-type", "application/json").body(body).unwrap()).boxed()
    };
    let receiver = Receiver::new(move |_, _| endless()).await;
    let (refused, said) = deliver(&mut sink(&receiver.config(), of(1)), &numbers(0, 2)).await;
    assert_eq!((refused, said), (vec![], vec![]));
}

#[tokio::test]
async fn a_secret_that_a_receiver_sends_back_is_shown_nowhere() {
    const CANARY: &str = "canary-5d\"20-of-the-sink";
    let echo = |status: u16| {
        move |nth: usize, seen: &Seen| {
            let told = format!("{}{} {}", "x".repeat(180), seen.header("authorization"), seen.header("x-key"));
            if nth == 0 { answer(status, &[("location", &told)], &told) } else { answer(200, &[], "") }
        }
    };
    for status in [400, 401, 302, 503] {
        let receiver = Receiver::new(echo(status)).await;
        let mut config = receiver.config();
        config.token = Some(Secret::new(CANARY.to_owned()));
        config.headers.insert("x-key".to_owned(), Secret::new(CANARY.to_owned()));
        let mut sink = sink(&config, of(1));
        let (refused, said) = deliver(&mut sink, &numbers(0, 1)).await;
        let told = format!("{refused:?} {said:?} {sink:?} {config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!told.contains("canary-5d"), "{status}: {told}");
        assert_eq!(refused.len() + said.len(), 1, "{status}: it was told");
        assert!(receiver.seen()[0].header("authorization").ends_with(CANARY));
    }
}
