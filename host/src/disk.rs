//! Files as the store, the log and the `file` sink use them, behind one seam.
//!
//! Owns the traits; [`RealDisk`] is the machine's own, and [`Sim`], for tests, fails the n-th operation and forgets what was not synced. It must
//! not know what the files hold. Invariant: nothing here retries, so that whoever asked decides what a failure means.

pub mod confined;
pub mod output;
pub mod real;
pub mod sim;

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
};

pub use output::{About, Below, Output, Outputs};
pub use real::RealDisk;
pub use sim::Sim;

/// What a file that is opened may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Made now; one that is there already is an error.
    Create,
    /// There already; a missing one is an error.
    Existing,
    /// Made where it is missing.
    Either,
}

/// Folders and the files in them.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing; a new one has mode 0600.
    ///
    /// # Errors
    /// As [`How`] says, and whatever the disk says.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn File>>;

    /// Full paths of the files in a folder, sorted.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a folder and its parents, mode 0700; one that is there is left as it is.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a file; who has it open may still read it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Renames a file over whatever has the new name.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes durable which files and folders a folder holds.
    ///
    /// # Errors
    /// Whatever the disk says; afterwards nobody knows what is durable, so it is of no use to ask again.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// One open file.
// A file is not a collection: whether it is empty is nobody's question.
#[expect(clippy::len_without_is_empty)]
pub trait File: Debug + Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Reads at most `into.len()` bytes from byte `at` on; 0 at the end of the file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes at byte `at` and says how many bytes it wrote, which may be fewer than it was given.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file or fills it up with zeros.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// Whatever the disk says; afterwards nobody knows what is durable, so it is of no use to ask again.
    fn sync(&self) -> io::Result<()>;
}

/// Fills `into` from byte `at` on.
///
/// # Errors
/// `UnexpectedEof` if the file ends before, and whatever the disk says.
pub fn read_exact_at(file: &dyn File, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        let read = file.read_at(at, into)?;
        match into.split_at_mut_checked(read) {
            Some((_, rest)) if read > 0 => (at, into) = (at + read as u64, rest),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(())
}

/// Writes all of `bytes` from byte `at` on; where it fails, any part of them may have been written.
///
/// # Errors
/// `WriteZero` if the disk takes nothing, and whatever the disk says.
pub fn write_all_at(file: &dyn File, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.write_at(at, bytes)?;
        match bytes.get(written..) {
            Some(rest) if written > 0 => (at, bytes) = (at + written as u64, rest),
            _ => return Err(io::ErrorKind::WriteZero.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both disks must do alike.
    fn behaves_as_a_disk(disk: &dyn Disk, root: &Path) {
        let folder = root.join("a/b");
        disk.create_folder(&folder).unwrap();
        disk.create_folder(&folder).unwrap();
        let (one, two) = (folder.join("1"), folder.join("2"));

        assert_eq!(disk.open(&one, How::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open(&one, How::Create).unwrap();
        assert_eq!(disk.open(&one, How::Create).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write_all_at(&*file, 3, b"abc").unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut read = [9; 6];
        read_exact_at(&*file, 0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0abc");
        assert_eq!(read_exact_at(&*file, 1, &mut read).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(7, &mut read).unwrap(), 0);
        file.set_len(4).unwrap();
        file.set_len(5).unwrap();
        read_exact_at(&*file, 0, &mut read[..5]).unwrap();
        assert_eq!(&read[..5], b"\0\0\0a\0");
        file.sync().unwrap();

        assert_eq!(disk.open(&two, How::Either).unwrap().len().unwrap(), 0);
        assert_eq!(disk.list(&folder).unwrap(), [one.clone(), two.clone()]);
        assert!(disk.list(root).unwrap().is_empty(), "a folder is not a file");
        disk.rename(&one, &two).unwrap();
        disk.sync_folder(&folder).unwrap();
        assert_eq!(disk.list(&folder).unwrap(), std::slice::from_ref(&two));
        assert_eq!(disk.open(&two, How::Either).unwrap().len().unwrap(), 5);
        disk.remove(&two).unwrap();
        assert_eq!(disk.remove(&two).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(file.len().unwrap(), 5, "who has it open still reads it");
        let missing = disk.list(&root.join("c")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.open(&root.join("c/d"), How::Create).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_real_disk_behaves_as_a_disk() {
        behaves_as_a_disk(&RealDisk, tempfile::tempdir().unwrap().path());
    }

    #[test]
    fn the_simulated_disk_behaves_as_a_disk() {
        behaves_as_a_disk(&Sim::new(), Path::new("/"));
    }
}
