//! Sink `file`: appends to files below one folder, which the path of each record may choose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::{Size, Span};

/// What `file:` of a sink takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path relative to the pipeline's file. `{key}`, `{/json/pointer}` and `{time:%Y-%m-%d}` are filled from each
    /// record and cannot leave the folder in front of the first of them.
    pub path: String,
    /// When to begin another file; not at all when absent.
    pub rotate: Option<Rotate>,
}

/// When a file is full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// At this size.
    pub bytes: Option<Size>,
    /// At this age.
    pub every: Option<Span>,
}
