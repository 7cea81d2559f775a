//! Columns to bytes.
//!
//! Owns how each format writes a record and which it cannot write.

use std::ops::Range;

use super::Format;
use crate::batch::Batch;

/// A record that a format cannot write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the record in the batch.
    pub at: usize,
    /// Why it cannot be written.
    pub reason: String,
}

/// Turns records into the bytes of one output.
#[derive(Clone, Debug)]
pub struct Encoder {
    format: Format,
}

impl Encoder {
    /// An encoder at the beginning of an output.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// An encoder for the end of an output that begins with `head`, which has to reach past the first line.
    ///
    /// # Errors
    /// When `head` is no beginning that this format could have written.
    pub fn resume(format: Format, head: &[u8]) -> anyhow::Result<Self> {
        let _ = head;
        Ok(Self { format })
    }

    /// Appends the records at `records` to `out`, those that the format cannot write to `refused`.
    pub fn encode(&mut self, batch: &Batch, records: Range<usize>, out: &mut Vec<u8>, refused: &mut Vec<Refusal>) {
        let _ = (self.format, batch, records, out, refused);
    }
}
