//! One connection: its patience with slow clients, and its last words.
//!
//! Owns the time limits outside a body. It must not know what is requested. Hyper's own timer counts from the end of an
//! answer to the end of the next head, which is the idle limit here; the time for a head counts from its first byte,
//! and only the bytes tell when that is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::serve::{self, Door};

/// Nothing of a request is there.
const IDLE: u8 = 0;
/// A head has begun.
const HEAD: u8 = 1;
/// A request is in hand, its body has limits of its own.
const BUSY: u8 = 2;

/// Serves requests until the client leaves, breaks a limit, or the door closes.
pub(super) async fn serve(stream: TcpStream, door: Arc<Door>) {
    // Answers are short and waited for; without this they would be held back, which costs time but breaks nothing.
    let _ = stream.set_nodelay(true);
    let limits = door.limits.clone();
    let phase = Arc::new(AtomicU8::new(HEAD));
    let io = Patient { stream, phase: phase.clone(), header: limits.header, deadline: Box::pin(sleep(limits.header)) };
    let closing = door.closing.clone();
    let service = service_fn(move |request| {
        phase.store(BUSY, Ordering::Relaxed);
        let phase = phase.clone();
        serve::answer(door.clone(), request).inspect(move |_| phase.store(IDLE, Ordering::Relaxed)).boxed()
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(io), service);
    let served = tokio::select! {
        served = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        () = closing.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            std::future::poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    if served.as_ref().map_or_else(hyper::Error::is_parse, |()| true) {
        let stream = connection.into_parts().io.into_inner().stream;
        let _ = timeout(limits.linger, part(stream)).await;
    }
}

/// Closes our side and waits for the client's: closing both at once while bytes are still coming in would make the
/// kernel throw away the answer that says why.
async fn part(mut stream: TcpStream) -> io::Result<()> {
    let mut scratch = [0; 4096];
    stream.shutdown().await?;
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

/// A stream that gives a head so much time and no more.
struct Patient {
    stream: TcpStream,
    phase: Arc<AtomicU8>,
    header: Duration,
    /// When the head in hand has to be there.
    deadline: Pin<Box<Sleep>>,
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.phase.load(Ordering::Relaxed) == HEAD && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before && self.phase.load(Ordering::Relaxed) == IDLE {
            self.phase.store(HEAD, Ordering::Relaxed);
            let deadline = Instant::now() + self.header;
            self.deadline.as_mut().reset(deadline);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
