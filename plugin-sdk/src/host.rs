//! What the host lends a plugin: a log, counters, tables, a clock.
//!
//! Owns the Rust face of the contract's `host`. Natively, where there is no host, [`testing`](crate::testing) stands in
//! for it. It must not know plugins.

use crate::contract::types::Column;

pub use crate::contract::host::Level;

/// Writes a line to the host's log, under the stage's name; how much a plugin may log is limited.
///
/// ```
/// use tidegate_plugin::{Level, log};
///
/// log(Level::Warn, "the table of hosts is empty");
/// ```
pub fn log(level: Level, message: &str) {
    door::log(level, message);
}

/// Adds `by` to the stage's counter `name`, shown among its metrics; at most 64 names.
///
/// ```
/// tidegate_plugin::count("cache_misses", 1);
/// ```
pub fn count(name: &str, by: u64) {
    door::count(name, by);
}

/// The values of `keys` in a table that the pipeline grants, as of the last barrier; one call for many keys.
///
/// ```
/// use tidegate_plugin::{lookup, testing};
///
/// testing::grant("owners", [("web-1", "alice")]);
/// let found = lookup("owners", ["web-1", "web-2"]);
/// assert_eq!(found.get(0), Some(&b"alice"[..]));
/// assert_eq!(found.get(1), None);
/// ```
pub fn lookup<K: AsRef<[u8]>>(table: &str, keys: impl IntoIterator<Item = K>) -> Found {
    let mut asked = Column { data: Vec::new(), ends: Vec::new() };
    for key in keys {
        asked.data.extend_from_slice(key.as_ref());
        asked.ends.push(asked.data.len() as u32);
    }
    Found { values: door::lookup(table, &asked) }
}

/// What [`lookup`] found, in the order of the keys.
///
/// ```
/// assert_eq!(tidegate_plugin::lookup("no such table", ["key"]).get(0), None);
/// ```
#[derive(Debug)]
pub struct Found {
    values: Column,
}

impl Found {
    /// The value of the key at position `at`; `None` where it is absent or empty.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        Some(crate::batch::item(&self.values, at)).filter(|value| !value.is_empty())
    }
}

/// Logical time: the stage's watermark, in milliseconds since the Unix epoch. A replay sees the same.
///
/// ```
/// tidegate_plugin::testing::set_now(1_000);
/// assert_eq!(tidegate_plugin::now(), 1_000);
/// ```
pub fn now() -> i64 {
    door::now()
}

/// The panic hook's last words.
pub(crate) fn panicked(at: Option<u32>, message: &str, place: &str) {
    door::panicked(at, message, place);
}

#[cfg(target_arch = "wasm32")]
mod door {
    pub(super) use crate::contract::host::{count, log, lookup, panicked};

    /// The WASI clock is the host's, and logical.
    pub(super) fn now() -> i64 {
        use std::time::{SystemTime, UNIX_EPOCH};
        // Before the epoch, which WASI's clock cannot tell, there is no watermark.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod door {
    pub(super) use crate::testing::host::{count, log, lookup, now, panicked};
}
