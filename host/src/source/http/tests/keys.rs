//! Requests that come with an `Idempotency-Key`.

use super::*;

fn post_under(source: &Http, key: &str, body: &str) -> JoinHandle<Reply> {
    post(source, &format!("content-type: application/x-ndjson\r\nidempotency-key: {key}\r\n"), body.as_bytes())
}

#[tokio::test]
async fn a_request_again_under_its_key_gets_its_answer_and_writes_nothing() {
    let mut source = Setup::default().open().await;
    let body = "{\"a\":1}\nnonsense\n{\"a\":2}\n";
    let first = post_under(&source, "one", body);
    let (first, taken) = served(&mut source, first).await;
    assert_eq!((first.status, taken.len()), (200, 2));
    let second = post_under(&source, "one", body).await.unwrap();
    assert_eq!((second.status, second.body), (200, first.body));
    assert!(nothing_is_read(&mut source).await);
    let other = post_under(&source, "one", "{\"a\":3}\n").await.unwrap();
    assert_eq!(other.status, 422, "{:?}", other.body);
    assert!(nothing_is_read(&mut source).await);
    let another = post_under(&source, "two", body);
    let (another, taken) = served(&mut source, another).await;
    assert_eq!((another.status, taken.len()), (200, 2), "under another key it is another request");
}

#[tokio::test]
async fn a_request_again_while_the_first_is_under_way_waits_for_its_answer() {
    let mut source = Setup::default().open().await;
    let first = post_under(&source, "one", "{\"a\":1}\n");
    assert_eq!(values(&chunk(&mut source).await), ["{\"a\":1}"]);
    let mut second = post_under(&source, "one", "{\"a\":1}\n");
    assert!(timeout(MOMENT, &mut second).await.is_err(), "answered before the commit");
    assert!(nothing_is_read(&mut source).await);
    commit(&mut source).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.status, &first.body["accepted"]), (200, &json!(1)));
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn what_is_no_key_is_answered_400() {
    let source = Setup::default().open().await;
    let longest = "k".repeat(255);
    let long = "k".repeat(256);
    for headers in ["idempotency-key: \r\n", "idempotency-key: a b\r\n", "idempotency-key: a\r\nidempotency-key: b\r\n"]
    {
        assert_eq!(post(&source, headers, b"1\n").await.unwrap().status, 400, "{headers}");
    }
    assert_eq!(post_under(&source, &long, "1\n").await.unwrap().status, 400);
    let mut source = source;
    let taken = post_under(&source, &longest, "1\n");
    assert_eq!(served(&mut source, taken).await.0.status, 200);
}

#[tokio::test]
async fn without_room_for_a_key_a_request_is_turned_away_and_one_without_is_taken() {
    let mut source = Setup { keys: Size(300), ..Setup::default() }.open().await;
    let first = post_under(&source, "one", "1\n");
    assert_eq!(served(&mut source, first).await.0.status, 200);
    let full = post_under(&source, "two", "1\n").await.unwrap();
    assert_eq!((full.status, full.header("retry-after")), (503, Some("10")));
    assert_eq!(post_under(&source, "one", "1\n").await.unwrap().status, 200);
    let plain = post_lines(&source, "1\n");
    assert_eq!(served(&mut source, plain).await.0.status, 200);
}

#[tokio::test]
async fn another_process_knows_what_was_committed_and_takes_the_rest_of_what_was_broken_off() {
    let body: String =
        (0..5).map(|n| if n == 1 { "nonsense\n".to_owned() } else { format!("{{\"n\":{n}}}\n") }).collect();
    let mut source = Setup::default().open().await;
    let whole = post_under(&source, "whole", "1\n");
    chunk(&mut source).await;
    let _broken = post_under(&source, "broken", &body);
    let most = Limit { records: 3, ..MOST };
    let Read::Chunk(part) = timeout(PATIENCE, source.read(most)).await.unwrap().unwrap() else { panic!("the end") };
    assert_eq!((values(&part).len(), part.answered), (2, 1));
    let facts = source.changes();
    assert_eq!(facts.len(), 2);
    assert_eq!(source.changes(), facts, "told again as long as they are not committed");
    commit(&mut source).await;
    assert_eq!(whole.await.unwrap().status, 200);
    // What follows is not committed when the process ends.
    chunk(&mut source).await;

    let mut next = Setup::default().open().await;
    next.recall(facts).unwrap();
    assert_eq!(post_under(&next, "whole", "1\n").await.unwrap().body["accepted"], 1);
    let rest = post_under(&next, "broken", &body);
    let (reply, taken) = served(&mut next, rest).await;
    assert_eq!(taken, ["{\"n\":3}", "{\"n\":4}"]);
    assert_eq!(
        (reply.status, &reply.body["accepted"], &reply.body["refused"][0]["index"]),
        (200, &json!(4), &json!(1))
    );
}
