//! Why the store refuses or fails, each with its cure.
//!
//! Owns the one error of the store; a caller branches on it to pause, to stop or to refuse to start.

use std::path::PathBuf;

/// Why the store refuses or fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another host holds the folder.
    #[error("take the folder {}: the host with process {pid} holds it; stop that one, or give this host another folder", .folder.display())]
    Held {
        /// The folder that is held.
        folder: PathBuf,
        /// Process that holds it, as its lock file says.
        pid: String,
    },
    /// The folder may be read or written by others, and holds files that are not ours to hide.
    #[error("take the folder {}: others may enter it; `chmod 700` it, or give this host a folder of its own", .folder.display())]
    Open {
        /// The folder that is open to others.
        folder: PathBuf,
    },
    /// The file is no store, or one of another format.
    #[error("open the store {}: {found}; open it with the version that wrote it, go back to a backup with `tidegate state restore`, or begin anew with `--reset-state all`", .file.display())]
    Format {
        /// The store's file.
        file: PathBuf,
        /// What was found in place of this format.
        found: String,
    },
    /// There was a store in this folder, and its file is gone.
    #[error("open the store {}: the file is missing although the folder was in use; put it back, go back to a backup with `tidegate state restore`, or begin anew with `--reset-state all`", .file.display())]
    Missing {
        /// The store's file.
        file: PathBuf,
    },
    /// What the file holds is not what was committed.
    #[error("read the store {}: {what}; go back to a backup with `tidegate state restore`, or skip what is damaged with `tidegate state repair`", .file.display())]
    Damaged {
        /// The store's file.
        file: PathBuf,
        /// What is damaged, and where.
        what: String,
    },
    /// There is no room on the disk. Nothing was written; the same commit may be tried again when there is room.
    #[error("write the store {}: the disk is full; the pipelines go on when there is room", .file.display())]
    Full {
        /// The store's file.
        file: PathBuf,
    },
    /// Another host has taken the store over, and this one may write nothing more.
    #[error("write the store {}: another host has taken it over (generation {theirs}, ours is {ours}); stop this one", .file.display())]
    Fenced {
        /// The store's file.
        file: PathBuf,
        /// Generation under which this host opened the store.
        ours: u64,
        /// Generation that the file has now.
        theirs: u64,
    },
    /// The disk failed. Whether the commit in flight is in the store is known only once it has been opened again; it
    /// must not be tried again in this process.
    #[error("use {}: {why}; mend that and start again, for what was committed is there", .file.display())]
    Failed {
        /// The store's file.
        file: PathBuf,
        /// What failed.
        why: String,
    },
}
