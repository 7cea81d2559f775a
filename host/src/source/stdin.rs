//! Source `stdin`: what is piped into the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `stdin:` of a source takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}
