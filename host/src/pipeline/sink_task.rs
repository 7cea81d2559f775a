//! A sink at work: writes, retries, flushes at barriers, reports.
//!
//! Owns the retrying. Invariant: an epoch is reported only after everything in front of its barrier has been flushed.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{sync::mpsc, time::timeout_at};

use super::{board::Board, committed::SinkPoint, coordinator::Participant};
use crate::{
    batch::Batch,
    config::Retry,
    epoch::Epoch,
    sink::{Refused, Sink, SinkError},
    stage::{
        intake::{Intake, Taken},
        lane::{Gone, Inbox},
        meter::Meter,
        tally::Tally,
    },
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

impl SinkTask {
    /// Works until its inputs are over, from the counts of the last commit on.
    ///
    /// # Errors
    /// What ends the pipeline.
    pub async fn run(
        &mut self,
        inbox: Inbox,
        mut point: SinkPoint,
        reports: mpsc::Sender<(usize, Epoch, SinkPoint)>,
    ) -> Result<(), SinkFailure> {
        let mut intake = Intake::new(point.received.len(), crate::time::BEGIN);
        loop {
            let next = inbox.wait(|lanes| intake.take(lanes));
            let taken = match self.sink.due() {
                None => next.await?,
                Some(due) => match timeout_at(due, next).await {
                    Ok(taken) => taken?,
                    // Nothing follows in time.
                    Err(_) => {
                        self.write(&Batch::default(), &mut point, &inbox).await?;
                        continue;
                    }
                },
            };
            match taken {
                Taken::Batch(input, batch) => {
                    if let Some(count) = point.received.get_mut(input) {
                        *count += batch.len() as u64;
                    }
                    self.write(&batch, &mut point, &inbox).await?;
                }
                Taken::Barrier(epoch) => {
                    let (mut refused, late) = (Vec::new(), self.late());
                    let flushed = unless_killed(&inbox, late, self.sink.flush(&mut refused)).await?;
                    self.persist(flushed, &mut refused, &inbox).await?;
                    self.count(0, &refused, &mut point);
                    point.position = self.sink.position();
                    reports.send((self.number, epoch, point.clone())).await.map_err(|_| Gone)?;
                }
                Taken::Mark(_) | Taken::Close => {}
                Taken::Over => return Ok(()),
            }
        }
    }

    async fn write(&mut self, batch: &Batch, point: &mut SinkPoint, inbox: &Inbox) -> Result<(), SinkFailure> {
        let (mut refused, late) = (Vec::new(), self.late());
        let written = unless_killed(inbox, late, self.sink.write(batch, &mut refused)).await?;
        self.persist(written, &mut refused, inbox).await?;
        self.count(batch.len() as u64, &refused, point);
        Ok(())
    }

    /// Counts records that came in and refusals that were told. A record counts as delivered once it can no longer be
    /// refused.
    fn count(&self, received: u64, refused: &[Refused], point: &mut SinkPoint) {
        if let Some(first) = refused.first() {
            let reason = first.reason.as_str();
            tracing::warn!(sink = self.name, refused = refused.len(), reason, "records refused");
        }
        let (all, refused) = (point.tally.received + received, refused.len() as u64);
        let settled = all.saturating_sub(point.tally.refused + refused).saturating_sub(self.sink.unsettled());
        let passed = settled.saturating_sub(point.tally.passed);
        let tally = Tally { received, passed, refused, produced: passed, ..Tally::default() };
        self.meter.count(&tally);
        point.tally.add(&tally);
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
