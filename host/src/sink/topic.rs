//! Sink `topic`: records for other pipelines of the host, kept in a log.
//!
//! Owns what of a record is kept and who is waited for when the topic is full. It must not know who reads. Invariant: a
//! record is read as it was written, but for its id, which is its place in the topic.

use std::{path::Path, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::log::{self, Form, LogSink, Position, Readers, Room, Terms};
use crate::{
    batch::Batch,
    codec::pack::pack,
    disk::Disk,
    epoch::Epoch,
    log::{Block, Mark},
    topic::{GroupStatus, Topic, Written, folder},
    unit::{Size, Span},
};

/// Groups that are named where some are waited for.
const NAMED: usize = 3;

/// What `topic:` of a sink takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the topic.
    pub name: String,
    /// How long a record is kept, from when it was written; records go by whole segments, an eighth of `max` each, 64 MiB at
    /// most.
    #[serde(default = "week")]
    pub keep: Span,
    /// Most bytes of what this sink writes; what one epoch writes may be more.
    #[serde(default = "gibibyte")]
    pub max: Size,
    /// What becomes of records when the topic is full of what some group has not read.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// What becomes of records when a topic is full of what some group has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// They wait until every group has read what stands in the way.
    #[default]
    Block,
    /// The oldest go; who has not read them counts them as lost.
    DropOldest,
}

fn week() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

fn gibibyte() -> Size {
    Size(1 << 30)
}

/// The groups that read a topic, as the log of one of its writers sees them.
#[derive(Debug)]
struct Groups {
    topic: Arc<Topic>,
    writer: String,
}

impl Readers for Groups {
    fn needed(&self) -> Option<u64> {
        self.topic.needed(&self.writer)
    }

    fn awaited(&self) -> String {
        let behind = self.topic.behind(&self.writer);
        let told =
            behind.iter().filter(|group| group.behind > 0).take(NAMED).map(|GroupStatus { group, reader, behind }| {
                let reader =
                    reader.as_ref().map_or("which nobody runs".to_owned(), |reader| format!("read by `{reader}`"));
                format!("group `{group}`, {reader}, has {behind} records to read")
            });
        let told = told.collect::<Vec<_>>().join("; ");
        let name = self.topic.name();
        format!(
            "{told}; run what reads it, raise `max`, write `when_full: drop_oldest`, or give the group up with `tidegate topic forget {name} GROUP`"
        )
    }
}

/// A sink that writes to `topic` as `writer`, below `state`, the folder of the host's state.
pub fn open(config: &Config, topic: Arc<Topic>, writer: &str, disk: Arc<dyn Disk>, state: &Path) -> LogSink {
    let (access, known) = topic.write(writer);
    let name = topic.name().to_owned();
    let room = match config.when_full {
        WhenFull::Block => Room::Readers(Arc::new(Groups { topic, writer: writer.to_owned() })),
        WhenFull::DropOldest => Room::Oldest,
    };
    let terms = Terms {
        disk,
        state: state.to_owned(),
        folder: folder(&name, writer),
        keep: config.keep.0,
        max: config.max.0,
        room,
        cure: "`--reset-state all` begins it anew".to_owned(),
    };
    let at = known.map(|Written { mark, from, born }| Position { mark, from, born });
    let form: Form = Arc::new(|batch, epoch, now| block(batch, epoch, now).into_iter().collect());
    log::open(terms, form, access, at)
}

/// The block that a batch becomes: its values, keys, event times and headers. Ids and fields are made anew by who reads.
fn block(batch: &Batch, epoch: Epoch, now: i64) -> Option<Block> {
    let records = u32::try_from(batch.len()).ok().filter(|records| *records > 0)?;
    let mut payload = Vec::with_capacity(batch.bytes() + batch.len() * 24);
    pack(&batch.clone().retain_named(|_| false), &mut payload);
    Some(Block { payload: payload.into(), records, times: (now, now), epoch })
}

/// Where the log of a writer stood, as its commit says; nothing where that is not readable.
pub fn written(position: &serde_json::Value) -> Option<Written> {
    let Position { mark, from, born } = serde_json::from_value(position.clone()).ok()?;
    (mark != Mark::default() || born != 0).then_some(Written { mark, from, born })
}
