//! What of a batch crosses into a plugin.
//!
//! Owns the choice of columns by what the plugin described. It must not know what they hold. Invariant: nothing is
//! copied here, and what was not asked for does not cross.

use std::sync::Arc;

use super::abi::{BatchIn, ColumnIn, GroupsIn, NamedIn, WindowIn};
use super::{Described, Groups};
use crate::batch::{Batch, Column};

/// What of a batch crosses into the plugin.
pub(super) struct Wanted {
    pub(super) values: bool,
    keys: bool,
    timestamps: bool,
    headers: bool,
    windows: bool,
    more: Vec<Arc<str>>,
    pub(super) outputs: usize,
}

impl Wanted {
    pub(super) fn by(described: &Described, config: &serde_json::Value) -> Self {
        let mut wanted = Self {
            values: described.values,
            keys: false,
            timestamps: false,
            headers: false,
            windows: false,
            more: Vec::new(),
            outputs: described.outputs(config).len(),
        };
        for name in &described.needs {
            match &**name {
                "keys" => wanted.keys = true,
                "timestamps" => wanted.timestamps = true,
                "headers" => wanted.headers = true,
                "windows" => wanted.windows = true,
                _ => wanted.more.push(name.clone()),
            }
        }
        wanted
    }

    pub(super) fn named<'a>(&'a self, batch: &'a Batch) -> Vec<NamedIn<'a>> {
        let named = self.more.iter().filter_map(|name| batch.named(name).map(|items| (name, items)));
        named.map(|(name, items)| NamedIn { name, items: items.into() }).collect()
    }

    /// `blank` stands for the payloads of a plugin that does not want them: it still learns how many there are.
    pub(super) fn batch<'a>(&self, batch: &'a Batch, blank: &'a Column, more: &'a [NamedIn<'a>]) -> BatchIn<'a> {
        BatchIn {
            values: if self.values { batch.values().into() } else { ColumnIn::blank(blank, batch.len()) },
            keys: batch.keys().filter(|_| self.keys).map(ColumnIn::from),
            timestamps: batch.timestamps().filter(|_| self.timestamps),
            headers: batch.headers().filter(|_| self.headers).map(ColumnIn::from),
            more,
        }
    }

    pub(super) fn groups<'a>(&self, groups: &'a Groups, windows: Option<&'a [WindowIn]>) -> GroupsIn<'a> {
        let keys = self.keys.then(|| ColumnIn::from(&groups.keys));
        GroupsIn { states: (&groups.states).into(), keys, windows: windows.filter(|_| self.windows) }
    }
}
