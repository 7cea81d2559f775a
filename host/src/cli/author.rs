//! What an author of plugins does offline: start a crate, build it, see whether the toolchain is there.
//!
//! Owns crates and compilers, not what a plugin does when it is called. Invariant: nothing here prints; the answers are
//! values, for the command line to show. Only cargo itself speaks, to standard error.

pub mod build;
pub mod doctor;
pub mod guest;
pub mod new;
mod sdk;

pub use build::{Built, build};
pub use doctor::{Check, toolchain};
pub use new::{Created, create};

use std::path::{Path, PathBuf};

/// Why an author's command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be done as asked.
    #[error("{0}")]
    Usage(String),
    /// No compiler for guests.
    #[error(transparent)]
    Toolchain(#[from] guest::Missing),
    /// Cargo ran and failed; what it said is on standard error.
    #[error("build {}: cargo said no, with the reasons above", .0.display())]
    Refused(PathBuf),
    /// A file or a program of this machine failed.
    #[error("{what} {}: {source}", path.display())]
    Machine {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Exit code of the process: 1 the answer is no, 2 usage, 3 environment.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Toolchain(_) | Self::Machine { .. } => 3,
        }
    }

    fn machine(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Machine { what, path, source }
    }
}
