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
//! names `tidegate-plugin` and `serde`, and has `crate-type = ["cdylib", "rlib"]`.
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
pub use tidegate_plugin_macros::{aggregate, filter, map};

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
