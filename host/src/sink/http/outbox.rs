//! Sink `http` behind an outbox: requests are written to a log, commit with their epoch, and are posted after that.
//!
//! Owns the way of a request from its cut to its settlement. It must not know epochs. Invariants: what is posted has been
//! committed; a request is one block of the log, so that neither its records, its bytes nor its key ever change; where the
//! outbox stands passes a request only once the receiver has taken or refused each of its records, in order. So a fall
//! repeats requests that a receiver knows by their keys, and a record that waits is in the log until it has been settled.
//!
//! A block's payload is one byte for the form of the body (0 lines, 1 an array) and the packed batch.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Form, HttpSink, Job, State,
    load::{self, Filling},
};
use crate::{
    batch::{Batch, ID, Limit, NULL},
    codec::{Encoder, pack},
    crash,
    disk::Disk,
    epoch::Epoch,
    lent::Lent,
    log::{self, Access, Block, Keep, Log, Mark, Reader},
    sink::{
        Refused, Returned, Sink, SinkError,
        log::{LogSink, Position as LogPosition, Room, Terms as LogTerms, open as open_log, settings},
    },
    time::now,
};

/// What an outbox is told beside what its requests are.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Folder of the host's state.
    pub state: PathBuf,
    /// Folder of the log, relative to that.
    pub folder: PathBuf,
    /// Bytes of the log above which nothing more is taken in until what is committed has been sent.
    pub max: u64,
    /// The first and the longest wait before a request is sent again.
    pub retry: (Duration, Duration),
}

/// Where an outbox stood: what a commit holds of it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Where its log ended, in the log's words.
    log: Value,
    /// Records in front of this offset have been taken or refused.
    settled: u64,
}

/// A receiver with a log in front of it.
pub struct Outbox {
    http: HttpSink,
    log: LogSink,
    access: Access,
    folder: PathBuf,
    max: u64,
    /// The request that is being cut: how long it would be, and its records.
    filling: Filling,
    parts: Vec<Batch>,
    encoder: Encoder,
    /// Offset after what was handed to the log.
    end: u64,
    reading: Lent<Reading>,
    /// Offset of the request that is read next.
    next: u64,
    /// Requests that were read and have not been settled, by the offset of their first record.
    read: VecDeque<(u64, Batch)>,
    /// Records in front of this offset have been settled.
    settled: u64,
    /// The same as of the last commit, and as of the last time that files were removed.
    kept: u64,
    freed: u64,
    /// What the receiver refused, to be handed back.
    returned: Vec<Returned>,
    /// Why nothing is sent, and until when.
    trouble: Option<(String, Instant)>,
    retry: (Duration, Duration),
    waits: ExponentialBackoff,
    /// Whether nothing more is taken in for now.
    is_full: bool,
}

/// What a blocking call works on.
#[derive(Default)]
struct Reading {
    reader: Option<Reader>,
    /// What the last call came to.
    outcome: Option<anyhow::Result<Option<(u64, Block)>>>,
}

/// An outbox in front of `http`, opened when it is told where it stood.
pub fn open(http: HttpSink, terms: Terms) -> Outbox {
    let (access, form) = (Access::default(), http.form);
    let cure = "`--reset-state` with the sink's name gives up what waits in it".to_owned();
    let Terms { disk, state, folder, max, retry } = terms;
    // An epoch is let in as a whole; what would be too much is held back before it comes here.
    let of_log =
        LogTerms { disk, state, folder: folder.clone(), keep: Duration::MAX, max: u64::MAX, room: Room::Person, cure };
    let blocks = Arc::new(move |batch: &Batch, epoch, now| vec![block(form, batch, epoch, now)]);
    Outbox {
        http,
        log: open_log(of_log, blocks, access.clone(), None),
        access,
        folder,
        max,
        filling: Filling::default(),
        parts: Vec::new(),
        encoder: load::encoder(),
        end: 0,
        reading: Lent::new(Reading::default()),
        next: 0,
        read: VecDeque::new(),
        settled: 0,
        kept: 0,
        freed: 0,
        returned: Vec::new(),
        trouble: None,
        retry,
        waits: waits(retry),
        is_full: false,
    }
}

/// Folder of the outbox of a sink, relative to that of the state.
pub fn folder(pipeline: &str, sink: &str) -> PathBuf {
    ["logs", "outbox", pipeline, sink].iter().collect()
}

/// The end of the log of an outbox that stood at `position`; none where that is no outbox's.
pub fn mark(position: &Value) -> Option<Mark> {
    let Position { log, .. } = Position::deserialize(position).ok()?;
    LogPosition::deserialize(&log).ok().map(|position| position.mark)
}

/// Gives up what waits in the outbox in `folder`, of which the store holds nothing any more; whether anything did.
///
/// # Errors
/// What the disk says.
pub fn discard(disk: &Arc<dyn Disk>, folder: &Path) -> anyhow::Result<bool> {
    let is_there = Log::is_in(&**disk, folder)?;
    if is_there {
        Log::open(disk.clone(), folder, None, settings(u64::MAX))?;
    }
    Ok(is_there)
}

fn waits((first, max): (Duration, Duration)) -> ExponentialBackoff {
    ExponentialBuilder::default().with_min_delay(first).with_max_delay(max).with_jitter().without_max_times().build()
}

fn block(form: Form, batch: &Batch, epoch: Epoch, now: i64) -> Block {
    let mut payload = vec![match form {
        Form::Ndjson => 0,
        Form::Json => 1,
    }];
    pack::pack(batch, &mut payload);
    let records = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    Block { payload: payload.into(), records, times: (now, now), epoch }
}

fn unblock(payload: &Bytes) -> anyhow::Result<(Form, Batch)> {
    let form = match payload.first() {
        Some(0) => Form::Ndjson,
        Some(1) => Form::Json,
        _ => return Err(anyhow!("it is in a form that this version does not know")),
    };
    Ok((form, pack::unpack(&payload.slice(1..))?))
}

impl Outbox {
    /// The requests that `batch` completes.
    fn cut(&mut self, batch: &Batch, refused: &mut Vec<Refused>) -> Vec<Batch> {
        let batch = batch.clone().retain_named(|name| name == ID || name == NULL);
        let (limit, mut requests, mut mine) = (self.http.requests.limit, Vec::new(), Vec::new());
        for at in 0..batch.len() {
            match self.filling.add(&mut self.encoder, &batch, (at, 0), self.http.form, limit) {
                Ok(full) => {
                    if full.is_some() {
                        self.parts.push(batch.gather(&std::mem::take(&mut mine)));
                        requests.extend(self.cut_off());
                    }
                    mine.push(at as u32);
                }
                Err(reason) => refused.push(Refused { at: at as i64, reason }),
            }
        }
        self.parts.push(batch.gather(&mine));
        if self.filling.is_full(limit) {
            self.filling.take();
            requests.extend(self.cut_off());
        }
        requests
    }

    /// The request that is being cut, if it has any record.
    fn cut_off(&mut self) -> Option<Batch> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|part| !part.is_empty());
        (!parts.is_empty()).then(|| Batch::concat(&parts))
    }

    /// Hands requests to the log, which has them in hand then, whatever it answers.
    async fn append(&mut self, requests: impl IntoIterator<Item = Batch>) -> Result<(), SinkError> {
        let mut failure = Ok(());
        for request in requests {
            self.end += request.len() as u64;
            match self.log.write(&request, &mut Vec::new()).await {
                Err(error @ SinkError::Never(_)) => return Err(error),
                later => failure = failure.and(later),
            }
        }
        failure
    }

    /// Takes in answers, and sends what is committed and may be sent. Trouble with the receiver is none of this sink, which
    /// has put its records by.
    async fn send(&mut self) -> Result<(), SinkError> {
        let settled = self.settled;
        let answered = self.http.settle_all();
        self.collect();
        match answered {
            Err(SinkError::Later(why)) => {
                let (why, wait) = (format!("{why:#}"), self.waits.next().unwrap_or(self.retry.1));
                if self.trouble.is_none() {
                    tracing::warn!(sink = self.http.scope, error = why, "posting failed, trying again");
                }
                self.trouble = Some((why, Instant::now() + wait));
            }
            Err(never) => return Err(never),
            Ok(()) if self.settled > settled => {
                if self.trouble.take().is_some() {
                    tracing::info!(sink = self.http.scope, "posting goes on");
                }
                self.waits = waits(self.retry);
            }
            Ok(()) => {}
        }
        if self.is_resting() {
            return Ok(());
        }
        self.http.jobs.iter_mut().filter(|job| job.state == State::Failed).for_each(|job| job.state = State::Ready);
        self.fetch().await.map_err(SinkError::Never)?;
        self.http.start();
        Ok(())
    }

    /// Whether the receiver is left alone for now.
    fn is_resting(&mut self) -> bool {
        let now = Instant::now();
        self.http.quiet.take_if(|until| *until <= now);
        self.http.quiet.is_some() || self.trouble.as_ref().is_some_and(|(_, until)| *until > now)
    }

    /// Reads as many requests as may be under way, and one more.
    async fn fetch(&mut self) -> anyhow::Result<()> {
        let Some(log) = self.access.readable().map(|readable| readable.log) else { return Ok(()) };
        while self.may_fetch(&log) {
            let (log, next) = (log.clone(), self.next);
            let read = self.reading.lend(move |reading| reading.outcome = Some(reading.next(&log, next))).await?;
            let read = read.outcome.take().context("read a request: no answer")?;
            let Some((first, block)) = read.with_context(|| format!("read the outbox {}", self.folder.display()))?
            else {
                return Ok(());
            };
            let (form, batch) = unblock(&block.payload).with_context(|| format!("read request {first}"))?;
            self.next = first + u64::from(block.records);
            self.begin(first, form, batch);
        }
        Ok(())
    }

    fn may_fetch(&self, log: &Log) -> bool {
        self.http.jobs.len() <= self.http.requests.in_flight && self.next < log.end()
    }

    fn begin(&mut self, first: u64, form: Form, batch: Batch) {
        let (mut filling, any) = (Filling::default(), Limit { records: usize::MAX, bytes: usize::MAX });
        for (at, number) in (0..batch.len()).zip(first..) {
            if let Err(reason) = filling.add(&mut self.encoder, &batch, (at, number), form, any) {
                self.http.told.push((number, reason));
            }
        }
        if let Some(load) = filling.take() {
            self.http.begun += 1;
            let (number, key) = (self.http.begun, None);
            self.http.jobs.push_back(Job { number, load, form, sequence: Some(first), state: State::Ready, key });
        }
        self.read.push_back((first, batch));
    }

    /// Passes the requests of which every record has been answered for, in order.
    fn collect(&mut self) {
        let open = self.http.jobs.iter().filter_map(|job| job.sequence).min().unwrap_or(self.next);
        while let Some((first, batch)) = self.read.pop_front_if(|(first, _)| *first < open) {
            let mine = first..first + batch.len() as u64;
            let told = self.http.told.extract_if(.., |(number, _)| mine.contains(number));
            let mut told: Vec<(u64, String)> = told.collect();
            told.sort_by_key(|(number, _)| *number);
            if !told.is_empty() {
                let (at, reasons): (Vec<u32>, Vec<String>) =
                    told.into_iter().map(|(number, reason)| ((number - first) as u32, reason)).unzip();
                self.returned.push(Returned { records: batch.gather(&at), reasons });
            }
        }
        self.settled = open;
    }

    /// Removes files of which everything has been settled, as far as that is committed.
    async fn free(&mut self) -> Result<(), SinkError> {
        let Some(readable) = self.access.readable().filter(|_| self.kept > self.freed) else { return Ok(()) };
        let keep = Keep { age: Some(0), needed: Some(self.kept), ..Keep::default() };
        let free = move |reading: &mut Reading| {
            let removed = readable.log.retain(now(), keep);
            reading.outcome = Some(removed.map(|_| None).map_err(Into::into));
        };
        let freed = self.reading.lend(free).await.map_err(SinkError::Never)?.outcome.take();
        freed.unwrap_or(Ok(None)).map_err(SinkError::Later)?;
        self.freed = self.kept;
        Ok(())
    }

    /// Whether the log has reached its limit, and something that is committed has not been sent.
    fn is_over(&self) -> bool {
        let over = |log: &Log| log.bytes() > self.max && self.settled < log.end();
        self.access.readable().is_some_and(|readable| over(&readable.log))
    }

    /// Waits until all that is committed has been sent. What came since is let through then, or no epoch could commit, and
    /// only a commit frees the log.
    async fn make_room(&mut self) -> Result<(), SinkError> {
        while self.is_full && self.is_over() {
            self.send().await?;
            if self.is_resting() {
                let why = self.trouble.as_ref().map_or("the receiver asks to be left alone", |(why, _)| why.as_str());
                let (folder, max) = (self.folder.display(), crate::unit::Size(self.max));
                let full = anyhow!("the outbox {folder} has reached its `outbox_max` of {max}: {why}");
                return Err(SinkError::Later(full));
            }
            // What failed a moment ago may be sent again by now, and is under way only then.
            if self.is_over() && !self.http.under_way.is_empty() {
                self.stirs().await;
            }
        }
        self.is_full = false;
        Ok(())
    }
}

impl Reading {
    fn next(&mut self, log: &Arc<Log>, next: u64) -> anyhow::Result<Option<(u64, Block)>> {
        let reader = match self.reader.take().filter(|reader| reader.offset() == next) {
            Some(reader) => reader,
            None => log.reader(log::From::Offset(next.max(log.first())))?,
        };
        Ok(self.reader.insert(reader).next()?)
    }
}

impl Sink for Outbox {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            let requests = self.cut(batch, refused);
            let appended = self.append(requests).await;
            self.send().await?;
            appended?;
            self.is_full |= !batch.is_empty() && self.is_over();
            self.make_room().await
        }
        .boxed()
    }

    fn flush<'a>(&'a mut self, refused: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            self.filling.take();
            let last = self.cut_off();
            if let Err(error @ SinkError::Never(_)) = self.append(last).await {
                return Err(error);
            }
            self.free().await?;
            self.log.flush(refused).await?;
            self.send().await?;
            self.make_room().await
        }
        .boxed()
    }

    fn unsettled(&self) -> u64 {
        self.end - self.settled + self.filling.len() as u64
    }

    fn in_hand(&self) -> u64 {
        0
    }

    fn waiting(&self) -> u64 {
        self.unsettled()
    }

    fn returned(&mut self) -> Vec<Returned> {
        std::mem::take(&mut self.returned)
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|(why, _)| why.as_str())
    }

    fn due(&self) -> Option<Instant> {
        let may_fetch = self.access.readable().is_some_and(|readable| self.may_fetch(&readable.log));
        let mut first = self.http.jobs.iter().take(self.http.requests.in_flight);
        let may_start = first.any(|job| job.state != State::UnderWay);
        let resting = self.trouble.as_ref().map(|(_, until)| *until).max(self.http.quiet);
        (may_start || may_fetch).then(|| resting.unwrap_or_else(Instant::now))
    }

    fn stirs(&mut self) -> BoxFuture<'_, ()> {
        async {
            match self.http.under_way.join_next().await {
                Some(joined) => self.http.joined.push(joined),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn position(&self) -> Value {
        match self.log.position() {
            Value::Null => Value::Null,
            log => json!(Position { log, settled: self.settled }),
        }
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let to: Option<Position> =
                serde_json::from_value(position.clone()).context("read where the outbox stood")?;
            let to = to.unwrap_or_default();
            self.http.restore(&Value::Null).await?;
            self.log.restore(&to.log).await?;
            let log = self.access.readable().context("open the log of an outbox")?.log;
            self.filling = Filling::default();
            self.parts.clear();
            self.returned.clear();
            self.read.clear();
            *self.reading.back().await? = Reading::default();
            self.end = log.end();
            // What an older commit does not know of was settled before its files went.
            self.settled = to.settled.max(log.first()).min(self.end);
            (self.next, self.kept, self.freed) = (self.settled, self.settled, 0);
            (self.trouble, self.is_full) = (None, false);
            Ok(())
        }
        .boxed()
    }

    fn begins(&mut self, epoch: Epoch) {
        self.log.begins(epoch);
    }

    fn committed(&mut self, position: &Value) {
        crash::point("outbox.committed");
        if let Ok(Position { log, settled }) = serde_json::from_value(position.clone()) {
            self.log.committed(&log);
            self.kept = settled;
        }
    }
}
