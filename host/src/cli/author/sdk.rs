//! The SDK's sources, which the binary carries until a release of the SDK exists.
//!
//! Owns writing them beside an author's crate, with manifests that stand alone. It must not know what is in them.
//! Invariant: what is written names nothing of the workspace that it came from.

use std::path::Path;

use super::Error;

/// Path below the SDK's folder, and text, of each file.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_sources.rs"));

/// The manifest that the SDK inherits from.
static WORKSPACE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));

/// The versions that the SDK is tested with.
pub(super) static LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));

/// Writes the SDK into `folder`.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(folder: &Path) -> Result<(), Error> {
    for (name, text) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(Error::machine("create", parent))?;
        let text = if name.ends_with("Cargo.toml") { alone(text) } else { (*text).to_owned() };
        std::fs::write(&path, text).map_err(Error::machine("write", &path))?;
    }
    Ok(())
}

/// `manifest` with what it inherits from the workspace put in its place. Lints are left out: they are ours to keep.
fn alone(manifest: &str) -> String {
    let mut out = String::with_capacity(manifest.len());
    for line in manifest.lines().filter(|line| !matches!(*line, "[lints]" | "workspace = true")) {
        let inherited = line.strip_suffix(".workspace = true");
        out.push_str(inherited.and_then(workspace_line).unwrap_or(line));
        out.push('\n');
    }
    out
}

/// The line that sets `key` in the workspace's `[workspace.package]`.
fn workspace_line(key: &str) -> Option<&'static str> {
    let (_, package) = WORKSPACE.split_once("[workspace.package]")?;
    let section = package.split_once("\n[").map_or(package, |(section, _)| section);
    section.lines().find(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_stands_alone() {
        for (name, text) in FILES.iter().filter(|(name, _)| name.ends_with("Cargo.toml")) {
            let alone = alone(text);
            assert!(!alone.contains("workspace"), "{name} still inherits:\n{alone}");
            assert!(alone.contains("edition = \"2024\""), "{name} lost its edition:\n{alone}");
        }
    }

    #[test]
    fn the_contract_and_the_macros_are_carried_too() {
        for wanted in ["Cargo.toml", "src/lib.rs", "wit/plugin.wit", "macros/Cargo.toml", "macros/src/lib.rs"] {
            assert!(FILES.iter().any(|(name, _)| *name == wanted), "{wanted} is missing");
        }
    }
}
