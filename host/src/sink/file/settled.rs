//! How far the one file of a sink is committed, and the way back there.
//!
//! Owns what a commit holds of the file: which one it is, whatever it is called by now, and its length. It must not know
//! records. Invariant: after [`restore`](Settled::restore) the file is at its path and ends where the commit says, and
//! what rotation put aside since is gone, so that writing it again writes the same.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    bug,
    disk::{
        Output, Outputs,
        output::{above, shelved},
    },
};

/// The committed part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// Device and inode: what a file is, whatever it is called.
    file: (u64, u64),
    /// Length, in bytes.
    bytes: u64,
    /// Highest number that rotation had given.
    shelved: u64,
}

impl Settled {
    /// Makes what was written to `file`, which is at `path`, outlast the machine, and says how far it goes; `before` is
    /// what this said last.
    ///
    /// # Errors
    /// As the system says; then nobody knows what of it is on the disk.
    pub(super) fn sync(disk: &dyn Outputs, file: &dyn Output, path: &Path, before: Option<Self>) -> io::Result<Self> {
        file.sync()?;
        let about = file.about()?;
        let shelved = match before {
            Some(before) if before.file == about.id => before.shelved,
            // Another file than before: that it is called so has to be on the disk as well.
            _ => {
                disk.sync_folder(above(path))?;
                shelved(disk, path)?.last().map_or(0, |(number, _)| *number)
            }
        };
        Ok(Self { file: about.id, bytes: about.bytes, shelved })
    }

    /// Takes back everything that was written behind this.
    ///
    /// # Errors
    /// When the file is not there any more, or shorter than what is committed.
    pub(super) fn restore(&self, disk: &dyn Outputs, path: &Path) -> anyhow::Result<()> {
        let since: Vec<PathBuf> = shelved(disk, path)?
            .into_iter()
            .filter(|(number, _)| *number > self.shelved)
            .map(|(_, path)| path)
            .collect();
        if !self.is(disk, path)? {
            let Some(now) = since
                .iter()
                .map(|path| Ok((path, self.is(disk, path)?)))
                .find_map(|found: io::Result<_>| found.map(|(path, is_it)| is_it.then_some(path)).transpose())
            else {
                bail!("{} is not the file that the last commit knows; put that one back", path.display())
            };
            let now = now?;
            disk.rename(now, path).with_context(|| format!("rename {} back", now.display()))?;
        }
        for later in &since {
            match disk.remove(later) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", later.display()));
                }
                _ => {}
            }
        }
        let file = disk.append(path).with_context(|| format!("open {}", path.display()))?;
        let found = file.len()?;
        ensure!(
            found >= self.bytes,
            "{} has {found} bytes where {} are committed; put the rest back",
            path.display(),
            self.bytes
        );
        if !bug::is_seeded("file-cut-beyond-the-commit") {
            file.set_len(self.bytes)?;
        }
        file.sync()?;
        disk.sync_folder(above(path))?;
        Ok(())
    }

    fn is(&self, disk: &dyn Outputs, path: &Path) -> io::Result<bool> {
        Ok(disk.about(path)?.is_some_and(|about| about.id == self.file))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn write(path: &Path, text: &str) -> Box<dyn Output> {
        fs::write(path, text).unwrap();
        RealDisk.append(path).unwrap()
    }

    #[test]
    fn what_was_appended_since_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let settled = Settled::sync(&RealDisk, &*write(&path, "committed\n"), &path, None).unwrap();
        fs::write(folder.path().join("out.notes"), "somebody else's").unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(20).unwrap();
        settled.restore(&RealDisk, &path).unwrap();
        settled.restore(&RealDisk, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "committed\n");
        assert!(folder.path().join("out.notes").exists());
    }

    #[test]
    fn what_was_rotated_since_comes_back_and_its_successors_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(folder.path().join("out.1"), "before").unwrap();
        let file = write(&path, "committed\n");
        let settled = Settled::sync(&RealDisk, &*file, &path, None).unwrap();
        file.append(b"more").unwrap();
        fs::rename(&path, folder.path().join("out.2")).unwrap();
        fs::write(folder.path().join("out.3"), "later").unwrap();
        fs::write(&path, "latest").unwrap();
        settled.restore(&RealDisk, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "committed\n");
        let left: Vec<u64> = shelved(&RealDisk, &path).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(left, [1]);
    }

    #[test]
    fn a_file_that_is_gone_or_shorter_than_committed_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let file = write(&path, "committed\n");
        let settled = Settled::sync(&RealDisk, &*file, &path, None).unwrap();
        file.set_len(3).unwrap();
        assert!(settled.restore(&RealDisk, &path).unwrap_err().to_string().contains("3 bytes where 10 are committed"));
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        assert!(
            settled
                .restore(&RealDisk, &path)
                .unwrap_err()
                .to_string()
                .contains("not the file that the last commit knows")
        );
    }
}
