//! Calls of one record at a time, each written down before it is made: how a record is found that takes the host down.
//!
//! Owns the journal and who is in hand. It must not know how often the host has fallen, or what becomes of the one that was
//! in hand then. Invariant: at most one record of the host is in hand, for the journal is locked from the note to the end
//! of the call; so whoever stands in it after a fall is the one.
//!
//! The journal is one entry at the beginning of a file: the length of what follows in 4 bytes, 0 where nobody is in hand,
//! a checksum (XXH3) of it in 8, both little-endian, and the entry as JSON. Nothing is synced, for a process that falls takes nothing
//! of what it wrote with it; and what a machine leaves that falls is at worst one wrong note.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    batch::{Batch, ID},
    disk::{Disk, File, How, read_exact_at, write_all_at},
    epoch::Epoch,
};

/// The journal's file in the host's folder.
const NAME: &str = "in-hand";

/// Most bytes of an entry: names are short.
const MOST: usize = 4096;

/// A record at a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Name of the stage.
    pub stage: String,
    /// A hash of the record, in hexadecimal: of its id where it has one, else of its value and key.
    pub record: String,
}

/// Who was in hand, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InHand {
    /// The pipeline.
    pub pipeline: String,
    /// The commit from which it had gone on.
    pub epoch: Epoch,
    /// How many times it had gone on from there.
    pub start: u32,
    /// The record.
    pub suspect: Suspect,
}

/// The journal of a host.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<Box<dyn File>>,
    /// Who was in hand when the process before this one fell.
    pub found: Option<InHand>,
}

impl Journal {
    /// Opens the journal in the host's folder, or begins one.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open(disk: &dyn Disk, folder: &Path) -> io::Result<Self> {
        let file = disk.open(&folder.join(NAME), How::Either)?;
        let found = read(&*file);
        Ok(Self { file: Mutex::new(file), found })
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the journal holds; nothing where it is not whole, as after a fall in the middle of a note.
fn read(file: &dyn File) -> Option<InHand> {
    let (mut len, mut sum) = ([0; 4], [0; 8]);
    read_exact_at(file, 0, &mut len).ok()?;
    read_exact_at(file, 4, &mut sum).ok()?;
    let len = usize::try_from(u32::from_le_bytes(len)).ok().filter(|len| (1..=MOST).contains(len))?;
    let mut bytes = vec![0; len];
    read_exact_at(file, 12, &mut bytes).ok()?;
    if xxh3_64(&bytes) != u64::from_le_bytes(sum) {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}

fn write(file: &dyn File, entry: &InHand) -> io::Result<()> {
    let json = serde_json::to_vec(entry)?;
    let len = u32::try_from(json.len()).ok().filter(|len| *len as usize <= MOST);
    let len = len.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let bytes: Vec<u8> = len.to_le_bytes().into_iter().chain(xxh3_64(&json).to_le_bytes()).chain(json).collect();
    write_all_at(file, 0, &bytes)
}

/// Notes that nobody is in hand.
fn nobody(file: &dyn File) {
    if let Err(error) = write_all_at(file, 0, &[0; 4]) {
        tracing::warn!(%error, "nobody can see that a call has ended");
    }
}

/// The steps of one pipeline, from a commit until the next one.
#[derive(Debug)]
pub struct Stepping {
    journal: Arc<Journal>,
    pipeline: String,
    epoch: Epoch,
    start: u32,
    is_on: AtomicBool,
    /// Who takes the host down; one that is the same as another stands here again.
    culprits: Vec<Suspect>,
    /// Those of them that have not been refused in this run.
    left: Mutex<Vec<Suspect>>,
}

/// What a record in front of a stage is.
#[derive(Debug)]
pub enum Step<'a> {
    /// It is called now; the journal says so until this is dropped.
    InHand(Call<'a>),
    /// The host fell while it was called: it is not called again.
    Culprit,
}

/// A call in hand.
#[derive(Debug)]
pub struct Call<'a> {
    /// None where it could not be noted.
    journal: Option<MutexGuard<'a, Box<dyn File>>>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // A panic of the host's own code takes the pipeline down, and not the host.
        self.journal.iter().for_each(|file| nobody(&***file));
    }
}

impl Stepping {
    /// Steps of the pipeline called so, which goes on from `epoch` for the `start`-th time, past `culprits`.
    pub fn new(journal: Arc<Journal>, pipeline: String, epoch: Epoch, start: u32, culprits: Vec<Suspect>) -> Self {
        // What another process has left there has been told.
        nobody(&**journal.lock());
        let left = Mutex::new(culprits.clone());
        Self { journal, pipeline, epoch, start, is_on: AtomicBool::new(true), culprits, left }
    }

    /// Whether records are called one by one.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// The commit from which the pipeline has gone on.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many times the pipeline has gone on from the same commit.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// A further epoch has committed: calls carry as many records as they may.
    pub fn end(&self) {
        if self.is_on.swap(false, Relaxed) {
            tracing::info!(pipeline = self.pipeline, "an epoch has committed: records are no longer called one by one");
        }
    }

    /// A run begins, from the same commit as the one before.
    pub fn begin_anew(&self) {
        self.left().clone_from(&self.culprits);
    }

    fn left(&self) -> MutexGuard<'_, Vec<Suspect>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the only record of `part` in hand, for a call of `stage`; waits until no other one is.
    pub fn take(&self, stage: &str, part: &Batch) -> Step<'_> {
        let suspect = suspect(stage, part);
        if self.left().contains(&suspect) {
            return Step::Culprit;
        }
        let file = self.journal.lock();
        let entry = InHand { pipeline: self.pipeline.clone(), epoch: self.epoch, start: self.start, suspect };
        match write(&**file, &entry) {
            Ok(()) => Step::InHand(Call { journal: Some(file) }),
            Err(error) => {
                tracing::warn!(%error, stage, "a record is called without a note of it");
                Step::InHand(Call { journal: None })
            }
        }
    }

    /// The only record of `part` has been refused: another one that is the same is called.
    pub fn refused(&self, stage: &str, part: &Batch) {
        let (suspect, mut left) = (suspect(stage, part), self.left());
        if let Some(at) = left.iter().position(|other| *other == suspect) {
            left.remove(at);
        }
    }
}

/// What is noted of the first record of `part`. What differs from run to run, as times of arrival, is left out.
fn suspect(stage: &str, part: &Batch) -> Suspect {
    let mut hash = Xxh3::new();
    match part.named(ID).and_then(|ids| ids.get(0)) {
        Some(id) if !id.is_empty() => hash.update(id),
        _ => {
            for column in [Some(part.values()), part.keys()] {
                let item = column.and_then(|column| column.get(0)).unwrap_or_default();
                hash.update(&(item.len() as u64).to_le_bytes());
                hash.update(item);
            }
        }
    }
    Suspect { stage: stage.to_owned(), record: format!("{:032x}", hash.digest128()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Sim;

    fn record(value: &str) -> Batch {
        Batch::of_values([value].into_iter().collect())
    }

    fn rig() -> (Sim, Arc<Journal>) {
        let disk = Sim::new();
        disk.create_folder(Path::new("/state")).unwrap();
        let journal = Arc::new(Journal::open(&disk, Path::new("/state")).unwrap());
        (disk, journal)
    }

    fn found(disk: &Sim) -> Option<InHand> {
        Journal::open(disk, Path::new("/state")).unwrap().found
    }

    fn stepping(journal: &Arc<Journal>, culprits: Vec<Suspect>) -> Stepping {
        Stepping::new(journal.clone(), "p".to_owned(), Epoch(7), 3, culprits)
    }

    #[test]
    fn who_is_in_hand_stands_in_the_journal_until_the_call_has_ended() {
        let (disk, journal) = rig();
        assert_eq!(found(&disk), None);
        let stepping = stepping(&journal, Vec::new());
        for value in ["a", "a much longer value than that", "b"] {
            let step = stepping.take("s", &record(value));
            let in_hand = found(&disk).unwrap();
            assert_eq!((in_hand.epoch, in_hand.start, in_hand.pipeline.as_str()), (Epoch(7), 3, "p"));
            assert_eq!(in_hand.suspect, suspect("s", &record(value)));
            drop(step);
            assert_eq!(found(&disk), None);
        }
    }

    #[test]
    fn a_note_that_is_damaged_is_none() {
        let (disk, journal) = rig();
        let stepping = stepping(&journal, Vec::new());
        let step = stepping.take("s", &record("a"));
        let len = journal_file(&disk).len().unwrap();
        for at in 0..len {
            let (file, mut byte) = (journal_file(&disk), [0]);
            read_exact_at(&*file, at, &mut byte).unwrap();
            write_all_at(&*file, at, &[byte[0] ^ 0x40]).unwrap();
            assert_eq!(found(&disk), None, "byte {at}");
            write_all_at(&*file, at, &byte).unwrap();
        }
        assert!(found(&disk).is_some());
        drop(step);
    }

    fn journal_file(disk: &Sim) -> Box<dyn File> {
        disk.open(&Path::new("/state").join(NAME), How::Existing).unwrap()
    }

    #[test]
    fn a_culprit_is_refused_as_often_as_it_is_named_in_each_run() {
        let (_, journal) = rig();
        let stepping = stepping(&journal, vec![suspect("s", &record("a")); 2]);
        for _ in 0..2 {
            assert!(matches!(stepping.take("t", &record("a")), Step::InHand(_)), "another stage has done nothing");
            for _ in 0..2 {
                // Whoever asks twice of the same record gets the same answer.
                assert!(matches!(stepping.take("s", &record("a")), Step::Culprit));
                assert!(matches!(stepping.take("s", &record("a")), Step::Culprit));
                stepping.refused("s", &record("a"));
            }
            assert!(matches!(stepping.take("s", &record("a")), Step::InHand(_)));
            stepping.begin_anew();
        }
    }

    #[test]
    fn a_record_is_known_by_its_id_where_it_has_one_and_never_by_its_time() {
        let with = |value: &str, id: &str| record(value).with_named(ID.into(), [id].into_iter().collect()).unwrap();
        let at = |time| record("a").with_timestamps(vec![time]).unwrap();
        assert_eq!(suspect("s", &at(1)), suspect("s", &at(2)));
        assert_eq!(suspect("s", &with("a", "1")), suspect("s", &with("b", "1")));
        assert_ne!(suspect("s", &with("a", "1")), suspect("s", &with("a", "2")));
        assert_ne!(suspect("s", &record("a")), suspect("s", &record("b")));
    }
}
