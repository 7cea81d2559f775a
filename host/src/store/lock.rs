//! The lock on the folder in which a host keeps what outlives it.
//!
//! Owns the lock file. Invariant: at most one process holds a folder's lock, a stopped one included; the kernel lets go
//! of it when the process ends, however it ends.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;

const NAME: &str = "lock";

/// The right to use a folder, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    // Never read: the lock lasts as long as the file is open. Tests over a simulated disk have no folder to lock.
    _file: Option<fs::File>,
}

impl Lock {
    /// Takes the folder, which is made (0700) where it is missing, and writes this process's id into its lock file.
    ///
    /// # Errors
    /// `Held` when another process has it, `Open` when others may enter a folder that holds more than ours, `Failed`
    /// when the folder cannot be made or written.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let failed = |doing: &str, error: &io::Error| StoreError::Failed {
            file: folder.join(NAME),
            why: format!("{doing} failed with “{error}”; the folder must exist and be this user's to write"),
        };
        close_to_others(folder).map_err(|error| failed("making the folder", &error))?.map_or(Ok(()), Err)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(NAME))
            .map_err(|error| failed("opening the lock file", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(|error| failed("reading the lock file", &error))?;
                return Err(StoreError::Held { folder: folder.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", &error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| failed("writing the lock file", &error))?;
        Ok(Self { _file: Some(file) })
    }

    /// No lock at all, so that a test can let two hosts open one store.
    #[cfg(test)]
    pub(super) fn left_out() -> Self {
        Self { _file: None }
    }
}

/// Makes the folder, or hides one that is ours: states and letters are nobody else's to read.
fn close_to_others(folder: &Path) -> io::Result<Option<StoreError>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if fs::metadata(folder)?.permissions().mode() & 0o077 == 0 {
        return Ok(None);
    }
    let ours: PathBuf = folder.join(NAME);
    if ours.exists() || fs::read_dir(folder)?.next().is_none() {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        return Ok(None);
    }
    Ok(Some(StoreError::Open { folder: folder.to_owned() }))
}
