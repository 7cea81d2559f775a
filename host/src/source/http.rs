//! Source `http`: records that others post.
//!
//! Owns the way from accepted bodies to records, and the promise to the client: 200 only once the records' epoch has
//! committed. It must not know epochs, only positions. Invariant: what was handed out is answered for exactly once, by
//! its commit, by the client's patience, or by the end of the source; what was not handed out has written nothing.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::answer::{Answer, Outcome};
use self::body::Body;
use self::rate::Pace;
use self::remembered::Remembered;
use self::serve::{Door, Offer, Posted, Shape, now};
use super::{Chunk, Kept, Position, Read, Source};
use crate::batch::Limit;
use crate::codec::{Decoder, Format, Origin, Stamp};
use crate::unit::{Rate, Size, Span};

mod answer;
mod body;
mod connection;
mod rate;
mod remembered;
mod serve;

/// What `http:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on, such as `127.0.0.1:8080`; port 0 takes any free one.
    pub listen: String,
    /// Path that records are posted to.
    #[serde(default = "root")]
    pub path: String,
    /// Budget for all bodies in hand, part of the host's memory sum.
    #[serde(default = "bodies")]
    pub bodies: Size,
    /// How long a request with an `Idempotency-Key` is remembered after its commit: the same one again gets the same answer.
    #[serde(default = "remember")]
    pub remember: Span,
    /// Budget for the keys that are remembered, part of the host's memory sum; at it, requests with a new key are turned away.
    #[serde(default = "keys")]
    pub keys: Size,
}

fn root() -> String {
    "/".to_owned()
}

fn bodies() -> Size {
    Size(64 << 20)
}

fn remember() -> Span {
    Span(Duration::from_mins(10))
}

fn keys() -> Size {
    Size(32 << 20)
}

/// What a client may cost before it is turned away.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Time for a request's head, from its first byte on; for the first one from the connection on.
    pub header: Duration,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's head; at least 8 KiB.
    pub header_bytes: usize,
    /// Time that a connection may stay open without a request.
    pub idle: Duration,
    /// Time for a whole body.
    pub body: Duration,
    /// Time that a body may fall behind its least rate.
    pub body_grace: Duration,
    /// Least rate of a body, in bytes a second.
    pub body_rate: u32,
    /// Bytes of a body as it was sent.
    pub raw: usize,
    /// Bytes of a body, inflated.
    pub inflated: usize,
    /// How many times its size a body may inflate to, once it is over 64 KiB.
    pub ratio: usize,
    /// Time that a whole request waits to be taken by the pipeline.
    pub queue: Duration,
    /// Time that a request waits for its commit, waiting to be taken included.
    pub commit: Duration,
    /// Time for the last words: a client's after it was turned away, ours after a drain.
    pub linger: Duration,
}

impl Default for Limits {
    /// A client that is slow but honest gets through; one that is neither holds one connection for ten seconds.
    fn default() -> Self {
        Self {
            connections: 1024,
            header: Duration::from_secs(10),
            headers: 100,
            header_bytes: 32 << 10,
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            body_rate: 1024,
            raw: 4 << 20,
            inflated: 16 << 20,
            ratio: 100,
            queue: Duration::from_secs(1),
            commit: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// How the bodies of a source become records.
#[derive(Clone, Debug)]
pub struct Decode<'a> {
    /// Format of bodies whose type leaves it open (`text/plain`, `application/octet-stream`).
    pub format: Format,
    /// What is read from each record.
    pub stamp: &'a Stamp,
    /// Bytes of a record, at most.
    pub max_record: usize,
}

/// A request that was taken, decoded record by record as the pipeline asks.
struct Current {
    key: Option<Arc<str>>,
    /// Records at its beginning that an earlier process has taken.
    skip: u64,
    shape: Shape,
    body: Body,
    /// Bytes of the body that have become records.
    used: usize,
    outcome: Outcome,
    answer: oneshot::Sender<Answer>,
}

/// A request whose records have been handed out.
struct Pending {
    /// The position after its last record.
    through: u64,
    key: Option<Arc<str>>,
    outcome: Outcome,
    /// The connection holds the other end; closed when the client or its patience has gone.
    answer: oneshot::Sender<Answer>,
}

/// A running source of posted records.
pub struct Http {
    name: String,
    address: SocketAddr,
    /// A decoder for the source's own format, for lines of JSON, and for JSON documents.
    decoders: [Decoder; 3],
    limits: Limits,
    pace: Option<Pace>,
    /// Requests that came with a key, which the connections ask too.
    remembered: Arc<Mutex<Remembered>>,
    /// Requests that are whole; the connections hold the other ends.
    offers: mpsc::Receiver<Arc<Offer>>,
    current: Option<Current>,
    pending: VecDeque<Pending>,
    /// Records handed out.
    handed: u64,
    /// Records refused, and answered as such.
    refused: u64,
    draining: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    ended: bool,
    /// Tells the connections to finish what they are writing and close.
    closing: CancellationToken,
    accepting: AbortOnDropHandle<()>,
}

/// Opens the listener and begins to accept. `name` is the source's; over `rate`, in records, requests are turned away.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn open(
    config: &Config,
    name: &str,
    decode: Decode<'_>,
    rate: Option<Rate>,
    limits: Limits,
) -> anyhow::Result<Http> {
    let listener = TcpListener::bind(&config.listen).with_context(|| format!("listen on {}", config.listen))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    tracing::info!(source = name, %address, "listening");
    let (offer, offers) = mpsc::channel(limits.connections.max(1));
    let draining = Arc::new(AtomicBool::new(false));
    let paused = Arc::new(AtomicBool::new(false));
    let closing = CancellationToken::new();
    let remembered = Arc::new(Mutex::new(Remembered::new(config.remember.0, config.keys.bytes())));
    let door = Door {
        remembered: remembered.clone(),
        path: config.path.clone(),
        limits: limits.clone(),
        bodies: Arc::new(Semaphore::new(config.bodies.bytes().min(Semaphore::MAX_PERMITS))),
        offers: offer,
        draining: draining.clone(),
        paused: paused.clone(),
        closing: closing.clone(),
    };
    let decoder = |format| Decoder::new(format, decode.stamp, decode.max_record);
    Ok(Http {
        name: name.to_owned(),
        address,
        decoders: [
            decoder(decode.format),
            decoder(Format::Json),
            Decoder::of_document(decode.stamp, decode.max_record),
        ],
        limits,
        pace: rate.map(|rate| Pace::new(rate, Instant::now())),
        remembered,
        offers,
        current: None,
        pending: VecDeque::new(),
        handed: 0,
        refused: 0,
        draining,
        paused,
        ended: false,
        closing,
        // Connections touch bytes, never batches: what they bring becomes records in `read`.
        accepting: AbortOnDropHandle::new(tokio::spawn(serve::accept(listener, Arc::new(door)))),
    })
}

impl Source for Http {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            loop {
                // The only await; nothing has been taken while it waits.
                while self.current.is_none() {
                    let next = if self.draining.load(Ordering::Acquire) {
                        self.offers.try_recv().ok()
                    } else {
                        self.offers.recv().await
                    };
                    let Some(offer) = next else {
                        self.ended = true;
                        return Ok(Read::End);
                    };
                    self.current = begin(&offer, self.pace.as_ref(), &self.remembered);
                }
                let chunk = self.gather(most)?;
                if chunk.answered > 0 || !chunk.batch.is_empty() {
                    return Ok(Read::Chunk(chunk));
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        Position(self.handed.into())
    }

    fn seek<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let through = position.0.as_u64().with_context(|| format!("commit {}: no number", position.0))?;
            locked(&self.remembered).committed();
            while let Some(pending) = self.pending.pop_front_if(|pending| pending.through <= through) {
                if let Some(key) = &pending.key {
                    locked(&self.remembered).settled(key, now());
                }
                // A client that has gone, or waits no longer, has nobody to tell.
                let _ = pending.answer.send(Answer::Decided(pending.outcome));
            }
            if self.ended && self.pending.is_empty() && !self.closing.is_cancelled() {
                // The last answers are on their way; the process may end as soon as this returns.
                self.closing.cancel();
                let _ = tokio::time::timeout(self.limits.linger, &mut self.accepting).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn changes(&mut self) -> Vec<Kept> {
        locked(&self.remembered).changes(now())
    }

    fn recall(&mut self, facts: Vec<Kept>) -> anyhow::Result<()> {
        locked(&self.remembered).recall(facts)
    }

    fn paused(&self) -> Option<Arc<AtomicBool>> {
        Some(self.paused.clone())
    }

    fn stop(&mut self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Http {
    /// The address that is listened on, with the port that was given where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Records that were refused, and answered as such.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Records of the request in hand and of those that already wait behind it.
    fn gather(&mut self, most: Limit) -> anyhow::Result<Chunk> {
        let most = Limit { records: most.records.max(1), bytes: most.bytes.max(1) };
        let [own, lines, document] = &mut self.decoders;
        // What is stamped does not depend on the shape: the same builder does for all.
        let mut batch = own.builder();
        let mut undecoded = Vec::new();
        let mut answered = 0;
        while batch.len() + answered < most.records && !batch.is_full(most) {
            let Some(current) = &mut self.current else {
                let Ok(offer) = self.offers.try_recv() else { break };
                self.current = begin(&offer, self.pace.as_ref(), &self.remembered);
                continue;
            };
            let decoder = match current.shape {
                Shape::Own => &mut *own,
                Shape::Lines => &mut *lines,
                Shape::Document => &mut *document,
            };
            let rest = current.body.bytes().get(current.used..).unwrap_or_default();
            let origin = Origin { name: &self.name, offset: current.used as u64 };
            if current.skip > 0 && !rest.is_empty() {
                let records = usize::try_from(current.skip).unwrap_or(usize::MAX).min(most.records);
                let (mut taken, mut refused) = (decoder.builder(), Vec::new());
                let left = Limit { records, bytes: usize::MAX };
                current.used += decoder.end(rest, origin, &mut taken, &mut refused, left);
                current.skip = current.skip.saturating_sub((taken.len() + refused.len()) as u64);
                continue;
            }
            let before = batch.len();
            let left = Limit { records: most.records - answered, bytes: most.bytes };
            let used = decoder.end(rest, origin, &mut batch, &mut undecoded, left);
            let taken = (batch.len() - before) as u64;
            if used == 0 && !rest.is_empty() && taken == 0 && undecoded.is_empty() {
                // The next record does not fit beside these.
                ensure!(!batch.is_empty(), "decode a body: no progress at byte {}", current.used);
                break;
            }
            current.used += used;
            current.outcome.accepted += taken;
            answered += undecoded.len();
            for refused in undecoded.drain(..) {
                current.outcome.refuse(refused.index, refused.reason);
            }
            self.handed += taken;
            if let Some(pace) = &mut self.pace {
                pace.charge(Instant::now(), taken);
            }
            let is_whole = current.used >= current.body.bytes().len();
            if let Some(key) = &current.key
                && (!is_whole || current.outcome.accepted > 0)
            {
                locked(&self.remembered).handed(key, &current.outcome, is_whole);
            }
            if is_whole && let Some(current) = self.current.take() {
                self.pending.extend(settle(current, self.handed, &self.remembered));
            }
        }
        self.refused += answered as u64;
        Ok(Chunk { batch: batch.finish(), answered: answered as u64, ..Chunk::default() })
    }
}

/// Takes a request, unless it was withdrawn or the rate forbids.
fn begin(offer: &Offer, pace: Option<&Pace>, remembered: &Mutex<Remembered>) -> Option<Current> {
    let Posted { key, before, shape, body, answer } = offer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    if let Some(Err(wait)) = pace.map(|pace| pace.admit(Instant::now())) {
        if let Some(key) = &key {
            locked(remembered).withdrawn(key, &Answer::OverRate(wait));
        }
        // A client that has gone has nobody to tell.
        let _ = answer.send(Answer::OverRate(wait));
        return None;
    }
    Some(Current { key, skip: before.records(), shape, body, used: 0, outcome: before, answer })
}

/// Ends a request whose last record stands before `through`: it is answered when that has committed, or at once where
/// there is nothing to commit.
fn settle(current: Current, through: u64, remembered: &Mutex<Remembered>) -> Option<Pending> {
    let Current { key, outcome, answer, .. } = current;
    if outcome.accepted > 0 {
        return Some(Pending { through, key, outcome, answer });
    }
    let decided = Answer::Decided(outcome);
    if let Some(key) = &key {
        locked(remembered).unusable(key, &decided);
    }
    let _ = answer.send(decided);
    None
}

/// A thread that panicked with the lock held has left nothing half-done that anybody would go on from.
fn locked(remembered: &Mutex<Remembered>) -> MutexGuard<'_, Remembered> {
    remembered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
