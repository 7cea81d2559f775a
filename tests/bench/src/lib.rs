//! Measures Tidegate beside native Rust that computes the same.
//!
//! Owns the comparisons that `make bench` prints. It must not know how the host does what it does. Invariant: what is
//! compared runs alternately in one process, and each side is counted where its results arrive.

pub mod calls;
pub mod clock;
pub mod handwritten;
pub mod kept;
pub mod poison;
pub mod records;
pub mod reload;
pub mod start;
pub mod whole;

use std::path::Path;

/// The plugin `name` of `tests/workloads`.
pub fn guest(name: &str) -> std::path::PathBuf {
    Path::new(env!("GUESTS")).join(name).with_extension("wasm")
}
