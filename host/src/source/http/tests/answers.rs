//! Which answer is given when.

use super::*;

#[tokio::test]
async fn a_client_hears_nothing_before_the_commit_and_200_after_it() {
    let mut source = Setup::default().open().await;
    let mut client = post_lines(&source, "{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(values(&chunk(&mut source).await), ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(source.position(), Position(2.into()));
    source.commit(&Position(1.into())).await.unwrap();
    assert!(timeout(MOMENT, &mut client).await.is_err(), "answered although only half is committed");
    source.commit(&Position(2.into())).await.unwrap();
    let reply = client.await.unwrap();
    assert_eq!((reply.status, reply.body), (200, json!({ "accepted": 2, "refused": [] })));
}

#[tokio::test]
async fn a_client_that_is_to_hear_at_once_does_not_wait_for_the_commit() {
    let mut source = Setup { answer: Some(When::Accepted), ..Setup::default() }.open().await;
    let client = post_lines(&source, "{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(values(&chunk(&mut source).await), ["{\"a\":1}", "{\"a\":2}"]);
    let reply = client.await.unwrap();
    assert_eq!((reply.status, &reply.body["accepted"]), (200, &json!(2)));
}

#[tokio::test]
async fn a_body_becomes_records_as_its_type_says() {
    let cases: &[(Format, &str, &str, &[&str])] = &[
        (Format::Json, "application/x-ndjson", "1\n{\"a\":2}", &["1", "{\"a\":2}"]),
        (Format::Json, "Application/X-NDJSON; charset=utf-8", "1\n\n2\n", &["1", "2"]),
        (Format::Json, "application/json", "[1, {\"a\": [2]}, \"x\"]", &["1", "{\"a\": [2]}", "\"x\""]),
        (Format::Json, "application/json", "{\"a\": [1, 2]}", &["{\"a\": [1, 2]}"]),
        (Format::Json, "text/plain", "1\n2\n", &["1", "2"]),
        (Format::Lines, "text/plain", "one\ntwo", &["one", "two"]),
        (Format::Lines, "application/x-ndjson", "1\n2", &["1", "2"]),
        (Format::Raw, "application/octet-stream", "one\ntwo\n", &["one\ntwo\n"]),
        (Format::Raw, "application/json", "[1]", &["1"]),
    ];
    for (format, kind, body, expected) in cases {
        let mut source = Setup { format: *format, ..Setup::default() }.open().await;
        for packed in [false, true] {
            let client = if packed {
                let headers = format!("content-type: {kind}\r\ncontent-encoding: gzip\r\n");
                post(&source, &headers, &gzip(body.as_bytes()))
            } else {
                post(&source, &format!("content-type: {kind}\r\n"), body.as_bytes())
            };
            let (reply, taken) = served(&mut source, client).await;
            assert_eq!(
                (reply.status, taken),
                (200, expected.iter().map(ToString::to_string).collect()),
                "{kind} {body}"
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_named_by_its_index_and_counted() {
    let mut source = Setup::default().open().await;
    let client = post_lines(&source, "{\"a\":1}\nnonsense\n{\"a\":2}\n{\"a\":\n");
    let read = chunk(&mut source).await;
    assert_eq!(values(&read), ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!((read.answered, read.undecoded, source.refused()), (2, vec![], 2));
    commit(&mut source).await;
    let reply = client.await.unwrap();
    assert_eq!((reply.status, &reply.body["accepted"]), (200, &json!(2)));
    let refused = reply.body["refused"].as_array().unwrap();
    assert_eq!(refused.iter().map(|one| &one["index"]).collect::<Vec<_>>(), [&json!(1), &json!(3)]);
    assert!(refused.iter().all(|one| !one["reason"].as_str().unwrap().is_empty()));
}

#[tokio::test]
async fn a_request_of_nothing_but_bad_records_is_answered_400_at_once() {
    let json = "content-type: application/json\r\n";
    for (headers, body, bad) in [("", "x\ny\n", 2), (json, "[nope", 1), (json, "nonsense", 1)] {
        let mut source = Setup::default().open().await;
        let client = post(&source, headers, body.as_bytes());
        let read = chunk(&mut source).await;
        assert_eq!((read.batch.len(), read.answered), (0, bad), "{body}");
        // Nothing is there to be committed, so nothing is waited for.
        let reply = client.await.unwrap();
        assert_eq!((reply.status, &reply.body["accepted"]), (400, &json!(0)), "{body}");
        assert_eq!(reply.body["refused"].as_array().unwrap().len() as u64, bad, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_at_all_is_answered_400_in_the_same_shape() {
    let mut packed = gzip(b"{\"a\":1}\n");
    packed.truncate(packed.len() - 5);
    let gzipped = "content-encoding: gzip\r\n";
    let json = "content-type: application/json\r\n";
    for (headers, body) in [(gzipped, packed.as_slice()), (gzipped, b"no gzip at all"), (gzipped, b""), (json, b" ")] {
        let mut source = Setup::default().open().await;
        let client = post(&source, headers, body);
        let (reply, taken) = served(&mut source, client).await;
        assert_eq!((reply.status, taken), (400, vec![]), "{body:?}");
        assert_eq!((&reply.body["accepted"], &reply.body["refused"][0]["index"]), (&json!(0), &json!(0)));
    }
}

#[tokio::test]
async fn an_empty_body_of_lines_is_fine() {
    let mut source = Setup::default().open().await;
    let client = post_lines(&source, "");
    let (reply, taken) = served(&mut source, client).await;
    assert_eq!((reply.status, taken), (200, vec![]));
}

#[tokio::test]
async fn a_long_list_of_refusals_is_cut_off_and_counted() {
    let mut source = Setup::default().open().await;
    let client = post_lines(&source, &"x\n".repeat(5000));
    let (reply, _) = served(&mut source, client).await;
    assert_eq!((reply.status, reply.body["refused"].as_array().unwrap().len()), (400, 1000));
    assert_eq!((&reply.body["unlisted"], source.refused()), (&json!(4000), 5000));
}

#[tokio::test]
async fn what_is_not_for_this_source_is_told_so() {
    let with = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: test\r\n{headers}\r\n").into_bytes();
    let length = "content-length: 0\r\n";
    let cases = [
        (with("POST /else", length), 404, None),
        (with("POST /in/", length), 404, None),
        (with("GET /in", ""), 405, Some(("allow", "POST"))),
        (with("PUT /in", length), 405, Some(("allow", "POST"))),
        (request("content-type: application/xml\r\n", b"<a/>"), 415, None),
        (request("content-type: text/plain\r\ncontent-type: application/json\r\n", b"1"), 415, None),
        (request("content-encoding: br\r\n", b"1"), 415, Some(("accept-encoding", "gzip"))),
        (request("content-encoding: gzip, gzip\r\n", b"1"), 415, Some(("accept-encoding", "gzip"))),
    ];
    let mut source = Setup::default().open().await;
    for (bytes, status, header) in cases {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (reply, taken) = {
            let client = send(source.local_addr(), bytes);
            served(&mut source, client).await
        };
        assert_eq!((reply.status, taken), (status, vec![]), "{text}");
        assert!(reply.body["error"].is_string());
        if let Some((name, value)) = header {
            assert_eq!(reply.header(name), Some(value), "{text}");
        }
    }
}

#[tokio::test]
async fn over_the_rate_a_client_is_told_when_to_come_back() {
    let mut source = Setup { rate: Some("2/h".parse().unwrap()), ..Setup::default() }.open().await;
    let client = post_lines(&source, "1\n2\n");
    assert_eq!(served(&mut source, client).await.0.status, 200);
    let client = post_lines(&source, "3\n");
    let (reply, taken) = served(&mut source, client).await;
    assert_eq!((reply.status, taken), (429, vec![]));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "{wait} s, at two an hour");
}

#[tokio::test]
async fn what_nobody_takes_is_withdrawn_and_answered_503() {
    let mut source = Setup::limited(|limits| limits.queue = MOMENT * 5).open().await;
    let reply = post_lines(&source, "1\n").await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(nothing_is_read(&mut source).await, "the client was told that nothing was taken");
    // And the next one finds everything in order.
    let client = post_lines(&source, "2\n");
    let (reply, taken) = served(&mut source, client).await;
    assert_eq!((reply.status, taken), (200, vec!["2".to_owned()]));
}

#[tokio::test]
async fn a_commit_that_does_not_come_is_answered_503_without_a_promise() {
    let mut source = Setup::limited(|limits| limits.commit = MOMENT).open().await;
    let client = post_lines(&source, "1\n");
    assert_eq!(chunk(&mut source).await.batch.len(), 1);
    let reply = client.await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("10")));
    assert!(reply.body["error"].as_str().unwrap().contains("may still be committed later"));
    commit(&mut source).await;
}

#[tokio::test]
async fn a_drain_takes_nothing_new_gives_out_what_is_accepted_and_answers_it() {
    let mut source = Setup::default().open().await;
    let accepted = post_lines(&source, "1\n");
    let mut idle = TcpStream::connect(source.local_addr()).await.unwrap();
    // Taken by nobody yet, but whole and offered: that is accepted.
    let first = chunk(&mut source).await;
    source.stop();
    let late = post_lines(&source, "2\n").await.unwrap();
    assert_eq!((late.status, late.header("retry-after")), (503, Some("10")));
    assert_eq!((values(&first), late.header("connection")), (vec!["1".to_owned()], Some("close")));
    assert!(matches!(source.read(MOST).await.unwrap(), Read::End));
    // The process may end as soon as the last commit returns: the answer is out, and idle connections are closed.
    commit(&mut source).await;
    commit(&mut source).await;
    drop(source);
    assert_eq!(accepted.await.unwrap().status, 200);
    assert_eq!(timeout(PATIENCE, reply(&mut idle)).await.unwrap(), None);
}

#[tokio::test]
async fn a_source_that_goes_away_promises_nothing() {
    let mut source = Setup::default().open().await;
    let address = source.local_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("", b"1\n")).await.unwrap();
    assert_eq!(chunk(&mut source).await.batch.len(), 1);
    drop(source);
    let answer = timeout(PATIENCE, reply(&mut stream)).await.unwrap();
    assert!(answer.is_none_or(|reply| reply.status == 503));
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn answers_survive_a_restart_of_the_pipeline() {
    let mut source = Setup::default().open().await;
    let client = post_lines(&source, "1\n2\n");
    let sent = chunk(&mut source).await;
    // The pipeline restarts: it cannot go back, so it sends again what it kept, and commits that.
    assert!(!source.seek(&Position(0.into())).await.unwrap());
    assert_eq!((source.position(), sent.batch.len()), (Position(2.into()), 2));
    commit(&mut source).await;
    assert_eq!(client.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_larger_than_a_batch_is_answered_with_its_last_record() {
    let mut source = Setup::default().open().await;
    let body: String = (0..10).map(|i| format!("{i}\n")).collect();
    let mut client = post_lines(&source, &body);
    let mut taken = Vec::new();
    while taken.len() < 10 {
        assert!(timeout(Duration::ZERO, &mut client).await.is_err(), "answered after {} records", taken.len());
        let Read::Chunk(chunk) = source.read(Limit { records: 3, bytes: 1 << 20 }).await.unwrap() else { panic!() };
        assert!(chunk.batch.len() <= 3);
        taken.extend(values(&chunk));
        commit(&mut source).await;
    }
    assert_eq!(taken, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    let reply = client.await.unwrap();
    assert_eq!((reply.status, &reply.body["accepted"]), (200, &json!(10)));
}

#[tokio::test]
async fn small_requests_that_wait_together_travel_together() {
    let mut source = Setup::default().open().await;
    let clients: Vec<_> = (0..20).map(|i| post_lines(&source, &format!("{}\n", 1000 + i))).collect();
    // Nothing is read until all of them wait.
    while source.offers.len() < 20 {
        tokio::task::yield_now().await;
    }
    // A record of four bytes and its offset: two fit, and not a byte of a third.
    for bytes in [16, 23] {
        let Read::Chunk(chunk) = source.read(Limit { records: 1024, bytes }).await.unwrap() else { panic!() };
        assert_eq!((chunk.batch.len(), chunk.batch.bytes()), (2, 16));
    }
    assert_eq!(chunk(&mut source).await.batch.len(), 16);
    commit(&mut source).await;
    for client in clients {
        assert_eq!(client.await.unwrap().status, 200);
    }
}
