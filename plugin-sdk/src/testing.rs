//! Plugins tested natively, without wasm.
//!
//! Owns a host in miniature: it hands a plugin exactly the columns that it asked for, and gives outputs what they
//! inherit. It must not know how a plugin works inside. Invariant: a plugin cannot tell it from the host, but for the
//! limits.

pub(crate) mod host;
mod input;
mod reply;

pub use host::{counted, grant, logged, set_now};
pub use input::{Input, json, text, tombstone};
pub use reply::{Filtered, Mapped, Out, Refused};

use std::collections::BTreeMap;

use serde_json::Value;

use crate::aggregate::{self, Fold};
use crate::configure::{self, Configured};
use crate::contract::types::Column;
use crate::{Filter, Map, Occasion, Plugin, Window};

/// What the plugin says about itself, as the host sees it.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter]
/// fn all(_record: &Record) -> Result<bool> { Ok(true) }
/// # fn main() {
/// assert_eq!(testing::describe::<all>()["kind"], "filter");
/// # }
/// ```
#[track_caller]
pub fn describe<P: Plugin>() -> Value {
    match serde_json::from_str(&crate::describe::describe::<P>()) {
        Ok(document) => document,
        Err(error) => panic!("the description is not JSON: {error}"),
    }
}

/// Whether the plugin takes `config`, and if not, why.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Config { min: u8 }
///
/// #[filter]
/// fn big(config: &Config, record: &Record) -> Result<bool> { Ok(record.json::<u8>()? > config.min) }
/// # fn main() {
/// let error = testing::configure::<big>(r#"{ "min": 300 }"#).unwrap_err();
/// assert!(error.contains("300"), "{error}");
/// # }
/// ```
///
/// # Errors
/// What the host would be told.
pub fn configure<P: Plugin>(config: impl ToString) -> Result<(), String> {
    configure::configure::<P>(&config.to_string()).map(drop)
}

/// What the filter `P` does with `records`, as one batch. `config` is JSON; nothing stands for `{}`.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter]
/// fn short(record: &Record) -> Result<bool> { Ok(record.value().len() < 4) }
/// # fn main() {
/// assert_eq!(testing::filter::<short>("", [testing::text("rain"), testing::text("sun")]).kept, [1]);
/// # }
/// ```
///
/// # Panics
/// Where the plugin does not take `config`.
#[track_caller]
pub fn filter<P: Filter>(config: impl ToString, records: impl IntoIterator<Item = Input>) -> Filtered {
    let configured = configured::<P>(&config);
    let records: Vec<Input> = records.into_iter().collect();
    let selection = crate::filter::run(&configured, input::batch(&P::FACTS, &records));
    Filtered {
        kept: selection.keep.iter().map(|at| *at as usize).collect(),
        refused: reply::refused(&selection.refused.into_contract()),
    }
}

/// What the map `P` turns `records` into, as one batch. `config` is JSON; nothing stands for `{}`.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map]
/// fn louder(record: &Record) -> Result<Output> { Ok(Output::value(record.text()?.to_uppercase())) }
/// # fn main() {
/// assert_eq!(testing::map::<louder>("", [testing::text("oh")]).outputs[0].value, b"OH");
/// # }
/// ```
///
/// # Panics
/// Where the plugin does not take `config`.
#[track_caller]
pub fn map<P: Map>(config: impl ToString, records: impl IntoIterator<Item = Input>) -> Mapped {
    let configured = configured::<P>(&config);
    let records: Vec<Input> = records.into_iter().collect();
    let (produced, refused) = crate::map::run(&configured, input::batch(&P::FACTS, &records));
    reply::mapped(produced, &refused.into_contract(), &configured.outputs, &records)
}

/// The groups of an aggregate `P`, whose states this keeps between calls as the host would.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// /// Lets through what differs from the record before.
/// struct Changes;
///
/// #[aggregate]
/// impl Aggregate for Changes {
///     type Config = NoConfig;
///     type State = String;
///     fn add(_: &NoConfig, last: &mut String, record: &Record, out: &mut Outputs) -> Result<()> {
///         let now = record.text()?;
///         if last != now { out.same(); now.clone_into(last); }
///         Ok(())
///     }
///     fn merge(_: &NoConfig, last: &mut String, later: String) { *last = later; }
///     fn finish(_: &NoConfig, _: &Group, _: &String, _: &mut Outputs) -> Result<()> { Ok(()) }
/// }
/// # fn main() {
/// let mut groups = testing::Groups::<Changes>::new("");
/// assert_eq!(groups.add([testing::text("on"), testing::text("on")]).outputs.len(), 1);
/// assert_eq!(groups.add([testing::text("on"), testing::text("off")]).outputs[0].origin, 1);
/// # }
/// ```
pub struct Groups<P: Fold> {
    configured: Configured<P>,
    window: Option<Window>,
    states: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<P: Fold> Groups<P> {
    /// No groups yet. `config` is JSON; nothing stands for `{}`.
    ///
    /// # Panics
    /// Where the plugin does not take `config`.
    #[track_caller]
    pub fn new(config: impl ToString) -> Self {
        Self { configured: configured::<P>(&config), window: None, states: BTreeMap::new() }
    }

    /// The same, with every group in one window.
    pub fn window(self, start: i64, end: i64) -> Self {
        Self { window: Some(Window { start, end }), ..self }
    }

    /// Adds `records`, as one batch, each to the group of its key. Gives back what came out at once.
    pub fn add(&mut self, records: impl IntoIterator<Item = Input>) -> Mapped {
        let records: Vec<Input> = records.into_iter().collect();
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut group_of = Vec::new();
        for record in &records {
            let known = keys.iter().position(|key| *key == record.key).unwrap_or(keys.len());
            if known == keys.len() {
                keys.push(&record.key);
            }
            group_of.push(known as u32);
        }
        let groups = self.groups(&keys);
        let batch = input::batch(&P::FACTS, &records);
        let done = aggregate::accumulate(&self.configured, groups, &group_of, batch);
        for (at, key) in keys.iter().enumerate() {
            let state = crate::batch::item(&done.states, at).to_vec();
            if state.is_empty() {
                self.states.remove(*key)
            } else {
                self.states.insert(key.to_vec(), state)
            };
        }
        let produced = done.produced.unwrap_or_else(reply::nothing);
        reply::mapped(produced, &done.refused, &self.configured.outputs, &records)
    }

    /// Adds the states of `later` to those here, group by group.
    pub fn merge(&mut self, later: &Self) {
        for (key, state) in &later.states {
            let earlier = self.states.get(key).cloned().unwrap_or_default();
            let states = input::column([earlier.as_slice(), state]);
            let merged = aggregate::merge(&self.configured, &states, &[0, 1], &[2]);
            self.states.insert(key.clone(), merged.data);
        }
    }

    /// What all groups put out for `why`, in the order of their keys; the states stay.
    pub fn finish(&self, why: Occasion) -> Mapped {
        let keys: Vec<&[u8]> = self.states.keys().map(Vec::as_slice).collect();
        let (produced, refused) = aggregate::finish(&self.configured, self.groups(&keys), why);
        let origins: Vec<Input> = keys.iter().map(|key| text("").key(key)).collect();
        reply::mapped(produced, &refused.into_contract(), &self.configured.outputs, &origins)
    }

    /// The state of the group of `key`, as the host keeps it.
    pub fn state(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.states.get(key.as_ref()).map(Vec::as_slice)
    }

    /// Rewrites every state of version `from` as version `to`.
    pub fn migrate(&mut self, from: u32, to: u32) -> Vec<Refused> {
        let states = input::column(self.states.values().map(Vec::as_slice));
        let (migrated, refused) = aggregate::migrate::<P>(from, to, &states);
        for (at, state) in self.states.values_mut().enumerate() {
            *state = crate::batch::item(&migrated, at).to_vec();
        }
        reply::refused(&refused.into_contract())
    }

    fn groups(&self, keys: &[&[u8]]) -> aggregate::Groups {
        let asked = |need: &str| P::FACTS.needs.contains(&need);
        let states: Column =
            input::column(keys.iter().map(|key| self.states.get(*key).map(Vec::as_slice).unwrap_or_default()));
        aggregate::Groups {
            states,
            keys: asked("keys").then(|| input::column(keys.iter().copied())),
            windows: self.window.filter(|_| asked("windows")).map(|window| vec![window; keys.len()]),
        }
    }
}

#[track_caller]
fn configured<P: Plugin>(config: &impl ToString) -> Configured<P> {
    match configure::configure::<P>(&config.to_string()) {
        Ok(configured) => configured,
        Err(error) => panic!("the plugin does not take this configuration: {error}"),
    }
}
