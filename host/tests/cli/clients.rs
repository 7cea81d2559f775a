//! Clients of a source that listens, as seen from another process: what they cost, and whom they hinder.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    process::Stdio,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use rustix::process::Signal;

use crate::folder::{Folder, PATIENCE, Started};

/// What a client sends that is far too large.
const HUGE: u64 = 100 << 20;

/// A host with a source that listens, and where it does.
pub(crate) fn listening(folder: &Folder) -> (Started, SocketAddr) {
    let pipeline = "version: 1\nname: posted\nsources:\n  in: { http: { listen: \"127.0.0.1:0\" }, decode: lines }\n\
                    sinks:\n  out: { from: in, file: { path: out.log } }\n";
    folder.write("p.yaml", pipeline);
    let mut host = folder.start(&["run", "p.yaml"]);
    let address = host.until_listening();
    (host, address)
}

/// Sends a body in chunks until it is whole or there is an answer; how much was sent by then, and what was answered.
fn flood(address: SocketAddr, headers: &str, mut part: impl FnMut() -> Option<Vec<u8>>) -> (u64, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n{headers}\r\n").unwrap();
    let mut taken = 0;
    while let Some(part) = part() {
        let sent = write!(stream, "{:x}\r\n", part.len())
            .and_then(|()| stream.write_all(&part))
            .and_then(|()| stream.write_all(b"\r\n"));
        if sent.is_err() {
            break;
        }
        taken += part.len() as u64;
        stream.set_nonblocking(true).unwrap();
        let is_answered = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        if is_answered {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = vec![0; 12];
    let _ = stream.read_exact(&mut answer);
    (taken, String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn post(address: SocketAddr, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(stream, "POST / HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Row 35.
#[test]
fn a_client_that_sends_a_hundred_mebibytes_is_cut_off_and_costs_the_host_little() {
    let folder = Folder::new();
    let (host, address) = listening(&folder);
    assert!(post(address, "before\n").contains("200 OK"));
    let before = host.peak_memory();

    let mut sent = 0;
    let endless = || {
        sent += 1 << 20;
        (sent <= HUGE).then(|| vec![b'x'; 1 << 20])
    };
    let (taken, answer) = flood(address, "", endless);
    assert_eq!(answer, "HTTP/1.1 413");
    // Over the limit of 4 MiB by what is on the way.
    assert!(taken < HUGE / 2, "{taken} bytes were sent before the answer came");

    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..HUGE >> 20 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let mut bomb = Some(bomb.finish().unwrap());
    let (_, answer) = flood(address, "content-encoding: gzip\r\n", || bomb.take());
    assert_eq!(answer, "HTTP/1.1 413");

    let mut declared = TcpStream::connect(address).unwrap();
    write!(declared, "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: {HUGE}\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    declared.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413", "nothing of it has to be sent");

    let grown = host.peak_memory() - before;
    assert!(grown < 48 << 20, "the host has grown by {grown} bytes");
    assert!(post(address, "after\n").contains("200 OK"));
    host.signal(Signal::TERM);
    host.end().exits(0);
    assert_eq!(folder.read("out.log"), "before\nafter\n");
}

/// Row 34.
#[test]
fn five_hundred_slow_clients_hinder_neither_an_honest_one_nor_the_control_socket() {
    let folder = Folder::new();
    let (host, address) = listening(&folder);
    let slow: Vec<TcpStream> = (0..500)
        .map(|i| {
            let mut stream = TcpStream::connect(address).unwrap();
            let head: &[u8] =
                if i % 2 == 0 { b"POST / HT" } else { b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n1" };
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    let begin = Instant::now();
    assert!(post(address, "honest\n").contains("200 OK"));
    let mut control = UnixStream::connect(folder.path(".tidegate/tidegate.sock")).unwrap();
    control.set_read_timeout(Some(PATIENCE)).unwrap();
    control.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    control.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    // The slow ones are still there: they have ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop(slow);
    host.signal(Signal::TERM);
    host.end().exits(0);
    assert_eq!(folder.read("out.log"), "honest\n");
}

/// Row 12: with no descriptor left nobody new is heard, who is there and what is written go on, and the next is heard once
/// somebody has gone.
#[test]
fn a_host_out_of_descriptors_hears_nobody_new_until_somebody_goes() {
    let folder = Folder::new();
    let pipeline = "version: 1\nname: posted\nepoch: 100ms\nsources:\n  in: { http: { listen: \"127.0.0.1:0\" }, decode: lines }\n  \
                    made: { generate: { count: 5000 }, rate: 5000/s }\n\
                    sinks:\n  out: { from: in, file: { path: out.log } }\n  \
                    others: { from: made, file: { path: made.log, rotate: { bytes: 32KiB } }, encode: json }\n";
    folder.write("p.yaml", pipeline);
    let run = folder.command(&["run", "p.yaml"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    limited.current_dir(folder.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = Started::of(limited);
    let address = host.until_listening();
    assert!(post(address, "before\n").starts_with("HTTP/1.1 200"));

    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    host.until(|line| line.contains("failed to accept a connection"));
    drop(idle);
    assert!(post(address, "after\n").starts_with("HTTP/1.1 200"));
    host.signal(Signal::TERM);
    let said = host.end().exits(0);
    assert!(said.err.contains("ledger balanced"), "{}", said.err);
    assert_eq!(folder.read("out.log"), "before\nafter\n");
}
