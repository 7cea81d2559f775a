//! The control socket: a Unix socket that only its owner can open, and that one host has at a time.
//!
//! Owns the file, its mode and the lock beside it. Invariant: the socket is never there with a wider mode than 0600, and
//! a file that is not a dead host's socket is never removed.

use std::{
    io::{ErrorKind, Read as _, Seek as _, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Where the control socket is unless somebody says otherwise, relative to the working folder.
pub const PATH: &str = ".tidegate/tidegate.sock";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another host has it.
    #[error("open the control socket {}: another host has it{}", path.display(), owner.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The process that has it, where it says.
        owner: Option<u32>,
    },
    /// Something else stands there.
    #[error("open the control socket {}: there is something else of that name", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("open the control socket {}: {source}", path.display())]
    Machine {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A control socket that listens; it goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    /// Whoever serves it takes clones.
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is; the kernel lets go of it however the process ends.
    _lock: std::fs::File,
}

impl Socket {
    /// Opens the socket at `path`, whose folder is made where there is none, readable by its owner only.
    ///
    /// # Errors
    /// Another host has it, something else stands there, or the folder cannot be written.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let machine = |source| SocketError::Machine { path: path.to_owned(), source };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(machine)?;
        let lock = lock(path)?;
        // A host that has lost its lock, or another program, may still listen there.
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::Taken { path: path.to_owned(), owner: None });
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) => std::fs::remove_file(path).map_err(machine)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(machine(error)),
        }
        // Bound under another name, so that nobody can connect before the mode is right.
        let draft = folder.join(format!(".{}", std::process::id()));
        let listener = UnixListener::bind(&draft).map_err(machine)?;
        let placed = std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&draft, path))
            .and_then(|()| listener.set_nonblocking(true));
        if let Err(error) = placed {
            // What is left over is removed if it can be; the fault that is told is the first.
            let _ = std::fs::remove_file(&draft);
            return Err(machine(error));
        }
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// The listening end, for the current runtime.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn listener(&self) -> std::io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(socket = %self.path.display(), %error, "the control socket had gone already");
        }
    }
}

/// Takes the lock beside the socket; the process that has it stands in it.
fn lock(path: &Path) -> Result<std::fs::File, SocketError> {
    let machine = |source| SocketError::Machine { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let flags = OFlags::NOFOLLOW.bits();
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(flags).unwrap_or_default())
        .open(name)
        .map_err(machine)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The number only helps a person to find the other host.
            let _ = file.read_to_string(&mut owner);
            return Err(SocketError::Taken { path: path.to_owned(), owner: owner.trim().parse().ok() });
        }
        Err(error) => return Err(machine(error.into())),
    }
    file.set_len(0).map_err(machine)?;
    file.rewind().map_err(machine)?;
    writeln!(file, "{}", std::process::id()).map_err(machine)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("inner/tidegate.sock")
    }

    #[test]
    fn only_the_owner_can_open_the_socket_and_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::open(&path(&folder)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path(&folder)), 0o600);
        assert_eq!(mode(&folder.path().join("inner")), 0o700);
        drop(socket);
        assert!(!path(&folder).exists());
    }

    #[test]
    fn a_second_host_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Socket::open(&path(&folder)).unwrap();
        let error = Socket::open(&path(&folder)).unwrap_err();
        let SocketError::Taken { owner, .. } = &error else { panic!("{error}") };
        assert_eq!(*owner, Some(std::process::id()));
        assert!(error.to_string().contains("another host has it"), "{error}");
    }

    #[test]
    fn what_a_dead_host_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        drop(UnixListener::bind(path(&folder)).unwrap());
        assert!(path(&folder).exists());
        Socket::open(&path(&folder)).unwrap();
    }

    #[test]
    fn a_socket_that_somebody_answers_on_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        let _other = UnixListener::bind(path(&folder)).unwrap();
        assert!(matches!(Socket::open(&path(&folder)), Err(SocketError::Taken { owner: None, .. })));
    }

    #[test]
    fn a_file_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(path(&folder), "precious").unwrap();
        assert!(matches!(Socket::open(&path(&folder)), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(path(&folder)).unwrap(), "precious");
    }
}
