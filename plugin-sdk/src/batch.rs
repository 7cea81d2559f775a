//! The batch that a call was handed, in columns.
//!
//! Owns where each column is. It must not know what a plugin does with it. Invariant: nothing is copied; a record, and
//! an item, is a slice of the column that the host wrote.

use anyhow::{Result, anyhow};

use crate::contract::types::{self, Column};
use crate::describe::Facts;
use crate::record::Record;

/// The records of a call, in columns.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(batch)]
/// fn every_other(batch: &Batch) -> Result<Selection> {
///     let mut selection = Selection::default();
///     (0..batch.len()).step_by(2).for_each(|at| selection.keep(at));
///     Ok(selection)
/// }
/// # fn main() {
/// let records = [testing::text("a"), testing::text("b"), testing::text("c")];
/// assert_eq!(testing::filter::<every_other>("", records).kept, [0, 2]);
/// # }
/// ```
#[derive(Debug)]
pub struct Batch {
    columns: types::Batch,
    len: usize,
    facts: &'static Facts,
    /// Places in `columns.more`; the host may send named columns in any order.
    id: Option<usize>,
    input: Option<usize>,
    null: Option<usize>,
    fields: Vec<Option<usize>>,
}

impl Batch {
    pub(crate) fn new(columns: types::Batch, facts: &'static Facts) -> Self {
        let place = |name: &str| columns.more.iter().position(|column| column.name == name);
        let asked = &facts.needs[facts.needs.len() - facts.fields.len()..];
        let (id, input, null) = (place("id"), place("input"), place("null"));
        let fields = asked.iter().map(|name| place(name)).collect();
        let len = length(&columns);
        Self { columns, len, facts, id, input, null, fields }
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record at position `at`; beyond the end, one without anything.
    #[inline(always)]
    pub fn record(&self, at: usize) -> Record<'_> {
        Record::new(self, at)
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len).map(|at| self.record(at))
    }

    /// Payloads; every one empty if the plugin did not want them.
    #[inline(always)]
    pub fn values(&self) -> Items<'_> {
        Items { column: &self.columns.values }
    }

    /// Keys; an empty one is none.
    ///
    /// # Errors
    /// Where the plugin did not ask for `keys`.
    pub fn keys(&self) -> Result<Items<'_>> {
        self.columns.keys.as_ref().map(|column| Items { column }).ok_or_else(|| not_asked("keys"))
    }

    /// Event times, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Where the plugin did not ask for `timestamps`.
    pub fn times(&self) -> Result<&[i64]> {
        self.columns.timestamps.as_deref().ok_or_else(|| not_asked("timestamps"))
    }

    /// Headers, each record's as [`Headers`](crate::Headers) lays them out.
    ///
    /// # Errors
    /// Where the plugin did not ask for `headers`.
    pub fn headers(&self) -> Result<Items<'_>> {
        self.columns.headers.as_ref().map(|column| Items { column }).ok_or_else(|| not_asked("headers"))
    }

    /// Ids, of 16 bytes.
    ///
    /// # Errors
    /// Where the plugin did not ask for `id`.
    pub fn ids(&self) -> Result<Items<'_>> {
        self.named(self.id).ok_or_else(|| not_asked("id"))
    }

    /// One byte each: the position in the stage's `from` of where the record came from.
    ///
    /// # Errors
    /// Where the plugin did not ask for `input`.
    pub fn inputs(&self) -> Result<Items<'_>> {
        self.named(self.input).ok_or_else(|| not_asked("input"))
    }

    /// One byte each: 1 where there is no value (a tombstone).
    ///
    /// # Errors
    /// Where the plugin did not ask for `null`.
    pub fn nulls(&self) -> Result<Items<'_>> {
        self.named(self.null).ok_or_else(|| not_asked("null"))
    }

    /// Raw JSON of the field that is `index`-th in the attribute's `fields`; empty where a record has none.
    ///
    /// # Errors
    /// Where the plugin did not ask for so many fields.
    #[inline]
    pub fn field(&self, index: usize) -> Result<Items<'_>> {
        let place = self.fields.get(index).copied().flatten();
        self.named(place).ok_or_else(|| anyhow!("the plugin did not ask for field {index}: add it to `fields = [..]`"))
    }

    pub(crate) fn facts(&self) -> &'static Facts {
        self.facts
    }

    #[inline]
    fn named(&self, place: Option<usize>) -> Option<Items<'_>> {
        place.and_then(|place| self.columns.more.get(place)).map(|column| Items { column: &column.items })
    }
}

/// Number of records of `columns`: that of any column that is there.
fn length(columns: &types::Batch) -> usize {
    let of = |column: &Column| column.ends.len();
    [of(&columns.values)]
        .into_iter()
        .chain(columns.keys.as_ref().map(of))
        .chain(columns.timestamps.as_ref().map(Vec::len))
        .chain(columns.headers.as_ref().map(of))
        .chain(columns.more.iter().map(|column| of(&column.items)))
        .max()
        .unwrap_or_default()
}

#[cold]
fn not_asked(name: &str) -> anyhow::Error {
    anyhow!("the plugin did not ask for this column: add `needs = [\"{name}\"]` to its attribute")
}

/// The items of a column, one for each record.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(batch)]
/// fn long_ones(batch: &Batch) -> Result<Selection> {
///     let mut selection = Selection::default();
///     for (at, value) in batch.values().iter().enumerate() {
///         if value.len() > 3 {
///             selection.keep(at);
///         }
///     }
///     Ok(selection)
/// }
/// # fn main() {
/// assert_eq!(testing::filter::<long_ones>("", [testing::text("long"), testing::text("no")]).kept, [0]);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    column: &'a Column,
}

impl<'a> Items<'a> {
    /// The item at position `at`; empty beyond the end.
    #[inline(always)]
    pub fn get(&self, at: usize) -> &'a [u8] {
        item(self.column, at)
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let items = *self;
        (0..self.column.ends.len()).map(move |at| items.get(at))
    }

    /// All items laid end to end, for a search over the whole column.
    pub fn data(&self) -> &'a [u8] {
        &self.column.data
    }

    /// Exclusive end of each item in [`data`](Self::data), in bytes.
    pub fn ends(&self) -> &'a [u32] {
        &self.column.ends
    }
}

#[inline(always)]
pub(crate) fn item(column: &Column, at: usize) -> &[u8] {
    let start = match at.checked_sub(1) {
        Some(before) => column.ends.get(before).copied().unwrap_or_default(),
        None => 0,
    };
    let end = column.ends.get(at).copied().unwrap_or_default();
    column.data.get(start as usize..end as usize).unwrap_or_default()
}
