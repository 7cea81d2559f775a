//! An attempt of a sink: whether it may be made now, and what its breaker is told of it.
//!
//! Owns the waiting for the breaker, and the wait between two attempts. It must not know what is written. Invariant: while
//! the breaker is open nothing is attempted but a probe.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::sink_task::{SinkFailure, SinkTask, unless_killed};
use crate::{
    batch::Batch,
    config::Then,
    sink::{Refused, SinkError},
    stage::{
        breaker::{Answer, PROBE, Sample, Ticket},
        lane::{Gone, Inbox},
    },
};

/// Whether there may be an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Yes.
    Attempt(Ticket),
    /// Yes, of a few records.
    Probe(Ticket),
    /// No, and what is there does not wait.
    None,
}

impl SinkTask {
    /// Asks the breaker; where records wait for it, waits until it lets something through.
    ///
    /// # Errors
    /// The pipeline is being taken down.
    pub(super) async fn leave(&mut self, inbox: &Inbox) -> Result<Leave, SinkFailure> {
        let mut rung = self.board.bell.subscribe();
        loop {
            let until = match self.gate.ask() {
                Answer::Call(ticket) => return Ok(Leave::Attempt(ticket)),
                Answer::Probe(ticket) => return Ok(Leave::Probe(ticket)),
                Answer::Wait(_) if self.then != Then::Pause => return Ok(Leave::None),
                Answer::Wait(_) => self.gate.due(),
            };
            tokio::select! {
                () = inbox.killed() => return Err(Gone.into()),
                // It was tripped or reset. The board, which holds the other end, is there as long as this.
                _ = rung.changed() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
        }
    }

    /// Writes `batch`, or flushes where there is none, and tells the breaker what came of it; `waited` is how long it was
    /// put off for what had failed before.
    ///
    /// # Errors
    /// The pipeline is being taken down.
    pub(super) async fn attempt(
        &mut self,
        leave: Leave,
        batch: Option<&Batch>,
        refused: &mut Vec<Refused>,
        waited: Duration,
        inbox: &Inbox,
    ) -> Result<Result<(), SinkError>, SinkFailure> {
        let (began, late, is_probe) = (Instant::now(), self.late(), matches!(leave, Leave::Probe(_)));
        let sink = &mut self.sink;
        let attempt = async {
            if let Some(batch) = batch {
                sink.write(batch, refused).await?;
            }
            // What a sink keeps to itself would tell nothing.
            if batch.is_none() || is_probe { sink.flush(refused).await } else { Ok(()) }
        };
        let came = unless_killed(inbox, late, attempt).await?;
        let why = || came.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        // So much of a window as it was put off counts, for attempts become rarer the longer they fail.
        let calls = 1 + (waited.as_millis() / self.gate.piece().as_millis().max(1)) as u64;
        let (is_failed, took) = (came.is_err(), began.elapsed());
        let sample = Sample { calls, is_failed, took, ..Sample::default() };
        match leave {
            Leave::Attempt(ticket) => self.gate.ended(ticket, &sample, why),
            Leave::Probe(ticket) => self.gate.probed(ticket, &sample, why),
            Leave::None => {}
        }
        Ok(came)
    }

    /// Waits between two attempts, or until the breaker opens or closes.
    ///
    /// # Errors
    /// The pipeline is being taken down.
    pub(super) async fn wait(&mut self, wait: Duration, inbox: &Inbox) -> Result<(), SinkFailure> {
        let mut rung = self.board.bell.subscribe();
        let killed = async {
            tokio::select! {
                () = inbox.killed() => true,
                _ = rung.changed() => false,
            }
        };
        if timeout(wait, killed).await == Ok(true) { Err(Gone.into()) } else { Ok(()) }
    }
}

/// The first records of a batch, as many as a probe may have, and the others.
pub(super) fn split(batch: &Batch) -> (Batch, Batch) {
    let most = batch.len().min(PROBE);
    (batch.slice(0, most), batch.slice(most, batch.len()))
}
