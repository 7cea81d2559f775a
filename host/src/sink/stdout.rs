//! Sink `stdout`: encoded records on the host's standard output.
//!
//! Owns a thread that does the writing, so that a paused terminal or a slow pipe holds up this sink and neither the
//! runtime nor its shutdown. Invariant: what is handed to the thread is written under the lock of standard output, and
//! whoever flushes has handed over whole records, so that several sinks may share it.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWrite, sync::oneshot};

use super::{
    backlog::Backlog,
    writer::{WriterSink, from_writer},
};
use crate::codec::Format;

/// What `stdout:` of a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Pause before a non-blocking standard output, as some parents leave behind, is tried again.
const NAP: Duration = Duration::from_millis(5);

/// Bytes for the writing thread, and where it says what came of them. The thread ends when the sender is dropped.
type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// Standard output, seen from the side that does not wait.
#[derive(Debug)]
pub struct Stdout {
    jobs: mpsc::Sender<Job>,
    /// What the thread has in hand; outlives a dropped future.
    answer: Option<oneshot::Receiver<io::Result<()>>>,
    /// The thread keeps bytes that it could not write, and has to be told to go on.
    is_owed: bool,
}

/// Opens standard output.
///
/// # Errors
/// When no thread can be started.
pub fn open(encode: Format) -> anyhow::Result<WriterSink<Stdout>> {
    start(encode, |backlog| {
        let out = io::stdout().lock();
        backlog.drain(usize::MAX, |bytes| Ok(rustix::io::write(&out, bytes)?))
    })
}

fn start(
    encode: Format,
    mut drain: impl FnMut(&mut Backlog) -> io::Result<()> + Send + 'static,
) -> anyhow::Result<WriterSink<Stdout>> {
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
    Ok(from_writer(Stdout { jobs, answer: None, is_owed: false }, encode))
}

impl Stdout {
    fn hand_over(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let (answer, receiver) = oneshot::channel();
        self.jobs.send((bytes, answer)).map_err(|_| gone())?;
        self.answer = Some(receiver);
        Ok(())
    }

    /// Waits for what the thread has in hand. The error of an abandoned wait comes again, for the thread keeps what it
    /// could not write.
    fn settle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Ok(())) };
        let outcome = ready!(Pin::new(answer).poll(context));
        self.answer = None;
        let outcome = outcome.unwrap_or_else(|_| Err(gone()));
        self.is_owed = outcome.is_err();
        Poll::Ready(outcome.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, "standard output was closed"),
            _ => error,
        }))
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread of standard output is gone")
}

impl AsyncWrite for Stdout {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.settle(context))?;
        self.hand_over(bytes.to_vec())?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.answer.is_none() && self.is_owed {
            self.hand_over(Vec::new())?;
        }
        self.settle(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::{Sink as _, SinkError, backlog::SPILL};
    use super::*;
    use crate::{
        batch::{Batch, Column},
        sink::tests::write,
    };

    fn lines(items: &[&str]) -> Batch {
        Batch::of_values(items.iter().collect())
    }

    /// A standard output that does what it is told, one answer a call, and remembers what it took.
    fn over(
        mut answer: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static,
    ) -> (WriterSink<Stdout>, Arc<Mutex<Vec<u8>>>) {
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
        write(&mut sink, &lines(&["a", "b"])).await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), 0);
        sink.flush(&mut Vec::new()).await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"a\nb\n");
    }

    #[tokio::test]
    async fn more_than_a_spill_comes_out_without_a_flush() {
        let (mut sink, taken) = over(|bytes| Ok(bytes.len()));
        write(&mut sink, &Batch::of_values(Column::repeat(&[b'x'; 1023], SPILL / 1024))).await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), SPILL);
    }

    #[tokio::test]
    async fn a_closed_reader_ends_the_sink_for_good() {
        let (mut sink, _) = over(|_| Err(ErrorKind::BrokenPipe.into()));
        write(&mut sink, &lines(&["a"])).await.unwrap();
        let error = sink.flush(&mut Vec::new()).await.unwrap_err();
        assert!(
            matches!(&error, SinkError::Never(error) if error.root_cause().to_string() == "standard output was closed")
        );
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
        write(&mut sink, &lines(&["hello", "world"])).await.unwrap();
        assert!(matches!(sink.flush(&mut Vec::new()).await, Err(SinkError::Later(_))));
        sink.flush(&mut Vec::new()).await.unwrap();
        write(&mut sink, &lines(&["again"])).await.unwrap();
        assert!(matches!(sink.flush(&mut Vec::new()).await, Err(SinkError::Later(_))));
        sink.flush(&mut Vec::new()).await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"hello\nworld\nagain\n");
    }

    #[tokio::test]
    async fn a_paused_terminal_blocks_neither_the_runtime_nor_a_later_flush() {
        let (go, wait) = mpsc::channel::<()>();
        let (mut sink, taken) = over(move |bytes| {
            let _ = wait.recv();
            Ok(bytes.len())
        });
        write(&mut sink, &lines(&["a"])).await.unwrap();
        // The runtime has this one thread, and polls on while the other one is stuck.
        assert!(futures::poll!(sink.flush(&mut Vec::new())).is_pending());
        write(&mut sink, &lines(&["b"])).await.unwrap();
        assert!(futures::poll!(sink.flush(&mut Vec::new())).is_pending());
        drop(go);
        sink.flush(&mut Vec::new()).await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"a\nb\n");
    }
}
