//! What every test of the sink does: run a receiver on a free port, write to it, and look at what it has seen.

mod answers;
mod outbox;
mod requests;
mod secure;

use std::{
    convert::Infallible,
    io::{self, Read as _},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::*;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answering = BoxFuture<'static, Response<Body>>;

/// A request as the receiver saw it, inflated.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn key(&self) -> &str {
        self.header("idempotency-key")
    }

    fn lines(&self) -> Vec<&str> {
        self.body.lines().collect()
    }
}

/// What a receiver has seen.
#[derive(Default)]
struct Book {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

struct Receiver {
    address: SocketAddr,
    book: Arc<Book>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// A receiver that answers its `n`th request, from 0, as `answer` says.
    async fn new(answer: impl Fn(usize, &Seen) -> Answering + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, book) = (listener.local_addr().unwrap(), Arc::<Book>::default());
        let (kept, answer) = (book.clone(), Arc::new(answer));
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, kept.clone(), answer.clone()));
            }
        });
        Self { address, book, _serving: AbortOnDropHandle::new(serving) }
    }

    fn config(&self) -> Config {
        config(&format!("http://{}/in?q=1", self.address))
    }

    fn seen(&self) -> Vec<Seen> {
        self.book.seen.lock().unwrap().clone()
    }

    fn bodies(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.body).collect()
    }
}

async fn serve<A>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, book: Arc<Book>, answer: Arc<A>)
where
    A: Fn(usize, &Seen) -> Answering + Send + Sync + 'static,
{
    book.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(|request: Request<Incoming>| {
        let (book, answer) = (book.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let sent = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let mut body = String::new();
            if head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
                GzDecoder::new(&sent[..]).read_to_string(&mut body).unwrap();
            } else {
                body.push_str(std::str::from_utf8(&sent).unwrap());
            }
            let path = head.uri.to_string();
            let seen = Seen { method: head.method, path, headers: head.headers, body };
            let answering = {
                let mut all = book.seen.lock().unwrap();
                all.push(seen.clone());
                answer(all.len() - 1, &seen)
            };
            let at_once = book.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            book.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            let answer = answering.await;
            book.at_once.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(answer)
        }
    });
    // A client that closes its connection, and an answer that breaks off, are no fault of the test.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answering {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {}).boxed_unsync();
    std::future::ready(response.body(body).unwrap()).boxed()
}

fn listing(body: &str) -> Answering {
    answer(200, &[("content-type", "application/json")], body)
}

/// Listens for one connection, whose first request ends with `end`, says `bytes` and closes it and the listener.
async fn once(end: &'static str, bytes: &'static str) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saying = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        drop(listener);
        stream.write_all(bytes.as_bytes()).await.unwrap();
    });
    (address, AbortOnDropHandle::new(saying))
}

pub(super) fn config(url: &str) -> Config {
    serde_json::from_value(serde_json::json!({ "url": url })).unwrap()
}

/// Requests of so many records, one under way.
fn of(records: usize) -> Requests {
    Requests { limit: Limit { records, bytes: 1 << 20 }, linger: Duration::from_secs(60), in_flight: 1, outbox: None }
}

fn sink(config: &Config, requests: Requests) -> HttpSink {
    open(config, requests, "test/out".to_owned()).unwrap()
}

fn batch(values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Batch {
    Batch::of_values(values.into_iter().collect())
}

fn numbers(from: usize, to: usize) -> Batch {
    batch((from..to).map(|n| n.to_string()))
}

/// Flushes until everything has been answered for; what was refused, and what was said in between.
async fn settle(sink: &mut HttpSink) -> (Vec<Refused>, Vec<String>) {
    let (mut refused, mut said) = (Vec::new(), Vec::new());
    loop {
        match sink.flush(&mut refused).await {
            Ok(()) => break,
            Err(SinkError::Later(why)) => said.push(format!("{why:#}")),
            Err(SinkError::Never(why)) => panic!("{why:#}"),
        }
        assert!(said.len() < 100, "{said:?}");
    }
    assert_eq!((sink.unsettled(), sink.jobs.len()), (0, 0));
    (refused, said)
}

/// Writes a batch and then does as [`settle`].
async fn deliver(sink: &mut HttpSink, batch: &Batch) -> (Vec<Refused>, Vec<String>) {
    let mut refused = Vec::new();
    let first = sink.write(batch, &mut refused).await;
    let (more, mut said) = settle(sink).await;
    if let Err(SinkError::Later(why)) = first {
        said.insert(0, format!("{why:#}"));
    }
    refused.extend(more);
    (refused, said)
}

fn places(refused: &[Refused]) -> Vec<i64> {
    refused.iter().map(|refused| refused.at).collect()
}
