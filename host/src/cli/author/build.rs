//! `plugin build`: one command, whatever way this machine has to compile for wasm.
//!
//! Owns running cargo on an author's crate and finding what it made. It must not look inside the wasm. Invariant: what is
//! reported was made or confirmed fresh by this very run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, guest};

/// A plugin that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Built {
    /// The crate's library, as cargo calls it.
    pub name: String,
    /// The wasm file.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
}

/// Builds the plugins of the crate or workspace in `folder`, optimised, with `extra` arguments for cargo; what cargo has to
/// say goes to standard error.
///
/// # Errors
/// No crate there or no plugin in it, no toolchain, or cargo's refusal.
pub fn build(folder: &Path, extra: &[OsString]) -> Result<Vec<Built>, Error> {
    let root = folder.canonicalize().map_err(Error::machine("open", folder))?;
    if !root.join("Cargo.toml").is_file() {
        return Err(Error::Usage(format!(
            "find a Cargo.toml in {}; `tidegate plugin new` starts a crate",
            folder.display()
        )));
    }
    let toolchain = guest::find(&root)?;
    let mut cargo = toolchain.cargo_build(OsStr::new("cargo"), &root, &[]);
    cargo.args(["--release", "--lib", "--message-format=json-render-diagnostics"]).args(extra);
    let output = cargo.stderr(Stdio::inherit()).output().map_err(Error::machine("run cargo in", &root))?;
    if !output.status.success() {
        return Err(Error::Refused(folder.to_owned()));
    }
    let made = artifacts(&output.stdout, &root);
    if made.is_empty() {
        return Err(Error::Usage(format!(
            "find a plugin in {}: its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`",
            folder.display()
        )));
    }
    made.into_iter().map(|(name, path)| measure(name, path)).collect()
}

fn measure(name: String, path: PathBuf) -> Result<Built, Error> {
    let bytes = std::fs::read(&path).map_err(Error::machine("read", &path))?;
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Built { name, size: bytes.len() as u64, digest, path })
}

/// A line of cargo's, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// Name and file of each wasm library that cargo reports for crates under `root`.
fn artifacts(report: &[u8], root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for line in report.split(|byte| *byte == b'\n') {
        // Lines of other shapes are other news.
        let Ok(Line { reason, manifest_path, filenames, target: Some(target) }) = serde_json::from_slice(line) else {
            continue;
        };
        let is_plugin = reason == "compiler-artifact"
            && target.crate_types.iter().any(|kind| kind == "cdylib")
            && manifest_path.starts_with(root);
        if is_plugin {
            let wasm = filenames.into_iter().filter(|path| path.extension().is_some_and(|end| end == "wasm"));
            found.extend(wasm.map(|path| (target.name.clone(), path)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wasm_libraries_of_the_author_count() {
        let report = br#"{"reason":"compiler-artifact","manifest_path":"/r/serde/Cargo.toml","target":{"name":"serde","crate_types":["lib"]},"filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","manifest_path":"/r/dep/Cargo.toml","target":{"name":"dep","crate_types":["cdylib"]},"filenames":["/t/dep.wasm"]}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"by_status","crate_types":["cdylib"]},"filenames":["/t/by_status.wasm"]}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifacts(report, Path::new("/p")), [("by_status".to_owned(), PathBuf::from("/t/by_status.wasm"))]);
    }

    #[test]
    fn a_folder_without_a_crate_is_a_fault_of_usage() {
        let empty = tempfile::tempdir().unwrap();
        let error = build(empty.path(), &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("tidegate plugin new"), "{error}");
    }
}
