//! Builds the plugins of `tests/workloads` for wasm and tells where they lie, as the variable `GUESTS`.
//!
//! Invariant: guests are built in a target folder and by a cargo of their own, as the host's build script does it.

use std::error::Error;
use std::path::PathBuf;

#[path = "../../host/src/cli/author/guest.rs"]
#[expect(unreachable_pub, reason = "it is public where the library includes it")]
mod guest;

fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| std::env::var_os(name).ok_or_else(|| format!("find {name}, which cargo sets"));
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    for watched in ["tests/workloads", "plugin-sdk", "Cargo.lock", "host/src/cli/author/guest.rs"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed=XDG_CACHE_HOME");
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = out.ancestors().nth(4).ok_or("find the target folder")?.join("guests");
    let flags = guest::without_paths(&workspace);
    let mut command = guest::find(&workspace)?.cargo_build(&variable("CARGO")?, &workspace, &flags);
    command.args(["--profile", "guest", "--package", "workloads", "--examples", "--target-dir"]).arg(&target);
    if !command.stdout(std::io::stderr()).status()?.success() {
        return Err("failed to build the plugins of tests/workloads, as said above".into());
    }
    println!("cargo::rustc-env=GUESTS={}", target.join(guest::TARGET).join("guest/examples").display());
    Ok(())
}
