//! Any async writer as a sink: standard output, and what programs that embed the library bring.
//!
//! Owns how a batch that could not be written is offered again. It must not know what the writer does.

use std::{collections::VecDeque, fmt, io::ErrorKind, pin::Pin};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{
    Refused, Sink, SinkError,
    backlog::{Backlog, SPILL, refusals, verdict},
};
use crate::{
    batch::Batch,
    codec::{Encoder, Format},
};

/// A sink that calls a function with each batch.
pub struct FnSink<F, Fut> {
    function: F,
    /// Batches that it has not taken yet.
    waiting: VecDeque<Batch>,
    /// Its work on the first of them; outlives a dropped future.
    work: Option<Pin<Box<Fut>>>,
}

/// A sink that hands each batch to `function`, one after the other. After [`SinkError::Later`] it is called again with
/// the same batch; what it wrote of that batch before the error is then its own business.
pub fn from_fn<F, Fut>(function: F) -> FnSink<F, Fut>
where
    F: FnMut(Batch) -> Fut + Send,
    Fut: Future<Output = Result<(), SinkError>> + Send,
{
    FnSink { function, waiting: VecDeque::new(), work: None }
}

impl<F, Fut> fmt::Debug for FnSink<F, Fut> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("FnSink").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<F, Fut> FnSink<F, Fut>
where
    F: FnMut(Batch) -> Fut + Send,
    Fut: Future<Output = Result<(), SinkError>> + Send,
{
    async fn work(&mut self) -> Result<(), SinkError> {
        while let Some(batch) = self.waiting.front() {
            let outcome = self.work.get_or_insert_with(|| Box::pin((self.function)(batch.clone()))).await;
            self.work = None;
            outcome?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

impl<F, Fut> Sink for FnSink<F, Fut>
where
    F: FnMut(Batch) -> Fut + Send,
    Fut: Future<Output = Result<(), SinkError>> + Send,
{
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.waiting.push_back(batch.clone());
        self.work().boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.work().boxed()
    }
}

/// A sink that writes encoded records to an [`AsyncWrite`].
#[derive(Debug)]
pub struct WriterSink<W> {
    writer: W,
    encoder: Encoder,
    backlog: Backlog,
}

/// A sink that encodes records as `encode` and writes them to `writer`, a quarter of a mebibyte at a time or at a flush.
pub fn from_writer<W: AsyncWrite + Unpin + Send>(writer: W, encode: Format) -> WriterSink<W> {
    WriterSink { writer, encoder: Encoder::new(encode), backlog: Backlog::default() }
}

impl<W: AsyncWrite + Unpin + Send> WriterSink<W> {
    async fn write_out(&mut self) -> Result<(), SinkError> {
        let failed = |error| verdict(error, "write");
        while !self.backlog.front().is_empty() {
            match self.writer.write(self.backlog.front()).await {
                Ok(0) => return Err(failed(ErrorKind::WriteZero.into())),
                Ok(taken) => self.backlog.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.writer.flush().await.map_err(failed)
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for WriterSink<W> {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            let mut unfit = Vec::new();
            self.encoder.encode(batch, 0..batch.len(), self.backlog.tail(), &mut unfit);
            refused.extend(refusals(unfit));
            if self.backlog.len() < SPILL { Ok(()) } else { self.write_out().await }
        }
        .boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.write_out().boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Arc, Mutex};

    use anyhow::anyhow;
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;
    use crate::sink::tests::write;

    fn lines(items: &[&str]) -> Batch {
        Batch::of_values(items.iter().collect())
    }

    #[tokio::test]
    async fn a_batch_that_was_put_off_is_offered_again_in_its_turn() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let tries = Cell::new(0);
        let mut sink = from_fn(move |batch: Batch| {
            tries.set(tries.get() + 1);
            let later = tries.get() == 2;
            if !later {
                keep.lock().unwrap().extend(batch.values().iter().map(<[u8]>::to_vec));
            }
            async move { if later { Err(SinkError::Later(anyhow!("busy"))) } else { Ok(()) } }
        });
        write(&mut sink, &lines(&["a"])).await.unwrap();
        assert!(matches!(write(&mut sink, &lines(&["b"])).await, Err(SinkError::Later(_))));
        sink.flush(&mut Vec::new()).await.unwrap();
        write(&mut sink, &lines(&["c"])).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [b"a", b"b", b"c"]);
    }

    #[tokio::test]
    async fn a_dropped_write_goes_on_where_it_was_left() {
        let started = Arc::new(Mutex::new(0));
        let count = started.clone();
        let (go, wait) = tokio::sync::watch::channel(false);
        let mut sink = from_fn(move |_| {
            *count.lock().unwrap() += 1;
            let mut wait = wait.clone();
            async move { wait.wait_for(|go| *go).await.map(|_| ()).map_err(|error| SinkError::Never(error.into())) }
        });
        let batch = lines(&["a"]);
        assert!(futures::poll!(sink.write(&batch, &mut Vec::new())).is_pending());
        go.send(true).unwrap();
        sink.flush(&mut Vec::new()).await.unwrap();
        assert_eq!(*started.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn bytes_reach_the_writer_once_though_a_slow_reader_had_the_flush_dropped() {
        let (near, mut far) = duplex(4);
        let mut sink = from_writer(near, Format::Lines);
        write(&mut sink, &lines(&["hello", "world"])).await.unwrap();
        assert!(futures::poll!(sink.flush(&mut Vec::new())).is_pending());
        let mut read = vec![0; 12];
        let mut refused = Vec::new();
        let (flushed, got) = tokio::join!(sink.flush(&mut refused), far.read_exact(&mut read));
        flushed.unwrap();
        got.unwrap();
        assert_eq!(read, b"hello\nworld\n");
    }
}
