//! What of a batch crosses into a plugin.
//!
//! Owns the choice of columns by what the plugin described. It must not know what they hold. Invariant: nothing is
//! copied here; what was not asked for does not cross; and what was asked for does, empty where the batch has none of
//! it, for an absent column would tell the plugin that it had not asked.

use std::sync::Arc;

use super::abi::{BatchIn, ColumnIn, GroupsIn, NamedIn, WindowIn};
use super::{Described, Groups};
use crate::batch::{Batch, Column, FIELD, INPUT, NULL};

/// Items that stand for those that a batch has not, as many as the largest batch had records.
#[derive(Clone, Default)]
pub(super) struct Filling {
    blank: Column,
    zeros: Column,
    times: Vec<i64>,
}

impl Filling {
    pub(super) fn of(len: usize) -> Self {
        Self { blank: Column::blank(len), zeros: Column::repeat(&[0], len), times: vec![0; len] }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    fn blank(&self, len: usize) -> ColumnIn<'_> {
        ColumnIn::first(&self.blank, len)
    }

    /// What the further column `name` holds where nobody has made it; an id cannot be made up.
    fn named(&self, name: &str, len: usize) -> Option<ColumnIn<'_>> {
        match name {
            INPUT | NULL => Some(ColumnIn::first(&self.zeros, len)),
            _ => name.starts_with(FIELD).then(|| self.blank(len)),
        }
    }
}

/// What of a batch crosses into the plugin.
pub(super) struct Wanted {
    values: bool,
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

    pub(super) fn named<'a>(&'a self, batch: &'a Batch, filling: &'a Filling) -> Vec<NamedIn<'a>> {
        let named = self.more.iter().filter_map(|name| {
            let items = batch.named(name).map(ColumnIn::from).or_else(|| filling.named(name, batch.len()))?;
            Some(NamedIn { name, items })
        });
        named.collect()
    }

    pub(super) fn batch<'a>(&self, batch: &'a Batch, filling: &'a Filling, more: &'a [NamedIn<'a>]) -> BatchIn<'a> {
        let len = batch.len();
        let or_blank = |column: Option<&'a Column>| column.map_or_else(|| filling.blank(len), ColumnIn::from);
        let times = || batch.timestamps().or_else(|| filling.times.get(..len)).unwrap_or_default();
        BatchIn {
            values: or_blank(self.values.then_some(batch.values())),
            keys: self.keys.then(|| or_blank(batch.keys())),
            timestamps: self.timestamps.then(times),
            headers: self.headers.then(|| or_blank(batch.headers())),
            more,
        }
    }

    pub(super) fn groups<'a>(&self, groups: &'a Groups, windows: Option<&'a [WindowIn]>) -> GroupsIn<'a> {
        let keys = self.keys.then(|| ColumnIn::from(&groups.keys));
        GroupsIn { states: (&groups.states).into(), keys, windows: windows.filter(|_| self.windows) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(needs: &[&str], values: bool) -> Wanted {
        let described = json!({
            "contract": "0.1.0", "kind": "filter", "name": "x", "values": values, "needs": needs,
        });
        Wanted::by(&serde_json::from_value(described).unwrap(), &json!({}))
    }

    #[test]
    fn what_was_asked_for_crosses_even_where_the_batch_has_none_of_it() {
        let wanted = wanted(&["keys", "timestamps", "headers", "null", "input", "field:/x", "id"], false);
        let (batch, filling) = (Batch::of_values(["a", "b"].iter().collect()), Filling::of(7));
        let more = wanted.named(&batch, &filling);
        let crossing = wanted.batch(&batch, &filling, &more);
        assert_eq!(crossing.values.bytes(), 8, "two empty items instead of values");
        assert_eq!(crossing.keys.map(|keys| keys.bytes()), Some(8));
        assert_eq!(crossing.headers.map(|headers| headers.bytes()), Some(8));
        assert_eq!(crossing.timestamps, Some(&[0, 0][..]));
        let named: Vec<(&str, usize)> = more.iter().map(|named| (named.name, named.items.bytes())).collect();
        assert_eq!(named, [("null", 10), ("input", 10), ("field:/x", 8)]);
    }

    #[test]
    fn what_was_not_asked_for_stays() {
        let wanted = wanted(&[], true);
        let batch = Batch::of_values(["a", "b"].iter().collect())
            .with_keys(["k", "l"].iter().collect())
            .and_then(|batch| batch.with_timestamps(vec![1, 2]))
            .unwrap();
        let filling = Filling::default();
        let more = wanted.named(&batch, &filling);
        let crossing = wanted.batch(&batch, &filling, &more);
        assert_eq!(crossing.bytes(), batch.values().bytes());
    }
}
