//! What a client may cost.

use super::*;

/// A request that says nothing of its length.
fn chunked(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST /in HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n{headers}\r\n").into_bytes();
    for part in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_over_a_limit_is_answered_413_and_the_connection_closed() {
    const RAW: usize = 100 << 10;
    let gzipped = "content-encoding: gzip\r\n";
    // Text that hardly deflates, so that size is what it breaks.
    let noise: Vec<u8> = (0..400_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8).collect();
    let cases = [
        ("a declared length", request("", &noise[..=RAW])),
        ("an undeclared length", chunked("", &noise[..=RAW])),
        ("a length that is far too large", request("", &vec![b' '; 40 * RAW])),
        ("packed, raw", request(gzipped, &gzip(&noise))),
        ("packed, inflated", request(gzipped, &gzip(&noise[..30_000].repeat(12)))),
        ("packed, ratio", request(gzipped, &gzip(&vec![b' '; 150 << 10]))),
    ];
    for (what, bytes) in cases {
        let limits = |limits: &mut Limits| (limits.raw, limits.inflated) = (RAW, 200 << 10);
        let mut source = Setup::limited(limits).open().await;
        let client = send(source.local_addr(), bytes);
        let (reply, taken) = served(&mut source, client).await;
        assert_eq!((reply.status, taken.len()), (413, 0), "{what}");
        assert_eq!(reply.header("connection"), Some("close"), "{what}");
    }
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let limits = Limits::default();
    assert_eq!((limits.raw, limits.inflated, limits.ratio, bodies().0), (4 << 20, 16 << 20, 100, 64 << 20));
    let seconds = [limits.header, limits.body, limits.idle, limits.queue].map(|time| time.as_secs());
    assert_eq!((seconds, limits.body_rate), ([10, 30, 60, 1], 1024));
    assert_eq!((limits.connections, limits.headers, limits.header_bytes), (1024, 100, 32 << 10));
}

#[tokio::test]
async fn bodies_up_to_every_limit_are_taken() {
    let mut source = Setup { format: Format::Raw, ..Setup::default() }.open().await;
    let plain = vec![b'x'; 1 << 20];
    let client = post(&source, "", &plain);
    assert_eq!(served(&mut source, client).await.0.status, 200);
    // Short and of one kind: a high ratio that harms nobody.
    let client = post(&source, "content-encoding: gzip\r\n", &gzip(&vec![b'x'; 64 << 10]));
    assert_eq!(served(&mut source, client).await.0.status, 200);
}

#[tokio::test]
async fn a_bomb_is_stopped_long_before_it_has_gone_off() {
    // A thousand to one, 64 MiB: only what is allowed by what has come in is ever kept, here less than 8 MiB.
    let bomb = gzip(&vec![0; 64 << 20]);
    let mut source = Setup { bodies: Size(8 << 20), ..Setup::default() }.open().await;
    let client = post(&source, "content-encoding: gzip\r\n", &bomb);
    let (reply, _) = served(&mut source, client).await;
    assert_eq!(reply.status, 413, "{reply:?}");
}

#[tokio::test]
async fn bodies_in_hand_keep_within_their_budget() {
    let setup = Setup { bodies: Size(10_000), ..Setup::limited(|limits| limits.queue = PATIENCE) };
    let mut source = setup.open().await;
    let line = format!("\"{}\"\n", "x".repeat(7000));
    let mut first = post_lines(&source, &line);
    while source.offers.is_empty() {
        tokio::task::yield_now().await;
    }
    let second = post_lines(&source, &line).await.unwrap();
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    let (reply, taken) = served(&mut source, first).await;
    assert_eq!((reply.status, taken.len()), (200, 1));
    // What was taken has given its share back.
    let third = post_lines(&source, &line);
    assert_eq!(served(&mut source, third).await.0.status, 200);
}

#[tokio::test]
async fn more_headers_than_allowed_are_refused() {
    let source = Setup::default().open().await;
    let many: String = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(32 << 10));
    for headers in [many, large] {
        assert_eq!(post(&source, &headers, b"").await.unwrap().status, 431);
    }
    // A head without end is refused as well, without waiting for its end.
    let endless = format!("POST /in HTTP/1.1\r\nx: {}", "y".repeat(64 << 10));
    assert_eq!(send(source.local_addr(), endless.into_bytes()).await.unwrap().status, 431);
}

/// Writes `bytes` one by one, a little apart, until the other side has closed.
async fn trickle(stream: &mut TcpStream, bytes: &[u8], apart: Duration) {
    let mut apart = tokio::time::interval(apart);
    for byte in bytes {
        apart.tick().await;
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let source = Setup::limited(|limits| limits.header = MOMENT).open().await;
    let head = b"POST /in HTTP/1.1\r\nhost: test\r\n";
    for sent in [&b""[..], b"PO", head] {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        assert_eq!(timeout(PATIENCE, reply(&mut stream)).await.unwrap(), None);
        assert!(begin.elapsed() >= MOMENT);
    }
    // Byte after byte does not help.
    let begin = Instant::now();
    let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
    let endless = b"x".repeat(1000);
    trickle(&mut stream, &endless, MOMENT / 20).await;
    assert!(begin.elapsed() < MOMENT * 40, "a trickle was listened to to the end");
}

#[tokio::test]
async fn between_requests_a_connection_may_idle_longer_than_a_head_may_take() {
    let mut source = Setup::limited(|limits| (limits.header, limits.idle) = (MOMENT * 3, MOMENT * 30)).open().await;
    let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(&request("", b"1\n")).await.unwrap();
        chunk(&mut source).await;
        commit(&mut source).await;
        assert_eq!(reply(&mut stream).await.unwrap().status, 200);
        // Longer than a head may take, shorter than a connection may idle.
        assert!(timeout(MOMENT * 6, reply(&mut stream)).await.is_err(), "closed too early");
    }
    let begin = Instant::now();
    stream.write_all(b"POST").await.unwrap();
    assert_eq!(timeout(PATIENCE, reply(&mut stream)).await.unwrap(), None, "a second head has to hurry as well");
    assert!(begin.elapsed() < MOMENT * 15, "closed by the idle limit, after {:?}", begin.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut source = Setup::limited(|limits| limits.idle = MOMENT * 5).open().await;
    let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
    stream.write_all(&request("", b"1\n")).await.unwrap();
    chunk(&mut source).await;
    commit(&mut source).await;
    assert_eq!(reply(&mut stream).await.unwrap().status, 200);
    assert_eq!(timeout(PATIENCE, reply(&mut stream)).await.unwrap(), None);
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_given_up() {
    let mut source = Setup::limited(|limits| limits.body_grace = MOMENT).open().await;
    let mut stream = TcpStream::connect(source.local_addr()).await.unwrap();
    stream.write_all(b"POST /in HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n123").await.unwrap();
    let answer = timeout(PATIENCE, reply(&mut stream)).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(nothing_is_read(&mut source).await);
}

#[tokio::test]
async fn a_body_has_only_so_long_however_fast_it_is() {
    // Every byte buys a thousandth of a second here, but never more than the whole body has.
    let limits = |limits: &mut Limits| (limits.body, limits.body_rate) = (MOMENT * 3, 1);
    let mut source = Setup::limited(limits).open().await;
    let begin = Instant::now();
    let (mut read, mut write) = TcpStream::connect(source.local_addr()).await.unwrap().into_split();
    write.write_all(b"POST /in HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    let mut apart = tokio::time::interval(MOMENT / 10);
    let mut answered = std::pin::pin!(read.read_exact(&mut first));
    loop {
        tokio::select! {
            result = &mut answered => { result.unwrap(); break }
            _ = apart.tick() => { let _ = write.write_all(b"1\n").await; }
        }
    }
    assert_eq!(&first, b"HTTP/1.1 408");
    assert!(begin.elapsed() >= MOMENT * 3);
    assert!(nothing_is_read(&mut source).await);
}

#[tokio::test]
async fn further_connections_wait_until_one_is_closed() {
    let mut source = Setup::limited(|limits| limits.connections = 2).open().await;
    let idle = [
        TcpStream::connect(source.local_addr()).await.unwrap(),
        TcpStream::connect(source.local_addr()).await.unwrap(),
    ];
    let client = post_lines(&source, "1\n");
    assert!(nothing_is_read(&mut source).await, "a third connection was accepted");
    drop(idle);
    assert_eq!(served(&mut source, client).await.0.status, 200);
}
