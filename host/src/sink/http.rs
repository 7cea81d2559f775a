//! Sink `http`: posts records to a receiver, many in a request.
//!
//! Owns which records make up a request, how many requests are under way, and when one is sent again. It must not know
//! epochs. Invariant: a record is in hand until the receiver has taken or refused it, and its refusal is told once.
//!
//! Each request carries an `Idempotency-Key` that stays the same however often it is sent again. Where all its records
//! have ids, the key follows from them, so that it is the same after a crash too, if the same records meet in a request
//! again; otherwise it is random. What was sent behind the last commit is sent again after a crash.

mod answer;
mod client;
mod load;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use futures::{FutureExt as _, future::BoxFuture};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rustls::RootCertStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

pub use self::target::Misuse;
use self::{
    answer::Verdict,
    client::Client,
    load::{Filling, Load},
};
use super::{Refused, Sink, SinkError};
use crate::{
    batch::{Batch, Limit},
    codec::Encoder,
    secret::{Secret, remember},
    unit::Span,
};

/// What `http:` of a sink takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where records go: an absolute `http` or `https` URL without user and password.
    pub url: String,
    /// Sent as `Authorization: Bearer …`, and never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The method of requests.
    #[serde(default)]
    pub method: Verb,
    /// Further headers of each request; their values are never shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// What a body looks like.
    #[serde(default)]
    pub format: Form,
    /// How bodies are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Time for one request and its answer, connecting included.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

/// The method of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// What a body looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A record a line, `application/x-ndjson`.
    #[default]
    Ndjson,
    /// One array of records, `application/json`; a record that is not JSON is refused.
    Json,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As gzip does.
    Gzip,
}

fn timeout() -> Span {
    Span(Duration::from_secs(30))
}

impl Config {
    /// What is wrong with it, field by field.
    pub fn faults(&self) -> Vec<Misuse> {
        let mut faults = target::target(self).err().unwrap_or_default();
        if self.timeout.0.is_zero() {
            faults
                .push(Misuse { path: vec!["timeout".to_owned()], message: "leaves no time for an answer".to_owned() });
        }
        faults
    }
}

/// How records are shared out to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// The largest request; a larger record travels alone.
    pub limit: Limit,
    /// How long to wait to fill one.
    pub linger: Duration,
    /// How many may be under way at once; with more than one, the order between them is not kept.
    pub in_flight: usize,
}

impl Requests {
    /// The most bytes in hand beside the batch that was written last: a request that is being filled and those under
    /// way, each as it is and as it is sent, and their answers.
    pub fn bytes(&self) -> usize {
        let request = self.limit.bytes.saturating_mul(2).saturating_add(client::MOST_READ);
        request.saturating_mul(self.in_flight).saturating_add(self.limit.bytes)
    }
}

/// How often answers are looked for while nothing comes in.
const LOOK: Duration = Duration::from_millis(100);

/// A receiver, and what it has not answered for.
#[derive(Debug)]
pub struct HttpSink {
    client: Arc<Client>,
    form: Form,
    requests: Requests,
    /// Part of every key: ids are unique only within it.
    scope: String,
    /// Makes the keys of records without ids.
    random: SmallRng,
    encoder: Encoder,
    filling: Filling,
    /// When what is being filled has waited long enough.
    due: Option<Instant>,
    jobs: VecDeque<Job>,
    /// Exchanges, each with the number of its job; they go on while nobody waits for them.
    under_way: JoinSet<(u64, Verdict)>,
    /// When answers were looked for.
    looked: Instant,
    /// Before then, the receiver does not want to be asked.
    quiet: Option<Instant>,
    /// Jobs so far.
    begun: u64,
    /// Records taken in so far, and as many before the batch that was written last.
    taken: u64,
    base: u64,
    /// Records that were refused, by number, to be told.
    told: Vec<(u64, String)>,
}

/// A load on its way.
#[derive(Debug)]
struct Job {
    number: u64,
    load: Load,
    state: State,
    /// The key of its next request, once that was sent.
    key: Option<u128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its next request may be sent.
    Ready,
    /// Its next request is being exchanged.
    UnderWay,
    /// Its next request has failed, and is sent again when the sink is called again.
    Failed,
}

/// Opens the sink; nothing is sent yet. `scope` names pipeline and sink, wherever ids are not unique beyond.
///
/// # Errors
/// When the configuration is at fault, or no authority for `https` is known.
pub fn open(config: &Config, requests: Requests, scope: String) -> anyhow::Result<HttpSink> {
    let is_secure = config.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let roots = if is_secure { client::roots()? } else { RootCertStore::empty() };
    open_trusting(config, requests, scope, roots)
}

fn open_trusting(config: &Config, requests: Requests, scope: String, roots: RootCertStore) -> anyhow::Result<HttpSink> {
    let target = target::target(config).map_err(|faults| {
        let told: Vec<String> =
            faults.iter().map(|fault| format!("`{}` {}", fault.path.join("."), fault.message)).collect();
        anyhow!("use the receiver of a sink: {}", told.join("; "))
    })?;
    // A receiver may send back what it was sent.
    config.token.iter().chain(config.headers.values()).for_each(|secret| remember(secret.expose()));
    let client = Client::new(target, config.compression, config.timeout.0, requests.in_flight, roots)?;
    Ok(HttpSink {
        client: Arc::new(client),
        form: config.format,
        requests,
        scope,
        random: SmallRng::from_os_rng(),
        encoder: load::encoder(),
        filling: Filling::default(),
        due: None,
        jobs: VecDeque::new(),
        under_way: JoinSet::new(),
        looked: Instant::now(),
        quiet: None,
        begun: 0,
        taken: 0,
        base: 0,
        told: Vec::new(),
    })
}

impl HttpSink {
    fn take(&mut self, batch: &Batch) {
        self.base = self.taken;
        for at in 0..batch.len() {
            let row = (at, self.taken);
            self.taken += 1;
            match self.filling.add(&mut self.encoder, batch, row, self.form, self.requests.limit) {
                Ok(full) => self.begin(full),
                Err(reason) => self.told.push((row.1, reason)),
            }
        }
        let now = Instant::now();
        if self.filling.is_full(self.requests.limit) || self.due.is_some_and(|due| due <= now) {
            self.seal();
        } else if self.filling.len() > 0 {
            self.due.get_or_insert(now + self.requests.linger);
        }
    }

    /// Ends the request that is being filled.
    fn seal(&mut self) {
        let load = self.filling.take();
        self.begin(load);
    }

    fn begin(&mut self, load: Option<Load>) {
        if let Some(load) = load {
            self.due = None;
            self.begun += 1;
            self.jobs.push_back(Job { number: self.begun, load, state: State::Ready, key: None });
        }
    }

    /// Sends and takes in answers until at most `most` loads have not been answered for.
    async fn work(&mut self, most: usize) -> Result<(), SinkError> {
        for job in self.jobs.iter_mut().filter(|job| job.state == State::Failed) {
            job.state = State::Ready;
        }
        loop {
            self.looked = Instant::now();
            self.settle_all()?;
            self.quiet.take_if(|until| *until <= Instant::now());
            if self.quiet.is_none() {
                self.start();
            }
            if self.jobs.len() <= most {
                return Ok(());
            }
            let quiet = self.quiet;
            let joined = tokio::select! {
                biased;
                Some(joined) = self.under_way.join_next() => joined,
                () = sleep_until(quiet.unwrap_or_else(Instant::now)), if quiet.is_some() => continue,
                else => return Err(SinkError::Never(anyhow!("requests wait, and none is under way"))),
            };
            self.settle(joined).map_or(Ok(()), Err)?;
        }
    }

    /// Sends the next request of each of the first loads that has none under way: of one load alone, where order counts.
    fn start(&mut self) {
        for job in self.jobs.iter_mut().take(self.requests.in_flight).filter(|job| job.state == State::Ready) {
            let Some(body) = job.load.body(self.form) else { continue };
            let key = *job.key.get_or_insert_with(|| job.load.key(&self.scope).unwrap_or_else(|| self.random.random()));
            let (client, number) = (self.client.clone(), job.number);
            // It touches bytes, never batches.
            self.under_way.spawn(async move { (number, client.send(body, key).await) });
            job.state = State::UnderWay;
        }
    }

    /// Takes in all answers that are there: failures of the same time are one failure.
    fn settle_all(&mut self) -> Result<(), SinkError> {
        let mut failure = None;
        while let Some(joined) = self.under_way.try_join_next() {
            failure = failure.or(self.settle(joined));
        }
        failure.map_or(Ok(()), Err)
    }

    /// Takes in what became of a request; what it returns is a failure.
    fn settle(&mut self, joined: Result<(u64, Verdict), JoinError>) -> Option<SinkError> {
        let (number, verdict) = match joined {
            Ok(answered) => answered,
            Err(error) => return Some(SinkError::Never(anyhow!(error).context("exchange a request"))),
        };
        let job = self.jobs.iter_mut().find(|job| job.number == number)?;
        job.state = State::Ready;
        match verdict {
            Verdict::Taken(said) => job.load.settle(said, &mut self.told),
            Verdict::Refused(reason) => job.load.refuse(&reason, &mut self.told),
            Verdict::Later(why, wait) => {
                job.state = State::Failed;
                let until = wait.map(|wait| Instant::now() + wait);
                self.quiet = self.quiet.max(until);
                return Some(SinkError::Later(anyhow!(why)));
            }
        }
        job.key = None;
        self.jobs.retain(|job| job.load.unsettled() > 0);
        None
    }

    fn tell(&mut self, refused: &mut Vec<Refused>) {
        self.told.sort_by_key(|(number, _)| *number);
        let base = self.base as i64;
        refused.extend(self.told.drain(..).map(|(number, reason)| Refused { at: number as i64 - base, reason }));
    }
}

impl Sink for HttpSink {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            self.take(batch);
            let worked = self.work(self.requests.in_flight).await;
            self.tell(refused);
            worked
        }
        .boxed()
    }

    fn flush<'a>(&'a mut self, refused: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            self.seal();
            let worked = self.work(0).await;
            self.tell(refused);
            worked
        }
        .boxed()
    }

    fn unsettled(&self) -> u64 {
        let waiting = self.jobs.iter().map(|job| job.load.unsettled()).sum::<u64>();
        waiting + (self.filling.len() + self.told.len()) as u64
    }

    fn in_hand(&self) -> u64 {
        let waiting = self.jobs.iter().filter_map(|job| job.load.oldest()).chain(self.filling.oldest());
        waiting.min().map_or(0, |oldest| self.taken - oldest)
    }

    fn due(&self) -> Option<Instant> {
        self.due.or_else(|| (!self.jobs.is_empty()).then_some(self.looked + LOOK))
    }

    /// What is under way may yet arrive: nobody waits for the answer.
    fn give_up(&mut self, reason: &str, refused: &mut Vec<Refused>) -> bool {
        self.seal();
        self.under_way.abort_all();
        self.under_way = JoinSet::new();
        for mut job in self.jobs.drain(..) {
            job.load.give_up(reason, &mut self.told);
        }
        (self.due, self.quiet) = (None, None);
        self.tell(refused);
        true
    }

    fn restore<'a>(&'a mut self, _: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        self.under_way.abort_all();
        self.under_way = JoinSet::new();
        self.filling = Filling::default();
        self.jobs.clear();
        self.told.clear();
        (self.due, self.quiet) = (None, None);
        std::future::ready(Ok(())).boxed()
    }

    fn lets_go(&self) -> bool {
        true
    }
}
