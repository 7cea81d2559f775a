//! Clients that misbehave, and honest ones beside them.

use super::*;

#[tokio::test]
async fn a_client_that_goes_away_in_the_body_has_written_nothing() {
    let mut source = Setup::default().open().await;
    let whole = request("content-type: application/x-ndjson\r\n", &b"{\"a\":1}\n".repeat(200));
    let head = memchr::memmem::find(&whole, b"\r\n\r\n").unwrap() + 4;
    for i in 0..1000 {
        // Cut off anywhere in the body, its end excepted.
        let cut = head + i * (whole.len() - head - 1) / 999;
        let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
        stream.write_all(&whole[..cut]).await.unwrap();
    }
    // They came before this one, so what they wrote would be read before it.
    let client = post_lines(&source, "\"honest\"\n");
    let (reply, taken) = served(&mut source, client).await;
    assert_eq!((reply.status, taken), (200, vec!["\"honest\"".to_owned()]));
    assert!(nothing_is_read(&mut source).await);
    assert_eq!((source.position(), source.refused()), (Position(1.into()), 0));
}

#[tokio::test]
async fn a_client_that_goes_away_after_acceptance_changes_nothing() {
    let mut source = Setup::default().open().await;
    let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
    stream.write_all(&request("", b"1\n2\n")).await.unwrap();
    let read = chunk(&mut source).await;
    drop(stream);
    assert_eq!(read.batch.len(), 2);
    commit(&mut source).await;
    let client = post_lines(&source, "3\n");
    assert_eq!(served(&mut source, client).await.0.status, 200);
    assert_eq!(source.position(), Position(3.into()));
}

#[tokio::test]
async fn two_hundred_slow_clients_do_not_hinder_an_honest_one() {
    let header = Duration::from_secs(3);
    let mut source = Setup::limited(|limits| (limits.header, limits.body_grace) = (header, header)).open().await;
    let begin = Instant::now();
    let mut slow = Vec::new();
    for i in 0..200 {
        let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
        let sent: &[u8] =
            if i % 2 == 0 { b"POST /in HT" } else { b"POST /in HTTP/1.1\r\nhost: t\r\ncontent-length: 99999\r\n\r\n1" };
        stream.write_all(sent).await.unwrap();
        slow.push(stream);
    }
    let honest = Instant::now();
    for i in 0..20 {
        let client = post_lines(&source, &format!("{i}\n"));
        let (reply, taken) = served(&mut source, client).await;
        assert_eq!((reply.status, taken), (200, vec![i.to_string()]));
    }
    assert!(honest.elapsed() < header, "{:?} for twenty honest requests", honest.elapsed());
    // All of them are sent away, those with a body with a word.
    for (i, mut stream) in slow.into_iter().enumerate() {
        let answer = timeout(PATIENCE, reply(&mut stream)).await.unwrap();
        assert_eq!(answer.map(|reply| reply.status), (i % 2 == 1).then_some(408));
    }
    assert!(begin.elapsed() >= header);
    assert!(nothing_is_read(&mut source).await, "slow clients wrote something");
}

#[tokio::test]
async fn a_dropped_read_has_taken_nothing() {
    let mut source = Setup::default().open().await;
    assert!(futures::poll!(source.read(MOST)).is_pending());
    let client = post_lines(&source, "1\n");
    while source.offers.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(source.read(MOST));
    let (reply, taken) = served(&mut source, client).await;
    assert_eq!((reply.status, taken), (200, vec!["1".to_owned()]));
}

#[tokio::test]
async fn many_clients_at_once_are_each_told_about_their_own_records() {
    let mut source = Setup::default().open().await;
    let address = source.local_addr();
    let clients = tokio::spawn(async move {
        let mut all = Vec::new();
        for i in 0..50_usize {
            let body = "1\n".repeat(i) + &"bad\n".repeat(50 - i);
            all.push(send(address, request("content-type: application/x-ndjson\r\n", body.as_bytes())));
        }
        for (i, client) in all.into_iter().enumerate() {
            let reply = client.await.unwrap();
            assert_eq!(reply.body["accepted"], json!(i));
            assert_eq!(reply.body["refused"].as_array().unwrap().len(), 50 - i);
        }
    });
    tokio::pin!(clients);
    loop {
        tokio::select! {
            result = &mut clients => break result.unwrap(),
            read = source.read(Limit { records: 7, bytes: 1 << 20 }) => { read.unwrap(); }
        }
        commit(&mut source).await;
    }
    assert_eq!(source.position(), Position((0..50).sum::<u64>().into()));
}
