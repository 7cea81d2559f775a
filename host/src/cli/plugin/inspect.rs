//! `plugin inspect`: what a plugin says about itself, and what it wants.

use clap::Args;
use serde::Serialize;

use super::{Answer, Outcome, figure, load};
use crate::plugin::Kind;

#[derive(Args, Debug)]
pub(in crate::cli) struct Inspect {
    /// A component or a wasm32-wasip1 module, or `std/NAME`.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
}

/// What there is to say about a plugin.
#[derive(Serialize)]
struct Seen {
    name: String,
    version: String,
    kind: Kind,
    contract: String,
    size: u64,
    digest: String,
    values: bool,
    needs: Vec<String>,
    outputs: Vec<String>,
    outputs_from_config: bool,
    state_version: u32,
    imports: Vec<String>,
    config_schema: Option<serde_json::Value>,
}

impl Inspect {
    pub(super) fn perform(self) -> Outcome {
        let plugin = load(&self.plugin)?;
        let described = plugin.described();
        let texts = |all: &[std::sync::Arc<str>]| all.iter().map(ToString::to_string).collect();
        let seen = Seen {
            name: described.name.clone(),
            version: described.version.clone(),
            kind: plugin.kind(),
            contract: described.contract.clone(),
            size: plugin.size(),
            digest: plugin.digest().to_owned(),
            values: described.values,
            needs: texts(&described.needs),
            outputs: texts(&described.outputs),
            outputs_from_config: described.outputs_from_config,
            state_version: described.state_version,
            imports: plugin.imports().to_vec(),
            config_schema: described.config_schema.clone(),
        };
        let text = seen.text();
        Ok(Answer::fine(format!("{} {}, {}", seen.name, seen.version, seen.kind), &seen, text))
    }
}

impl Seen {
    fn text(&self) -> String {
        let listed = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        let outputs =
            if self.outputs_from_config { "the fields of its config".to_owned() } else { listed(&self.outputs) };
        let needs = if self.values {
            ["values".to_owned()].iter().chain(&self.needs).cloned().collect()
        } else {
            self.needs.clone()
        };
        let mut out = format!("{} {}\n", self.name, self.version);
        let mut line = |name: &str, value: String| out.push_str(&format!("  {name:9} {value}\n"));
        line("kind", self.kind.to_string());
        line("contract", self.contract.clone());
        line("size", format!("{} bytes", figure::count(self.size)));
        line("sha256", self.digest.clone());
        line("needs", listed(&needs));
        line("outputs", outputs);
        if self.kind == Kind::Aggregate {
            line("state", format!("version {}", self.state_version));
        }
        line("imports", listed(&self.imports));
        match &self.config_schema {
            Some(schema) => line("config", format!("{schema:#}").replace('\n', "\n            ")),
            None => line("config", "anything".to_owned()),
        }
        out
    }
}
