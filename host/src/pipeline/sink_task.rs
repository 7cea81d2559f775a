//! A sink at work: writes, retries, sends on what was refused, flushes at barriers, reports.
//!
//! Owns the retrying. Invariants: an epoch is reported only after everything in front of its barrier has been flushed; what
//! the sink refused stands in front of the same barrier on its way to the dead letters.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{board::Board, committed::SinkPoint, coordinator::Participant};
use crate::{
    batch::Batch,
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
};

/// First and longest wait between two attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

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
        let mut reported: Reported = None;
        let began = committed.borrow_and_update().next();
        self.sink.begins(began);
        loop {
            let taken = tokio::select! {
                taken = inbox.wait(|lanes| intake.take(lanes)) => taken?,
                Ok(()) = committed.changed() => {
                    self.settle(&mut reported, &mut committed);
                    continue;
                }
            };
            match taken {
                Taken::Batch(input, batch) => {
                    if let Some(count) = point.received.get_mut(input) {
                        *count += batch.len() as u64;
                    }
                    let refused = self.write(&batch, &inbox, &mut outlet).await?;
                    let all = batch.len() as u64;
                    let tally = Tally {
                        received: all,
                        passed: all - refused,
                        refused,
                        produced: all - refused,
                        ..Tally::default()
                    };
                    self.meter.count(&tally);
                    point.tally.add(&tally);
                }
                Taken::Barrier(epoch) => {
                    // The epoch before has committed, or this barrier would not be here.
                    self.settle(&mut reported, &mut committed);
                    outlet.control(Control::Barrier(epoch))?;
                    point.sent = outlet.sent();
                    let flushed = unless_killed(&inbox, self.sink.flush()).await?;
                    self.persist(flushed, &inbox).await?;
                    point.position = self.sink.position();
                    self.sink.begins(epoch.next());
                    reported = Some((epoch, point.position.clone()));
                    reports.send((self.number, epoch, point.clone())).await.map_err(|_| Gone)?;
                }
                Taken::Mark(_) | Taken::Close => {}
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

    /// Writes a batch, and sends on what the sink refuses; where nobody reads that, it has been counted and is logged. Says
    /// how many it refused.
    async fn write(&mut self, batch: &Batch, inbox: &Inbox, outlet: &mut Outlet) -> Result<u64, SinkFailure> {
        let mut refused = Vec::new();
        let written = unless_killed(inbox, self.sink.write(batch, &mut refused)).await?;
        self.persist(written, inbox).await?;
        let Some(first) = refused.first() else { return Ok(0) };
        if outlet.is_read(Port::Refused) {
            let at: Vec<u32> = refused.iter().map(|Refused { at, .. }| *at).collect();
            let reasons = refused.iter().map(|Refused { reason, .. }| reason).collect();
            let letters = with_reasons(&batch.gather(&at), &self.name, &reasons);
            outlet.send(&Sent::Batch(Port::Refused, letters)).await?;
        } else {
            let reason = first.reason.as_str();
            tracing::warn!(sink = self.name, refused = refused.len(), reason, "records refused");
        }
        Ok(refused.len() as u64)
    }

    /// Flushes again and again, with growing waits, until the sink has what it took in.
    async fn persist(&mut self, first: Result<(), SinkError>, inbox: &Inbox) -> Result<(), SinkFailure> {
        let waits = ExponentialBuilder::default().with_min_delay(WAITS.0).with_max_delay(WAITS.1).with_jitter();
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
                    let wait = waits.next().unwrap_or(WAITS.1);
                    if tokio::time::timeout(wait, inbox.killed()).await.is_ok() {
                        return Err(Gone.into());
                    }
                    result = unless_killed(inbox, self.sink.flush()).await?;
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

/// What `write` comes to; when the pipeline is taken down, it gets a little longer.
async fn unless_killed<T>(inbox: &Inbox, write: impl Future<Output = T>) -> Result<T, SinkFailure> {
    let mut write = pin!(write);
    tokio::select! {
        biased;
        written = &mut write => Ok(written),
        () = inbox.killed() => {
            tokio::time::timeout(GRACE, write).await.map_err(|_| SinkFailure::Interrupted)
        }
    }
}
