//! A source at work: reads, stamps, cuts at watermarks, sends; puts barriers into its stream; acknowledges commits.
//!
//! Owns what happens to records before the first stage. Invariant: a position is reported with a barrier only when
//! everything read before it has been sent in front of that barrier. What a source that cannot seek has sent since the
//! last commit is kept here, and sent again after a restart.

mod chunk;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::committed::SourcePoint;
use crate::{
    batch::{Batch, Limit},
    bug, crash,
    epoch::Epoch,
    source::{Position, Read, Source},
    stage::{
        lane::Gone,
        meter::Meter,
        outlet::{Control, Outlet, Sent},
        pace::Pace,
        tally::Tally,
    },
    time::{Clock, END, Mark, Wall},
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
