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

use super::{board::Board, committed::SinkPoint, coordinator::Participant, held::Held};
use crate::{
    batch::Batch,
    config::Retry,
    crash,
    epoch::Epoch,
    letter::with_reasons,
    sink::{Refused, Sink, SinkError},
    stage::{
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
    /// How long to wait between two attempts.
    pub retry: Retry,
    /// What it shows of itself.
    pub meter: Arc<Meter>,
    /// Where its troubles are shown.
    pub board: Arc<Board>,
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
        mut committed: watch::Receiver<Epoch>,
    ) -> Result<(), SinkFailure> {
        let mut intake = Intake::new(point.received.len(), crate::time::BEGIN);
        let (mut reported, mut held): (Reported, Held) = Default::default();
        let began = committed.borrow_and_update().next();
        self.sink.begins(began);
        loop {
            let due = self.sink.due();
            let taken = tokio::select! {
                taken = inbox.wait(|lanes| intake.take(lanes)) => taken?,
                Ok(()) = committed.changed() => {
                    self.settle(&mut reported, &mut committed);
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
                }
                Taken::Barrier(epoch) => {
                    // The epoch before has committed, or this barrier would not be here.
                    self.settle(&mut reported, &mut committed);
                    let (mut refused, late) = (Vec::new(), self.late());
                    let flushed = unless_killed(&inbox, late, self.sink.flush(&mut refused)).await?;
                    self.persist(flushed, &mut refused, &inbox).await?;
                    crash::point("sink.flushed");
                    self.send_on(0, &refused, &mut point, &mut outlet, &mut held).await?;
                    outlet.control(Control::Barrier(epoch))?;
                    point.sent = outlet.sent();
                    point.position = self.sink.position();
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
        held.push(batch);
        crash::point("sink.before-write");
        let (mut refused, late) = (Vec::new(), self.late());
        let written = unless_killed(inbox, late, self.sink.write(batch, &mut refused)).await?;
        self.persist(written, &mut refused, inbox).await?;
        crash::point("sink.written");
        self.send_on(batch.len() as u64, &refused, point, outlet, held).await
    }

    /// Counts records that came in and those that were refused, and sends these on; where nobody reads them, they are
    /// logged. A record counts as delivered once it can no longer be refused.
    async fn send_on(
        &mut self,
        received: u64,
        refused: &[Refused],
        point: &mut SinkPoint,
        outlet: &mut Outlet,
        held: &mut Held,
    ) -> Result<(), SinkFailure> {
        let (all, turned_down) = (point.tally.received + received, refused.len() as u64);
        let settled = all.saturating_sub(point.tally.refused + turned_down).saturating_sub(self.sink.unsettled());
        let passed = settled.saturating_sub(point.tally.passed);
        let tally = Tally { received, passed, refused: turned_down, produced: passed, ..Tally::default() };
        self.meter.count(&tally);
        point.tally.add(&tally);
        if outlet.is_read(Port::Refused) {
            let found = held.find(refused);
            if found.iter().map(|(_, reasons)| reasons.len()).sum::<usize>() != refused.len() {
                let error = anyhow::anyhow!("turn down what it was given: it names records that it has not in hand");
                return Err(SinkFailure::Never { name: self.name.clone(), error });
            }
            for (records, reasons) in found {
                let letters = with_reasons(&records, &self.name, &reasons.into_iter().collect());
                outlet.send(&Sent::Batch(Port::Refused, letters)).await?;
            }
        } else if let Some(Refused { reason, .. }) = refused.first() {
            tracing::warn!(sink = self.name, refused = turned_down, reason, "records refused");
        }
        held.keep(self.sink.in_hand());
        Ok(())
    }

    /// What it comes to when a call is given up.
    fn late(&self) -> SinkFailure {
        if self.sink.lets_go() { Gone.into() } else { SinkFailure::Interrupted }
    }

    /// Flushes again and again, with growing waits, until the sink has what it took in.
    async fn persist(
        &mut self,
        first: Result<(), SinkError>,
        refused: &mut Vec<Refused>,
        inbox: &Inbox,
    ) -> Result<(), SinkFailure> {
        let (least, most) = (self.retry.first.0, self.retry.max.0);
        let waits = ExponentialBuilder::default().with_min_delay(least).with_max_delay(most).with_jitter();
        let mut waits = waits.without_max_times().build();
        let (mut result, mut is_told) = (first, false);
        loop {
            match result {
                Ok(()) => break,
                Err(SinkError::Never(error)) => return Err(SinkFailure::Never { name: self.name.clone(), error }),
                Err(SinkError::Later(error)) => {
                    let why = format!("it tries again: {error:#}");
                    self.board.set_trouble(Participant::Sink(self.number), Some(why));
                    if !is_told {
                        tracing::warn!(sink = self.name, error = format!("{error:#}"), "writing failed, trying again");
                    }
                    is_told = true;
                    let wait = waits.next().unwrap_or(most);
                    if tokio::time::timeout(wait, inbox.killed()).await.is_ok() {
                        return Err(Gone.into());
                    }
                    let late = self.late();
                    result = unless_killed(inbox, late, self.sink.flush(refused)).await?;
                }
            }
        }
        if is_told {
            tracing::info!(sink = self.name, "writing goes on");
            self.board.set_trouble(Participant::Sink(self.number), None);
        }
        Ok(())
    }
}

/// What `write` comes to; when the pipeline is taken down, it gets a little longer before it is given up as `late`.
async fn unless_killed<T>(inbox: &Inbox, late: SinkFailure, write: impl Future<Output = T>) -> Result<T, SinkFailure> {
    let mut write = pin!(write);
    tokio::select! {
        biased;
        written = &mut write => Ok(written),
        () = inbox.killed() => {
            tokio::time::timeout(GRACE, write).await.map_err(|_| late)
        }
    }
}
