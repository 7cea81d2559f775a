//! Bytes to columns and back.
//!
//! Owns the formats. It must not know where bytes come from or go to.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
