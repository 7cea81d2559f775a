//! What a plugin says about itself.
//!
//! Owns the document that `describe` returns. It must not know how it was asked. Invariant: unknown fields are ignored,
//! so that a plugin of a later contract can still be named.

use std::sync::Arc;

use serde::Deserialize;

use super::Kind;

/// A plugin's description of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Described {
    /// Version of the contract that it was built against.
    pub contract: String,
    /// What it does with records.
    pub kind: Kind,
    /// Name, as its author gave it.
    pub name: String,
    /// Version, as its author gave it.
    #[serde(default)]
    pub version: String,
    /// Whether it wants the payloads.
    #[serde(default = "yes")]
    pub values: bool,
    /// Columns wanted beside the payloads: `keys` (also of groups), `timestamps`, `headers`, `windows` (of groups), or
    /// the name of a further column.
    #[serde(default)]
    pub needs: Vec<Arc<str>>,
    /// Names of the side outputs; output `i + 1` of a reply is `outputs[i]`.
    #[serde(default)]
    pub outputs: Vec<Arc<str>>,
    /// Whether the side outputs are the names of the fields of the configuration instead, in ascending order.
    #[serde(default)]
    pub outputs_from_config: bool,
    /// Version of the states that it writes.
    #[serde(default)]
    pub state_version: u32,
    /// Versions of states that it can write, its own included.
    #[serde(default)]
    pub writes_state_versions: Vec<u32>,
    /// JSON Schema of its configuration.
    #[serde(default)]
    pub config_schema: Option<serde_json::Value>,
    /// Batches and what they must come to, for a reload to try.
    #[serde(default)]
    pub selftest: Option<serde_json::Value>,
}

fn yes() -> bool {
    true
}

impl Described {
    /// Names of the side outputs under `config`.
    pub fn outputs(&self, config: &serde_json::Value) -> Vec<Arc<str>> {
        if !self.outputs_from_config {
            return self.outputs.clone();
        }
        let mut names: Vec<Arc<str>> =
            config.as_object().into_iter().flat_map(|fields| fields.keys()).map(|name| name.as_str().into()).collect();
        names.sort_unstable();
        names
    }
}
