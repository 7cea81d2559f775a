//! What a plugin is, and how it says so.
//!
//! Owns the facts that an attribute gathers and the JSON document made of them. It must not know what the plugin does.
//! Invariant: the document says only what the attribute was told, the author's crate and the configuration's type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Version of the contract that plugins built with this crate speak.
const CONTRACT: &str = "0.1.0";

/// What a plugin does with records.
///
/// ```
/// use tidegate_plugin::{Kind, Plugin, prelude::*};
///
/// #[map]
/// fn pass(_record: &Record) -> Result<Output> { Ok(Output::same()) }
/// # fn main() {
/// assert_eq!(pass::FACTS.kind, Kind::Map);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps some records.
    Filter,
    /// Turns each record into none, one or many.
    Map,
    /// Folds the records of each group into a state.
    Aggregate,
}

/// What an attribute knows about the plugin that it makes; fields are as in the contract's `describe`.
///
/// ```
/// use tidegate_plugin::{Plugin, prelude::*};
///
/// #[filter(fields = ["/a"], needs = ["keys"])]
/// fn some(_record: &Record) -> Result<bool> { Ok(true) }
/// # fn main() {
/// assert_eq!((some::FACTS.values, some::FACTS.needs), (false, &["keys", "field:/a"][..]));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What it does.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// Its crate's version.
    pub version: &'static str,
    /// Whether payloads have to cross.
    pub values: bool,
    /// Names of the columns it asks for; those of fields come last, in the order of `fields`.
    pub needs: &'static [&'static str],
    /// JSON pointers of the fields it asks for.
    pub fields: &'static [&'static str],
    /// Names of its side outputs.
    pub outputs: &'static [&'static str],
    /// Whether its side outputs are instead the fields of its configuration, in ascending order.
    pub outputs_from_config: bool,
    /// Vectors that it has to pass before it serves, as JSON.
    pub selftest: Option<&'static str>,
    /// Version of the states that it writes.
    pub state_version: u32,
    /// Versions of states that it can write.
    pub writes_state_versions: &'static [u32],
}

/// A plugin as a type; the attributes implement it.
///
/// ```
/// use tidegate_plugin::{Plugin, prelude::*};
///
/// #[filter(needs = ["keys"])]
/// fn keyed(record: &Record) -> Result<bool> {
///     Ok(!record.key()?.is_empty())
/// }
/// # fn main() {
/// assert_eq!(keyed::FACTS.needs, ["keys"]);
/// # }
/// ```
pub trait Plugin: Sized + 'static {
    /// What the stage's `config` has to hold.
    type Config: DeserializeOwned + JsonSchema + 'static;
    /// What the attribute was told.
    const FACTS: Facts;
}

/// The document that `describe` returns.
pub fn describe<P: Plugin>() -> String {
    let facts = P::FACTS;
    let kind = match facts.kind {
        Kind::Filter => "filter",
        Kind::Map => "map",
        Kind::Aggregate => "aggregate",
    };
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<P::Config>();
    let mut document = json!({
        "contract": CONTRACT,
        "kind": kind,
        "name": facts.name,
        "version": facts.version,
        "values": facts.values,
        "needs": facts.needs,
        "config-schema": schema,
    });
    let mut say = |name: &str, value: Value| document[name] = value;
    if !facts.outputs.is_empty() {
        say("outputs", json!(facts.outputs));
    }
    if facts.outputs_from_config {
        say("outputs-from-config", json!(true));
    }
    if let Some(vectors) = facts.selftest {
        // What is no JSON crosses as a text that says so, for the host to refuse.
        let vectors = serde_json::from_str(vectors).unwrap_or_else(|error| json!(format!("no JSON: {error}")));
        say("selftest", vectors);
    }
    if facts.kind == Kind::Aggregate {
        say("state-version", json!(facts.state_version));
        say("writes-state-versions", json!(facts.writes_state_versions));
    }
    document.to_string()
}
