//! The logs of a topic, read in turns.
//!
//! Owns the readers and what is left of a block that was larger than a batch. It must not wait. Invariant: from each log,
//! records come in order and each once, from the spot on that it was set to; what is missing between two of them is told
//! as lost.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;

use super::Start;
use crate::{
    batch::{Batch, Limit},
    codec::pack::unpack,
    log::{Error, From, Readable, Reader},
    topic::{Spot, Spots, Topic},
};

/// Records of one writer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) writer: String,
    /// Offset of the first record.
    pub(super) first: u64,
    /// Behind the last one.
    pub(super) spot: Spot,
    pub(super) batch: Batch,
    /// Records that were missing in front of them.
    pub(super) lost: u64,
}

/// What reads the logs, on a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct Reading {
    topic: Arc<Topic>,
    start: Start,
    /// Where each log is read on.
    spots: Spots,
    open: BTreeMap<String, Open>,
    /// The writer that was read last.
    last: Option<String>,
    /// What the last call came to, until somebody takes it.
    pub(super) outcome: Option<anyhow::Result<Found>>,
}

/// A log that is being read.
#[derive(Debug)]
struct Open {
    readable: Readable,
    reader: Reader,
    /// What is left of a block, and the offset of its first record.
    rest: Option<(u64, Batch)>,
}

impl Reading {
    pub(super) fn new(topic: Arc<Topic>, start: Start, spots: Spots) -> Self {
        Self { topic, start, spots, open: BTreeMap::new(), last: None, outcome: None }
    }

    /// Goes to these spots, and forgets what was read.
    pub(super) fn seek(&mut self, spots: Spots) {
        (self.spots, self.last, self.outcome) = (spots, None, None);
        self.open.clear();
    }

    /// Where each log is read on, after all that has been found.
    pub(super) fn spots(&self) -> &Spots {
        &self.spots
    }

    /// The next records, of whoever has some and has waited longest; none where everything has been read.
    pub(super) fn next(&mut self, most: Limit) -> anyhow::Result<Option<Found>> {
        let logs = self.topic.logs()?;
        let after = self.last.as_ref().map_or(0, |last| logs.partition_point(|(writer, _)| writer <= last));
        let turns = logs.iter().skip(after).chain(logs.iter().take(after));
        for (writer, readable) in turns {
            let what = || format!("read what `{writer}` wrote to topic `{}`", self.topic.name());
            if let Some(found) =
                read(&mut self.open, &mut self.spots, self.start, writer, readable, most).with_context(what)?
            {
                self.last = Some(writer.clone());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The next records of one writer, if it has any.
fn read(
    all: &mut BTreeMap<String, Open>,
    spots: &mut Spots,
    start: Start,
    writer: &str,
    readable: &Readable,
    most: Limit,
) -> anyhow::Result<Option<Found>> {
    let known = spots.get(writer).filter(|spot| spot.born == readable.born).copied();
    // A writer that goes back opens its log again; what is read of the one before may not be there any more.
    let is_same = |open: &Open| Arc::ptr_eq(&open.readable.log, &readable.log);
    let mut open = match all.remove(writer).filter(is_same) {
        Some(open) => open,
        None => begin(readable, known, start)?,
    };
    let mut at = known.map_or_else(|| open.reader.offset().max(readable.from), |spot| spot.offset);
    if known.is_none()
        && let Start::Offset(offset) = start
    {
        at = at.max(offset);
    }
    let (mut batches, mut lost, mut first) = (Vec::new(), 0, at);
    let (mut records, mut bytes) = (0, 0);
    while records < most.records && bytes < most.bytes {
        let (offset, batch) = match open.rest.take() {
            Some(rest) => rest,
            None => match open.reader.next() {
                Ok(None) => break,
                Ok(Some((offset, block))) => (offset, unpack(&block.payload)?),
                // Retention was quicker: what is still there comes next.
                Err(Error::Gone { .. }) => {
                    open.reader = readable.log.reader(From::Start)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
        };
        let end = offset + batch.len() as u64;
        if end <= at {
            continue;
        }
        let begin = at.max(offset);
        if begin > at && !batches.is_empty() {
            // What is lost stands in front of a batch.
            open.rest = Some((offset, batch));
            break;
        }
        (lost, first) = if batches.is_empty() { (begin - at, begin) } else { (lost, first) };
        let batch = batch.slice((begin - offset) as usize, batch.len());
        let left = Limit { records: most.records - records, bytes: most.bytes - bytes };
        let fits = batch.fitting(left).max(usize::from(batches.is_empty()));
        if fits < batch.len() {
            open.rest = Some((begin + fits as u64, batch.slice(fits, batch.len())));
        }
        at = begin + fits as u64;
        if fits == 0 {
            break;
        }
        let batch = batch.slice(0, fits);
        (records, bytes) = (records + batch.len(), bytes + batch.bytes());
        batches.push(batch);
    }
    let spot = Spot { born: readable.born, offset: at };
    // Also where there is nothing to read: what a start means is decided once.
    spots.insert(writer.to_owned(), spot);
    all.insert(writer.to_owned(), open);
    if batches.is_empty() {
        return Ok(None);
    }
    Ok(Some(Found { writer: writer.to_owned(), first, spot, batch: Batch::concat(&batches), lost }))
}

/// A reader at `known`, or where a group begins that knows nothing of this log.
fn begin(readable: &Readable, known: Option<Spot>, start: Start) -> anyhow::Result<Open> {
    let end = readable.log.end();
    let from = match (known, start) {
        // A start may lie ahead of what has been written.
        (Some(spot), _) => From::Offset(spot.offset.min(end)),
        // A writer that was not there when the group began is read from its first record on.
        (None, Start::Beginning | Start::End) => From::Start,
        (None, Start::Offset(offset)) => From::Offset(offset.min(end)),
        (None, Start::Time(time)) => From::Time(time),
    };
    let reader = match readable.log.reader(from) {
        // What is missing is found out when the first block that is there is read.
        Err(Error::Gone { .. }) => readable.log.reader(From::Start)?,
        reader => reader?,
    };
    Ok(Open { readable: readable.clone(), reader, rest: None })
}
