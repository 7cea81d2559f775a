//! Tidegate: a stream-processing host whose filters, maps and aggregates are WebAssembly plugins.
//!
//! The modules stand in the order in which a batch meets them; each may name only those above it, but for
//! `config`, which the layers below the edge read. `tests/layers.rs` checks that.

pub mod batch;
mod bug;
pub mod crash;
pub mod epoch;
mod lent;
mod secret;
pub mod time;
pub mod unit;

pub mod codec;

pub mod disk;
pub mod letter;
pub mod log;
pub mod queue;
pub mod store;
pub mod topic;

pub mod plugin;
pub mod sink;
pub mod source;

pub mod config;

pub mod stage;

pub mod pipeline;

pub mod api;
pub mod cli;
