//! A disk in memory that fails on demand and loses power.
//!
//! Owns what a disk may do at its worst; tests of whatever is durable run on it. It must not know what the files hold.
//! Invariant: what was synced survives a crash byte for byte; of what was not, each write, cut, creation, rename and
//! removal survives, is torn or is lost as the seed says, and the same seed says the same.

mod output;
mod platter;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use platter::{Change, Content, Platter, What};

use super::{Disk, File, How};

/// What becomes of the n-th operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An I/O error of any operation. Where it is the sync of a file, what it should have made durable is left to chance
    /// for good: to sync again succeeds and does not help, as on Linux.
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
    platter: Platter,
    operations: u64,
    armed: Option<(u64, Failure)>,
    fired: bool,
    full: bool,
    down: bool,
    /// Counts restarts, so that what was open before one stays shut.
    boots: u64,
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
        state.platter.lose_power(seed);
        state.boots += 1;
        (state.armed, state.full, state.down) = (None, false, false);
    }

    /// What a file holds.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().platter.content(path).map(|content| content.seen.clone())
    }

    /// Changes what a file holds behind everybody's back, durably: a damage, or a file made by hand.
    pub fn set_content(&self, path: &Path, bytes: &[u8]) {
        self.state().platter.put(path, bytes);
    }

    fn file(&self, path: &Path, how: How) -> io::Result<SimFile> {
        let there = self.state().platter.seen.files.contains_key(path);
        let need = if there || how == How::Existing { Need::None } else { Need::Entry };
        self.operate(need, |state| {
            let file = match (state.platter.seen.files.get(path).copied(), how) {
                (Some(_), How::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Some(file), _) => file,
                (None, How::Existing) => return Err(not_found()),
                (None, _) if !path.parent().is_some_and(|folder| state.platter.seen.folders.contains(folder)) => {
                    return Err(not_found());
                }
                (None, _) => {
                    state.platter.files.push(Content::default());
                    state.platter.change(Change::Add(path.to_owned(), state.platter.files.len() - 1));
                    state.platter.files.len() - 1
                }
            };
            Ok(SimFile { sim: self.clone(), file, boot: state.boots })
        })
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
}

impl Disk for Sim {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn File>> {
        Ok(Box::new(self.file(path, how)?))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(Need::None, |state| {
            let is_in = |path: &&PathBuf| path.parent() == Some(folder);
            let found = state.platter.seen.files.keys().filter(is_in).cloned().collect();
            if state.platter.seen.folders.contains(folder) { Ok(found) } else { Err(not_found()) }
        })
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate(Need::Entry, |state| {
            let new: Vec<_> = folder.ancestors().filter(|above| !state.platter.seen.folders.contains(*above)).collect();
            for above in new.into_iter().rev() {
                state.platter.change(Change::Folder(above.to_owned()));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(Need::None, |state| {
            if !state.platter.seen.files.contains_key(path) {
                return Err(not_found());
            }
            state.platter.change(Change::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(Need::Entry, |state| {
            let file = state.platter.seen.files.get(from).copied().ok_or_else(not_found)?;
            state.platter.change(Change::Rename(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate(Need::None, |state| {
            if !state.platter.seen.folders.contains(folder) {
                return Err(not_found());
            }
            state.platter.sync_folder(folder);
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

    /// Writes where `at` says.
    fn write(&self, bytes: &[u8], at: impl Fn(&Content) -> usize) -> io::Result<usize> {
        let write = |state: &mut State, bytes: &[u8]| {
            let content = self.content(state)?;
            let at = at(content);
            content.edit(What::Write(at, bytes.to_vec()));
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

    fn content<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Content> {
        let is_open = self.boot == state.boots;
        state.platter.files.get_mut(self.file).filter(|_| is_open).ok_or_else(eio)
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
        self.write(bytes, |_| at as usize)
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
                self.content(state)?.doom();
                Err(failure.error())
            },
        )
    }
}

#[cfg(test)]
mod tests;
