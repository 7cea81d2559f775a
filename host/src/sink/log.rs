//! A sink that appends to a log of the host's own.
//!
//! Owns the way of records into the log: what waits for room, what a flush makes durable, where a commit takes it back to,
//! and when readers may see it. It must not know what the records are; whoever opens it says how they become blocks.
//! Invariants: what was taken in is appended once, in order, however often the disk or the log was full between; nobody
//! reads what has not been committed; a log that the store knows nothing of is never emptied.

use std::{
    collections::VecDeque,
    fmt::Debug,
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Refused, Sink, SinkError, backlog::passes};
use crate::{
    batch::Batch,
    crash,
    disk::Disk,
    epoch::Epoch,
    lent::Lent,
    log::{Access, Block, Error, Keep, Log, Mark, Readable, Settings, make_folders},
    time::now,
};

/// Length of a segment, unless the log is to be a small one.
const SEGMENT: u32 = 64 << 20;

/// Segments that a full log consists of at least, for retention takes whole ones.
const SEGMENTS: u64 = 8;

/// How the records of a batch become blocks, which an epoch appends at a time in milliseconds since the Unix epoch.
pub type Form = Arc<dyn Fn(&Batch, Epoch, i64) -> Vec<Block> + Send + Sync>;

/// Who makes room in a log that is full; the segment that is written stays in any case, so that what one epoch appends
/// may be more than the log's limit.
#[derive(Clone, Debug)]
pub enum Room {
    /// A person, as the cure says; until then nothing more is taken.
    Person,
    /// Those who read it: what all of them have read goes, and until they have, nothing more is taken.
    Readers(Arc<dyn Readers>),
    /// Nobody: the oldest records go, whoever has not read them.
    Oldest,
}

/// Those who read a log, each at a place of its own.
pub trait Readers: Debug + Send + Sync {
    /// The first record that somebody has not read; none where nobody is known who reads.
    fn needed(&self) -> Option<u64>;

    /// Whose turn it is, in words that read after "is waited for:".
    fn awaited(&self) -> String;
}

/// Where a log lies and how much it keeps.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Folder of the host's state.
    pub state: PathBuf,
    /// Folder of the log, relative to that.
    pub folder: PathBuf,
    /// How long records are kept at least.
    pub keep: Duration,
    /// Bytes that the log may take.
    pub max: u64,
    /// Who makes room above them.
    pub room: Room,
    /// What a person may do about a log that is full, or that nobody knows.
    pub cure: String,
}

/// Where the log stood: what a commit holds of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its end.
    pub mark: Mark,
    /// Records before this offset have been given up by a person.
    #[serde(default)]
    pub from: u64,
    /// A random number that tells this log from another one that begins in its place.
    #[serde(default)]
    pub born: u64,
}

/// A log, its writing end.
pub struct LogSink {
    writer: Lent<Writer>,
    form: Form,
    access: Access,
    /// Nothing until the log is open.
    position: Option<Position>,
    epoch: Epoch,
}

/// What a blocking call works on.
struct Writer {
    terms: Terms,
    /// None until `restore` has said where it stood.
    log: Option<Arc<Log>>,
    /// Taken in, and not yet appended.
    waiting: VecDeque<Block>,
    /// Where readers find the log, and what of it is gone.
    access: Access,
    /// What the last call came to.
    outcome: Result<Mark, SinkError>,
    opened: anyhow::Result<()>,
}

/// A sink over the log of these terms, which is opened when it is told where it stood, and found in `access` from then on;
/// `at` is where it stood as far as that is known before.
pub fn open(terms: Terms, form: Form, access: Access, at: Option<Position>) -> LogSink {
    let nothing = Ok(Mark::default());
    let (waiting, seen) = (VecDeque::new(), access.clone());
    let writer = Writer { terms, log: None, waiting, access: seen, outcome: nothing, opened: Ok(()) };
    LogSink { writer: Lent::new(writer), form, access, position: at, epoch: Epoch::default() }
}

/// The sizes of a log that takes `max` bytes.
pub fn settings(max: u64) -> Settings {
    let segment = u32::try_from(max / SEGMENTS).unwrap_or(u32::MAX).clamp(1 << 10, SEGMENT);
    // A record may be as large as its source allows.
    Settings { segment, block: u32::MAX }
}

impl Sink for LogSink {
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        let (batch, form, epoch) = (batch.clone(), self.form.clone(), self.epoch);
        let take = move |writer: &mut Writer| {
            writer.waiting.extend(form(&batch, epoch, now()));
            writer.outcome = writer.append().map(|()| Mark::default());
        };
        async { outcome(self.writer.lend(take).await).map(|_| ()) }.boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async {
            let mark = outcome(self.writer.lend(|writer| writer.outcome = writer.flush()).await)?;
            if let Some(position) = &mut self.position {
                position.mark = mark;
            }
            Ok(())
        }
        .boxed()
    }

    fn position(&self) -> Value {
        self.position.map_or(Value::Null, |position| json!(position))
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            let to: Option<Position> = serde_json::from_value(position.clone()).context("read where the log stood")?;
            let writer = self.writer.lend(move |writer| writer.opened = writer.open(to.map(|to| to.mark))).await?;
            std::mem::replace(&mut writer.opened, Ok(()))?;
            // Every `RandomState` has other keys: the one source of randomness that the standard library has.
            let born = || RandomState::new().hash_one(SEGMENT);
            let to = to.unwrap_or_else(|| Position { born: born(), ..Position::default() });
            self.position = Some(to);
            if let Some(log) = &writer.log {
                self.access.show(Readable { log: log.clone(), from: to.from, born: to.born, struck: Arc::default() });
            }
            Ok(())
        }
        .boxed()
    }

    fn begins(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    fn committed(&mut self, position: &Value) {
        let committed: Result<Position, _> = serde_json::from_value(position.clone());
        if let Ok(Position { mark, .. }) = committed {
            self.access.committed(mark);
        }
    }
}

fn outcome(lent: anyhow::Result<&mut Writer>) -> Result<Mark, SinkError> {
    let writer = lent.map_err(SinkError::Never)?;
    std::mem::replace(&mut writer.outcome, Ok(Mark::default()))
}

impl Writer {
    /// Opens the log as the commit has it; what was appended behind it, and what waits, comes again.
    fn open(&mut self, committed: Option<Mark>) -> anyhow::Result<()> {
        let Terms { disk, state, folder, max, cure, .. } = &self.terms;
        let path = state.join(folder);
        if committed.is_none() && Log::is_in(&**disk, &path)? {
            bail!("begin the log {}: it holds records that the store knows nothing of; {cure}", path.display());
        }
        make_folders(&**disk, state, folder)?;
        self.waiting.clear();
        self.log = Some(Log::open(disk.clone(), &path, committed, settings(*max))?);
        Ok(())
    }

    fn log(&self) -> Result<Arc<Log>, SinkError> {
        self.log.clone().ok_or_else(|| SinkError::Never(anyhow!("write to a log that has not been opened")))
    }

    /// Appends what waits, as far as there is room.
    fn append(&mut self) -> Result<(), SinkError> {
        let log = self.log()?;
        while let Some(block) = self.waiting.front() {
            self.make_room(&log, block.payload.len() as u64)?;
            crash::point("letters.before-append");
            log.append(block).map_err(verdict)?;
            crash::point("letters.appended");
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Mark, SinkError> {
        self.append()?;
        let log = self.log()?;
        self.retain(&log, Some(self.terms.max))?;
        let mark = log.sync().map_err(verdict)?;
        crash::point("letters.synced");
        Ok(mark)
    }

    /// Removes what is old enough, and above `most` bytes the oldest, but for what readers are waited for.
    fn retain(&self, log: &Log, most: Option<u64>) -> Result<(), SinkError> {
        let age = u64::try_from(self.terms.keep.as_millis()).ok();
        let (bytes, needed) = match &self.terms.room {
            Room::Person => (None, None),
            Room::Readers(readers) => (most, readers.needed()),
            Room::Oldest => (most, None),
        };
        let struck = self.access.struck();
        let keep = Keep { age, bytes, needed, struck: Some(&struck) };
        let removed = log.retain(now(), keep).map_err(verdict)?;
        if removed.segments > 0 {
            let log = self.terms.folder.display();
            tracing::info!(%log, records = removed.records, bytes = removed.bytes, "records were kept long enough");
        }
        Ok(())
    }

    /// A log that would grow over its limit takes nothing more until there is room again, where somebody makes some.
    fn make_room(&self, log: &Log, more: u64) -> Result<(), SinkError> {
        let Terms { max, folder, cure, room, .. } = &self.terms;
        let is_full = || log.bytes().saturating_add(more) > *max;
        if is_full() {
            self.retain(log, Some(max.saturating_sub(more)))?;
        }
        let (name, limit) = (folder.display(), crate::unit::Size(*max));
        match room {
            Room::Person if is_full() => {
                Err(SinkError::Later(anyhow!("the log {name} has reached its `max` of {limit}; {cure}")))
            }
            // What nobody can read before it is committed has nobody to wait for.
            Room::Readers(readers) if is_full() && log.is_held(readers.needed()) => {
                let awaited = readers.awaited();
                let told = format!("the log {name} has reached its `max` of {limit}, and is waited for: {awaited}");
                Err(SinkError::Later(anyhow!(told)))
            }
            Room::Person | Room::Readers(_) | Room::Oldest => Ok(()),
        }
    }
}

/// What an error of the log means: room may come back, the rest does not.
fn verdict(error: Error) -> SinkError {
    match &error {
        Error::Io { error: cause, .. } if passes(cause) => SinkError::Later(error.into()),
        _ => SinkError::Never(error.into()),
    }
}

#[cfg(test)]
mod tests;
