//! Records in columns: the only form in which data moves through the host.
//!
//! Owns the layout of a batch and the operations that move bytes between batches. It must not know what the
//! bytes mean, where they come from or who works on them. Invariant: every present column of a batch has
//! exactly `len` items.

mod builder;
mod column;
mod header;

pub use builder::BatchBuilder;
pub use column::{Column, ColumnBuilder, Misfit};
pub use header::{Headers, push_header};

use std::sync::Arc;

/// Name of the column that holds the 16-byte id of each record.
pub const ID: &str = "id";
/// Name of the column that holds one byte for each record: its position in the stage's `from`.
pub const INPUT: &str = "input";
/// Name of the column that holds one byte for each record: 1 where there is no value (a tombstone).
pub const NULL: &str = "null";
/// What the name of a column of JSON fields begins with; the rest is the JSON pointer.
pub const FIELD: &str = "field:";

/// The most that a batch may hold; a single larger record travels alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Records.
    pub records: usize,
    /// Bytes of all columns together.
    pub bytes: usize,
}

impl Default for Limit {
    /// 1,024 records keep the cost of a guest call below the cost of its records; 1 MiB keeps a batch in cache.
    fn default() -> Self {
        Self { records: 1024, bytes: 1 << 20 }
    }
}

/// A column beside the usual four, known by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedColumn {
    /// [`ID`], [`INPUT`], [`NULL`], or [`FIELD`] and a JSON pointer.
    pub name: Arc<str>,
    /// One item for each record.
    pub items: Column,
}

/// Up to [`Limit`] records in columns. Cloning copies no data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    len: usize,
    values: Column,
    keys: Option<Column>,
    timestamps: Option<Arc<Vec<i64>>>,
    headers: Option<Column>,
    more: Vec<NamedColumn>,
}

impl Batch {
    /// A batch of payloads alone.
    pub fn of_values(values: Column) -> Self {
        Self { len: values.len(), values, ..Self::default() }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Payload of each record.
    pub fn values(&self) -> &Column {
        &self.values
    }

    /// Key of each record; an empty key means no key.
    pub fn keys(&self) -> Option<&Column> {
        self.keys.as_ref()
    }

    /// Event time of each record, in milliseconds since the Unix epoch.
    pub fn timestamps(&self) -> Option<&[i64]> {
        self.timestamps.as_ref().map(|times| times.as_slice())
    }

    /// Headers of each record, encoded as the contract says; read them with [`Headers`].
    pub fn headers(&self) -> Option<&Column> {
        self.headers.as_ref()
    }

    /// All further columns.
    pub fn more(&self) -> &[NamedColumn] {
        &self.more
    }

    /// The further column called `name`.
    pub fn named(&self, name: &str) -> Option<&Column> {
        self.more.iter().find(|column| &*column.name == name).map(|column| &column.items)
    }

    /// Bytes that this batch accounts for in limits: data and offsets of every column.
    pub fn bytes(&self) -> usize {
        self.columns().map(Column::bytes).sum::<usize>() + self.timestamps.as_ref().map_or(0, |times| times.len() * 8)
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        [Some(&self.values), self.keys.as_ref(), self.headers.as_ref()]
            .into_iter()
            .flatten()
            .chain(self.more.iter().map(|column| &column.items))
    }

    /// The same records with other payloads.
    ///
    /// # Errors
    /// When `values` has another number of items than the batch.
    pub fn with_values(mut self, values: Column) -> Result<Self, Misfit> {
        self.fits(&values)?;
        self.values = values;
        Ok(self)
    }

    /// The same records with other keys.
    ///
    /// # Errors
    /// When `keys` has another number of items than the batch.
    pub fn with_keys(mut self, keys: Column) -> Result<Self, Misfit> {
        self.fits(&keys)?;
        self.keys = Some(keys);
        Ok(self)
    }

    /// The same records with other event times, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When `times` has another number of items than the batch.
    pub fn with_timestamps(mut self, times: Vec<i64>) -> Result<Self, Misfit> {
        if times.len() != self.len {
            return Err(Misfit::Count { expected: self.len, found: times.len() });
        }
        self.timestamps = Some(Arc::new(times));
        Ok(self)
    }

    /// The same records with other headers.
    ///
    /// # Errors
    /// When `headers` has another number of items than the batch.
    pub fn with_headers(mut self, headers: Column) -> Result<Self, Misfit> {
        self.fits(&headers)?;
        self.headers = Some(headers);
        Ok(self)
    }

    /// The same records with the further column `name` added or replaced.
    ///
    /// # Errors
    /// When `items` has another number of items than the batch.
    pub fn with_named(mut self, name: Arc<str>, items: Column) -> Result<Self, Misfit> {
        self.fits(&items)?;
        match self.more.iter_mut().find(|column| column.name == name) {
            Some(column) => column.items = items,
            None => self.more.push(NamedColumn { name, items }),
        }
        Ok(self)
    }

    /// The same records without the further columns that `keep` turns down.
    pub fn retain_named(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.more.retain(|column| keep(&column.name));
        self
    }

    fn fits(&self, column: &Column) -> Result<(), Misfit> {
        if column.len() == self.len { Ok(()) } else { Err(Misfit::Count { expected: self.len, found: column.len() }) }
    }

    /// The records at `at`, in that order, copied together, so that few survivors do not pin the whole batch.
    /// Positions were checked where they came from; one out of range is a bug of ours.
    pub fn gather(&self, at: &[u32]) -> Self {
        self.map_columns(
            at.len(),
            |column| column.gather(at),
            |times| at.iter().map(|&i| times.get(i as usize).copied().unwrap_or_default()).collect(),
        )
    }

    /// The records from `start` up to `end`, sharing their bytes with this batch.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let (start, end) = (start.min(self.len), end.min(self.len));
        if start == 0 && end == self.len {
            return self.clone();
        }
        let end = end.max(start);
        self.map_columns(end - start, |column| column.slice(start, end), |times| times[start..end].to_vec())
    }

    /// How many of the first records are within `most`; none where the first alone is not.
    pub fn fitting(&self, most: Limit) -> usize {
        let mut fits = self.len().min(most.records);
        while fits > 0 && self.slice(0, fits).bytes() > most.bytes {
            fits /= 2;
        }
        fits
    }

    fn map_columns(&self, len: usize, column: impl Fn(&Column) -> Column, times: impl Fn(&[i64]) -> Vec<i64>) -> Self {
        Self {
            len,
            values: column(&self.values),
            keys: self.keys.as_ref().map(&column),
            timestamps: self.timestamps.as_ref().map(|all| Arc::new(times(all))),
            headers: self.headers.as_ref().map(&column),
            more: self
                .more
                .iter()
                .map(|named| NamedColumn { name: named.name.clone(), items: column(&named.items) })
                .collect(),
        }
    }

    /// Shares the records out to `parts` batches: record `i` goes to batch `part_of(i)`. Order is kept within each, and
    /// beside each stand the positions its records had here.
    pub fn partition(&self, parts: usize, part_of: impl Fn(usize) -> usize) -> Vec<(Vec<u32>, Self)> {
        let mut at = vec![Vec::new(); parts];
        for i in 0..self.len {
            if let Some(list) = at.get_mut(part_of(i)) {
                list.push(i as u32);
            }
        }
        at.into_iter().map(|list| (list.clone(), self.gather(&list))).collect()
    }

    /// All records of `batches`, in order. A column that some of them lack is filled with empty items there, event
    /// times with 0.
    pub fn concat(batches: &[Self]) -> Self {
        if let [one] = batches {
            return one.clone();
        }
        let len = batches.iter().map(Self::len).sum();
        let column = |of: &dyn Fn(&Self) -> Option<&Column>| {
            batches.iter().any(|batch| of(batch).is_some()).then(|| {
                let blanks: Vec<Column> = batches
                    .iter()
                    .map(|batch| of(batch).cloned().unwrap_or_else(|| Column::blank(batch.len)))
                    .collect();
                Column::concat(&blanks)
            })
        };
        let mut names: Vec<Arc<str>> = Vec::new();
        for named in batches.iter().flat_map(|batch| &batch.more) {
            if !names.contains(&named.name) {
                names.push(named.name.clone());
            }
        }
        let more = names
            .into_iter()
            .filter_map(|name| {
                column(&|batch: &Self| batch.named(&name)).map(|items| NamedColumn { name: name.clone(), items })
            })
            .collect();
        let timestamps = batches.iter().any(|batch| batch.timestamps.is_some()).then(|| {
            let mut all = Vec::with_capacity(len);
            for batch in batches {
                match &batch.timestamps {
                    Some(times) => all.extend_from_slice(times),
                    None => all.resize(all.len() + batch.len, 0),
                }
            }
            Arc::new(all)
        });
        Self {
            len,
            values: column(&|batch| Some(&batch.values)).unwrap_or_default(),
            keys: column(&|batch| batch.keys.as_ref()),
            timestamps,
            headers: column(&|batch| batch.headers.as_ref()),
            more,
        }
    }
}

#[cfg(test)]
mod tests;
