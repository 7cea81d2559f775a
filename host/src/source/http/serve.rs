//! Requests: which are taken, and how their bodies are offered to the pipeline.
//!
//! Owns the accept loop and the order of the checks. It must not know records: a request is a body and its shape.
//! Invariant: a request is offered whole or not at all, and one that nobody took in time is withdrawn.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::Limits;
use super::answer::{Answer, Outcome};
use super::body::{self, Body};
use super::connection;
use super::remembered::{Arrival, Marked, Remembered};

/// The header by which a request is known again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters of a key, at most.
const LONGEST_KEY: usize = 255;

/// How a body is cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As the source decodes.
    Own,
    /// A JSON value a line.
    Lines,
    /// One JSON value; the elements of an array are the records.
    Document,
}

/// A whole request on its way to the pipeline.
pub(super) struct Posted {
    /// Its `Idempotency-Key`, where it has one.
    pub(super) key: Option<Arc<str>>,
    /// What became of it before: records that are not to be taken again.
    pub(super) before: Outcome,
    pub(super) shape: Shape,
    pub(super) body: Body,
    /// The connection holds the other end.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A place where a request waits to be taken: by the pipeline, or back by its connection. Locked for the taking only.
pub(super) type Offer = Mutex<Option<Posted>>;

/// What all connections share.
pub(super) struct Door {
    pub(super) path: String,
    pub(super) limits: Limits,
    /// Requests that came with a key. Locked for a look-up only.
    pub(super) remembered: Arc<Mutex<Remembered>>,
    /// A permit for each byte of the budget for bodies.
    pub(super) bodies: Arc<Semaphore>,
    /// The source holds the other end; it has gone when this closes.
    pub(super) offers: mpsc::Sender<Arc<Offer>>,
    /// Set once a drain has begun.
    pub(super) draining: Arc<AtomicBool>,
    /// Set while the pipeline is paused.
    pub(super) paused: Arc<AtomicBool>,
    /// Cancelled when the last commit is through: finish writing, then close.
    pub(super) closing: CancellationToken,
}

impl Door {
    /// Takes note that nobody has taken the request under `key`, if it has one.
    fn withdraw(&self, key: Option<&Arc<str>>, answer: &Answer) {
        if let Some(key) = key {
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).withdrawn(key, answer);
        }
    }
}

/// Accepts connections until the door closes, then waits for those that are still writing. A slot is taken before a
/// connection is, so that further ones wait in the kernel's queue.
pub(super) async fn accept(listener: TcpListener, door: Arc<Door>) {
    /// Out of file descriptors, for one, does not get better by trying at once.
    const BACK_OFF: Duration = Duration::from_millis(100);
    let slots = Arc::new(Semaphore::new(door.limits.connections));
    let mut open = JoinSet::new();
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    while open.try_join_next().is_some() {}
                    let door = door.clone();
                    open.spawn(async move {
                        connection::serve(stream, door).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(path = door.path, %error, "failed to accept a connection");
                    sleep(BACK_OFF).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = door.closing.cancelled() => {}
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Answers one request.
pub(super) async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match take(&door, request).await {
        Ok((None, shape, body)) => decide(&door, None, Outcome::default(), (shape, body)).await,
        Ok((Some(key), shape, body)) => once(&door, key, (shape, body)).await,
        Err(answer) => answer,
    };
    Ok(answer.response())
}

/// The key, the shape and the body of a request that may come in.
async fn take(door: &Door, request: Request<Incoming>) -> Result<(Option<Arc<str>>, Shape, Body), Answer> {
    if request.uri().path() != door.path {
        return Err(Answer::NoSuchPath);
    }
    if request.method() != Method::POST {
        return Err(Answer::WrongMethod);
    }
    if door.draining.load(Ordering::Acquire) {
        return Err(Answer::Draining);
    }
    let key = key(request.headers())?;
    if door.paused.load(Ordering::Acquire) {
        return Err(Answer::Busy("the pipeline is paused"));
    }
    let shape = shape(request.headers())?;
    let gzip = is_gzip(request.headers())?;
    let body = body::receive(request.into_body(), gzip, &door.limits, &door.bodies).await?;
    if shape == Shape::Document && body.bytes().trim_ascii().is_empty() {
        return Err(Answer::Decided(Outcome::unreadable("the body is no JSON document: it is empty".to_owned())));
    }
    if door.draining.load(Ordering::Acquire) {
        return Err(Answer::Draining);
    }
    Ok((key, shape, body))
}

/// Answers a request under a key: what it was answered before, or what becomes of it now.
async fn once(door: &Door, key: Arc<str>, (shape, body): (Shape, Body)) -> Answer {
    let mut hash = Xxh3::new();
    hash.update(&[shape as u8]);
    hash.update(body.bytes());
    let marked = Marked { key, digest: hash.digest128() };
    let arrival = door.remembered.lock().unwrap_or_else(PoisonError::into_inner).arrive(&marked, now());
    match arrival {
        Arrival::New(before) => decide(door, Some(marked.key), before, (shape, body)).await,
        Arrival::Known(outcome) => Answer::Decided(outcome),
        Arrival::UnderWay(answer) => match timeout(door.limits.commit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Uncommitted,
        },
        Arrival::Other => Answer::OtherBody,
        Arrival::Full => Answer::NoMoreKeys,
    }
}

/// Offers a whole request, of which that much has been taken `before`, to the pipeline and waits for what becomes of it.
async fn decide(door: &Door, key: Option<Arc<str>>, before: Outcome, (shape, body): (Shape, Body)) -> Answer {
    const UNTAKEN: Answer = Answer::Busy("the pipeline takes nothing");
    let begin = Instant::now();
    let (answer, mut decided) = oneshot::channel();
    let offer = Arc::new(Mutex::new(Some(Posted { key: key.clone(), before, shape, body, answer })));
    // The queue has a place for each connection; it is full only of offers that were withdrawn.
    if door.offers.try_send(offer.clone()).is_err() {
        door.withdraw(key.as_ref(), &UNTAKEN);
        return UNTAKEN;
    }
    if let Ok(answer) = timeout_at(begin + door.limits.queue, &mut decided).await {
        return answer.unwrap_or(Answer::Uncommitted);
    }
    if offer.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
        door.withdraw(key.as_ref(), &UNTAKEN);
        return UNTAKEN;
    }
    match timeout_at(begin + door.limits.commit, decided).await {
        Ok(Ok(answer)) => answer,
        // The source went away, or time did.
        Ok(Err(_)) | Err(_) => Answer::Uncommitted,
    }
}

/// The `Idempotency-Key` of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Answer> {
    let Some(key) = only(headers, IDEMPOTENCY_KEY).map_err(|()| Answer::BadKey)? else { return Ok(None) };
    let is_key = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { Ok(Some(key.into())) } else { Err(Answer::BadKey) }
}

/// Milliseconds since the Unix epoch, which also count while no process runs.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What the type of a body says about its shape.
fn shape(headers: &HeaderMap) -> Result<Shape, Answer> {
    let Some(value) = only(headers, CONTENT_TYPE).map_err(|()| Answer::WrongType)? else { return Ok(Shape::Own) };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-ndjson" => Ok(Shape::Lines),
        "application/json" => Ok(Shape::Document),
        "application/octet-stream" | "text/plain" => Ok(Shape::Own),
        _ => Err(Answer::WrongType),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Answer> {
    match only(headers, CONTENT_ENCODING).map_err(|()| Answer::WrongEncoding)? {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("identity") => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("x-gzip") => Ok(true),
        Some(_) => Err(Answer::WrongEncoding),
    }
}

/// The value of a header that may stand once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|value| Some(value.trim())).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}
