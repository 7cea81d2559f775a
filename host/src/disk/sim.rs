//! A disk in memory that fails on demand and loses power.
//!
//! Owns what a disk may do at its worst; tests of whatever is durable run on it. It must not know what the files hold.
//! Invariant: what was synced survives a crash byte for byte; of what was not, each write, cut, creation, rename and
//! removal survives, is torn or is lost as the seed says, and the same seed says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Disk, File, How};

/// What becomes of the n-th operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An I/O error of any operation. A sync that fails so leaves what it should have synced to chance, for good: to
    /// sync again succeeds and does not help, as on Linux.
    Eio,
    /// No space, of an operation that needs some.
    NoSpace,
    /// Half of a write; the next write finds no space.
    Short,
    /// The power goes before any operation.
    CrashBefore,
    /// The power goes after any operation.
    CrashAfter,
}

impl Failure {
    /// Every kind, for loops over them.
    pub const ALL: [Self; 5] = [Self::Eio, Self::NoSpace, Self::Short, Self::CrashBefore, Self::CrashAfter];

    /// Whether it can come to an operation; only those are counted.
    fn comes_to(self, need: Need) -> bool {
        match self {
            Self::Eio | Self::CrashBefore | Self::CrashAfter => true,
            Self::NoSpace => need != Need::None,
            Self::Short => need == Need::Write,
        }
    }

    fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::CrashBefore | Self::CrashAfter => eio(),
            Self::NoSpace | Self::Short => io::ErrorKind::StorageFull.into(),
        }
    }
}

/// What an operation needs space for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    None,
    Entry,
    Write,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Sim(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is there now, and what would be there after a crash that loses all it can.
    seen: Names,
    kept: Names,
    /// Changes of names since, in order.
    pending: Vec<Change>,
    files: Vec<Content>,
    operations: u64,
    armed: Option<(u64, Failure)>,
    fired: bool,
    full: bool,
    down: bool,
    /// Counts restarts, so that what was open before one stays shut.
    boots: u64,
}

#[derive(Clone, Debug)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

impl Default for Names {
    fn default() -> Self {
        Self { files: BTreeMap::new(), folders: BTreeSet::from([PathBuf::from("/")]) }
    }
}

#[derive(Clone, Debug)]
enum Change {
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
struct Content {
    seen: Vec<u8>,
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
enum What {
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

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A disk with nothing on it but the folder `/`.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Lets the `nth` operation from now on (from 1, of those that the failure can come to) fail.
    pub fn fail(&self, nth: u64, failure: Failure) {
        let mut state = self.state();
        state.armed = Some((nth, failure));
        state.fired = false;
    }

    /// Whether the failure has happened.
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the power has gone: everything fails until [`restart`](Self::restart).
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// Loses power, if it is still on, and comes back with what a disk may still have; what was open stays shut, and
    /// nothing fails any more.
    pub fn restart(&self, seed: u64) {
        let mut state = self.state();
        let mut dice = Dice { seed, throws: 0 };
        // File systems with a journal keep a first part of what they were told, others anything.
        let in_order = dice.below(2) == 0;
        let kept_until = dice.below(state.pending.len() as u64 + 1) as usize;
        for (i, change) in std::mem::take(&mut state.pending).iter().enumerate() {
            if if in_order { i < kept_until } else { dice.below(2) == 0 } {
                change.apply(&mut state.kept);
            }
        }
        state.kept.forget_orphans();
        state.seen = state.kept.clone();
        for content in &mut state.files {
            content.lose_power(&mut dice);
        }
        state.boots += 1;
        (state.armed, state.full, state.down) = (None, false, false);
    }

    /// What a file holds.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.seen.files.get(path).and_then(|&file| state.files.get(file)).map(|content| content.seen.clone())
    }

    /// Changes what a file holds behind everybody's back, durably: a damage, or a file made by hand.
    pub fn set_content(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let file = state.seen.files.get(path).copied().unwrap_or(state.files.len());
        let content = Content { seen: bytes.to_vec(), kept: bytes.to_vec(), pending: Vec::new() };
        match state.files.get_mut(file) {
            Some(place) => *place = content,
            None => state.files.push(content),
        }
        let parents = path.ancestors().skip(1).map(Path::to_owned);
        let changes = parents.map(Change::Folder).chain([Change::Add(path.to_owned(), file)]);
        for change in changes {
            change.apply(&mut state.seen);
            change.apply(&mut state.kept);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One operation: `act`, unless it is its turn to fail.
    fn operate<T>(&self, need: Need, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.operate_or(need, act, |_, failure| Err(failure.error()))
    }

    /// One operation: `act`, or what `fail` makes of a failure that leaves the power on.
    fn operate_or<T>(
        &self,
        need: Need,
        act: impl FnOnce(&mut State) -> io::Result<T>,
        fail: impl FnOnce(&mut State, Failure) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        match state.next(need)? {
            None => act(&mut state),
            Some(Failure::CrashBefore) => Err(state.crash()),
            Some(Failure::CrashAfter) => {
                let _ = act(&mut state);
                Err(state.crash())
            }
            Some(failure) => fail(&mut state, failure),
        }
    }
}

fn eio() -> io::Error {
    io::Error::other("simulated I/O error")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
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
    fn edit(&mut self, what: What) {
        what.apply(&mut self.seen);
        self.pending.push(Edit { what, doomed: false });
    }

    fn sync(&mut self) {
        let (doomed, done): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|edit| edit.doomed);
        for edit in done {
            edit.what.apply(&mut self.kept);
        }
        self.pending = doomed;
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        let in_order = dice.below(2) == 0;
        let kept_until = dice.below(self.pending.len() as u64 + 1) as usize;
        for (i, Edit { what, .. }) in self.pending.drain(..).enumerate() {
            let torn = if in_order { i == kept_until } else { dice.below(3) == 0 };
            match what {
                What::Write(at, mut bytes) if torn => {
                    bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
                    What::Write(at, bytes).apply(&mut self.kept);
                }
                what => {
                    if if in_order { i < kept_until } else { dice.below(2) == 0 } {
                        what.apply(&mut self.kept);
                    }
                }
            }
        }
        self.seen.clone_from(&self.kept);
    }
}

impl State {
    /// Counts an operation; the failure whose turn it is.
    fn next(&mut self, need: Need) -> io::Result<Option<Failure>> {
        if self.down {
            return Err(eio());
        }
        self.operations += 1;
        if need == Need::Write && std::mem::take(&mut self.full) {
            return Ok(Some(Failure::NoSpace));
        }
        if let Some((left, failure)) = &mut self.armed
            && failure.comes_to(need)
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let failure = *failure;
                (self.armed, self.fired) = (None, true);
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    fn crash(&mut self) -> io::Error {
        self.down = true;
        eio()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }
}

impl Disk for Sim {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn File>> {
        let there = self.state().seen.files.contains_key(path);
        let need = if there || how == How::Existing { Need::None } else { Need::Entry };
        self.operate(need, |state| {
            let file = match (state.seen.files.get(path).copied(), how) {
                (Some(_), How::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Some(file), _) => file,
                (None, How::Existing) => return Err(not_found()),
                (None, _) if !path.parent().is_some_and(|folder| state.seen.folders.contains(folder)) => {
                    return Err(not_found());
                }
                (None, _) => {
                    state.files.push(Content::default());
                    state.change(Change::Add(path.to_owned(), state.files.len() - 1));
                    state.files.len() - 1
                }
            };
            Ok(Box::new(SimFile { sim: self.clone(), file, boot: state.boots }) as Box<dyn File>)
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(Need::None, |state| {
            let is_in = |path: &&PathBuf| path.parent() == Some(folder);
            let found = state.seen.files.keys().filter(is_in).cloned().collect();
            if state.seen.folders.contains(folder) { Ok(found) } else { Err(not_found()) }
        })
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate(Need::Entry, |state| {
            let new: Vec<_> = folder.ancestors().filter(|above| !state.seen.folders.contains(*above)).collect();
            for above in new.into_iter().rev() {
                state.change(Change::Folder(above.to_owned()));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(Need::None, |state| {
            if !state.seen.files.contains_key(path) {
                return Err(not_found());
            }
            state.change(Change::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(Need::Entry, |state| {
            let file = state.seen.files.get(from).copied().ok_or_else(not_found)?;
            state.change(Change::Rename(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate(Need::None, |state| {
            if !state.seen.folders.contains(folder) {
                return Err(not_found());
            }
            let (done, left) = std::mem::take(&mut state.pending).into_iter().partition(|change| change.is_in(folder));
            state.pending = left;
            let done: Vec<Change> = done;
            done.iter().for_each(|change| change.apply(&mut state.kept));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimFile {
    sim: Sim,
    file: usize,
    boot: u64,
}

impl SimFile {
    fn operate<T>(&self, need: Need, act: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.sim.operate(need, |state| act(self.content(state)?))
    }

    fn content<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Content> {
        let is_open = self.boot == state.boots;
        state.files.get_mut(self.file).filter(|_| is_open).ok_or_else(eio)
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.operate(Need::None, |content| Ok(content.seen.len() as u64))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.operate(Need::None, |content| {
            let bytes = content.seen.get(at as usize..).unwrap_or_default();
            let read = bytes.len().min(into.len());
            into[..read].copy_from_slice(&bytes[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let write = |state: &mut State, bytes: &[u8]| {
            self.content(state)?.edit(What::Write(at as usize, bytes.to_vec()));
            Ok(bytes.len())
        };
        self.sim.operate_or(
            Need::Write,
            |state| write(state, bytes),
            |state, failure| match failure {
                Failure::Short => {
                    state.full = true;
                    write(state, &bytes[..bytes.len() / 2])
                }
                failure => Err(failure.error()),
            },
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(Need::Entry, |content| {
            content.edit(What::Len(len as usize));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.sim.operate_or(
            Need::None,
            |state| {
                self.content(state)?.sync();
                Ok(())
            },
            |state, failure| {
                self.content(state)?.pending.iter_mut().for_each(|edit| edit.doomed = true);
                Err(failure.error())
            },
        )
    }
}

#[cfg(test)]
mod tests;
