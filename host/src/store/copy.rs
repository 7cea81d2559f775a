//! Stores as whole files: a new one, a backup, going back to one, checking one, throwing one away.
//!
//! Owns the names of files beside the store's. Invariant: the store's file is only ever replaced by a rename of one that
//! is whole and synced, and the one it replaces is kept beside it.

use std::{io, ops::ControlFlow, path::Path, sync::Arc};

use super::{
    Lock, NAME, Places, Settings, StoreError, above, ballast, checked, claim, engine::Engine, failed, front,
    make_folder, take_over, trouble::refuse,
};
use crate::disk::{Disk, File, How, read_exact_at, write_all_at};

/// A store that is being made.
const NEW: &str = "store.new";

/// The store that a person's word replaced.
const BEFORE: &str = "store.before";

/// What a check found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Pipelines in the store.
    pub pipelines: usize,
    /// Values of all of them.
    pub values: u64,
}

/// Whether a folder holds a store, or has held one: opening it there makes none.
///
/// # Errors
/// `Failed` when the disk says something else than that there is no such folder.
pub fn is_in(disk: &dyn Disk, folder: &Path) -> Result<bool, StoreError> {
    match disk.list(folder) {
        Ok(files) => {
            let ballast = ballast::exists(disk, folder).map_err(|error| failed(folder)("listing", error))?;
            Ok(ballast || files.contains(&folder.join(NAME)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(folder)("listing", error)),
    }
}

/// Makes an empty store in a folder that has none.
pub(super) fn make(disk: &dyn Disk, folder: &Path, cache: usize) -> Result<(), StoreError> {
    let new = folder.join(NEW);
    let file = begin(disk, &new)?;
    drop(Engine::create(file, &new, cache)?);
    put_in_place(disk, folder)
}

/// Copies an open store into a new file.
pub(super) fn backup(disk: &dyn Disk, from: &Engine, to: &Path, cache: usize) -> Result<(), StoreError> {
    let failed = failed(to);
    let file: Arc<dyn File> = disk.open(to, How::Create).map_err(|error| failed("making the file", error))?.into();
    let copied = (|| {
        front::create(&*file).map_err(|error| failed("writing", error))?;
        from.copy_into(&Engine::create(file, to, cache)?, &mut refuse)?;
        disk.sync_folder(above(to)).map_err(|error| failed("syncing its folder", error))
    })();
    if copied.is_err() {
        disk.remove(to).map_err(|error| failed("removing what is no backup", error))?;
    }
    copied
}

/// Goes back to a backup, by a person's word: checks it as a whole, then puts it in the place of the folder's store, which
/// is kept beside it. What was committed since the backup is lost.
///
/// # Errors
/// `Format` or `Damaged` when the backup is not a whole store of this format; then the folder's store stays.
pub fn restore_from(disk: &dyn Disk, folder: &Path, lock: &Lock, from: &Path) -> Result<Verified, StoreError> {
    let _held = lock;
    let cache = Settings::default().cache;
    let (source, new) = (failed(from), folder.join(NEW));
    let backup = disk.open(from, How::Existing).map_err(|error| source("opening", error))?;
    front::check(&*backup, from)?;
    make_folder(disk, folder).map_err(|error| failed(folder)("making the folder", error))?;
    let file: Arc<dyn File> = begin(disk, &new)?;
    copy_bytes(&*backup, &*file).map_err(|error| failed(&new)("copying the backup", error))?;
    // Above any generation that the folder has seen, so that a host which slept through this cannot write.
    let generation = next(disk, folder)?.max(next_of(&*file).map_err(|error| source("reading", error))?);
    front::set_generation(&*file, generation).map_err(|error| failed(&new)("writing the generation", error))?;
    let verified = all(&mut checked(file.clone(), from, generation, cache)?)?;
    if disk.list(folder).map_err(|error| failed(folder)("listing", error))?.contains(&folder.join(NAME)) {
        set_aside(disk, folder)?;
    }
    put_in_place(disk, folder)?;
    Ok(verified)
}

/// Checks a store that no host has open: every page, every value, every tally.
///
/// # Errors
/// As of [`Store::open`](super::Store::open), and `Damaged` with the first thing that is.
pub fn verify(disk: &dyn Disk, folder: &Path, lock: &Lock) -> Result<Verified, StoreError> {
    let _held = lock;
    all(&mut take_over(disk, folder, Settings::default().cache)?.1)
}

/// Keeps what is whole of a damaged store, by a person's word: what is not goes to `told` and is left out. The store as
/// it was is kept beside.
///
/// # Errors
/// `Format` or `Damaged` when there is no reading on, `Full` or `Failed` when the disk fails; then the store stays.
pub fn repair(disk: &dyn Disk, folder: &Path, lock: &Lock, mut told: impl FnMut(&str)) -> Result<Verified, StoreError> {
    let _held = lock;
    let cache = Settings::default().cache;
    let (store, new) = (folder.join(NAME), folder.join(NEW));
    let (generation, damaged) = claim(disk, &store)?;
    let damaged = Engine::open(damaged, &store, generation, cache)?;
    let file = begin(disk, &new)?;
    let mut engine = Engine::create(file.clone(), &new, cache)?;
    damaged.copy_into(&engine, &mut |what| {
        told(what);
        ControlFlow::Continue(())
    })?;
    let verified = all(&mut engine)?;
    drop((damaged, engine));
    front::set_generation(&*file, generation).map_err(|error| failed(&new)("writing the generation", error))?;
    set_aside(disk, folder)?;
    put_in_place(disk, folder)?;
    Ok(verified)
}

/// Throws the folder's store away, by a person's word, so that the next start begins anew; it is kept beside.
///
/// # Errors
/// `Failed` when the disk fails.
pub fn discard(disk: &dyn Disk, folder: &Path, lock: &Lock) -> Result<(), StoreError> {
    let _held = lock;
    let failed = failed(folder);
    if disk.list(folder).map_err(|error| failed("listing", error))?.contains(&folder.join(NAME)) {
        set_aside(disk, folder)?;
    }
    ballast::remove(disk, folder).map_err(|error| failed("removing the ballast", error))?;
    disk.sync_folder(folder).map_err(|error| failed("syncing", error))
}

fn all(engine: &mut Engine) -> Result<Verified, StoreError> {
    engine.check_pages()?;
    let pipelines = engine.pipelines()?;
    let mut values = 0;
    for pipeline in &pipelines {
        values += engine.scan(pipeline, Places::All, &mut |_, _| ControlFlow::Continue(()))?.tally.count;
    }
    Ok(Verified { pipelines: pipelines.len(), values })
}

/// An empty file with a first page, in the place of any that a crash left half made.
fn begin(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>, StoreError> {
    let made = (|| {
        let file = disk.open(path, How::Either)?;
        file.set_len(0)?;
        front::create(&*file)?;
        io::Result::Ok(file)
    })();
    Ok(made.map_err(|error| failed(path)("making the file", error))?.into())
}

/// Makes the new file, which is whole and synced, the folder's store.
fn put_in_place(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let renamed = disk.rename(&folder.join(NEW), &folder.join(NAME)).and_then(|()| disk.sync_folder(folder));
    renamed.map_err(|error| failed(&folder.join(NAME))("putting it in place", error))
}

fn set_aside(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let store = folder.join(NAME);
    disk.rename(&store, &folder.join(BEFORE)).map_err(|error| failed(&store)("setting it aside", error))
}

/// A generation above that of the folder's store, as far as it can be read.
fn next(disk: &dyn Disk, folder: &Path) -> Result<u64, StoreError> {
    let store = folder.join(NAME);
    if !disk.list(folder).map_err(|error| failed(folder)("listing", error))?.contains(&store) {
        return Ok(1);
    }
    let file = disk.open(&store, How::Existing).map_err(|error| failed(&store)("opening", error))?;
    match next_of(&*file) {
        Ok(generation) => Ok(generation),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(1),
        Err(error) => Err(failed(&store)("reading the generation", error)),
    }
}

fn next_of(file: &dyn File) -> io::Result<u64> {
    Ok(front::generation(file)?.unwrap_or_default() + 1)
}

fn copy_bytes(from: &dyn File, to: &dyn File) -> io::Result<()> {
    let length = from.len()?;
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = usize::try_from(length - at).map_or(block.len(), |rest| rest.min(block.len()));
        read_exact_at(from, at, &mut block[..part])?;
        write_all_at(to, at, &block[..part])?;
        at += part as u64;
    }
    Ok(())
}
