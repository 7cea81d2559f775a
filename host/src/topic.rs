//! Topics: logs that the pipelines of a host share, by name.
//!
//! Owns who writes to a topic, who reads it in which group, how far each group has come, and the two bells that say so.
//! It must not know records, pipelines or the store. A topic is a set of logs, one for each sink that writes to it, for a
//! log has one committed end and that belongs to the commit of its writer. Invariants: readers see what has been
//! committed and nothing else; a group has one reader; what a group has not read is what its last commit says.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    disk::Disk,
    log::{Access, Log, Mark, Readable, Settings},
};

/// A place in the log of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// Which log: another one that begins in its place has another number.
    pub born: u64,
    /// Offset of the next record.
    pub offset: u64,
}

/// How far a group has come in the log of each writer; of one that is not there it has read nothing.
pub type Spots = BTreeMap<String, Spot>;

/// Where the log of a writer stood at its last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its committed end.
    pub mark: Mark,
    /// Records before this offset have been given up.
    pub from: u64,
    /// Which log it is.
    pub born: u64,
}

/// The topics of a host.
#[derive(Debug)]
pub struct Topics {
    disk: Arc<dyn Disk>,
    state: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Topic>>>,
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    name: String,
    disk: Arc<dyn Disk>,
    /// Folder of the host's state.
    state: PathBuf,
    hub: Mutex<Hub>,
    /// Rung when there is more to read.
    written: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Hub {
    writers: BTreeMap<String, Writer>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Writer {
    /// What the store knew of its log when the host began.
    known: Option<Written>,
    access: Access,
    /// It is a part of this run, and opens its log itself.
    is_here: bool,
    /// How far event time had come behind the records that it committed, where it says so.
    told: Option<Told>,
}

/// How far event time had come behind the record in front of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Offset of the next record.
    pub offset: u64,
    /// In milliseconds since the Unix epoch.
    pub watermark: i64,
}

#[derive(Debug, Default)]
struct Group {
    spots: Spots,
    /// Who reads in this run.
    reader: Option<String>,
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub group: String,
    /// The source that reads; none where its pipeline does not run.
    pub reader: Option<String>,
    /// Committed records that it has not committed yet.
    pub behind: u64,
}

/// A writer of a topic as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterStatus {
    /// `PIPELINE.SINK`.
    pub writer: String,
    /// Whether its pipeline is a part of the host's run.
    pub runs: bool,
    /// Committed records that are kept.
    pub records: u64,
    /// Bytes of its log.
    pub bytes: u64,
    /// Offset of the first record that is kept.
    pub first: u64,
    /// Offset after the last committed record.
    pub end: u64,
}

/// A topic as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub topic: String,
    /// Who writes, or has written.
    pub writers: Vec<WriterStatus>,
    /// Who reads, the slowest first.
    pub groups: Vec<GroupStatus>,
}

impl Topics {
    /// The topics below `state`, the folder of a host's state; what its store knows is told to each.
    pub fn new(disk: Arc<dyn Disk>, state: &Path) -> Self {
        Self { disk, state: state.to_owned(), all: Mutex::default() }
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Arc<Topic> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = all.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Topic {
                name: name.to_owned(),
                disk: self.disk.clone(),
                state: self.state.clone(),
                hub: Mutex::default(),
                written: watch::Sender::default(),
            })
        });
        topic.clone()
    }

    /// All that anybody has written, read or asked for.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// All topics as they stand.
    ///
    /// # Errors
    /// Damage in a log whose writer does not run, and what the disk says.
    pub fn status(&self) -> anyhow::Result<Vec<Status>> {
        self.all().iter().map(|topic| topic.status()).collect()
    }

    /// Where files are.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Folder of the host's state.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

/// The folder of a writer's log, relative to that of the state.
pub fn folder(topic: &str, writer: &str) -> PathBuf {
    ["logs", "topics", topic, writer].iter().collect()
}

impl Topic {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells what the store knows of the log of `writer`.
    pub fn found(&self, writer: &str, written: Written) {
        self.hub().writer(writer, &self.written).known = Some(written);
    }

    /// Tells what the store knows of `group`; where it knows it from several commits, the furthest counts.
    pub fn found_group(&self, group: &str, spots: &Spots) {
        let mut hub = self.hub();
        let known = &mut hub.groups.entry(group.to_owned()).or_default().spots;
        for (writer, spot) in spots {
            let at = known.entry(writer.clone()).or_insert(*spot);
            if at.born != spot.born || at.offset < spot.offset {
                *at = *spot;
            }
        }
    }

    /// Where `writer`, a part of this run, leaves its log, and where that stood.
    pub fn write(&self, writer: &str) -> (Access, Option<Written>) {
        let mut hub = self.hub();
        let writer = hub.writer(writer, &self.written);
        writer.is_here = true;
        (writer.access.clone(), writer.known)
    }

    /// Tells how far event time has come behind what `writer` has committed.
    pub fn tell(&self, writer: &str, told: Told) {
        self.hub().writer(writer, &self.written).told = Some(told);
        self.written.send_replace(());
    }

    /// What `writer` told last.
    pub fn told(&self, writer: &str) -> Option<Told> {
        self.hub().writers.get(writer)?.told
    }

    /// Makes the source `reader` the one that reads as `group`; how far the group has come, where anybody knows it.
    ///
    /// # Errors
    /// Somebody else reads as that group.
    pub fn join(&self, group: &str, reader: &str) -> anyhow::Result<Option<Spots>> {
        let mut hub = self.hub();
        let known = hub.groups.get(group).map(|group| group.spots.clone());
        let group_now = hub.groups.entry(group.to_owned()).or_default();
        if let Some(other) = &group_now.reader {
            ensure!(
                other == reader,
                "read topic `{}` as group `{group}`: `{other}` does already; give one of the two a `group` of its own",
                self.name
            );
        }
        group_now.reader = Some(reader.to_owned());
        Ok(known)
    }

    /// Tells that `writer` writes nothing in this run after all: its log is read as the store knows it.
    pub fn rests(&self, writer: &str) {
        if let Some(writer) = self.hub().writers.get_mut(writer) {
            writer.is_here = false;
        }
        self.written.send_replace(());
    }

    /// The places behind the last committed record of each log that the store knows.
    pub fn ends(&self) -> Spots {
        let spot = |written: Written| Spot { born: written.born, offset: written.mark.offset };
        let hub = self.hub();
        hub.writers.iter().filter_map(|(name, writer)| Some((name.clone(), spot(writer.known?)))).collect()
    }

    /// The logs that can be read by now; opens those whose writers are no part of this run.
    ///
    /// # Errors
    /// Damage, and what the disk says.
    pub fn logs(&self) -> anyhow::Result<Vec<(String, Readable)>> {
        let mut hub = self.hub();
        let mut logs = Vec::with_capacity(hub.writers.len());
        for (name, writer) in &mut hub.writers {
            if let (false, None, Some(known)) = (writer.is_here, writer.access.readable(), writer.known) {
                let path = self.state.join(folder(&self.name, name));
                // Its sizes matter to who writes.
                let settings = Settings { block: u32::MAX, ..Settings::default() };
                let log = Log::open(self.disk.clone(), &path, Some(known.mark), settings)?;
                writer.access.show(Readable { log, from: known.from, born: known.born, struck: Arc::default() });
            }
            logs.extend(writer.access.readable().map(|readable| (name.clone(), readable)));
        }
        Ok(logs)
    }

    /// Rings when there is more to read.
    pub fn bell(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// Tells how far `group` has committed.
    pub fn read_to(&self, group: &str, spots: &Spots) {
        self.hub().groups.entry(group.to_owned()).or_default().spots.clone_from(spots);
    }

    /// The first record of the log of `writer` that some group has not read; none where no group is known.
    pub fn needed(&self, writer: &str) -> Option<u64> {
        let hub = self.hub();
        let born = hub.writers.get(writer)?.born();
        hub.groups.values().map(|group| group.at(writer, born)).min()
    }

    /// The groups with what each has not read of the log of `writer`, the slowest first.
    pub fn behind(&self, writer: &str) -> Vec<GroupStatus> {
        let hub = self.hub();
        let behind = |group: &Group| hub.writers.get(writer).map_or(0, |it| it.behind(writer, group));
        hub.status(behind)
    }

    /// Committed records that `group` has not committed yet.
    pub fn behind_of(&self, group: &str) -> u64 {
        let hub = self.hub();
        let of = |group: &Group| hub.writers.iter().map(|(name, writer)| writer.behind(name, group)).sum();
        hub.groups.get(group).map_or(0, of)
    }

    /// The topic as it stands.
    ///
    /// # Errors
    /// As of [`logs`](Self::logs).
    pub fn status(&self) -> anyhow::Result<Status> {
        let logs = self.logs()?;
        let hub = self.hub();
        let writers = logs.into_iter().map(|(writer, readable)| WriterStatus {
            runs: hub.writers.get(&writer).is_some_and(|writer| writer.is_here),
            writer,
            records: readable.records(),
            bytes: readable.log.bytes(),
            first: readable.first(),
            end: readable.log.end(),
        });
        let writers = writers.collect();
        drop(hub);
        Ok(Status { topic: self.name.clone(), writers, groups: self.groups() })
    }

    /// The groups with what each has not read of all logs, the slowest first.
    pub fn groups(&self) -> Vec<GroupStatus> {
        let hub = self.hub();
        hub.status(|group| hub.writers.iter().map(|(name, writer)| writer.behind(name, group)).sum())
    }
}

impl Hub {
    fn writer(&mut self, name: &str, bell: &watch::Sender<()>) -> &mut Writer {
        let blank = || Writer { known: None, access: Access::ringing(bell.clone()), is_here: false, told: None };
        self.writers.entry(name.to_owned()).or_insert_with(blank)
    }

    fn status(&self, behind: impl Fn(&Group) -> u64) -> Vec<GroupStatus> {
        let of = |(name, group): (&String, &Group)| GroupStatus {
            group: name.clone(),
            reader: group.reader.clone(),
            behind: behind(group),
        };
        let mut all: Vec<GroupStatus> = self.groups.iter().map(of).collect();
        all.sort_by(|a, b| b.behind.cmp(&a.behind).then_with(|| a.group.cmp(&b.group)));
        all
    }
}

impl Writer {
    /// Which log it is: the one that is open, or else the one that the store knows.
    fn born(&self) -> u64 {
        self.access.readable().map_or(self.known.map_or(0, |known| known.born), |readable| readable.born)
    }

    fn behind(&self, name: &str, group: &Group) -> u64 {
        let (first, end) = match (self.access.readable(), self.known) {
            (Some(readable), _) => (readable.first(), readable.log.end()),
            (None, Some(known)) => (known.from, known.mark.offset),
            (None, None) => (0, 0),
        };
        end.saturating_sub(group.at(name, self.born()).max(first))
    }
}

impl Group {
    /// Offset of the next record that the group reads of the log of `writer` that was born so.
    fn at(&self, writer: &str, born: u64) -> u64 {
        self.spots.get(writer).filter(|spot| spot.born == born).map_or(0, |spot| spot.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Sim;

    fn topic() -> Arc<Topic> {
        Topics::new(Arc::new(Sim::new()), Path::new("/state")).topic("orders")
    }

    fn spots(of: &[(&str, u64, u64)]) -> Spots {
        of.iter().map(|(writer, born, offset)| ((*writer).to_owned(), Spot { born: *born, offset: *offset })).collect()
    }

    fn written(offset: u64) -> Written {
        Written { mark: Mark { offset, ..Mark::default() }, from: 0, born: 7 }
    }

    #[test]
    fn the_slowest_group_says_what_is_needed_and_one_of_another_log_needs_all() {
        let topic = topic();
        topic.found("p.out", written(100));
        assert_eq!(topic.needed("p.out"), None, "nobody reads");
        topic.found_group("fast", &spots(&[("p.out", 7, 90)]));
        topic.found_group("slow", &spots(&[("p.out", 7, 40), ("other.out", 1, 3)]));
        assert_eq!(topic.needed("p.out"), Some(40));
        assert_eq!(topic.behind("p.out").iter().map(|group| group.behind).collect::<Vec<_>>(), [60, 10]);
        topic.found_group("stale", &spots(&[("p.out", 6, 95)]));
        assert_eq!(topic.needed("p.out"), Some(0), "it has read the log that was there before");
        topic.read_to("stale", &spots(&[("p.out", 7, 100)]));
        assert_eq!(topic.needed("p.out"), Some(40));
    }

    #[test]
    fn a_group_has_one_reader_and_goes_on_where_its_furthest_commit_was() {
        let topic = topic();
        topic.found_group("g", &spots(&[("p.out", 7, 5)]));
        topic.found_group("g", &spots(&[("p.out", 7, 3), ("q.out", 2, 9)]));
        assert_eq!(topic.join("g", "p.in").unwrap(), Some(spots(&[("p.out", 7, 5), ("q.out", 2, 9)])));
        let told = topic.join("g", "q.in").unwrap_err().to_string();
        assert!(told.contains("`p.in` does already"), "{told}");
        assert_eq!(topic.join("new", "q.in").unwrap(), None);
    }
}
