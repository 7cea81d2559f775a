//! Source `host_metrics`: what this machine measures about itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::Span;

/// What `host_metrics:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often to measure.
    pub every: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { every: Span(Duration::from_secs(1)) }
    }
}
