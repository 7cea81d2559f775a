//! Source `topic`: records that other pipelines of the host have written to a topic.
//!
//! Owns where a group begins, the position that it commits, and the waiting for more. It must not know who writes. How
//! logs are read is in `reading`. Invariants: the records of one writer come in their order, those of several in turns;
//! what retention took before it was read is counted as lost, never passed over in silence.

mod reading;
mod start;

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

use self::reading::{Found, Reading};
pub use self::start::Start;
use super::{Chunk, Position, Read, Source};
use crate::{
    batch::{Batch, ColumnBuilder, ID, Limit},
    codec::{Restamp, Stamp, Undecoded},
    lent::Lent,
    topic::{Spots, Topic},
};

/// What `topic:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the topic.
    pub name: String,
    /// Whom the position belongs to: another source that reads as this group goes on there. `PIPELINE.SOURCE` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where a group begins that has read nothing yet: `beginning`, `end`, `offset 1200`, or the time at which a record was
    /// written, in RFC 3339.
    #[serde(default)]
    pub start: Start,
}

/// What a commit holds of a source that reads a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// How far it has come.
    pub spots: Spots,
}

impl Held {
    /// What a commit holds at `position`, if it is of a source that reads a topic.
    pub(super) fn at(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone()).ok()
    }
}

/// Tells `topic` how far `group` has come with what was committed.
pub(super) fn committed(topic: &Topic, group: &str, position: &Position) -> BoxFuture<'static, anyhow::Result<()>> {
    if let Some(held) = Held::at(position) {
        topic.read_to(group, &held.spots);
    }
    std::future::ready(Ok(())).boxed()
}

/// What a source is that reads a topic.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// `PIPELINE.SOURCE`, as others are told.
    pub reader: String,
    /// The group that it reads as.
    pub group: String,
    /// Where the group begins.
    pub start: Start,
    /// What is stamped anew.
    pub stamp: &'a Stamp,
    /// Whether somebody needs ids.
    pub has_ids: bool,
}

/// A running source of a topic.
pub struct TopicSource {
    topic: Arc<Topic>,
    group: String,
    stamp: Restamp,
    has_ids: bool,
    /// Where it begins, and begins again where a commit knows nothing of it.
    begin: Spots,
    /// How far it has handed out.
    spots: Spots,
    reading: Lent<Reading>,
    bell: watch::Receiver<()>,
    is_stopped: bool,
}

/// Opens a source of `topic`, where its group has come to.
///
/// # Errors
/// Somebody else reads as that group.
pub fn open(topic: Arc<Topic>, terms: Terms<'_>) -> anyhow::Result<TopicSource> {
    let Terms { reader, group, start, stamp, has_ids } = terms;
    let known = topic.join(&group, &reader)?;
    let begin = known.unwrap_or_else(|| if start == Start::End { topic.ends() } else { Spots::default() });
    let reading = Lent::new(Reading::new(topic.clone(), start, begin.clone()));
    let bell = topic.bell();
    let stamp = Restamp::new(stamp);
    let spots = begin.clone();
    Ok(TopicSource { topic, group, stamp, has_ids, begin, spots, reading, bell, is_stopped: false })
}

impl Source for TopicSource {
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
                        let reading = self.reading.lend(call).await?;
                        if reading.outcome.is_none() {
                            // What a start means has been decided, also where there is nothing to read.
                            self.spots.clone_from(reading.spots());
                        }
                        reading.outcome.take()
                    }
                };
                match found.transpose()? {
                    Some(found) => return Ok(Read::Chunk(self.take(found))),
                    // The topic holds the other end as long as this source holds the topic.
                    None => self.bell.changed().await.context("wait for a topic")?,
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        let held = Held { topic: self.topic.name().to_owned(), group: self.group.clone(), spots: self.spots.clone() };
        // Names and numbers always are JSON.
        Position(serde_json::to_value(held).unwrap_or_default())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        async move {
            // The position of another group, or of another source that had the name, is not this one's.
            let is_own = |held: &Held| held.topic == self.topic.name() && held.group == self.group;
            self.spots = Held::at(position).filter(is_own).map_or_else(|| self.begin.clone(), |held| held.spots);
            let spots = self.spots.clone();
            self.reading.back().await?.seek(spots);
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

impl TopicSource {
    fn take(&mut self, found: Found) -> Chunk {
        let Found { writer, first, spot, batch, lost } = found;
        if lost > 0 {
            let (topic, group) = (self.topic.name(), &self.group);
            tracing::error!(topic, group, writer, lost, "records went before the group had read them");
        }
        let batch = if self.has_ids {
            let ids = ids(self.topic.name(), &writer, spot.born, first, batch.len());
            batch.clone().with_named(ID.into(), ids).unwrap_or(batch)
        } else {
            batch
        };
        let mut undecoded: Vec<Undecoded> = Vec::new();
        let name = self.topic.name();
        let batch: Batch =
            self.stamp.stamp(batch, &mut undecoded, |at| format!("topic {name}, {writer}: {}", first + at as u64));
        self.spots.insert(writer, spot);
        Chunk { batch, undecoded, lost, ..Chunk::default() }
    }
}

/// Ids of records: a hash of the place in the topic, which is the same whoever reads it and however often.
fn ids(topic: &str, writer: &str, born: u64, first: u64, len: usize) -> crate::batch::Column {
    let mut column = ColumnBuilder::with_capacity(len, len * 16);
    let mut seed = format!("{topic}\0{writer}\0{born}\0").into_bytes();
    let head = seed.len();
    for number in first..first + len as u64 {
        seed.truncate(head);
        seed.extend_from_slice(&number.to_le_bytes());
        column.push(&xxh3_128(&seed).to_le_bytes());
    }
    column.finish()
}

#[cfg(test)]
mod tests;
