//! Source `file`: the files that a pattern names, read once or followed as they grow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `file:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A path or a glob pattern, relative to the pipeline's file.
    pub path: String,
    /// Whether to wait for more at the end, across rotation and truncation.
    #[serde(default)]
    pub follow: bool,
}
