//! Builds the standard plugins of `plugins/` for wasm and lays them, and the SDK's sources, out for the binary to carry.
//!
//! Owns the two lists in `OUT_DIR`: `standard_plugins.rs`, read by `plugin::standard`, and `sdk_sources.rs`, read by
//! `cli::author::sdk`. It must not know what a plugin does. Invariant: guests are built in a target folder and by a
//! cargo of their own, so that no lock is shared with the build that runs this.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "src/cli/author/guest.rs"]
#[expect(unreachable_pub, reason = "it is public where the library includes it")]
mod guest;

type Fault = Box<dyn Error>;

fn main() {
    if let Err(fault) = build() {
        for line in format!("failed to {fault}").lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Fault> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for watched in ["plugins", "plugin-sdk", "Cargo.toml", "Cargo.lock", "host/src/cli/author/guest.rs"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed=XDG_CACHE_HOME");

    let plugins = plugins(&workspace.join("plugins"))?;
    build_plugins(&workspace, &out, &plugins)?;
    list_plugins(&out, &plugins)?;
    list_sdk(&workspace, &out)
}

fn variable(name: &str) -> Result<OsString, Fault> {
    std::env::var_os(name).ok_or_else(|| format!("find {name}, which cargo sets").into())
}

/// A crate of `plugins/`.
struct Plugin {
    /// Its folder's name, which follows `std/` in a pipeline.
    name: String,
    package: String,
}

fn plugins(folder: &Path) -> Result<Vec<Plugin>, Fault> {
    let mut plugins = Vec::new();
    if !folder.is_dir() {
        return Ok(plugins);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let package = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
            .ok_or_else(|| format!("find a package name in {}", entry.path().display()))?;
        plugins.push(Plugin { name: entry.file_name().to_string_lossy().into_owned(), package: package.to_owned() });
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(plugins)
}

fn build_plugins(workspace: &Path, out: &Path, plugins: &[Plugin]) -> Result<(), Fault> {
    if plugins.is_empty() {
        return Ok(());
    }
    let toolchain = guest::find(workspace)?;
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let target = out.ancestors().nth(4).ok_or("find the target folder")?.join("guests");
    let mut command = toolchain.cargo_build(&variable("CARGO")?, workspace, &guest::without_paths(workspace));
    command.args(["--profile", "guest", "--lib", "--target-dir"]).arg(&target);
    for plugin in plugins {
        command.args(["--package", &plugin.package]);
    }
    let status = command.stdout(std::io::stderr()).status()?;
    if !status.success() {
        return Err("build the standard plugins, as said above".into());
    }
    for plugin in plugins {
        let built = target.join(guest::TARGET).join("guest").join(plugin.package.replace('-', "_") + ".wasm");
        fs::copy(&built, out.join(format!("{}.wasm", plugin.name)))
            .map_err(|error| format!("copy {}: {error}", built.display()))?;
    }
    Ok(())
}

fn list_plugins(out: &Path, plugins: &[Plugin]) -> Result<(), Fault> {
    let mut list = String::from("&[\n");
    for Plugin { name, .. } in plugins {
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", out.join(format!("{name}.wasm")))?;
    }
    list.push_str("]\n");
    Ok(fs::write(out.join("standard_plugins.rs"), list)?)
}

/// The SDK as an author needs it: what compiles, and the contract.
fn list_sdk(workspace: &Path, out: &Path) -> Result<(), Fault> {
    let sdk = workspace.join("plugin-sdk");
    let mut files = Vec::new();
    for part in ["Cargo.toml", "src", "wit", "macros/Cargo.toml", "macros/src"] {
        gather(&sdk.join(part), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&sdk)?;
        writeln!(list, "    ({name:?}, include_str!({file:?})),")?;
    }
    list.push_str("]\n");
    Ok(fs::write(out.join("sdk_sources.rs"), list)?)
}

fn gather(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Fault> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            gather(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}
