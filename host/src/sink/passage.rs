//! Sink of a durable edge: records for the part of the pipeline behind it, kept in a log.
//!
//! Owns what stands beside the records, so that event time passes as it does on an edge that blocks: each block begins
//! with the watermark that was in front of it, and a position holds the one behind its last record. It must not know who
//! reads. Invariant: a watermark is told to the reader once everything in front of it has been committed.
//!
//! A block is the watermark in 8 bytes, little-endian, in milliseconds since the Unix epoch, and a packed batch.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Refused, Sink, SinkError,
    log::{self, Form, LogSink, Position, Readers, Room, Terms},
};
use crate::{
    batch::Batch,
    codec::pack::pack,
    disk::Disk,
    epoch::Epoch,
    log::Block,
    time::BEGIN,
    topic::{Told, Topic, Written, folder},
    unit::Size,
};

/// Bytes in front of the records of a block.
pub const HEAD: usize = 8;

/// What a commit holds of a durable edge.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    #[serde(flatten)]
    log: Position,
    /// How far event time had come behind the last record.
    watermark: i64,
}

/// The part behind a durable edge, as the log sees it.
#[derive(Debug)]
struct Behind {
    topic: Arc<Topic>,
    writer: String,
}

impl Readers for Behind {
    fn needed(&self) -> Option<u64> {
        self.topic.needed(&self.writer)
    }

    fn awaited(&self) -> String {
        let behind = self.topic.behind(&self.writer);
        let told = behind.iter().map(|group| format!("`{}` has {} records to read", group.group, group.behind));
        format!("{}; see what holds it, or raise `max` of the edge", told.collect::<Vec<_>>().join("; "))
    }
}

/// The end of a durable edge that is written.
pub struct PassageSink {
    log: LogSink,
    topic: Arc<Topic>,
    writer: String,
    /// How far event time has come; every block that is made takes it along.
    watermark: Arc<AtomicI64>,
}

/// A sink that writes to `topic`, that of a durable edge, as `writer`, at most `max` bytes that have not been read, below
/// `state`, the folder of the host's state.
pub fn open(topic: Arc<Topic>, writer: &str, max: Size, disk: Arc<dyn Disk>, state: &Path) -> PassageSink {
    let (access, known) = topic.write(writer);
    let terms = Terms {
        disk,
        state: state.to_owned(),
        folder: folder(topic.name(), writer),
        // What has been read is needed by nobody.
        keep: Duration::ZERO,
        max: max.0,
        room: Room::Readers(Arc::new(Behind { topic: topic.clone(), writer: writer.to_owned() })),
        cure: "`--reset-state all` begins it anew".to_owned(),
    };
    let at = known.map(|Written { mark, from, born }| Position { mark, from, born });
    let watermark = Arc::new(AtomicI64::new(BEGIN));
    let passed = watermark.clone();
    // A batch becomes a block before its sink hears of the next mark.
    let form: Form =
        Arc::new(move |batch, epoch, now| block(batch, passed.load(Relaxed), epoch, now).into_iter().collect());
    PassageSink { log: log::open(terms, form, access, at), topic, writer: writer.to_owned(), watermark }
}

/// The block that a batch becomes, all of its columns.
fn block(batch: &Batch, watermark: i64, epoch: Epoch, now: i64) -> Option<Block> {
    let records = u32::try_from(batch.len()).ok().filter(|records| *records > 0)?;
    let mut payload = Vec::with_capacity(HEAD + batch.bytes() + batch.len() * 24);
    payload.extend_from_slice(&watermark.to_le_bytes());
    pack(batch, &mut payload);
    Some(Block { payload: payload.into(), records, times: (now, now), epoch })
}

/// How far event time had come at a position, as its commit says; nothing where it is none of a durable edge.
pub fn told(position: &Value) -> Option<Told> {
    let Place { log, watermark } = serde_json::from_value(position.clone()).ok()?;
    Some(Told { offset: log.mark.offset, watermark })
}

impl Sink for PassageSink {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        self.log.write(batch, refused)
    }

    fn flush<'a>(&'a mut self, refused: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.log.flush(refused)
    }

    fn position(&self) -> Value {
        let watermark = self.watermark.load(Relaxed);
        // A log that has not been opened stands nowhere.
        serde_json::from_value(self.log.position()).map_or(Value::Null, |log| json!(Place { log, watermark }))
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            self.log.restore(position).await?;
            let told = told(position).unwrap_or(Told { offset: 0, watermark: BEGIN });
            self.watermark.store(told.watermark, Relaxed);
            self.topic.tell(&self.writer, told);
            Ok(())
        }
        .boxed()
    }

    fn mark(&mut self, watermark: i64) {
        self.watermark.fetch_max(watermark, Relaxed);
    }

    fn begins(&mut self, epoch: Epoch) {
        self.log.begins(epoch);
    }

    fn committed(&mut self, position: &Value) {
        self.log.committed(position);
        told(position).into_iter().for_each(|told| self.topic.tell(&self.writer, told));
    }
}
