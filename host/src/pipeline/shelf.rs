//! The bytes of the plugins that have served, kept with the state: what a commit names can serve again.
//!
//! Owns the folder `generations` of the state, in which a file is named by the digest of its content. It must not know
//! stages. Invariant: a file that is there is whole, for it gets its name when it has been synced.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Files that are kept, the last used ones: more than a host has stages, so that what serves is always among them.
const MOST: usize = 512;

/// Where bytes of plugins are kept.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// That of a state.
    pub(super) fn of(state: &Path) -> Self {
        Self { folder: state.join("generations") }
    }

    /// Keeps `bytes`, whose digest this is, and lets go of what was used longest ago.
    ///
    /// # Errors
    /// When they cannot be written, or not be made durable.
    pub(super) fn keep(&self, digest: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(digest);
        if let Ok(there) = File::options().append(true).open(&path) {
            return there.set_modified(SystemTime::now());
        }
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.tidy()
    }

    /// Where the bytes with this digest are, if they are kept.
    pub(super) fn find(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = self.path(digest);
        (is_digest && path.is_file()).then_some(path)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn tidy(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let over = files.len().saturating_sub(MOST);
        files.iter().take(over).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept_and_found_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path());
        let digest = |n: usize| format!("{n:064x}");
        for n in 0..MOST {
            shelf.keep(&digest(n), b"bytes").unwrap();
            let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
            File::options().append(true).open(shelf.path(&digest(n))).unwrap().set_modified(then).unwrap();
        }
        shelf.keep(&digest(0), b"bytes").unwrap();
        shelf.keep(&digest(MOST), b"others").unwrap();
        assert_eq!(fs::read(shelf.find(&digest(MOST)).unwrap()).unwrap(), b"others");
        assert!(shelf.find(&digest(0)).is_some(), "it was used again");
        assert!(shelf.find(&digest(1)).is_none(), "it was used longest ago");
        assert!(shelf.find("../store").is_none() && shelf.find("").is_none());
    }
}
