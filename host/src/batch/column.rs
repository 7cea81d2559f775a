//! One column: byte strings laid end to end, with the offset at which each ends.
//!
//! Owns the layout and its checks. Invariant: `ends` never falls and finishes at the length of `data`.

use std::sync::Arc;

use bytes::Bytes;

/// Why columns from outside cannot be a column or a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Two columns of one batch differ in length.
    #[error("a column has {found} items where {expected} belong")]
    Count {
        /// Items that belong there.
        expected: usize,
        /// Items that are there.
        found: usize,
    },
    /// An end lies before the one in front of it.
    #[error("the end of item {at} lies before the end of the item in front of it")]
    Falling {
        /// Position of the item.
        at: usize,
    },
    /// The last end is not the length of the data.
    #[error("the items end at byte {found}, the data at byte {expected}")]
    Length {
        /// Length of the data, in bytes.
        expected: usize,
        /// Last end, in bytes.
        found: usize,
    },
}

/// Byte strings laid end to end. Cloning copies no data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    data: Bytes,
    ends: Arc<Vec<u32>>,
}

impl Column {
    /// A column of parts that come from outside.
    ///
    /// # Errors
    /// When the ends fall or do not finish at the length of `data`.
    pub fn from_parts(data: Bytes, ends: Vec<u32>) -> Result<Self, Misfit> {
        if let Some(at) = ends.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(Misfit::Falling { at: at + 1 });
        }
        let found = ends.last().map_or(0, |&end| end as usize);
        if found != data.len() {
            return Err(Misfit::Length { expected: data.len(), found });
        }
        Ok(Self { data, ends: Arc::new(ends) })
    }

    /// `len` empty items.
    pub fn blank(len: usize) -> Self {
        Self { data: Bytes::new(), ends: Arc::new(vec![0; len]) }
    }

    /// `len` times the same item.
    pub fn repeat(item: &[u8], len: usize) -> Self {
        let ends = (1..=len).map(|i| (i * item.len()) as u32).collect();
        Self { data: Bytes::from(item.repeat(len)), ends: Arc::new(ends) }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All bytes, item after item.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Exclusive end offset of each item, in bytes.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Bytes that this column accounts for in limits: data and offsets.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.ends.len() * 4
    }

    /// Item `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { *self.ends.get(i - 1)? as usize };
        self.data.get(start..end)
    }

    /// Item `i` sharing the column's buffer.
    pub fn get_shared(&self, i: usize) -> Option<Bytes> {
        self.get(i).map(|item| self.data.slice_ref(item))
    }

    /// Every item in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let item = self.data.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            item
        })
    }

    /// The items at `at`, in that order, in a buffer of their own.
    pub fn gather(&self, at: &[u32]) -> Self {
        let size = at.iter().map(|&i| self.get(i as usize).map_or(0, <[u8]>::len)).sum();
        let mut builder = ColumnBuilder::with_capacity(at.len(), size);
        for &i in at {
            let item = self.get(i as usize);
            debug_assert!(item.is_some(), "position {i} of {} items", self.len());
            builder.push(item.unwrap_or_default());
        }
        builder.finish()
    }

    /// The items from `start` up to `end`, sharing this column's bytes.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let end = end.min(self.len());
        let start = start.min(end);
        let from = if start == 0 { 0 } else { self.ends.get(start - 1).copied().unwrap_or_default() };
        let ends: Vec<u32> = self.ends.get(start..end).unwrap_or_default().iter().map(|end| end - from).collect();
        let to = from + ends.last().copied().unwrap_or_default();
        Self { data: self.data.slice(from as usize..to as usize), ends: Arc::new(ends) }
    }

    /// All items of `columns`, in order.
    pub fn concat(columns: &[Self]) -> Self {
        let items = columns.iter().map(Self::len).sum();
        let size = columns.iter().map(|column| column.data.len()).sum();
        let mut builder = ColumnBuilder::with_capacity(items, size);
        for column in columns {
            builder.extend(column);
        }
        builder.finish()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Column {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut builder = ColumnBuilder::default();
        for item in items {
            builder.push(item.as_ref());
        }
        builder.finish()
    }
}

/// Lays items end to end.
#[derive(Debug, Default)]
pub struct ColumnBuilder {
    data: Vec<u8>,
    ends: Vec<u32>,
    /// Bytes and items of the column that was finished last: the next one is likely to need as much room.
    before: (usize, usize),
}

impl ColumnBuilder {
    /// Room for `items` items of `bytes` bytes together.
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self { data: Vec::with_capacity(bytes), ends: Vec::with_capacity(items), before: (0, 0) }
    }

    /// Adds one item.
    pub fn push(&mut self, item: &[u8]) {
        self.open().extend_from_slice(item);
        self.close();
    }

    /// Where the bytes of the item in hand are written; [`close`](Self::close) ends it.
    pub fn open(&mut self) -> &mut Vec<u8> {
        if self.data.capacity() == 0 {
            self.data.reserve(self.before.0);
        }
        &mut self.data
    }

    /// Ends the item in hand.
    pub fn close(&mut self) {
        if self.ends.capacity() == 0 {
            self.ends.reserve(self.before.1);
        }
        self.ends.push(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
    }

    /// Takes back what was written since the last item ended.
    pub fn undo_open(&mut self) {
        self.data.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    /// Takes back all items from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.undo_open();
    }

    /// Adds every item of `column`.
    pub fn extend(&mut self, column: &Column) {
        let base = self.data.len() as u32;
        self.data.extend_from_slice(&column.data);
        self.ends.extend(column.ends.iter().map(|end| base + end));
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes in hand, offsets included.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.ends.len() * 4
    }

    /// The column; the builder is empty afterwards.
    pub fn finish(&mut self) -> Column {
        self.undo_open();
        self.before = (self.data.len(), self.ends.len());
        Column { data: Bytes::from(std::mem::take(&mut self.data)), ends: Arc::new(std::mem::take(&mut self.ends)) }
    }
}
