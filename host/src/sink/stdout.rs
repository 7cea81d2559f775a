//! Sink `stdout`: encoded records on the host's standard output.
//!
//! Owns a thread that does the writing, so that a paused terminal or a slow pipe holds up this sink and neither the
//! runtime nor its shutdown. Invariant: what is handed to the thread ends at the end of a record, and is written
//! under the lock of standard output, so that several sinks may share it.

use std::{
    io::{self, ErrorKind},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures::{FutureExt as _, future::BoxFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Refused, Sink, SinkError,
    backlog::{Backlog, SPILL, refusals, spill, verdict},
};
use crate::{
    batch::Batch,
    codec::{Encoder, Format},
};

/// What `stdout:` of a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Pause before a non-blocking standard output, as some parents leave behind, is tried again.
const NAP: Duration = Duration::from_millis(5);

/// Bytes for the writing thread, and where it says what came of them. The thread ends when the sender is dropped.
type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// Standard output.
#[derive(Debug)]
pub struct Stdout {
    encoder: Encoder,
    /// Encoded and not yet handed to the thread.
    waiting: Vec<u8>,
    jobs: mpsc::Sender<Job>,
    /// What the thread has in hand; outlives a dropped future.
    answer: Option<oneshot::Receiver<io::Result<()>>>,
}

/// Opens standard output.
///
/// # Errors
/// When no thread can be started.
pub fn open(encode: Format) -> anyhow::Result<Stdout> {
    start(encode, |backlog| {
        let out = io::stdout().lock();
        backlog.drain(usize::MAX, |bytes| Ok(rustix::io::write(&out, bytes)?))
    })
}

fn start(
    encode: Format,
    mut drain: impl FnMut(&mut Backlog) -> io::Result<()> + Send + 'static,
) -> anyhow::Result<Stdout> {
    let (jobs, inbox) = mpsc::channel::<Job>();
    let work = move || {
        let mut backlog = Backlog::default();
        for (mut bytes, answer) in inbox {
            backlog.tail().append(&mut bytes);
            let outcome = loop {
                match drain(&mut backlog) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(NAP),
                    outcome => break outcome,
                }
            };
            // Nobody listens any more once the sink has been dropped.
            let _ = answer.send(outcome);
        }
    };
    thread::Builder::new().name("stdout".to_owned()).spawn(work).context("start the thread of standard output")?;
    Ok(Stdout { encoder: Encoder::new(encode), waiting: Vec::new(), jobs, answer: None })
}

impl Stdout {
    /// Waits for what the thread has in hand.
    async fn settle(&mut self) -> Result<(), SinkError> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        let outcome = answer.await;
        self.answer = None;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Err(SinkError::Never(anyhow!("standard output was closed")))
            }
            Ok(Err(error)) => Err(verdict(error, "write to standard output")),
            Err(_) => Err(SinkError::Never(anyhow!("the thread of standard output is gone"))),
        }
    }

    async fn write_out(&mut self) -> Result<(), SinkError> {
        // An error of an abandoned call comes again, because the thread keeps what it could not write.
        if self.answer.is_some() {
            self.settle().await?;
        }
        let (answer, receiver) = oneshot::channel();
        self.jobs
            .send((std::mem::take(&mut self.waiting), answer))
            .map_err(|_| SinkError::Never(anyhow!("the thread of standard output is gone")))?;
        self.answer = Some(receiver);
        self.settle().await
    }
}

impl Sink for Stdout {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, SinkError>> {
        async move {
            let mut refused = Vec::new();
            self.encoder.encode(batch, 0..batch.len(), &mut self.waiting, &mut refused);
            let refused = refusals(refused);
            if self.waiting.len() < SPILL { Ok(refused) } else { spill(self, refused).await }
        }
        .boxed()
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.write_out().boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::batch::Column;

    fn lines(items: &[&str]) -> Batch {
        Batch::of_values(items.iter().collect())
    }

    /// A standard output that does what it is told, one answer a call, and remembers what it took.
    fn over(mut answer: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static) -> (Stdout, Arc<Mutex<Vec<u8>>>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keep = taken.clone();
        let sink = start(Format::Lines, move |backlog| {
            backlog.drain(usize::MAX, |bytes| {
                let count = answer(bytes)?;
                keep.lock().unwrap().extend_from_slice(&bytes[..count]);
                Ok(count)
            })
        });
        (sink.unwrap(), taken)
    }

    #[tokio::test]
    async fn lines_come_out_at_a_flush_and_not_before() {
        let (mut sink, taken) = over(|bytes| Ok(bytes.len()));
        sink.write(&lines(&["a", "b"])).await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), 0);
        sink.flush().await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"a\nb\n");
    }

    #[tokio::test]
    async fn more_than_a_spill_comes_out_without_a_flush() {
        let (mut sink, taken) = over(|bytes| Ok(bytes.len()));
        sink.write(&Batch::of_values(Column::repeat(&[b'x'; 1023], SPILL / 1024))).await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), SPILL);
    }

    #[tokio::test]
    async fn a_closed_reader_ends_the_sink_for_good() {
        let (mut sink, _) = over(|_| Err(ErrorKind::BrokenPipe.into()));
        sink.write(&lines(&["a"])).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert!(matches!(&error, SinkError::Never(error) if error.to_string() == "standard output was closed"));
    }

    #[tokio::test]
    async fn a_full_disk_passes_and_no_byte_is_written_twice() {
        let mut calls = 0;
        let (mut sink, taken) = over(move |bytes| {
            calls += 1;
            match calls {
                1 => Err(ErrorKind::WouldBlock.into()),
                2 | 5 => Ok(bytes.len().min(3)),
                3 | 6 => Err(ErrorKind::StorageFull.into()),
                _ => Ok(bytes.len()),
            }
        });
        sink.write(&lines(&["hello", "world"])).await.unwrap();
        assert!(matches!(sink.flush().await, Err(SinkError::Later(_))));
        sink.flush().await.unwrap();
        sink.write(&lines(&["again"])).await.unwrap();
        assert!(matches!(sink.flush().await, Err(SinkError::Later(_))));
        sink.flush().await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"hello\nworld\nagain\n");
    }

    #[tokio::test]
    async fn a_paused_terminal_blocks_neither_the_runtime_nor_a_later_flush() {
        let (go, wait) = mpsc::channel::<()>();
        let (mut sink, taken) = over(move |bytes| {
            let _ = wait.recv();
            Ok(bytes.len())
        });
        sink.write(&lines(&["a"])).await.unwrap();
        // The runtime has this one thread, and polls on while the other one is stuck.
        assert!(futures::poll!(sink.flush()).is_pending());
        sink.write(&lines(&["b"])).await.unwrap();
        assert!(futures::poll!(sink.flush()).is_pending());
        drop(go);
        sink.flush().await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"a\nb\n");
    }
}
