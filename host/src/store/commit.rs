//! What a pipeline hands to the store, and what it hears back.
//!
//! Owns the values in flight, laid end to end. It must not know what they mean, nor how they are stored.

use std::{sync::Arc, time::Duration};

use super::{Place, Places};

/// What one pipeline commits at once: all of it, or after a crash nothing of it, is in the store. Writes take effect in
/// the order in which they were added.
#[derive(Clone, Debug)]
pub struct Commit {
    pub(super) pipeline: Arc<str>,
    pub(super) epoch: Option<u64>,
    pub(super) at: i64,
    /// Shared, so that whoever may have to hand it in again needs no second copy.
    laid: Arc<Laid>,
}

/// Keys and values end to end.
#[derive(Clone, Debug, Default)]
struct Laid {
    data: Vec<u8>,
    writes: Vec<End>,
}

/// Where a write's key and value end in the data; each begins where the one before ends.
#[derive(Clone, Copy, Debug)]
struct End {
    what: What,
    key: usize,
    value: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Put,
    Delete,
    /// Every key that begins with this one.
    DeleteAll,
}

/// One write, its key encoded; only what is put has a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) what: What,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Commit {
    /// An empty commit of an epoch, at a time in milliseconds since 1970.
    pub fn of_epoch(pipeline: Arc<str>, epoch: u64, at: i64) -> Self {
        Self { pipeline, epoch: Some(epoch), at, laid: Arc::default() }
    }

    /// An empty commit of facts that do not wait for an epoch: a breaker's state, that outputs were sent. It leaves no
    /// trace in the history of epochs.
    pub fn of_facts(pipeline: Arc<str>, at: i64) -> Self {
        Self { pipeline, epoch: None, at, laid: Arc::default() }
    }

    /// Puts a value at a place, in the stead of any that was there.
    pub fn put(&mut self, place: &Place<'_>, value: &[u8]) {
        let Laid { data, writes } = Arc::make_mut(&mut self.laid);
        place.encode(data);
        let key = data.len();
        data.extend_from_slice(value);
        writes.push(End { what: What::Put, key, value: data.len() });
    }

    /// Deletes the value at a place, where there is one.
    pub fn delete(&mut self, place: &Place<'_>) {
        let Laid { data, writes } = Arc::make_mut(&mut self.laid);
        place.encode(data);
        let key = data.len();
        writes.push(End { what: What::Delete, key, value: key });
    }

    /// Deletes every value at these places.
    pub fn delete_all(&mut self, places: Places<'_>) {
        let Laid { data, writes } = Arc::make_mut(&mut self.laid);
        places.encode(data);
        let key = data.len();
        writes.push(End { what: What::DeleteAll, key, value: key });
    }

    /// The epoch that it is of, if of one.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.laid.writes.len()
    }

    /// Whether it holds no write.
    pub fn is_empty(&self) -> bool {
        self.laid.writes.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.laid.data.len()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = Write<'_>> {
        let (mut begin, Laid { data, writes }) = (0, &*self.laid);
        writes.iter().map(move |end| {
            let (key, value) = (&data[begin..end.key], &data[end.key..end.value]);
            begin = end.value;
            Write { what: end.what, key, value }
        })
    }
}

/// What a commit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many writes it held.
    pub writes: usize,
    /// Bytes of all its keys and values.
    pub bytes: usize,
    /// How long the transaction took that it was part of, fsync included: what [`pace`](super::pace()) asks for.
    pub took: Duration,
    /// Whether the disk has room; where it has not, this commit took the room that was kept for it, and the pipeline
    /// pauses until [`Store::room`](super::Store::room) says that there is some again.
    pub room: bool,
}
