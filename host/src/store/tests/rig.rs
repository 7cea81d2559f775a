//! The simulated disk with what the store's tests need besides: a limit to its room, syncs that take time or are held.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use crate::disk::{Disk, File, How, Sim};

const BLOCK: u64 = 4096;

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Rig {
    /// What fails, crashes and forgets.
    pub(super) sim: Sim,
    around: Arc<(Mutex<Around>, Condvar)>,
}

#[derive(Debug, Default)]
struct Around {
    /// Blocks that each file takes.
    blocks: BTreeMap<PathBuf, BTreeSet<u64>>,
    /// Bytes that the disk has room for.
    room: Option<u64>,
    clock: Duration,
    sync_takes: Duration,
    syncs: u64,
    held: bool,
}

impl Around {
    fn taken(&self) -> u64 {
        self.blocks.values().map(|blocks| blocks.len() as u64 * BLOCK).sum()
    }
}

impl Rig {
    fn around(&self) -> MutexGuard<'_, Around> {
        self.around.0.lock().unwrap()
    }

    /// A disk of its own with the same files in a folder, as they are for a process that starts after another was killed.
    pub(super) fn copy(&self, folder: &Path) -> Self {
        let copy = Self::default();
        for path in self.sim.list(folder).unwrap() {
            copy.sim.set_content(&path, &self.bytes(&path));
        }
        copy.around().blocks = self.around().blocks.clone();
        copy
    }

    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.sim.content(path).unwrap()
    }

    pub(super) fn set_room(&self, room: Option<u64>) {
        self.around().room = room;
    }

    /// Bytes that files take on the disk.
    pub(super) fn taken(&self) -> u64 {
        self.around().taken()
    }

    pub(super) fn set_sync_takes(&self, takes: Duration) {
        self.around().sync_takes = takes;
    }

    /// A clock that only syncs move.
    pub(super) fn clock(&self) -> Arc<dyn Fn() -> Duration + Send + Sync> {
        let rig = self.clone();
        Arc::new(move || rig.around().clock)
    }

    /// How many syncs there were.
    pub(super) fn syncs(&self) -> u64 {
        self.around().syncs
    }

    /// Makes syncs wait, once they are done, until they are let go; or lets them go.
    pub(super) fn hold_syncs(&self, held: bool) {
        self.around().held = held;
        self.around.1.notify_all();
    }

    /// Waits until there were so many syncs.
    pub(super) fn until_synced(&self, syncs: u64) {
        drop(self.around.1.wait_while(self.around(), |around| around.syncs < syncs).unwrap());
    }
}

impl Disk for Rig {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, how)?;
        Ok(Box::new(RigFile { file, path: path.to_owned(), rig: self.clone() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.sim.list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.sim.create_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path)?;
        self.around().blocks.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)?;
        let blocks = self.around().blocks.remove(from).unwrap_or_default();
        self.around().blocks.insert(to.to_owned(), blocks);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.sim.sync_folder(folder)
    }
}

#[derive(Debug)]
struct RigFile {
    file: Box<dyn File>,
    path: PathBuf,
    rig: Rig,
}

impl File for RigFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(at, into)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut around = self.rig.around();
        let taken = around.taken();
        let room = around.room;
        let own = around.blocks.entry(self.path.clone()).or_default();
        let needed: BTreeSet<u64> = (at / BLOCK..(at + bytes.len() as u64).div_ceil(BLOCK)).collect();
        let more = needed.difference(own).count() as u64 * BLOCK;
        if more > 0 && room.is_some_and(|room| taken + more > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        own.extend(needed);
        drop(around);
        self.file.write_at(at, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.rig.around().blocks.entry(self.path.clone()).or_default().retain(|block| block * BLOCK < len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        let mut around = self.rig.around();
        let takes = around.sync_takes;
        around.clock += takes;
        around.syncs += 1;
        self.rig.around.1.notify_all();
        drop(self.rig.around.1.wait_while(around, |around| around.held).unwrap());
        Ok(())
    }
}
