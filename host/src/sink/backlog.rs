//! Bytes that a sink has taken in and not yet written.
//!
//! Owns where writing goes on after a short write or a full disk, and which errors of the system pass. It must not know
//! what is written to. Invariant: every byte is handed to the writer exactly once, in order.

use std::{
    fmt::Display,
    io::{self, ErrorKind},
};

use rustix::io::Errno;

use super::{Refused, SinkError};
use crate::codec::Refusal;

/// Bytes that wait before they are written without a flush: a system call for a thousand records, and no more memory
/// than a batch.
pub(super) const SPILL: usize = 256 << 10;

/// A buffer with its front at the first byte that has not been written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

impl Backlog {
    /// Where bytes are added, at the end.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// The bytes that wait.
    pub(super) fn front(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Says that the first `taken` of them have been written.
    pub(super) fn advance(&mut self, taken: usize) {
        self.written += taken.min(self.len());
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// Writes the first `most` bytes that wait, or as many as there are.
    ///
    /// # Errors
    /// What `write` says but for interruptions; what it has taken is not offered again.
    pub(super) fn drain(&mut self, most: usize, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut left = most.min(self.len());
        while left > 0 {
            match write(&self.front()[..left]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.advance(taken.min(left));
                    left -= taken.min(left);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives memory above `most` bytes back, once nothing waits.
    pub(super) fn shrink(&mut self, most: usize) {
        if self.bytes.is_empty() {
            self.bytes.shrink_to(most);
        }
    }
}

/// What an encoder refused, as a sink tells it.
pub(super) fn refusals(refused: Vec<Refusal>) -> impl Iterator<Item = Refused> {
    refused.into_iter().map(|Refusal { at, reason }| Refused { at: at as i64, reason })
}

/// Whether an error of the system may pass: space, descriptors and memory may come back, the rest does not.
pub(super) fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::Interrupted | ErrorKind::WouldBlock
    ) || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

/// What an error of the system means to a sink.
pub(super) fn verdict(error: io::Error, doing: impl Display + Send + Sync + 'static) -> SinkError {
    let passes = passes(&error);
    let error = anyhow::Error::new(error).context(doing.to_string());
    if passes { SinkError::Later(error) } else { SinkError::Never(error) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled_however_the_writer_stutters(
            steps in proptest::collection::vec((any::<u8>(), 0usize..40, 0usize..60), 1..60),
        ) {
            let (mut backlog, mut expected, mut written) = (Backlog::default(), Vec::new(), Vec::new());
            for (kind, added, most) in steps {
                let new: Vec<u8> = (0..added).map(|i| (expected.len() + i) as u8).collect();
                backlog.tail().extend_from_slice(&new);
                expected.extend(new);
                let mut calls = 0;
                let outcome = backlog.drain(most, |bytes| {
                    calls += 1;
                    match (kind as usize + calls) % 4 {
                        0 => Err(ErrorKind::Interrupted.into()),
                        1 if calls > 2 => Err(ErrorKind::StorageFull.into()),
                        _ => {
                            let taken = bytes.len().min(1 + kind as usize % 7);
                            written.extend_from_slice(&bytes[..taken]);
                            Ok(taken)
                        }
                    }
                });
                if let Err(error) = outcome {
                    prop_assert!(matches!(verdict(error, "write"), SinkError::Later(_)));
                }
            }
            backlog.drain(usize::MAX, |bytes| { written.extend_from_slice(bytes); Ok(bytes.len()) }).unwrap();
            prop_assert_eq!(written, expected);
        }
    }

    #[test]
    fn space_and_descriptors_may_come_back_and_permissions_do_not() {
        for (errno, passes) in [
            (Errno::NOSPC, true),
            (Errno::DQUOT, true),
            (Errno::INTR, true),
            (Errno::AGAIN, true),
            (Errno::MFILE, true),
            (Errno::IO, false),
            (Errno::ACCESS, false),
            (Errno::ROFS, false),
            (Errno::PIPE, false),
        ] {
            assert_eq!(matches!(verdict(errno.into(), "write"), SinkError::Later(_)), passes, "{errno:?}");
        }
    }
}
