//! A folder that paths chosen by data cannot leave.
//!
//! Owns how files below it are opened and renamed, relative to one descriptor. It must not know where paths come from.
//! Invariant: whatever stands below the folder, links included, nothing outside it is opened or made.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

use super::{Below, Output, real::RealFile};

/// How paths below the folder are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// By the kernel in one call, from Linux 5.6 on.
    Kernel,
    /// Component by component, following no link: older kernels, and sandboxes that forbid `openat2`.
    Walk,
}

/// An open folder.
#[derive(Debug)]
pub struct Confined {
    fd: OwnedFd,
    resolve: Resolve,
}

const FILE: OFlags = OFlags::RDWR
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    // A pipe that stands in the way would otherwise block until somebody reads it.
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How often a resolution that raced with a renaming elsewhere is tried again.
const RACES: usize = 16;

impl Confined {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// When it cannot be opened or written to.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        fs::accessat(&fd, ".", fs::Access::WRITE_OK | fs::Access::EXEC_OK, AtFlags::EACCESS)?;
        let probe = fs::openat2(&fd, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), confined());
        Ok(Self { fd, resolve: if probe.is_ok() { Resolve::Kernel } else { Resolve::Walk } })
    }

    /// The same folder with paths resolved another way.
    #[cfg(test)]
    pub(crate) fn resolving(self, resolve: Resolve) -> Self {
        Self { resolve, ..self }
    }

    /// Opens the file at `path` for appending, making it and the folders above it where they are missing.
    ///
    /// # Errors
    /// As those of [`Below::append`].
    pub(crate) fn file(&self, path: &str) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = match self.resolve(path, FILE, mode) {
            Err(Errno::NOENT) => {
                self.make_parents(path)?;
                self.resolve(path, FILE, mode)
            }
            other => other,
        }?;
        if !fs::FileType::from_raw_mode(fs::fstat(&file)?.st_mode).is_file() {
            return Err(Errno::NXIO.into());
        }
        Ok(File::from(file))
    }

    fn make_parents(&self, path: &str) -> Result<(), Errno> {
        for (at, _) in path.match_indices('/') {
            let (above, name) = path[..at].rsplit_once('/').unwrap_or((".", &path[..at]));
            let above = self.resolve(above, FOLDER, Mode::empty())?;
            match fs::mkdirat(&above, name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn resolve(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        match self.resolve {
            Resolve::Kernel => {
                for _ in 0..RACES {
                    match fs::openat2(&self.fd, path, flags, mode, confined()) {
                        Err(Errno::AGAIN | Errno::INTR) => {}
                        other => return other,
                    }
                }
                Err(Errno::AGAIN)
            }
            Resolve::Walk => {
                let (parents, name) = path.rsplit_once('/').map_or(("", path), |(parents, name)| (parents, name));
                let mut above = None;
                for component in parents.split('/').filter(|component| !component.is_empty()) {
                    let folder = fs::openat(above.as_ref().unwrap_or(&self.fd), component, FOLDER, Mode::empty())?;
                    above = Some(folder);
                }
                fs::openat(above.as_ref().unwrap_or(&self.fd), name, flags, mode)
            }
        }
    }
}

impl Below for Confined {
    fn append(&self, path: &str) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(RealFile(self.file(path)?)))
    }

    fn shelve(&self, path: &str) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').map_or((".", path), |(parent, name)| (parent, name));
        let parent = self.resolve(parent, FOLDER, Mode::empty())?;
        let mut last = 0;
        for entry in fs::Dir::read_from(&parent)? {
            let entry = entry?;
            let number = entry.file_name().to_str().ok().and_then(|other| other.strip_prefix(name)?.strip_prefix('.'));
            last = last.max(number.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0));
        }
        for number in last.saturating_add(1).. {
            let to = format!("{name}.{number}");
            match fs::renameat_with(&parent, name, &parent, &to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => continue,
                // File systems that know no such flag: the listing above has shown that the name is free.
                Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(&parent, name, &parent, &to)?,
                other => other?,
            }
            return Ok(fs::fsync(&parent)?);
        }
        Err(Errno::EXIST.into())
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        for (at, _) in path.match_indices('/').rev() {
            fs::fsync(self.resolve(&path[..at], FOLDER, Mode::empty())?)?;
        }
        Ok(fs::fsync(&self.fd)?)
    }
}

fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}
