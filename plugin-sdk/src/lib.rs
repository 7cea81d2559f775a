//! Write plugins for the Tidegate stream-processing host.
//!
//! A plugin is a function of its configuration and a record; the host calls it with batches and keeps whatever has to
//! be remembered. One crate is one plugin, a `cdylib` built for `wasm32-wasip1`:
//!
//! ```
//! use tidegate_plugin::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Config { min: u16 }
//!
//! #[filter]
//! fn by_status(config: &Config, record: &Record) -> Result<bool> {
//!     #[derive(Deserialize)] struct Access { status: u16 }
//!     Ok(record.json::<Access>()?.status >= config.min)
//! }
//! # fn main() {
//!
//! // A plugin is tested natively, as the type that has the function's name:
//! let given = testing::filter::<by_status>(r#"{ "min": 500 }"#, [
//!     testing::json(r#"{ "status": 503 }"#),
//!     testing::json(r#"{ "status": 200 }"#),
//!     testing::json(r#"{}"#),
//! ]);
//! assert_eq!(given.kept, [0]);
//! assert_eq!(given.refused[0].at, 2);
//! # }
//! ```
//!
//! What an `Err` says becomes the reason for which that record is refused; the batch goes on. The crate's `Cargo.toml`
//! names `tidegate-plugin` and `serde`, and has `crate-type = ["cdylib"]`.
//!
//! | wanted | see |
//! |---|---|
//! | keep some records | [`macro@filter`] |
//! | turn a record into none, one or many | [`macro@map`], [`Output`], [`Outputs`] |
//! | remember something | [`Aggregate`], [`macro@aggregate`] |
//! | read a record | [`Record`] |
//! | JSON fields without parsing | `fields = ["/status"]`, [`Record::field_as`] |
//! | the columns themselves | `#[filter(batch)]`, `#[map(batch)]`, [`Batch`] |
//! | ask or tell the host | [`log`], [`count`], [`lookup`], [`now`] |
//! | maps that give the same order in every run | [`OrderedMap`], [`FixedMap`] |
//!
//! This crate must not know any host but the contract's. Its invariant: for the same records a plugin does the same,
//! however they are cut into batches.

// The attributes name this crate as an author does, also in its own tests.
extern crate self as tidegate_plugin;

#[doc(hidden)]
pub mod __private;
mod aggregate;
mod batch;
mod configure;
mod contract;
mod describe;
mod filter;
mod header;
mod host;
mod in_hand;
mod map;
mod maps;
mod output;
mod outputs;
mod pointer;
mod random;
mod record;
mod refused;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use aggregate::{Aggregate, Group, Occasion, Window};
pub use batch::{Batch, Items};
pub use configure::NoConfig;
pub use describe::{Facts, Kind, Plugin};
pub use filter::{Filter, Selection};
pub use header::Headers;
pub use host::{Found, Level, count, log, lookup, now};
pub use map::Map;
pub use maps::{FixedMap, FixedSet, OrderedMap, OrderedSet};
pub use output::{IntoOutputs, Output};
pub use outputs::{Outputs, Put};
pub use pointer::Pointer;
pub use random::Random;
pub use record::Record;

pub use anyhow::{Error, Result};
/// Makes a filter plugin of a function: `fn(config: &Config, record: &Record) -> Result<bool>`, of which `config` may be
/// left away.
///
/// | word | means |
/// |---|---|
/// | `needs = ["keys", ..]` | columns to read beside the value: `keys`, `timestamps`, `headers`, `id`, `input`, `null` |
/// | `fields = ["/status", ..]` | JSON fields to read without parsing; then the value stays outside |
/// | `values = true` or `false` | whether the value crosses, unless `fields` says it |
/// | `name = ".."` | the plugin's name, unless it is the function's |
/// | `selftest = "selftest.json"` | vectors in a file of the crate, which it has to pass before it serves |
/// | `batch` | the function is `fn(config: &Config, batch: &Batch) -> Result<Selection>` |
///
/// The function stays what it is, to be called and tested like any other; the plugin is a type of the same name.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(fields = ["/status"])]
/// fn failed(record: &Record) -> Result<bool> {
///     Ok(record.field_as::<u16>(0)? >= 500)
/// }
/// # fn main() {
/// let given = testing::filter::<failed>("", [503, 200].map(|status| testing::json(json!({ "status": status }))));
/// assert_eq!(given.kept, [0]);
/// # }
/// ```
pub use tidegate_plugin_macros::filter;

/// Makes a map plugin of a function: `fn(config: &Config, record: &Record) -> Result<Output>`, of which `config` may be
/// left away. Instead of an [`Output`] it may return an `Option`, a `Vec` or an iterator of them, or take a last argument
/// `out: &mut Outputs` and return `Result<()>`, which spares an allocation for each output.
///
/// | word | means |
/// |---|---|
/// | `outputs = ["slow", ..]` | side outputs beside the main one; `.to("slow")` sends there |
/// | `outputs_from_config` | the side outputs are the fields of the configuration, whatever they are called |
/// | `needs`, `fields`, `values`, `name`, `selftest` | as for [`macro@filter`] |
/// | `batch` | the function is `fn(config: &Config, batch: &Batch, out: &mut Outputs) -> Result<()>` |
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map(outputs = ["long"], needs = ["timestamps"])]
/// fn words(record: &Record) -> Result<Vec<Output>> {
///     let time = record.time()?;
///     let word = |word: &str| {
///         let output = Output::value(word).key(word).time(time + 1);
///         if word.len() > 5 { output.to("long") } else { output }
///     };
///     Ok(record.text()?.split(' ').map(word).collect())
/// }
/// # fn main() {
/// let given = testing::map::<words>("", [testing::text("short longer").time(7)]);
/// assert_eq!(given.outputs.iter().map(|out| out.to.as_deref()).collect::<Vec<_>>(), [None, Some("long")]);
/// assert_eq!(given.outputs[1].time, 8);
/// # }
/// ```
pub use tidegate_plugin_macros::map;

/// Makes an aggregate plugin of an `impl` of [`Aggregate`].
///
/// | word | means |
/// |---|---|
/// | `state_version = 2` | version of the states that it writes; 1 unless given |
/// | `writes_state_versions = [1, 2]` | versions that its `migrate` can write |
/// | `needs = ["windows", ..]` | as for [`macro@filter`], and `windows`; `keys` are also those of groups |
/// | `outputs`, `fields`, `values`, `name`, `selftest` | as for [`macro@map`] |
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// struct Last;
///
/// #[aggregate(name = "last", needs = ["timestamps"])]
/// impl Aggregate for Last {
///     type Config = NoConfig;
///     type State = (i64, Vec<u8>);
///
///     fn add(_: &NoConfig, last: &mut Self::State, record: &Record, _: &mut Outputs) -> Result<()> {
///         if record.time()? >= last.0 { *last = (record.time()?, record.value().to_vec()); }
///         Ok(())
///     }
///
///     fn merge(_: &NoConfig, last: &mut Self::State, later: Self::State) {
///         if later.0 >= last.0 { *last = later; }
///     }
///
///     fn finish(_: &NoConfig, _: &Group, last: &Self::State, out: &mut Outputs) -> Result<()> {
///         out.value(&last.1).time(last.0);
///         Ok(())
///     }
/// }
/// # fn main() {
/// let mut groups = testing::Groups::<Last>::new("");
/// groups.add([testing::text("new").time(5), testing::text("old").time(3)]);
/// assert_eq!(groups.finish(Occasion::Closed).outputs[0].value, b"new");
/// # }
/// ```
pub use tidegate_plugin_macros::aggregate;

/// Parses JSON, such as what [`Record::pick`] found.
///
/// ```
/// assert_eq!(tidegate_plugin::parse::<Vec<u8>>("[1, 2]").unwrap(), [1, 2]);
/// ```
///
/// # Errors
/// Where it is not JSON of that form.
pub fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T> {
    Ok(serde_json::from_str(json)?)
}

/// What a plugin's source begins with.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map]
/// fn shout(record: &Record) -> Result<Output> {
///     Ok(Output::value(record.text()?.to_uppercase()))
/// }
/// # fn main() {}
/// ```
pub mod prelude {
    #[cfg(not(target_arch = "wasm32"))]
    pub use crate::testing;
    pub use crate::{
        Aggregate, Batch, FixedMap, FixedSet, Group, Level, NoConfig, Occasion, OrderedMap, OrderedSet, Output,
        Outputs, Pointer, Record, Selection, Window, aggregate, count, filter, log, lookup, map, now, state,
    };
    pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};
    pub use schemars::{self, JsonSchema};
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}
