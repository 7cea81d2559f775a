//! Bytes to columns and back.
//!
//! Owns the formats: what a record is in each, what is refused, where it is stamped from, and how it is written. It
//! must not know where bytes come from or go to. Invariant: the same bytes give the same records and the same
//! refusals, however they are cut into chunks.

mod decode;
mod encode;
mod frame;
mod instant;
pub mod pack;
mod restamp;
mod row;
pub mod scan;

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use decode::{Decoder, Origin, id_of, is_full};
pub use encode::{Encoder, Refusal};
pub use frame::Progress;
pub use instant::milliseconds;
pub use restamp::Restamp;

/// How bytes are cut into records, and records put into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A record a line, whatever is in it.
    Lines,
    /// A JSON value a line.
    Json,
    /// Comma-separated values with a header line; each record becomes a JSON object.
    Csv,
    /// Everything in one record.
    Raw,
}

/// What is read from the JSON of each record while it is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// JSON pointer to the key.
    pub key: Option<String>,
    /// JSON pointer to the event time: RFC 3339, or a number of milliseconds.
    pub time: Option<String>,
    /// JSON pointers to the fields that plugins asked for as columns.
    pub fields: Arc<[Arc<str>]>,
    /// What ids are made of beside the place of a record, where somebody needs ids: a hash of the source's name.
    pub ids: Option<u128>,
}

/// Most bytes of a record that [`Undecoded`] keeps: enough to see what it was, little enough to keep many.
pub const MAX_UNDECODED: usize = 64 << 10;

/// Input that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// Where it stood, such as `access.ndjson:17 (byte 4096)`.
    pub place: String,
    /// Its position among the records of its input, those not decoded included, from 0.
    pub index: u64,
    /// What is wrong with it.
    pub reason: String,
    /// The bytes, cut off at [`MAX_UNDECODED`].
    pub raw: Bytes,
}

#[cfg(test)]
mod tests;
