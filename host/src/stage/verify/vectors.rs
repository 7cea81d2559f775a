//! Vectors: records with what must come of them, which a plugin carries in its description or an author keeps in a file.
//!
//! Owns their form. A vector is a JSON object: `config`, `records` of `value`, `key`, `time`, then what must come of them, in
//! order: `out` of `of` (the position of the record), `output`, `value`, `key`, `time`, and `refused`, positions. What an
//! entry of `out` does not say is not compared; a value that is no string is compared as JSON. Records of an aggregate fall
//! into groups by their key, which are finished in the order of keys. Invariant: a vector that says nothing of what comes out
//! demands that nothing does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Out, What, arrange::arrange, once};
use crate::{
    batch::{Batch, Column},
    plugin::{Limits, Plugin},
    stage::prepare::Wants,
};

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What the plugin is configured with.
    #[serde(default = "nothing")]
    pub config: Value,
    /// What comes in, as one batch.
    pub records: Vec<Given>,
    /// What must come out.
    #[serde(default)]
    pub out: Vec<Wanted>,
    /// Positions of the records that must be refused.
    #[serde(default)]
    pub refused: BTreeSet<u32>,
}

/// A record of a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Its payload: a string as it stands, anything else as JSON.
    pub value: Value,
    /// Its key.
    #[serde(default)]
    pub key: String,
    /// Its event time, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub time: i64,
}

/// What an output must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The record that it comes from; of a group, its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Name of the output; `main` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// A vector that a plugin does not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("vector {vector}: {why}")]
pub struct Unfit {
    /// Its position.
    pub vector: usize,
    /// What came instead.
    pub why: String,
}

/// Tries `plugin` with each of `vectors` on a fresh instance; those that it does not keep.
pub fn vectors(plugin: &Plugin, limits: &Limits, vectors: &[Vector]) -> Vec<Unfit> {
    let tried = vectors.iter().enumerate();
    tried.filter_map(|(vector, one)| Some(Unfit { vector, why: one.misses(plugin, limits)? })).collect()
}

impl Vector {
    /// The records as a pipeline would hand them in.
    pub fn batch(&self, plugin: &Plugin) -> Batch {
        let values: Column = self.records.iter().map(|record| text(&record.value)).collect();
        let keys = self.records.iter().map(|record| record.key.as_str()).collect();
        let batch = Batch::of_values(values);
        // Each of the columns has an item for each record.
        let batch = batch.clone().with_keys(keys).unwrap_or(batch);
        let times = self.records.iter().map(|record| record.time).collect();
        let batch = batch.clone().with_timestamps(times).unwrap_or(batch);
        let needs: Vec<String> = plugin.described().needs.iter().map(ToString::to_string).collect();
        Wants::new(&needs, None).prepare(0, batch)
    }

    /// Why the plugin does not keep it.
    fn misses(&self, plugin: &Plugin, limits: &Limits) -> Option<String> {
        let batch = self.batch(plugin);
        let gave = plugin
            .instantiate(limits, &self.config)
            .map_err(|fault| (0, fault))
            .and_then(|mut instance| arrange(plugin.kind(), &batch, &[(0, batch.len())], once(&mut instance)));
        let gave = match gave {
            Ok(gave) => gave,
            Err((_, fault)) => return Some(format!("a fault, {}: {}", fault.kind.name(), fault.message)),
        };
        let outputs = plugin.described().outputs(&self.config);
        let mut wanted = self.out.iter();
        for one in &gave {
            let is_wanted = match &one.what {
                What::State { .. } => continue,
                What::Refused(_) if self.refused.contains(&one.at) => continue,
                What::Refused(_) => false,
                What::Kept => wanted.next().is_some_and(|wanted| wanted.is(one.at, None, "main")),
                What::Out(out) => {
                    let side = (out.port as usize).checked_sub(1).and_then(|port| outputs.get(port));
                    let name = side.map_or("main", |name| &**name);
                    wanted.next().is_some_and(|wanted| wanted.is(one.at, Some(out), name))
                }
            };
            if !is_wanted {
                return Some(format!("record {}: {}, which is not what it says", one.at, one.what));
            }
        }
        if let Some(missing) = wanted.next() {
            let missing = serde_json::to_string(missing).unwrap_or_default();
            return Some(format!("nothing comes out where it says {missing}"));
        }
        let refused = |at: &&u32| !gave.iter().any(|one| one.at == **at && matches!(one.what, What::Refused(_)));
        self.refused.iter().find(refused).map(|at| format!("record {at} is not refused"))
    }
}

impl Wanted {
    fn is(&self, at: u32, out: Option<&Out>, output: &str) -> bool {
        let same = |wanted: &Value, found: &[u8]| match wanted {
            Value::String(text) => text.as_bytes() == found,
            value => serde_json::from_slice::<Value>(found).is_ok_and(|found| found == *value),
        };
        self.of.is_none_or(|of| of == at)
            && self.output.as_deref().unwrap_or("main") == output
            && out.is_none_or(|out| {
                self.value.as_ref().is_none_or(|value| same(value, &out.value))
                    && self.key.as_ref().is_none_or(|key| key.as_bytes() == out.key)
                    && self.time.is_none_or(|time| out.time == Some(time))
            })
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
