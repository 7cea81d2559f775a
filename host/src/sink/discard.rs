//! Sink `discard`: counts records and lets them go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `discard:` of a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}
