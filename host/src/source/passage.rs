//! Source of a durable edge: what the part of the pipeline in front of it has committed.
//!
//! Owns the order of records and watermarks, which is that of the writer: a watermark comes in front of the records that
//! it stood in front of there. It must not know who wrote, or what the records are. Invariants: from the log, records
//! come in order and each once; the source ends when all sources of its writer have ended and everything has been read.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{
    Chunk, Position, Read, Source,
    topic::{Held, committed},
};
use crate::{
    batch::{Batch, Limit},
    codec::pack::unpack,
    lent::Lent,
    log::{Block, From, Readable, Reader},
    sink::passage::HEAD,
    time::{BEGIN, END},
    topic::{Spot, Topic},
};

/// The end of a durable edge that is read.
pub struct PassageSource {
    topic: Arc<Topic>,
    writer: String,
    group: String,
    /// Where it begins, and begins again where a commit knows nothing of it.
    begin: Option<Spot>,
    /// How far it has handed out.
    spot: Option<Spot>,
    reading: Lent<Reading>,
    bell: watch::Receiver<()>,
    is_stopped: bool,
}

/// What reads the log, on a thread that may wait for the disk.
struct Reading {
    topic: Arc<Topic>,
    writer: String,
    /// Where it is read on.
    spot: Option<Spot>,
    open: Option<(Readable, Reader)>,
    /// What is left of a block that was larger than was asked for, and the offset of its first record.
    rest: Option<(u64, Batch)>,
    /// The last watermark that was handed out.
    told: i64,
    /// What the last call came to, until somebody takes it.
    outcome: Option<anyhow::Result<Found>>,
}

/// What is next.
enum Found {
    /// Records, with the watermark in front of them where it has moved, and the place behind them.
    Records(Option<i64>, Batch, Spot),
    /// The watermark behind all records.
    Watermark(i64),
    /// Nothing will ever follow.
    End,
}

/// A source of `topic`, that of a durable edge, which `writer` writes and `reader` reads as `group`.
///
/// # Errors
/// Somebody else reads it.
pub fn open(topic: Arc<Topic>, writer: &str, group: &str, reader: &str) -> anyhow::Result<PassageSource> {
    let begin = topic.join(group, reader)?.and_then(|spots| spots.get(writer).copied());
    let (bell, writer) = (topic.bell(), writer.to_owned());
    let reading = Reading {
        topic: topic.clone(),
        writer: writer.clone(),
        spot: begin,
        open: None,
        rest: None,
        told: BEGIN,
        outcome: None,
    };
    let (reading, group) = (Lent::new(reading), group.to_owned());
    Ok(PassageSource { topic, writer, group, begin, spot: begin, reading, bell, is_stopped: false })
}

impl Source for PassageSource {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            loop {
                // What a call found whose caller went away is handed out first.
                let reading = self.reading.back().await?;
                let found = match reading.outcome.take() {
                    Some(found) => Some(found),
                    None if self.is_stopped => return Ok(Read::End),
                    None => {
                        self.bell.borrow_and_update();
                        let call = move |reading: &mut Reading| reading.outcome = reading.next(most).transpose();
                        self.reading.lend(call).await?.outcome.take()
                    }
                };
                match found.transpose()? {
                    Some(Found::Records(watermark, batch, spot)) => {
                        self.spot = Some(spot);
                        let watermarks = watermark.into_iter().map(|watermark| (0, watermark)).collect();
                        return Ok(Read::Chunk(Chunk { batch, watermarks, ..Chunk::default() }));
                    }
                    Some(Found::Watermark(watermark)) => {
                        return Ok(Read::Chunk(Chunk { watermarks: vec![(0, watermark)], ..Chunk::default() }));
                    }
                    Some(Found::End) => return Ok(Read::End),
                    // The topic holds the other end as long as this source holds the topic.
                    None => self.bell.changed().await.context("wait for a durable edge")?,
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        let spots: BTreeMap<String, Spot> = self.spot.map(|spot| (self.writer.clone(), spot)).into_iter().collect();
        let held = Held { topic: self.topic.name().to_owned(), group: self.group.clone(), spots };
        // Names and numbers always are JSON.
        Position(serde_json::to_value(held).unwrap_or_default())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        async move {
            self.spot = Held::at(position).map_or(self.begin, |held| held.spots.get(&self.writer).copied());
            let spot = self.spot;
            let reading = self.reading.back().await?;
            (reading.spot, reading.open, reading.rest, reading.outcome) = (spot, None, None, None);
            reading.told = BEGIN;
            Ok(true)
        }
        .boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        committed(&self.topic, &self.group, position)
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

impl Reading {
    /// What is next; none where everything that is committed has been read.
    fn next(&mut self, most: Limit) -> anyhow::Result<Option<Found>> {
        // Looked at first: it is about records that can be read by now.
        let told = self.topic.told(&self.writer);
        if let Some((offset, batch)) = self.rest.take() {
            return Ok(Some(self.records(offset, None, batch, most)));
        }
        if let Some((offset, block)) = self.block()? {
            let (watermark, batch) = unpacked(&block)?;
            let moved = (watermark > self.told).then_some(watermark);
            self.told = self.told.max(watermark);
            return Ok(Some(self.records(offset, moved, batch, most)));
        }
        let read_to = self.spot.map_or(0, |spot| spot.offset);
        let Some(told) = told.filter(|told| told.offset <= read_to && told.watermark > self.told) else {
            return Ok(None);
        };
        self.told = told.watermark;
        Ok(Some(if told.watermark == END { Found::End } else { Found::Watermark(told.watermark) }))
    }

    /// The first block that has records which have not been read.
    fn block(&mut self) -> anyhow::Result<Option<(u64, Block)>> {
        let what = || format!("read the durable edge `{}`", self.topic.name());
        let logs = self.topic.logs().with_context(what)?;
        let Some((_, readable)) = logs.into_iter().find(|(writer, _)| *writer == self.writer) else { return Ok(None) };
        // What was read of the log that another one took the place of is of no use in that.
        let at = self.spot.filter(|spot| spot.born == readable.born).map_or(0, |spot| spot.offset);
        self.spot = Some(Spot { born: readable.born, offset: at });
        // A writer that goes back opens its log again.
        let is_same = |(open, _): &(Readable, Reader)| Arc::ptr_eq(&open.log, &readable.log);
        let (_, reader) = match self.open.take().filter(is_same) {
            Some(open) => self.open.insert(open),
            None => {
                let reader = readable.log.reader(From::Offset(at)).with_context(what)?;
                self.open.insert((readable, reader))
            }
        };
        while let Some((offset, block)) = reader.next().with_context(what)? {
            if offset + u64::from(block.records) > at {
                ensure!(
                    offset <= at,
                    "read the durable edge `{}`: records from {at} on are missing",
                    self.topic.name()
                );
                return Ok(Some((offset, block)));
            }
        }
        Ok(None)
    }

    /// As many of the records as are asked for; the rest comes next.
    fn records(&mut self, first: u64, watermark: Option<i64>, batch: Batch, most: Limit) -> Found {
        let (at, born) = self.spot.map_or((first, 0), |spot| (spot.offset.max(first), spot.born));
        let batch = batch.slice(usize::try_from(at - first).unwrap_or(usize::MAX), batch.len());
        let fits = batch.fitting(most).max(1);
        let spot = Spot { born, offset: at + fits as u64 };
        if fits < batch.len() {
            self.rest = Some((spot.offset, batch.slice(fits, batch.len())));
        }
        self.spot = Some(spot);
        Found::Records(watermark, batch.slice(0, fits), spot)
    }
}

/// The watermark in front of a block's records, and these.
fn unpacked(block: &Block) -> anyhow::Result<(i64, Batch)> {
    let (head, _) =
        block.payload.split_first_chunk::<HEAD>().context("read a block of a durable edge: it has no watermark")?;
    Ok((i64::from_le_bytes(*head), unpack(&block.payload.slice(HEAD..))?))
}
