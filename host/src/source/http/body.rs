//! The bytes of one request's body, received, inflated and accounted for.
//!
//! Owns the limits of a body: size, size inflated, ratio, pace, and its share of the budget for all bodies. It must not
//! know what the bytes mean. Invariant: no byte is kept that has no permit of the budget.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::answer::{Answer, Outcome};

/// Below this, inflating is harmless at any ratio, and short texts of one kind do reach high ones.
const FLOOR: usize = 64 << 10;

/// A whole body. Dropping it gives its bytes back to the budget.
pub(super) struct Body {
    bytes: Vec<u8>,
    budget: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes that it may hold.
    cap: usize,
    /// Why a write failed.
    refusal: Option<Answer>,
}

impl Body {
    /// The bytes, inflated.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes room for `more` bytes, or says why there is none.
    fn reserve(&mut self, more: usize) -> Result<(), Answer> {
        let needed = self.bytes.len() + more;
        if needed > self.cap {
            return Err(Answer::TooLarge(format!("the body is over {} bytes", self.cap)));
        }
        let held = self.bytes.capacity();
        if needed <= held {
            return Ok(());
        }
        let target = (held * 2).clamp(needed, self.cap.max(needed));
        let grow = u32::try_from(target - held).unwrap_or(u32::MAX);
        let Ok(permit) = self.budget.clone().try_acquire_many_owned(grow) else {
            return Err(Answer::Busy("too many bodies in hand"));
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        self.bytes.reserve_exact(target - self.bytes.len());
        Ok(())
    }
}

/// Takes every byte or none, so that an inflating writer can be laid over it.
impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(refusal) = self.reserve(bytes.len()) {
            self.refusal = Some(refusal);
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where received bytes go.
enum Intake {
    Plain(Body),
    Gzip(Box<MultiGzDecoder<Body>>),
}

impl Intake {
    fn body(&mut self) -> &mut Body {
        match self {
            Self::Plain(body) => body,
            Self::Gzip(inflate) => inflate.get_mut(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Answer> {
        let result = match self {
            Self::Plain(body) => body.write_all(bytes),
            Self::Gzip(inflate) => inflate.write_all(bytes),
        };
        result.map_err(|error| self.refusal(&error))
    }

    fn refusal(&mut self, error: &io::Error) -> Answer {
        self.body().refusal.take().unwrap_or_else(|| unreadable(error))
    }
}

fn unreadable(error: &io::Error) -> Answer {
    Answer::Decided(Outcome::unreadable(format!("the body is no gzip: {error}")))
}

/// Receives the body of a request.
///
/// # Errors
/// The answer, where the body is not to be had: over a limit, too slow, broken, or the client has gone.
pub(super) async fn receive(
    mut incoming: Incoming,
    gzip: bool,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Body, Answer> {
    let over = || Answer::TooLarge(format!("the body is over {} bytes", limits.raw));
    if incoming.size_hint().lower() > limits.raw as u64 {
        return Err(over());
    }
    let empty = Body { bytes: Vec::new(), budget: budget.clone(), permit: None, cap: limits.raw, refusal: None };
    let mut intake = if gzip { Intake::Gzip(Box::new(MultiGzDecoder::new(empty))) } else { Intake::Plain(empty) };
    let begin = Instant::now();
    let mut raw = 0_usize;
    loop {
        // Every byte buys time, up to the whole body's: a trickle below the least rate runs out of it.
        let earned = limits.body_grace + Duration::from_secs_f64(raw as f64 / f64::from(limits.body_rate));
        let frame = match timeout_at(begin + earned.min(limits.body), incoming.frame()).await {
            Err(_) => return Err(Answer::TooSlow),
            Ok(None) => break,
            // Nobody is there to read this; nothing of the body has gone anywhere.
            Ok(Some(Err(error))) => return Err(Answer::Decided(Outcome::unreadable(error.to_string()))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(mut data) = frame.into_data() else { continue };
        raw += data.remaining();
        if raw > limits.raw {
            return Err(over());
        }
        if gzip {
            intake.body().cap = raw.saturating_mul(limits.ratio).max(FLOOR).min(limits.inflated);
        }
        while data.has_remaining() {
            let taken = data.chunk().len();
            intake.put(data.chunk())?;
            data.advance(taken);
        }
    }
    match intake {
        Intake::Plain(body) => Ok(body),
        Intake::Gzip(mut inflate) => match inflate.try_finish() {
            Ok(()) => inflate.finish().map_err(|error| unreadable(&error)),
            Err(error) => Err(inflate.get_mut().refusal.take().unwrap_or_else(|| unreadable(&error))),
        },
    }
}
