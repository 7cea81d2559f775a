//! Builds a batch record by record, where records enter the host.
//!
//! Owns which columns a source fills. Invariant: after every `finish_record` all wanted columns have equally many
//! items; a record taken back leaves no trace.

use std::sync::Arc;

use super::{Batch, ColumnBuilder, Limit, NamedColumn};

/// Collects records of one source into columns.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Payloads.
    pub values: ColumnBuilder,
    /// Keys, where the source has them.
    pub keys: Option<ColumnBuilder>,
    /// Event times, in milliseconds since the Unix epoch, where the source has them.
    pub timestamps: Option<Vec<i64>>,
    /// Headers, where the source has them.
    pub headers: Option<ColumnBuilder>,
    /// Further columns, in the order of `names`.
    pub more: Vec<ColumnBuilder>,
    names: Arc<[Arc<str>]>,
}

impl BatchBuilder {
    /// A builder with the columns asked for; `names` are those of the further ones.
    pub fn new(keys: bool, timestamps: bool, headers: bool, names: Arc<[Arc<str>]>) -> Self {
        Self {
            values: ColumnBuilder::default(),
            keys: keys.then(ColumnBuilder::default),
            timestamps: timestamps.then(Vec::new),
            headers: headers.then(ColumnBuilder::default),
            more: names.iter().map(|_| ColumnBuilder::default()).collect(),
            names,
        }
    }

    /// Whole records in hand.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no whole record.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes in hand, of all columns.
    pub fn bytes(&self) -> usize {
        let columns = [Some(&self.values), self.keys.as_ref(), self.headers.as_ref()];
        columns.into_iter().flatten().chain(&self.more).map(ColumnBuilder::bytes).sum::<usize>()
            + self.timestamps.as_ref().map_or(0, |times| times.len() * 8)
    }

    /// Whether `most` is reached.
    pub fn is_full(&self, most: Limit) -> bool {
        self.len() >= most.records || self.bytes() >= most.bytes
    }

    /// The batch; the builder is empty afterwards. Columns that a record left out hold an empty item there.
    pub fn finish(&mut self) -> Batch {
        let len = self.values.len();
        let mut close = |column: &mut ColumnBuilder| {
            while column.len() < len {
                column.push(&[]);
            }
            column.truncate(len);
            column.finish()
        };
        let timestamps = self.timestamps.as_mut().map(|times| {
            times.resize(len, 0);
            // The next batch is likely to be as large.
            Arc::new(std::mem::replace(times, Vec::with_capacity(len)))
        });
        Batch {
            len,
            keys: self.keys.as_mut().map(&mut close),
            headers: self.headers.as_mut().map(&mut close),
            more: self
                .names
                .iter()
                .zip(&mut self.more)
                .map(|(name, column)| NamedColumn { name: name.clone(), items: close(column) })
                .collect(),
            values: self.values.finish(),
            timestamps,
        }
    }
}
