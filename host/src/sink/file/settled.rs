//! How far the one file of a sink is committed, and the way back there.
//!
//! Owns what a commit holds of the file: which one it is, whatever it is called by now, and its length. It must not know
//! records. Invariant: after [`restore`](Settled::restore) the file is at its path and ends where the commit says, and
//! what rotation put aside since is gone, so that writing it again writes the same.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::bug;

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
    pub(super) fn sync(file: &File, path: &Path, before: Option<Self>) -> io::Result<Self> {
        file.sync_data()?;
        let about = file.metadata()?;
        let id = (about.dev(), about.ino());
        let shelved = match before {
            Some(before) if before.file == id => before.shelved,
            // Another file than before: that it is called so has to be on the disk as well.
            _ => {
                File::open(above(path))?.sync_all()?;
                shelved(path)?.last().map_or(0, |(number, _)| *number)
            }
        };
        Ok(Self { file: id, bytes: about.len(), shelved })
    }

    /// Takes back everything that was written behind this.
    ///
    /// # Errors
    /// When the file is not there any more, or shorter than what is committed.
    pub(super) fn restore(&self, path: &Path) -> anyhow::Result<()> {
        let since: Vec<PathBuf> =
            shelved(path)?.into_iter().filter(|(number, _)| *number > self.shelved).map(|(_, path)| path).collect();
        if !self.is(path)? {
            let Some(now) = since
                .iter()
                .map(|path| Ok((path, self.is(path)?)))
                .find_map(|found: io::Result<_>| found.map(|(path, is_it)| is_it.then_some(path)).transpose())
            else {
                bail!("{} is not the file that the last commit knows; put that one back", path.display())
            };
            let now = now?;
            fs::rename(now, path).with_context(|| format!("rename {} back", now.display()))?;
        }
        for later in &since {
            match fs::remove_file(later) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", later.display()));
                }
                _ => {}
            }
        }
        let file = OpenOptions::new().write(true).open(path).with_context(|| format!("open {}", path.display()))?;
        let found = file.metadata()?.len();
        ensure!(
            found >= self.bytes,
            "{} has {found} bytes where {} are committed; put the rest back",
            path.display(),
            self.bytes
        );
        if !bug::is_seeded("file-cut-beyond-the-commit") {
            file.set_len(self.bytes)?;
        }
        file.sync_all()?;
        File::open(above(path))?.sync_all()?;
        Ok(())
    }

    fn is(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(about) => Ok((about.dev(), about.ino()) == self.file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What rotation has put aside from `path`, ascending.
fn shelved(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(above(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let of = path.file_name().and_then(|of| of.to_str());
        let number = of.and_then(|of| name.to_str()?.strip_prefix(of)?.strip_prefix('.')?.parse().ok());
        found.extend(number.map(|number: u64| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> File {
        fs::write(path, text).unwrap();
        OpenOptions::new().append(true).open(path).unwrap()
    }

    #[test]
    fn what_was_appended_since_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let settled = Settled::sync(&write(&path, "committed\n"), &path, None).unwrap();
        fs::write(folder.path().join("out.notes"), "somebody else's").unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(20).unwrap();
        settled.restore(&path).unwrap();
        settled.restore(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "committed\n");
        assert!(folder.path().join("out.notes").exists());
    }

    #[test]
    fn what_was_rotated_since_comes_back_and_its_successors_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(folder.path().join("out.1"), "before").unwrap();
        let file = write(&path, "committed\n");
        let settled = Settled::sync(&file, &path, None).unwrap();
        io::Write::write_all(&mut &file, b"more").unwrap();
        fs::rename(&path, folder.path().join("out.2")).unwrap();
        fs::write(folder.path().join("out.3"), "later").unwrap();
        fs::write(&path, "latest").unwrap();
        settled.restore(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "committed\n");
        let left: Vec<u64> = shelved(&path).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(left, [1]);
    }

    #[test]
    fn a_file_that_is_gone_or_shorter_than_committed_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let file = write(&path, "committed\n");
        let settled = Settled::sync(&file, &path, None).unwrap();
        file.set_len(3).unwrap();
        assert!(settled.restore(&path).unwrap_err().to_string().contains("3 bytes where 10 are committed"));
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        assert!(settled.restore(&path).unwrap_err().to_string().contains("not the file that the last commit knows"));
    }
}
