//! A plugin's configuration, from the host's JSON to the author's type.
//!
//! Owns what a plugin without configuration takes, and the names of outputs that come from a configuration. It must not
//! know when the host calls. Invariant: after it has been read it never changes, so a plugin keeps nothing else.

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::describe::Plugin;

/// The configuration of a plugin whose function takes none: an object without fields.
///
/// ```
/// assert!(serde_json::from_str::<tidegate_plugin::NoConfig>("{}").is_ok());
/// assert!(serde_json::from_str::<tidegate_plugin::NoConfig>(r#"{ "a": 1 }"#).is_err());
/// ```
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A plugin that has been told its configuration.
#[doc(hidden)]
pub struct Configured<P: Plugin> {
    pub(crate) config: P::Config,
    /// Names of the side outputs, in the order of their ports.
    pub(crate) outputs: Vec<String>,
}

/// Reads `config`, a JSON document; nothing and `null` stand for an object without fields.
///
/// # Errors
/// What does not fit the author's type, in one line.
pub fn configure<P: Plugin>(config: &str) -> Result<Configured<P>, String> {
    read(config).map_err(|error| format!("{error:#}"))
}

fn read<P: Plugin>(config: &str) -> anyhow::Result<Configured<P>> {
    let document = match config.trim() {
        "" | "null" => "{}",
        document => document,
    };
    let outputs = if P::FACTS.outputs_from_config {
        let fields: Value = serde_json::from_str(document).context("configuration is not JSON")?;
        let mut names: Vec<String> =
            fields.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
        names.sort_unstable();
        names
    } else {
        P::FACTS.outputs.iter().map(ToString::to_string).collect()
    };
    let config = serde_json::from_str(document).context("configuration does not fit")?;
    Ok(Configured { config, outputs })
}
