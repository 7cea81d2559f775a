//! Sink `stdout`: encoded records on the host's standard output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `stdout:` of a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}
