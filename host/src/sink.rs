//! Where records leave: one file for each kind of sink.
//!
//! Owns the face that every sink shows. A sink must not know channels, barriers or the graph: it writes and flushes.

use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::time::Instant;

use crate::{batch::Batch, epoch::Epoch};

mod backlog;
pub mod discard;
pub mod file;
pub mod http;
pub mod log;
pub mod passage;
pub mod queue;
pub mod stdout;
pub mod topic;
pub mod writer;

/// Why a sink could not write.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work later: the caller waits and calls `flush` again; what was taken in is kept.
    #[error("{0:#}")]
    Later(anyhow::Error),
    /// It will not work again: the pipeline ends at the last commit.
    #[error("{0:#}")]
    Never(anyhow::Error),
}

/// A record that a sink turned down for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its position, counted from the first record of the batch that was written last; below zero, it came with an
    /// earlier one.
    pub at: i64,
    /// Why.
    pub reason: String,
}

/// Records that the other side refused after the caller had let go of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// They.
    pub records: Batch,
    /// Why, of each.
    pub reasons: Vec<String>,
}

/// A sink of records. `write` takes a batch in whole: when it answers [`SinkError::Later`], the batch is in the
/// sink's hands all the same, refusals are told, and only `flush` is called again, so that nothing is written twice.
///
/// A refusal is told once, by the call that finds it out: where the other side answers later, that is another call than
/// the one that brought the record, and until then the record is `unsettled`.
pub trait Sink: Send {
    /// Takes in every record of `batch`, in order, and adds those that are turned down to `refused`, positions ascending.
    ///
    /// # Errors
    /// [`SinkError::Later`] keeps what was not refused in hand, [`SinkError::Never`] ends the pipeline.
    fn write<'a>(&'a mut self, batch: &'a Batch, refused: &'a mut Vec<Refused>)
    -> BoxFuture<'a, Result<(), SinkError>>;

    /// Hands everything taken in so far to the other side, where it outlasts this machine's fall if it can.
    ///
    /// # Errors
    /// As `write`.
    fn flush<'a>(&'a mut self, refused: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Records taken in that may still be refused; once `flush` has succeeded, none but those that are `waiting`.
    fn unsettled(&self) -> u64 {
        0
    }

    /// How many of the records taken in last have to be held by who gave them: from the oldest that may still be refused on.
    fn in_hand(&self) -> u64 {
        self.unsettled()
    }

    /// Records that are safe where a commit finds them again, and have not been delivered or refused: they no longer need the
    /// epoch that brought them.
    fn waiting(&self) -> u64 {
        0
    }

    /// Hands back what has been refused of the records that were waiting.
    fn returned(&mut self) -> Vec<Returned> {
        Vec::new()
    }

    /// Whether an epoch should begin soon, for what the sink holds until a commit becomes too much.
    fn is_awaited(&self) -> bool {
        false
    }

    /// Why the other side does not take what is waiting, while it does not.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Waits until the sink wants to be called because the other side has answered. Cancel safe.
    fn stirs(&mut self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    /// When the sink wants to be called, with an empty batch if nothing follows, to send on what it has in hand.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Lets go of everything that it has in hand, for `reason`, and tells it as refused; whether it can.
    fn give_up(&mut self, _reason: &str, _refused: &mut Vec<Refused>) -> bool {
        false
    }

    /// Whether `restore` ends for good what a call that was given up may still be doing, so that another run may begin.
    fn lets_go(&self) -> bool {
        false
    }

    /// Where the sink stood after the last `flush`, in words of its own; `null` where what is written cannot be taken
    /// back.
    fn position(&self) -> Value {
        Value::Null
    }

    /// Takes back whatever was written behind `position`, and forgets what it has in hand, which comes again. Where nothing
    /// was committed of it, the position is what the sink said when it was opened.
    ///
    /// # Errors
    /// When what was written up to there is gone.
    fn restore<'a>(&'a mut self, _position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Says that nothing will be written any more behind `position`: an earlier run has completed the pipeline.
    fn rests(&mut self, _position: &Value) {}

    /// Says how far event time has come, in milliseconds since the Unix epoch.
    fn mark(&mut self, _watermark: i64) {}

    /// Says that what is written from now on commits with this epoch.
    fn begins(&mut self, _epoch: Epoch) {}

    /// Says that what was written up to `position` has been committed, so that others may see it.
    fn committed(&mut self, _position: &Value) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a batch and returns what was refused of it.
    pub(super) async fn write(sink: &mut dyn Sink, batch: &Batch) -> Result<Vec<Refused>, SinkError> {
        let mut refused = Vec::new();
        sink.write(batch, &mut refused).await.map(|()| refused)
    }
}
