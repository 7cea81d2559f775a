//! Where a sink's files stand: at one path that the user wrote, or below a folder at paths that data chooses.
//!
//! Owns what may stand at the end of a path. It must not know records.

use std::{io, path::PathBuf, sync::Arc};

use rustix::io::Errno;

use crate::disk::{Below, Output, Outputs, output::above};

/// One file, or a folder that the paths of records cannot leave.
#[derive(Debug)]
pub(super) enum Place {
    /// The user's own path: links are followed, a device is written to.
    Fixed(Arc<dyn Outputs>, PathBuf),
    /// Paths from data.
    Below(Box<dyn Below>),
}

impl Place {
    /// Opens the file at `path` for appending and, where it can be read, reading; makes it where it is missing.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn append(&self, path: &str) -> io::Result<Box<dyn Output>> {
        match self {
            Self::Below(folder) => folder.append(path),
            Self::Fixed(disk, path) => disk.append(path),
        }
    }

    /// What to call the file at `path` in an error.
    pub(super) fn name(&self, path: &str) -> String {
        match self {
            Self::Below(_) => path.to_owned(),
            Self::Fixed(_, path) => path.display().to_string(),
        }
    }

    /// Renames the file at `path` to `path.N`, with N one higher than any that is there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn shelve(&self, path: &str) -> io::Result<()> {
        match self {
            Self::Below(folder) => folder.shelve(path),
            Self::Fixed(disk, path) => {
                let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVAL)?;
                disk.below(above(path))?.shelve(name)
            }
        }
    }
}

/// Whether an error says that something other than a file or folder of ours stands at a path that data chose.
pub(super) fn is_confinement(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::NAMETOOLONG
        )
    )
}
