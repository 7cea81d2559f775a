//! What is on a simulated disk, and what of it is still there after a crash.
//!
//! Owns names, contents and the changes to both that were not synced. It must not know failures. Invariant: a crash does
//! to those changes what its seed says, and to nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Folders and files, by name.
#[derive(Debug, Default)]
pub(super) struct Platter {
    pub(super) seen: Names,
    /// What would be there after a crash that loses all it can.
    kept: Names,
    /// Changes of names since, in order.
    pending: Vec<Change>,
    pub(super) files: Vec<Content>,
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) files: BTreeMap<PathBuf, usize>,
    pub(super) folders: BTreeSet<PathBuf>,
}

impl Default for Names {
    fn default() -> Self {
        Self { files: BTreeMap::new(), folders: BTreeSet::from([PathBuf::from("/")]) }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Folder(PathBuf),
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl Change {
    fn is_in(&self, folder: &Path) -> bool {
        let is_in = |path: &PathBuf| path.parent() == Some(folder);
        match self {
            Self::Folder(path) | Self::Add(path, _) | Self::Remove(path) => is_in(path),
            Self::Rename(from, to, _) => is_in(from) || is_in(to),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Folder(path) => drop(names.folders.insert(path.clone())),
            Self::Add(path, file) => drop(names.files.insert(path.clone(), *file)),
            Self::Remove(path) => drop(names.files.remove(path)),
            Self::Rename(from, to, file) => {
                names.files.remove(from);
                names.files.insert(to.clone(), *file);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) seen: Vec<u8>,
    kept: Vec<u8>,
    pending: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    what: What,
    /// A sync of it has failed: no later one makes it durable.
    doomed: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl What {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write(at, written) => {
                let end = at + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(written);
            }
        }
    }
}

/// Choices that follow from a seed.
struct Dice {
    seed: u64,
    throws: u64,
}

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.throws += 1;
        xxh3_64_with_seed(&self.throws.to_le_bytes(), self.seed) % sides
    }
}

impl Platter {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(super) fn content(&self, path: &Path) -> Option<&Content> {
        self.seen.files.get(path).and_then(|&file| self.files.get(file))
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) {
        for change in self.pending.extract_if(.., |change| change.is_in(folder)) {
            change.apply(&mut self.kept);
        }
    }

    /// Puts a file there durably.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) {
        let file = self.seen.files.get(path).copied().unwrap_or(self.files.len());
        let content = Content { seen: bytes.to_vec(), kept: bytes.to_vec(), pending: Vec::new() };
        match self.files.get_mut(file) {
            Some(place) => *place = content,
            None => self.files.push(content),
        }
        let parents = path.ancestors().skip(1).map(Path::to_owned);
        for change in parents.map(Change::Folder).chain([Change::Add(path.to_owned(), file)]) {
            change.apply(&mut self.seen);
            change.apply(&mut self.kept);
        }
    }

    pub(super) fn lose_power(&mut self, seed: u64) {
        let mut dice = Dice { seed, throws: 0 };
        let fate = Fate::throw(&mut dice, self.pending.len());
        for (i, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            if fate.keeps(i, &mut dice) {
                change.apply(&mut self.kept);
            }
        }
        self.kept.forget_orphans();
        self.seen = self.kept.clone();
        for content in &mut self.files {
            content.lose_power(&mut dice);
        }
    }
}

/// What a crash does to a run of changes.
enum Fate {
    /// The first ones are kept, as by a file system with a journal.
    First(usize),
    /// Any are kept.
    Any,
}

impl Fate {
    fn throw(dice: &mut Dice, changes: usize) -> Self {
        let first = dice.below(changes as u64 + 1) as usize;
        if dice.below(2) == 0 { Self::First(first) } else { Self::Any }
    }

    fn keeps(&self, i: usize, dice: &mut Dice) -> bool {
        match self {
            Self::First(first) => i < *first,
            Self::Any => dice.below(2) == 0,
        }
    }

    /// Whether a write that is to be kept or lost is torn instead.
    fn tears(&self, i: usize, dice: &mut Dice) -> bool {
        match self {
            Self::First(first) => i == *first,
            Self::Any => dice.below(3) == 0,
        }
    }
}

impl Names {
    /// What lies in a folder that is not there is not there either.
    fn forget_orphans(&mut self) {
        let all = std::mem::take(&mut self.folders);
        let is_there = |folder: &Path| folder.ancestors().all(|above| all.contains(above));
        self.files.retain(|path, _| path.parent().is_some_and(is_there));
        self.folders = all.iter().filter(|folder| is_there(folder)).cloned().collect();
    }
}

impl Content {
    /// From now on no sync makes durable what has been written so far.
    pub(super) fn doom(&mut self) {
        self.pending.iter_mut().for_each(|edit| edit.doomed = true);
    }

    pub(super) fn edit(&mut self, what: What) {
        what.apply(&mut self.seen);
        self.pending.push(Edit { what, doomed: false });
    }

    pub(super) fn sync(&mut self) {
        for edit in self.pending.extract_if(.., |edit| !edit.doomed) {
            edit.what.apply(&mut self.kept);
        }
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        let fate = Fate::throw(dice, self.pending.len());
        for (i, Edit { what, .. }) in self.pending.drain(..).enumerate() {
            match what {
                What::Write(at, mut bytes) if fate.tears(i, dice) => {
                    bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
                    What::Write(at, bytes).apply(&mut self.kept);
                }
                what if fate.keeps(i, dice) => what.apply(&mut self.kept),
                _ => {}
            }
        }
        self.seen.clone_from(&self.kept);
    }
}
