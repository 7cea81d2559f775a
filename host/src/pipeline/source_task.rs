//! A source at work: reads, stamps, cuts at watermarks, sends; puts barriers into its stream; acknowledges commits.
//!
//! Owns what happens to records before the first stage. Invariant: a position is reported with a barrier only when
//! everything read before it has been sent in front of that barrier. What a source that cannot seek has sent since the
//! last commit is kept here, and sent again after a restart.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use xxhash_rust::xxh3::xxh3_128;

use super::committed::SourcePoint;
use crate::{
    batch::{Batch, Column, ID, Limit},
    bug,
    codec::id_of,
    crash,
    epoch::Epoch,
    letter::{PLACE, with_header, with_reasons},
    source::{Chunk, Position, Read, Source},
    stage::{
        lane::Gone,
        meter::Meter,
        outlet::{Control, Outlet, Port, Sent},
        pace::Pace,
        tally::Tally,
    },
    time::{BEGIN, Clock, END, Mark, Wall},
};

/// What a source is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Put this barrier into the stream.
    Begin(Epoch),
    /// This epoch has committed.
    Committed(Epoch),
    /// Take nothing new; send what has been accepted, then nothing but barriers.
    Drain(OpenWindows),
    /// End.
    Quit,
}

/// What a source says.
#[derive(Debug)]
pub enum Word {
    /// It has put the barrier into its stream.
    At(usize, Epoch, SourcePoint),
    /// It will send nothing more but barriers.
    Finished(usize),
    /// Somebody waits for a commit.
    Wanted,
}

/// What a source task is told once.
#[derive(Debug)]
pub struct Terms {
    /// Position in the graph.
    pub number: usize,
    /// Name of the source.
    pub name: String,
    /// The largest batch.
    pub limit: Limit,
    /// How long to wait to fill one.
    pub linger: Duration,
    /// After how long without a record the source holds nobody's watermark.
    pub idle: Duration,
    /// How much to keep for a restart, in bytes, where the source cannot seek.
    pub uncommitted: usize,
    /// Whether somebody below needs ids.
    pub has_ids: bool,
    /// Whether somebody reads what is refused.
    pub is_refused_read: bool,
    /// What time it is, for records that do not say.
    pub wall: Wall,
}

/// What a drain does to windows that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenWindows {
    /// They stay in the committed state, where the next process goes on with them.
    Keep,
    /// They close, marked incomplete: nothing outlives the process, or somebody wants it so.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    Draining(OpenWindows),
    Finished,
}

#[derive(Debug)]
enum Out {
    Item(Sent),
    Barrier(Epoch, Box<SourcePoint>),
}

/// A source and everything that it needs to go on after a restart.
pub struct SourceTask {
    terms: Terms,
    source: Box<dyn Source>,
    clock: Clock,
    pace: Option<Pace>,
    meter: Arc<Meter>,
    tally: Tally,
    phase: Phase,
    /// Read, but not yet enough for a batch.
    pending: Vec<Batch>,
    pending_since: Option<Instant>,
    outbox: VecDeque<Out>,
    /// Positions reported and not committed.
    reported: VecDeque<(Epoch, Position)>,
    /// Sent and not committed, with the epoch that it will commit with; only where the source cannot seek.
    kept: Option<VecDeque<(Epoch, Sent)>>,
    kept_bytes: usize,
    /// Part of ids that are made here: chance where the source cannot go back, for its numbers are given again then.
    salt: u128,
    epoch: Epoch,
    is_idle: bool,
    heard: Instant,
    began: Instant,
}

impl SourceTask {
    /// A task for a source that has read nothing, at `epoch`.
    ///
    /// # Errors
    /// When the source cannot say whether it can seek.
    pub async fn new(
        terms: Terms,
        mut source: Box<dyn Source>,
        clock: Clock,
        pace: Option<Pace>,
        meter: Arc<Meter>,
    ) -> anyhow::Result<Self> {
        let start = source.position();
        let can_seek = source.seek(&start).await?;
        let now = Instant::now();
        Ok(Self {
            terms,
            source,
            clock,
            pace,
            meter,
            tally: Tally::default(),
            phase: Phase::Reading,
            pending: Vec::new(),
            pending_since: None,
            outbox: VecDeque::new(),
            reported: VecDeque::new(),
            kept: (!can_seek).then(VecDeque::new),
            kept_bytes: 0,
            salt: if can_seek { 0 } else { SmallRng::from_os_rng().random() },
            epoch: Epoch(1),
            is_idle: false,
            heard: now,
            began: now,
        })
    }

    /// Where the source stands, as a commit holds it.
    pub fn point(&self, sent: Vec<u64>) -> SourcePoint {
        let (position, kept) = (self.source.position(), Arc::default());
        SourcePoint { position, kept, clock: self.clock.state(), tally: self.tally, sent }
    }

    /// Goes on where another process has committed: a source that cannot seek begins anew, with its counts and its clock.
    ///
    /// # Errors
    /// When what stood at the committed position has gone, or the source's facts say nothing to it.
    pub async fn resume(&mut self, from: &SourcePoint, committed: Epoch) -> anyhow::Result<()> {
        self.source.seek(&from.position).await?;
        self.source.recall(from.kept.to_vec())?;
        self.clock.restore(from.clock);
        self.tally = from.tally;
        self.meter.reset(&from.tally);
        self.epoch = committed.next();
        Ok(())
    }

    /// Goes back to the last commit: seeks, or sends again what it kept.
    ///
    /// # Errors
    /// When what stood at the committed position has gone.
    pub async fn rewind(&mut self, to: &SourcePoint, committed: Epoch) -> anyhow::Result<()> {
        // The run may have ended between the commit and its acknowledgement.
        self.acknowledge(committed).await?;
        self.reported.clear();
        self.epoch = committed.next();
        match &mut self.kept {
            Some(kept) => {
                // What was read but not sent stands behind what was sent; barriers are put in anew.
                let unsent = std::mem::take(&mut self.outbox);
                let again = kept.drain(..).map(|(_, item)| Out::Item(item));
                self.outbox = again.chain(unsent.into_iter().filter(|out| matches!(out, Out::Item(_)))).collect();
                self.kept_bytes = 0;
            }
            None => {
                self.outbox.clear();
                self.pending.clear();
                self.pending_since = None;
                self.source.seek(&to.position).await?;
                self.clock.restore(to.clock);
                self.tally = to.tally;
                self.meter.reset(&to.tally);
                if self.phase == Phase::Finished {
                    self.phase = Phase::Reading;
                }
            }
        }
        self.is_idle = false;
        self.heard = Instant::now();
        Ok(())
    }

    /// Works until it is told to quit.
    ///
    /// # Errors
    /// What ends the pipeline; [`Gone`] when it is being taken down.
    pub async fn run(
        &mut self,
        mut outlet: Outlet,
        mut orders: mpsc::Receiver<Order>,
        words: mpsc::Sender<Word>,
    ) -> anyhow::Result<()> {
        if self.phase == Phase::Finished {
            words.send(Word::Finished(self.terms.number)).await.map_err(|_| Gone)?;
        }
        loop {
            let now = Instant::now();
            let wait = self.pace.as_ref().and_then(|pace| pace.wait(now - self.began)).map(|until| self.began + until);
            let may_read = self.outbox.is_empty() && self.phase != Phase::Finished && wait.is_none() && self.has_room();
            let most = self.most();
            let timer = self.timer(wait, may_read);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Quit) => return Ok(()),
                    Some(order) => self.obey(order, &outlet).await?,
                    None => return Err(Gone.into()),
                },
                sent = send(&mut outlet, self.outbox.front()), if !self.outbox.is_empty() => {
                    sent?;
                    self.sent(&outlet, &words).await?;
                }
                // Asked only when this branch is looked at: who asks and does not wait may lose what a source gives at once.
                read = async { self.source.read(most).await }, if may_read => self.took(read?, &words).await?,
                () = sleep_until(timer.unwrap_or(now)), if timer.is_some() => self.tick(),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.kept.is_none() || self.kept_bytes < self.terms.uncommitted
    }

    fn most(&self) -> Limit {
        let records = self.terms.limit.records.saturating_sub(self.pending.iter().map(Batch::len).sum());
        let records = self.pace.as_ref().map_or(records, |pace| records.min(pace.most()));
        let bytes = self.terms.limit.bytes.saturating_sub(self.pending.iter().map(Batch::bytes).sum());
        Limit { records: records.max(1), bytes: bytes.max(1) }
    }

    /// When `tick` has something to do: a batch has lingered, the pace allows a read, the source has become idle.
    fn timer(&self, wait: Option<Instant>, may_read: bool) -> Option<Instant> {
        let linger = self.pending_since.map(|since| since + self.terms.linger);
        // While backpressure or the pace keep the source from reading, its idle clock stands still.
        let idle = (may_read && !self.is_idle).then(|| self.heard + self.terms.idle);
        let wait = wait.filter(|_| self.outbox.is_empty() && self.phase != Phase::Finished);
        [linger.filter(|_| self.outbox.is_empty()), idle, wait].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.pending_since.is_some_and(|since| now >= since + self.terms.linger) {
            self.flush();
        }
        if !self.is_idle && self.phase != Phase::Finished && now >= self.heard + self.terms.idle {
            self.flush();
            self.is_idle = true;
            self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::Idle(self.clock.state().watermark)))));
        }
    }

    async fn obey(&mut self, order: Order, outlet: &Outlet) -> anyhow::Result<()> {
        match order {
            Order::Begin(epoch) => {
                if !bug::is_seeded("position-ahead-of-the-barrier") {
                    self.flush();
                }
                let kept = Arc::new(self.source.changes());
                let point = Box::new(SourcePoint { kept, ..self.point(outlet.sent()) });
                self.outbox.push_back(Out::Barrier(epoch, point));
                self.epoch = epoch.next();
            }
            Order::Committed(epoch) => self.acknowledge(epoch).await?,
            Order::Drain(windows) => {
                if self.phase == Phase::Reading {
                    self.phase = Phase::Draining(windows);
                    self.source.stop();
                } else if self.phase == Phase::Finished {
                    self.drained(windows);
                }
            }
            Order::Quit => {}
        }
        Ok(())
    }

    /// A drain is no end: windows stay open where the next process finds them, and close where there is none.
    fn drained(&mut self, windows: OpenWindows) {
        if windows == OpenWindows::Close {
            self.outbox.push_back(Out::Item(Sent::Control(Control::Close)));
        }
    }

    async fn acknowledge(&mut self, epoch: Epoch) -> anyhow::Result<()> {
        while let Some((_, position)) = self.reported.pop_front_if(|(reported, _)| *reported <= epoch) {
            crash::point("source.before-acknowledging");
            self.source.commit(&position).await?;
            crash::point("source.acknowledged");
        }
        if let Some(kept) = &mut self.kept {
            while let Some((_, item)) = kept.pop_front_if(|(of, _)| *of <= epoch) {
                self.kept_bytes -= bytes(&item);
            }
        }
        Ok(())
    }

    async fn sent(&mut self, outlet: &Outlet, words: &mpsc::Sender<Word>) -> anyhow::Result<()> {
        self.heard = Instant::now();
        match self.outbox.pop_front() {
            Some(Out::Barrier(epoch, mut point)) => {
                point.sent = outlet.sent();
                self.reported.push_back((epoch, point.position.clone()));
                words.send(Word::At(self.terms.number, epoch, *point)).await.map_err(|_| Gone)?;
            }
            Some(Out::Item(item)) => {
                if let Some(kept) = &mut self.kept {
                    // Everything in the outbox that a barrier stands in front of belongs to the epoch after it; an
                    // item sent now stands in front of all barriers not yet sent.
                    let ahead = self.outbox.iter().filter(|out| matches!(out, Out::Barrier(..))).count() as u64;
                    let epoch = Epoch(self.epoch.0.saturating_sub(ahead));
                    let before = self.kept_bytes;
                    self.kept_bytes += bytes(&item);
                    kept.push_back((epoch, item));
                    let half = self.terms.uncommitted / 2;
                    if before < half && self.kept_bytes >= half {
                        words.send(Word::Wanted).await.map_err(|_| Gone)?;
                    }
                }
                if self.source.is_awaited() {
                    words.send(Word::Wanted).await.map_err(|_| Gone)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    async fn took(&mut self, read: Read, words: &mpsc::Sender<Word>) -> anyhow::Result<()> {
        match read {
            Read::Chunk(chunk) => {
                crash::point("source.read");
                let now = Instant::now();
                self.heard = now;
                if let Some(pace) = &mut self.pace {
                    pace.took(now - self.began, chunk.batch.len() + chunk.undecoded.len());
                }
                self.take_chunk(chunk);
                let records: usize = self.pending.iter().map(Batch::len).sum();
                let bytes: usize = self.pending.iter().map(Batch::bytes).sum();
                if records >= self.terms.limit.records || bytes >= self.terms.limit.bytes || self.terms.linger.is_zero()
                {
                    self.flush();
                }
            }
            Read::End => {
                self.flush();
                match self.phase {
                    Phase::Draining(windows) => self.drained(windows),
                    _ => self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::At(END))))),
                }
                self.phase = Phase::Finished;
                words.send(Word::Finished(self.terms.number)).await.map_err(|_| Gone)?;
            }
        }
        Ok(())
    }

    fn take_chunk(&mut self, chunk: Chunk) {
        let arrival = self.terms.wall.now();
        let undecoded = chunk.undecoded.len() as u64 + chunk.answered;
        let mut batch = chunk.batch;
        let first = self.tally.received;
        let received = batch.len() as u64 + undecoded + chunk.lost;
        let mut tally = Tally { received, refused: undecoded, lost: chunk.lost, ..Tally::default() };
        if batch.timestamps().is_none() {
            let times = vec![arrival; batch.len()];
            batch = batch.clone().with_timestamps(times).unwrap_or(batch);
        }
        // A source whose records have a place of their own has named them after it.
        if self.terms.has_ids && batch.named(ID).is_none() {
            let ids = ids(&self.terms.name, self.salt, first, batch.len());
            batch = batch.clone().with_named(ID.into(), ids).unwrap_or(batch);
        }
        let future = self.clock.too_far_ahead(batch.timestamps().unwrap_or_default(), self.terms.wall.latest());
        if !future.is_empty() {
            tally.refused += future.len() as u64;
            let refused = batch.gather(&future);
            let reason = Column::repeat(b"its event time lies too far ahead of its arrival", refused.len());
            batch = batch.gather(&crate::stage::assemble::others(batch.len(), [&future, &[]]));
            self.refuse(&refused, &reason, "event time");
        }
        if !chunk.undecoded.is_empty() {
            let place = chunk.undecoded.first().map(|one| one.place.clone()).unwrap_or_default();
            let raw: Column = chunk.undecoded.iter().map(|one| &one.raw).collect();
            let reasons: Column = chunk.undecoded.iter().map(|one| &one.reason).collect();
            let places: Column = chunk.undecoded.iter().map(|one| &one.place).collect();
            let times = vec![arrival; raw.len()];
            let refused = Batch::of_values(raw).with_timestamps(times).unwrap_or_default();
            let refused = with_header(&refused, PLACE, &places);
            self.refuse(&refused, &reasons, &place);
        }
        tally.passed = batch.len() as u64;
        tally.produced = batch.len() as u64;
        self.tally.add(&tally);
        self.meter.count(&tally);
        let mut start = 0;
        for (at, watermark) in chunk.watermarks {
            self.hold(batch.slice(start, at));
            start = at;
            self.tell(watermark);
        }
        self.hold(batch.slice(start, batch.len()));
    }

    /// Keeps records until there are enough for a batch.
    fn hold(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.pending.push(batch);
            self.pending_since.get_or_insert_with(Instant::now);
        }
    }

    /// Sends on how far event time has come, behind everything that was read before.
    fn tell(&mut self, watermark: i64) {
        self.flush();
        if self.clock.tell(watermark) {
            self.mark(watermark);
        }
    }

    fn mark(&mut self, watermark: i64) {
        self.meter.watermark(watermark);
        self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::At(watermark)))));
    }

    /// Sends refused input to who reads it; where nobody does, it has been counted and is logged with its place.
    fn refuse(&mut self, refused: &Batch, reasons: &Column, place: &str) {
        if self.terms.is_refused_read {
            self.flush();
            let batch = with_reasons(refused, &self.terms.name, reasons);
            self.outbox.push_back(Out::Item(Sent::Batch(Port::Refused, batch)));
        } else {
            let reason = reasons.get(0).map(String::from_utf8_lossy).unwrap_or_default();
            tracing::warn!(source = self.terms.name, refused = refused.len(), place, %reason, "input refused");
        }
    }

    /// Makes batches of what is pending and cuts them where the watermark moves.
    fn flush(&mut self) {
        self.pending_since = None;
        if self.pending.is_empty() {
            return;
        }
        let batch = Batch::concat(&self.pending);
        self.pending.clear();
        if self.is_idle {
            self.is_idle = false;
            let watermark = self.clock.state().watermark;
            if watermark > BEGIN {
                self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::At(watermark)))));
            }
        }
        let mut start = 0;
        for cut in self.clock.advance(batch.timestamps().unwrap_or_default()) {
            self.outbox.push_back(Out::Item(Sent::Batch(Port::Main, batch.slice(start, cut.end))));
            start = cut.end;
            if let Some(watermark) = cut.watermark {
                self.mark(watermark);
            }
        }
    }
}

async fn send(outlet: &mut Outlet, out: Option<&Out>) -> Result<(), Gone> {
    match out {
        Some(Out::Item(item)) => outlet.send(item).await,
        Some(Out::Barrier(epoch, _)) => outlet.send(&Sent::Control(Control::Barrier(*epoch))).await,
        None => Ok(()),
    }
}

fn bytes(item: &Sent) -> usize {
    match item {
        Sent::Batch(_, batch) => batch.bytes(),
        Sent::Control(_) => 0,
    }
}

/// Ids of records that the source gave none: a hash of its name, `salt` and the record's number.
fn ids(name: &str, salt: u128, first: u64, len: usize) -> Column {
    let root = xxh3_128(name.as_bytes());
    (first..first + len as u64).map(|number| id_of(root, salt, number)).collect()
}
