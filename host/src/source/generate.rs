//! Source `generate`: seeded records for trials and benchmarks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `generate:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed: the same seed gives the same records.
    pub seed: u64,
    /// How many records; without it the source never ends.
    pub count: Option<u64>,
    /// Number of different keys.
    pub keys: u64,
    /// Size of a record, in bytes.
    pub size: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { seed: 0, count: None, keys: 100, size: 256 }
    }
}
