//! Columns to bytes.
//!
//! Owns how each format writes a record and which it cannot write. It must not know where the bytes go. Invariant:
//! what it writes decodes to the same records, but for two marks that every reader of lines takes away: a byte order
//! mark at the very beginning and a carriage return at the end of a line.

use std::ops::Range;

use anyhow::{Context, anyhow, bail};
use memchr::{memchr, memchr2};

use super::frame::{Cut, Framer, Progress, Shape, Tail, blanks};
use super::scan::{self, Span};
use super::{Format, row};
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
    /// Names of the columns, once there are any.
    header: Option<Vec<String>>,
    spans: Vec<Span>,
}

impl Encoder {
    /// An encoder at the beginning of an output.
    pub fn new(format: Format) -> Self {
        Self { format, header: None, spans: Vec::new() }
    }

    /// An encoder for the end of an output that begins with `head`: for [`Format::Csv`] the whole header line or
    /// more, or nothing if the output is empty; the others look at nothing.
    ///
    /// # Errors
    /// When `head` does not begin with a header line.
    pub fn resume(format: Format, head: &[u8]) -> anyhow::Result<Self> {
        let mut encoder = Self::new(format);
        if format != Format::Csv || head.is_empty() {
            return Ok(encoder);
        }
        let mut framer = Framer::new(Shape::Csv, head.len());
        let mut progress = Progress::default();
        let mut from = 0;
        encoder.header = loop {
            match framer.cut(&mut progress, head.get(from..).unwrap_or_default(), from as u64, Tail::Open) {
                Cut::Record([], eaten) | Cut::Pass(eaten) if eaten > 0 => from += eaten,
                Cut::Record(line, _) => {
                    break Some(row::header(line).map_err(|reason| anyhow!(reason)).context("read the header line")?);
                }
                Cut::Refused(_, _, reason) => bail!("read the header line: {reason}"),
                Cut::Pass(_) | Cut::Wait => bail!("find the end of the header line in the first {} bytes", head.len()),
            }
        };
        Ok(encoder)
    }

    /// Appends the records at `records` to `out`; those that the format cannot write go to `refused` instead.
    ///
    /// [`Format::Lines`] refuses a value with a line break. [`Format::Json`] writes a value with line breaks on one
    /// line, and refuses it if it is no JSON; a value on one line is taken at its word. [`Format::Csv`] writes the
    /// members of the first object as the header, and refuses what is no object or has other members.
    pub fn encode(&mut self, batch: &Batch, records: Range<usize>, out: &mut Vec<u8>, refused: &mut Vec<Refusal>) {
        for at in records {
            let Some(value) = batch.values().get(at) else { break };
            let written = match self.format {
                Format::Lines => push_line(value, out),
                Format::Json => push_json(value, out),
                Format::Csv => self.push_row(value, out),
                Format::Raw => {
                    out.extend_from_slice(value);
                    Ok(())
                }
            };
            if let Err(reason) = written {
                refused.push(Refusal { at, reason });
            }
        }
    }

    fn push_row(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let header = match &mut self.header {
            Some(header) => header,
            none => {
                let names = row::names_of(value)?;
                row::push_header(&names, out);
                none.insert(names)
            }
        };
        row::push_row(value, header, &mut self.spans, out)
    }
}

fn push_line(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if let Some(at) = memchr(b'\n', value) {
        return Err(format!("a line break at byte {at}, which a line cannot hold"));
    }
    out.extend_from_slice(value);
    out.push(b'\n');
    Ok(())
}

fn push_json(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if blanks(value) == value.len() {
        return Err("not JSON: nothing in it".to_owned());
    }
    if memchr2(b'\n', b'\r', value).is_some() {
        // In valid JSON a line break stands only where a blank may stand.
        scan::check(value).map_err(|error| format!("not JSON: {error}"))?;
        out.extend(value.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    } else {
        out.extend_from_slice(value);
    }
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests;
