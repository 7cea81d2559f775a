//! What every test of the source does: run it on a free port, and talk to it as a client would, byte by byte.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

mod answers;
mod clients;
mod keys;
mod limits;

const MOST: Limit = Limit { records: 1024, bytes: 1 << 20 };
/// Far beyond what anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what would come to have come.
const MOMENT: Duration = Duration::from_millis(100);

/// What a test sets up differently.
struct Setup {
    format: Format,
    rate: Option<Rate>,
    bodies: Size,
    keys: Size,
    answer: Option<When>,
    limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        let (bodies, keys) = (bodies(), keys());
        Self { format: Format::Json, rate: None, bodies, keys, answer: None, limits: Limits::default() }
    }
}

impl Setup {
    fn limited(limit: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Self::default();
        limit(&mut setup.limits);
        setup
    }

    async fn open(self) -> Http {
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            path: "/in".to_owned(),
            bodies: self.bodies,
            remember: remember(),
            keys: self.keys,
            journal: false,
            answer: self.answer,
        };
        let stamp = Stamp::default();
        let decode = Decode { format: self.format, stamp: &stamp, max_record: 1 << 20 };
        open(&config, "posted", decode, self.rate, self.limits).await.unwrap()
    }
}

/// What came back.
#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    head: String,
    body: Value,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// Reads one answer, up to its length; `None` where the connection is closed instead.
async fn reply(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    let reply = Reply { status, head, body: Value::Null };
    let length: usize = reply.header("content-length").unwrap().parse().unwrap();
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0, "the answer breaks off");
    }
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Reply { body, ..reply })
}

/// The bytes of a request with a whole body.
fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST /in HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends `bytes` on a connection of their own and waits for the answer.
fn send(address: SocketAddr, bytes: Vec<u8>) -> JoinHandle<Reply> {
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Where the other side stops listening, what it said is still to be read.
        let _ = stream.write_all(&bytes).await;
        timeout(PATIENCE, reply(&mut stream)).await.expect("an answer in time").expect("an answer")
    })
}

fn post(source: &Http, headers: &str, body: &[u8]) -> JoinHandle<Reply> {
    send(source.local_addr(), request(headers, body))
}

fn post_lines(source: &Http, body: &str) -> JoinHandle<Reply> {
    post(source, "content-type: application/x-ndjson\r\n", body.as_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn chunk(source: &mut Http) -> Chunk {
    match timeout(PATIENCE, source.read(MOST)).await.expect("records in time").unwrap() {
        Read::Chunk(chunk) => chunk,
        Read::End | Read::Again(_) => panic!("the source has ended"),
    }
}

fn values(chunk: &Chunk) -> Vec<String> {
    chunk.batch.values().iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

async fn commit(source: &mut Http) {
    let position = source.position();
    source.commit(&position).await.unwrap();
}

/// Reads and commits until a client has its answer; brings back both.
async fn served(source: &mut Http, client: JoinHandle<Reply>) -> (Reply, Vec<String>) {
    let mut taken = Vec::new();
    tokio::pin!(client);
    loop {
        let read = tokio::select! {
            reply = &mut client => return (reply.unwrap(), taken),
            read = source.read(MOST) => read.unwrap(),
        };
        if let Read::Chunk(chunk) = read {
            taken.extend(values(&chunk));
            commit(source).await;
        }
    }
}

/// Whether nothing is there to be read, now and a moment later.
async fn nothing_is_read(source: &mut Http) -> bool {
    timeout(MOMENT, source.read(MOST)).await.is_err()
}
