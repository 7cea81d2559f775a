//! Maps whose order is the same in every run.
//!
//! Owns the choice of hashers. Invariant: iterating one of these into outputs gives the same bytes whenever the same
//! was inserted, which std's `HashMap`, seeded anew in each process, does not.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

/// A map in the order of insertion.
///
/// ```
/// use tidegate_plugin::OrderedMap;
///
/// let mut seen = OrderedMap::default();
/// seen.insert("zebra", 1);
/// seen.insert("ant", 2);
/// assert_eq!(seen.keys().copied().collect::<Vec<_>>(), ["zebra", "ant"]);
/// ```
pub type OrderedMap<K, V> = indexmap::IndexMap<K, V, FixedState>;

/// A set in the order of insertion.
///
/// ```
/// let seen: tidegate_plugin::OrderedSet<&str> = ["zebra", "ant", "zebra"].into_iter().collect();
/// assert_eq!(seen.get_index(1), Some(&"ant"));
/// ```
pub type OrderedSet<T> = indexmap::IndexSet<T, FixedState>;

/// A hash map with a fixed seed: an order of its own, but the same in every run.
///
/// ```
/// let mut counts = tidegate_plugin::FixedMap::default();
/// *counts.entry("a").or_insert(0) += 1;
/// assert_eq!(counts["a"], 1);
/// ```
pub type FixedMap<K, V> = HashMap<K, V, FixedState>;

/// A hash set with a fixed seed.
///
/// ```
/// let seen: tidegate_plugin::FixedSet<u8> = [1, 2, 1].into_iter().collect();
/// assert_eq!(seen.len(), 2);
/// ```
pub type FixedSet<T> = HashSet<T, FixedState>;
