//! What a user writes: pipelines and the host's settings, with the place of everything in the text.
//!
//! Owns the shape of the files, their defaults, their faults with code, place and cure, and the graph that a pipeline
//! comes to. It must not know tasks or wasmtime: what a plugin says about itself is handed in as [`graph::Facts`].
//! Invariant: a [`graph::Graph`] exists only for a file without a fault.

pub mod advice;
mod breaker;
pub mod budget;
pub mod codes;
pub mod diagnostic;
mod fences;
pub mod graph;
pub mod guarantee;
mod host;
mod limits;
mod load;
mod pipeline;
mod place;
mod plugin_config;
mod print;
mod reload;
mod rules;
pub mod schema;
mod shape;
mod state;
pub mod topics;
mod tree;
mod vars;
mod yaml;

pub use crate::secret::{Secret, mask};
pub use breaker::{Breaker, Then};
pub use diagnostic::{Diagnostic, Severity};
pub use fences::load_markdown;
pub use host::{Api, Host, LoadedHost, Log, LogFormat, LogLevel, Plugins, Threads, load_host};
pub use limits::{Fuel, Limits};
pub use load::{Loaded, in_order, load};
pub use pipeline::{
    BatchSize, Capacity, DeadLetters, Edge, From, GiveUp, Late, OnError, Overflow, Pipeline, Retry, Sink, Source,
    Stage, Target, Watermark, Window,
};
pub use place::{Spanned, Table};
pub use print::print;
pub use reload::Reload;
pub use state::{State, WhenFull};
pub use tree::{Origin, Tree, Value};
pub use vars::{Literal, Lookup, SecretLookup, Var};

#[cfg(test)]
mod tests;
