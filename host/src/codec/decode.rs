//! Bytes to columns.
//!
//! Owns the way from a stretch of input to stamped records. It must not know what a stretch is: a read of a file, a
//! body, a frame. Invariant: records, refusals and places do not depend on how the input was cut.

use serde::{Deserialize, Serialize};

use super::{Format, Stamp, Undecoded};
use crate::batch::{BatchBuilder, Limit};

/// Where the bytes in hand stand.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Name of the input, such as a path.
    pub name: &'a str,
    /// Offset of the first byte in hand within the input.
    pub offset: u64,
}

/// What a decoder has to remember at an offset of its input, besides the offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    lines: u64,
    records: u64,
}

/// Turns the bytes of one input into records.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    progress: Progress,
}

impl Decoder {
    /// A decoder at the beginning of an input. A record of more than `max_record` bytes is refused.
    pub fn new(format: Format, stamp: &Stamp, max_record: usize) -> Self {
        let _ = (stamp, max_record);
        Self { format, progress: Progress::default() }
    }

    /// A decoder for a JSON document: each element of a top-level array is a record, any other value is one.
    pub fn of_document(stamp: &Stamp, max_record: usize) -> Self {
        Self::new(Format::Raw, stamp, max_record)
    }

    /// A builder with the columns that this decoder fills.
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(false, false, false, [].into())
    }

    /// What has to be kept to go on at the offset reached.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Goes on where another decoder of the same format stood; `Progress::default()` is the beginning of an input.
    pub fn restore(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Decodes whole records into `out` until [`is_full`], and says how many bytes were used up. The caller passes
    /// the rest again, with more behind it: an unfinished record is used up only once it is over the limit.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        out: &mut BatchBuilder,
        undecoded: &mut Vec<Undecoded>,
        most: Limit,
    ) -> usize {
        let _ = (self.format, bytes, origin, out, undecoded, most);
        0
    }

    /// Like [`feed`](Self::feed) where nothing comes after `bytes`: an unfinished record is a record. To be called
    /// until everything is used up; then the decoder stands at the beginning of the next input.
    pub fn end(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        out: &mut BatchBuilder,
        undecoded: &mut Vec<Undecoded>,
        most: Limit,
    ) -> usize {
        self.feed(bytes, origin, out, undecoded, most)
    }
}

/// Whether a decoder would add nothing to these before they are taken away.
pub fn is_full(out: &BatchBuilder, undecoded: &[Undecoded], most: Limit) -> bool {
    out.is_full(most) || out.len() + undecoded.len() >= most.records
}
