//! What `doctor` says about the toolchain.
//!
//! Owns asking cargo and rustc, not curing anything. Invariant: every check that fails names its cure.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::guest;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked for.
    pub name: &'static str,
    /// Whether it will do.
    pub ok: bool,
    /// What was found, or why nothing was.
    pub found: String,
    /// What to do about it; always there if it is not ok.
    pub cure: Option<String>,
}

/// Whether plugins can be built here, as seen from `folder`: cargo, and a compiler for guests.
#[must_use]
pub fn toolchain(folder: &Path) -> Vec<Check> {
    vec![cargo(folder), library(guest::find(folder))]
}

fn cargo(folder: &Path) -> Check {
    let name = "cargo";
    match Command::new("cargo").arg("--version").current_dir(folder).output() {
        Ok(output) if output.status.success() => {
            Check { name, ok: true, found: String::from_utf8_lossy(&output.stdout).trim().to_owned(), cure: None }
        }
        Ok(output) => Check {
            name,
            ok: false,
            found: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            cure: Some("install the toolchain that the folder's rust-toolchain.toml names".to_owned()),
        },
        Err(error) => Check {
            name,
            ok: false,
            found: error.to_string(),
            cure: Some("install Rust from https://rustup.rs".to_owned()),
        },
    }
}

fn library(found: Result<guest::Toolchain, guest::Missing>) -> Check {
    let name = "Rust for wasm32-wasip1";
    match found {
        Ok(toolchain) => {
            let found = format!("{} ({})", toolchain.version, toolchain.rustc.display());
            Check { name, ok: true, found, cure: None }
        }
        Err(missing) => Check { name, ok: false, found: missing.looked.join("; "), cure: Some(missing.cure()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_cure() {
        let check = library(Err(guest::Missing { looked: vec!["rustc has none".to_owned()] }));
        assert!(!check.ok);
        assert_eq!(check.found, "rustc has none");
        assert!(check.cure.is_some_and(|cure| cure.contains("rustup target add wasm32-wasip1")));
    }
}
