//! A sink at work: writes, retries, sends on what was refused, flushes at barriers, reports.
//!
//! Owns the retrying. Invariants: an epoch is reported only after everything in front of its barrier has been flushed; what
//! the sink refused stands in front of the same barrier on its way to the dead letters.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

use super::{
    attempt::{Leave, split},
    board::Board,
    committed::SinkPoint,
    coordinator::Participant,
    held::Held,
    source_task::Word,
};
use crate::{
    batch::{Batch, Column},
    bug,
    config::{GiveUp, Retry, Then},
    crash,
    epoch::Epoch,
    letter::{self, with_reasons},
    sink::{Refused, Returned, Sink, SinkError},
    stage::{
        gate::Gate,
        intake::{Intake, Taken},
        lane::{Gone, Inbox},
        meter::Meter,
        outlet::{Control, Outlet, Port, Sent},
        tally::Tally,
    },
    time::Mark,
};

/// How long a write under way may take to finish when the pipeline is taken down.
const GRACE: Duration = Duration::from_secs(1);

/// Why a sink ended early.
#[derive(Debug, thiserror::Error)]
pub enum SinkFailure {
    /// The pipeline is being taken down.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The pipeline is being taken down, and a write under way did not finish: nobody knows how far it came.
    #[error("a write was interrupted")]
    Interrupted,
    /// What is written to will not take more.
    #[error("sink `{name}`: {error:#}")]
    Never {
        /// Name of the sink.
        name: String,
        /// What it said.
        error: anyhow::Error,
    },
}

/// A sink and what it needs to go on after a restart.
pub struct SinkTask {
    /// Position in the graph.
    pub number: usize,
    /// Name of the sink.
    pub name: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// How long to wait between two attempts, and how many there may be.
    pub retry: Retry,
    /// Its breaker.
    pub gate: Arc<Gate>,
    /// What becomes of records while that is open.
    pub then: Then,
    /// What it shows of itself.
    pub meter: Arc<Meter>,
    /// Where its troubles are shown.
    pub board: Arc<Board>,
    /// What keeps it from delivering what waits, as it was shown last.
    pub trouble: Option<String>,
}

/// What was reported last, and has not been told to the sink as committed.
type Reported = Option<(Epoch, Value)>;

impl SinkTask {
    /// Works until its inputs are over, from the counts of the last commit on; what it refuses goes to `outlet`, and
    /// `committed` says which epoch has committed.
    ///
    /// # Errors
    /// What ends the pipeline.
    pub async fn run(
        &mut self,
        inbox: Inbox,
        mut outlet: Outlet,
        mut point: SinkPoint,
        reports: mpsc::Sender<(usize, Epoch, SinkPoint)>,
        words: mpsc::Sender<Word>,
        mut committed: watch::Receiver<Epoch>,
    ) -> Result<(), SinkFailure> {
        let mut intake = Intake::new(point.received.len(), crate::time::BEGIN);
        let (mut reported, mut held): (Reported, Held) = Default::default();
        let began = committed.borrow_and_update().next();
        self.sink.begins(began);
        loop {
            let due = self.sink.due();
            let taken = tokio::select! {
                biased;
                Ok(()) = committed.changed() => {
                    self.settle(&mut reported, &mut committed);
                    continue;
                }
                taken = inbox.wait(|lanes| intake.take(lanes)) => taken?,
                () = self.sink.stirs() => {
                    self.write(&Batch::default(), &mut point, &inbox, &mut outlet, &mut held).await?;
                    continue;
                }
                // Nothing follows in time.
                () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    self.write(&Batch::default(), &mut point, &inbox, &mut outlet, &mut held).await?;
                    continue;
                }
            };
            match taken {
                Taken::Batch(input, batch) => {
                    if let Some(count) = point.received.get_mut(input) {
                        *count += batch.len() as u64;
                    }
                    self.write(&batch, &mut point, &inbox, &mut outlet, &mut held).await?;
                    if self.sink.is_awaited() {
                        words.send(Word::Wanted).await.map_err(|_| Gone)?;
                    }
                }
                Taken::Barrier(epoch) => {
                    // The epoch before has committed, or this barrier would not be here.
                    self.settle(&mut reported, &mut committed);
                    let mut refused = Vec::new();
                    let given_up = if bug::is_seeded("commit-before-the-flush") {
                        Vec::new()
                    } else {
                        self.persist(None, &mut refused, &inbox).await?
                    };
                    crash::point("sink.flushed");
                    self.send_on(0, &refused, &given_up, &mut point, &mut outlet, &mut held).await?;
                    outlet.control(Control::Barrier(epoch))?;
                    point.sent = outlet.sent();
                    point.position = self.sink.position();
                    point.waiting = self.sink.waiting();
                    self.sink.begins(epoch.next());
                    reported = Some((epoch, point.position.clone()));
                    reports.send((self.number, epoch, point.clone())).await.map_err(|_| Gone)?;
                }
                Taken::Mark(Mark::At(time) | Mark::Idle(time)) => self.sink.mark(time),
                Taken::Close => {}
                Taken::Over => {
                    self.settle(&mut reported, &mut committed);
                    return Ok(());
                }
            }
        }
    }

    /// Tells the sink once that what it reported has committed.
    fn settle(&mut self, reported: &mut Reported, committed: &mut watch::Receiver<Epoch>) {
        let last = *committed.borrow_and_update();
        if let Some((_, position)) = reported.take_if(|(epoch, _)| *epoch <= last) {
            self.sink.committed(&position);
        }
    }

    async fn write(
        &mut self,
        batch: &Batch,
        point: &mut SinkPoint,
        inbox: &Inbox,
        outlet: &mut Outlet,
        held: &mut Held,
    ) -> Result<(), SinkFailure> {
        let mut rest = batch.clone();
        loop {
            let leave = self.leave(inbox).await?;
            let part = match leave {
                Leave::None => return self.do_without(&rest, point, inbox, outlet).await,
                Leave::Attempt(_) => std::mem::take(&mut rest),
                Leave::Probe(_) => {
                    let (first, others) = split(&rest);
                    rest = others;
                    first
                }
            };
            held.push(&part);
            crash::point("sink.before-write");
            let mut refused = Vec::new();
            let written = self.attempt(leave, Some(&part), &mut refused, Duration::ZERO, inbox).await?;
            let given_up = self.persist(Some(written), &mut refused, inbox).await?;
            crash::point("sink.written");
            self.send_on(part.len() as u64, &refused, &given_up, point, outlet, held).await?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// What becomes of records that the sink is not even asked to take.
    async fn do_without(
        &mut self,
        batch: &Batch,
        point: &mut SinkPoint,
        inbox: &Inbox,
        outlet: &mut Outlet,
    ) -> Result<(), SinkFailure> {
        let mut rest = batch.clone();
        while !rest.is_empty() {
            let mut tally = Tally { received: rest.len() as u64, ..Tally::default() };
            if self.then == Then::Drop {
                tally.dropped = tally.received;
                rest = Batch::default();
            } else if self.then == Then::Fallback {
                tally.diverted = tally.received;
                outlet.send(&Sent::Batch(Port::Fallback, std::mem::take(&mut rest))).await?;
            } else {
                let some = self.gate.letters(rest.len());
                if some == 0 {
                    let due = self.gate.letters_due().unwrap_or_else(tokio::time::Instant::now);
                    self.wait(due.saturating_duration_since(tokio::time::Instant::now()), inbox).await?;
                    continue;
                }
                (tally.received, tally.refused) = (some as u64, some as u64);
                let reasons = Column::repeat(self.open_because().as_bytes(), some);
                let letters = with_reasons(&rest.slice(0, some), &self.name, &reasons);
                outlet.send(&Sent::Batch(Port::Refused, letter::Kind::BreakerOpen.beside(letters))).await?;
                rest = rest.slice(some, rest.len());
            }
            self.meter.count(&tally);
            point.tally.add(&tally);
        }
        Ok(())
    }

    fn open_because(&self) -> String {
        self.gate.opened().map_or_else(String::new, |opened| format!("the breaker is open: {}", opened.reason))
    }

    /// Counts records that came in, those that were refused and those that were given up, and sends these on; where nobody
    /// reads them, they are logged. A record counts as delivered once it can no longer be refused.
    async fn send_on(
        &mut self,
        received: u64,
        refused: &[Refused],
        given_up: &[Refused],
        point: &mut SinkPoint,
        outlet: &mut Outlet,
        held: &mut Held,
    ) -> Result<(), SinkFailure> {
        let returned = self.sink.returned();
        let back: usize = returned.iter().map(|back| back.reasons.len()).sum();
        let is_dropped = self.then == Then::Drop && !self.gate.is_closed();
        let (all, given) = (point.tally.received + received, given_up.len() as u64);
        let (dropped, diverted, turned_down) = match self.then {
            Then::Drop if is_dropped => (given, 0, 0),
            Then::Fallback => (0, given, 0),
            _ => (0, 0, given),
        };
        let turned_down = (refused.len() + back) as u64 + turned_down;
        let before = point.tally.refused + point.tally.dropped + point.tally.diverted;
        let gone = before + turned_down + dropped + diverted;
        let settled = all.saturating_sub(gone).saturating_sub(self.sink.unsettled());
        let passed = settled.saturating_sub(point.tally.passed);
        let tally =
            Tally { received, passed, refused: turned_down, dropped, diverted, produced: passed, ..Tally::default() };
        self.meter.count(&tally);
        point.tally.add(&tally);
        self.tell_returned(&returned, outlet).await?;
        if diverted > 0 {
            self.divert(given_up, outlet, held).await?;
        }
        let given_up = if is_dropped || diverted > 0 { &[] } else { given_up };
        for (refused, why) in [(refused, letter::Kind::Refused), (given_up, letter::Kind::BreakerOpen)] {
            self.tell(refused, why, outlet, held).await?;
        }
        held.keep(self.sink.in_hand());
        if self.sink.trouble() != self.trouble.as_deref() {
            self.trouble = self.sink.trouble().map(str::to_owned);
            let why = self.trouble.as_ref().map(|why| format!("what is committed waits to be sent: {why}"));
            self.board.set_trouble(Participant::Sink(self.number), why);
        }
        Ok(())
    }

    /// Sends on what was taken in long ago and has been turned down since; the sink has kept it.
    async fn tell_returned(&mut self, returned: &[Returned], outlet: &mut Outlet) -> Result<(), SinkFailure> {
        if !outlet.is_read(Port::Refused) {
            if let Some(reason) = returned.iter().flat_map(|back| &back.reasons).next() {
                tracing::warn!(sink = self.name, reason, "records refused");
            }
            return Ok(());
        }
        for back in returned {
            let letters = with_reasons(&back.records, &self.name, &back.reasons.iter().collect());
            outlet.send(&Sent::Batch(Port::Refused, letters)).await?;
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        refused: &[Refused],
        why: letter::Kind,
        outlet: &mut Outlet,
        held: &Held,
    ) -> Result<(), SinkFailure> {
        let Some(Refused { reason, .. }) = refused.first() else { return Ok(()) };
        if !outlet.is_read(Port::Refused) {
            tracing::warn!(sink = self.name, refused = refused.len(), reason, "records refused");
            return Ok(());
        }
        for (records, reasons) in self.found(refused, held)? {
            let letters = with_reasons(&records, &self.name, &reasons.into_iter().collect());
            let letters = if why == letter::Kind::Refused { letters } else { why.beside(letters) };
            outlet.send(&Sent::Batch(Port::Refused, letters)).await?;
        }
        Ok(())
    }

    /// Hands what it had in hand to the sink that stands in for it.
    async fn divert(&mut self, given_up: &[Refused], outlet: &mut Outlet, held: &Held) -> Result<(), SinkFailure> {
        for (records, _) in self.found(given_up, held)? {
            outlet.send(&Sent::Batch(Port::Fallback, records)).await?;
        }
        Ok(())
    }

    /// The records that it names, with its reasons.
    fn found<'r>(&self, named: &'r [Refused], held: &Held) -> Result<Vec<(Batch, Vec<&'r str>)>, SinkFailure> {
        let found = held.find(named);
        if found.iter().map(|(_, reasons)| reasons.len()).sum::<usize>() == named.len() {
            return Ok(found);
        }
        let error = anyhow::anyhow!("turn down what it was given: it names records that it has not in hand");
        Err(SinkFailure::Never { name: self.name.clone(), error })
    }

    /// What it comes to when a call is given up.
    pub(super) fn late(&self) -> SinkFailure {
        if self.sink.lets_go() { Gone.into() } else { SinkFailure::Interrupted }
    }

    /// Flushes again and again, with growing waits, until the sink has handed over what it took in, or has given it up:
    /// that is returned. `first` is what an attempt came to that was made before.
    async fn persist(
        &mut self,
        mut first: Option<Result<(), SinkError>>,
        refused: &mut Vec<Refused>,
        inbox: &Inbox,
    ) -> Result<Vec<Refused>, SinkFailure> {
        let (least, most) = (self.retry.first.0, self.retry.max.0);
        let waits = ExponentialBuilder::default().with_min_delay(least).with_max_delay(most).with_jitter();
        let mut waits = waits.without_max_times().build();
        let (mut failures, mut waited, mut given_up) = (0, Duration::ZERO, Vec::new());
        loop {
            let result = match first.take() {
                Some(result) => result,
                None => match self.leave(inbox).await? {
                    Leave::None => {
                        let why = self.open_because();
                        self.give_up(&why, &mut given_up)?;
                        break;
                    }
                    leave => self.attempt(leave, None, refused, waited, inbox).await?,
                },
            };
            match result {
                Ok(()) => break,
                Err(SinkError::Never(error)) => return Err(SinkFailure::Never { name: self.name.clone(), error }),
                Err(SinkError::Later(error)) => {
                    failures += 1;
                    if self.retry.attempts.as_ref().is_some_and(|attempts| failures >= attempts.value) {
                        let error = error.context(format!("given up after {failures} attempts"));
                        if self.retry.then.value == GiveUp::Stop {
                            return Err(SinkFailure::Never { name: self.name.clone(), error });
                        }
                        self.give_up(&format!("{error:#}"), refused)?;
                        break;
                    }
                    let why = format!("it tries again: {error:#}");
                    self.board.set_trouble(Participant::Sink(self.number), Some(why));
                    if failures == 1 {
                        tracing::warn!(sink = self.name, error = format!("{error:#}"), "writing failed, trying again");
                    }
                    waited = waits.next().unwrap_or(most);
                    self.wait(waited, inbox).await?;
                }
            }
        }
        if failures > 0 {
            tracing::info!(sink = self.name, "writing goes on");
            self.board.set_trouble(Participant::Sink(self.number), None);
        }
        Ok(given_up)
    }

    /// Has the sink let go of what it has in hand.
    fn give_up(&mut self, reason: &str, given_up: &mut Vec<Refused>) -> Result<(), SinkFailure> {
        if self.sink.unsettled() == 0 || self.sink.give_up(reason, given_up) {
            return Ok(());
        }
        let error = anyhow::anyhow!("give up what it has in hand, which this kind of sink cannot: {reason}");
        Err(SinkFailure::Never { name: self.name.clone(), error })
    }
}

/// What `write` comes to; when the pipeline is taken down, it gets a little longer before it is given up as `late`.
pub(super) async fn unless_killed<T>(
    inbox: &Inbox,
    late: SinkFailure,
    write: impl Future<Output = T>,
) -> Result<T, SinkFailure> {
    let mut write = pin!(write);
    tokio::select! {
        biased;
        written = &mut write => Ok(written),
        () = inbox.killed() => {
            tokio::time::timeout(GRACE, write).await.map_err(|_| late)
        }
    }
}
