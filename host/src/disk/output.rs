//! Files that somebody else reads: where the file sink appends to, on top of the seam.
//!
//! Owns the face of it; [`confined`](super::confined) is the machine's own folder, and a simulated disk has the same.
//! It must not know records. Invariant: nothing outside a [`Below`] is opened or made through it, whatever stands in it.

use std::{
    fmt::Debug,
    fs,
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Disk, File, RealDisk, confined::Confined, real::RealFile};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Device and inode: what a file is, whatever it is called.
    pub id: (u64, u64),
    /// Length, in bytes.
    pub bytes: u64,
    /// Whether it is a file, and no device.
    pub is_regular: bool,
    /// When it was made, as far as anybody knows.
    pub made: SystemTime,
}

/// A file that is appended to.
pub trait Output: File {
    /// Writes at the end and says how many bytes it wrote, which may be fewer than it was given.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;

    /// What the file is.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn about(&self) -> io::Result<About>;
}

/// A disk with files that are appended to.
pub trait Outputs: Disk {
    /// Opens the file at a path that a user wrote, for appending and, where it can be read, reading; makes it where it
    /// is missing. Links are followed, and a device is a file too.
    ///
    /// # Errors
    /// Whatever the disk says, and `InvalidInput` where a pipe or socket stands.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// What stands at a path, links followed; `None` where nothing does.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn about(&self, path: &Path) -> io::Result<Option<About>>;

    /// Makes a folder that others may read, and its parents, where they are missing, so that they outlast the machine.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Opens a folder that is there and can be written to, for paths that cannot leave it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn below(&self, folder: &Path) -> io::Result<Box<dyn Below>>;
}

/// A folder that paths chosen by data cannot leave.
pub trait Below: Debug + Send {
    /// Opens the file at `path` for appending, making it and the folders above it where they are missing.
    ///
    /// # Errors
    /// Whatever the disk says; `ELOOP`, `EXDEV`, `ENOTDIR`, `EISDIR` and `ENXIO` mean that something else stands there.
    fn append(&self, path: &str) -> io::Result<Box<dyn Output>>;

    /// Renames the file at `path` to `path.N`, with N one higher than any that is there, and makes that durable: a disk that
    /// kept what takes the name next, and not this, would have lost the file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn shelve(&self, path: &str) -> io::Result<()>;

    /// Makes durable that the file at `path` is called so, and that the folders above it are there.
    ///
    /// # Errors
    /// Whatever the disk says; afterwards nobody knows what is durable, so it is of no use to ask again.
    fn sync_names(&self, path: &str) -> io::Result<()>;
}

impl From<&fs::Metadata> for About {
    fn from(about: &fs::Metadata) -> Self {
        let made = about.created().or_else(|_| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { id: (about.dev(), about.ino()), bytes: about.len(), is_regular: about.is_file(), made }
    }
}

impl Output for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn about(&self) -> io::Result<About> {
        Ok((&self.0.metadata()?).into())
    }
}

impl Outputs for RealDisk {
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        if fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo() || about.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pipe or socket stands there"));
        }
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        let file = match options.clone().read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
            other => other,
        };
        Ok(Box::new(RealFile(file?)))
    }

    fn about(&self, path: &Path) -> io::Result<Option<About>> {
        match fs::metadata(path) {
            Ok(about) => Ok(Some((&about).into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|above| !is_there(above)).collect();
        fs::create_dir_all(folder)?;
        missing.into_iter().try_for_each(|made| self.sync_folder(above(made)))
    }

    fn below(&self, folder: &Path) -> io::Result<Box<dyn Below>> {
        Ok(Box::new(Confined::open(folder)?))
    }
}

fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

/// The folder that a file or folder lies in.
pub fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What rotation has put aside from `path`, ascending.
///
/// # Errors
/// Whatever the disk says.
pub fn shelved(disk: &dyn Disk, path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let of = path.file_name().and_then(|of| of.to_str());
    let number =
        |other: &Path| of.and_then(|of| other.file_name()?.to_str()?.strip_prefix(of)?.strip_prefix('.')?.parse().ok());
    let all = disk.list(above(path))?;
    let mut found: Vec<(u64, PathBuf)> = all.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort_unstable();
    Ok(found)
}
