//! The compiler for guests: where it is, and how cargo is told to use it.
//!
//! Owns the knowledge of the two ways to have a standard library for `wasm32-wasip1`, which `scripts/setup` lays out:
//! rustup's, and a sysroot in the cache folder. The host's build script includes this file to build the standard
//! plugins, so it must not know anything but `std`. Invariant: both ways build with the same flags.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that every guest is built for.
pub const TARGET: &str = "wasm32-wasip1";

/// What every guest is compiled with. Without SIMD a substring search takes three times as long.
const FLAGS: [&str; 2] = ["-C", "target-feature=+simd128"];

/// Variables that speak about the host's own build, or that would replace what is set here.
const NOT_FOR_GUESTS: [&str; 16] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_WASM32_WASIP1_LINKER",
    // Names the libraries of the compiler that runs us, which another compiler would load in place of its own.
    "LD_LIBRARY_PATH",
];

/// A compiler that can build guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler to run.
    pub rustc: PathBuf,
    /// What it says its version is.
    pub version: String,
    /// The linker, where the compiler brings none.
    pub linker: Option<PathBuf>,
}

/// No compiler here can build guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was looked at, and why it does not do.
    pub looked: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "find a Rust standard library for {TARGET} (once called wasm32-wasi):")?;
        for looked in &self.looked {
            writeln!(f, "  {looked}")?;
        }
        write!(f, "{}", self.cure())
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// What to type to have one.
    #[must_use]
    pub fn cure(&self) -> String {
        format!(
            "`rustup target add {TARGET}` adds it, or `make setup` in Tidegate's source, which also knows Debian's way"
        )
    }
}

/// Finds a compiler for guests, as seen from `folder`, whose `rust-toolchain.toml` counts.
///
/// # Errors
/// There is none; what was looked at, and the cure.
pub fn find(folder: &Path) -> Result<Toolchain, Missing> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    find_among(folder, Path::new(&rustc), cached_sysroot().as_deref())
}

/// As [`find`], with the compiler and the sysroot folder given.
///
/// # Errors
/// As [`find`].
pub fn find_among(folder: &Path, rustc: &Path, sysroot: Option<&Path>) -> Result<Toolchain, Missing> {
    let mut looked = Vec::new();
    match with_own_library(folder, rustc) {
        Ok(toolchain) => return Ok(toolchain),
        Err(why) => looked.push(why),
    }
    if let Some(sysroot) = sysroot {
        match with_sysroot(folder, sysroot) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => looked.push(why),
        }
    }
    Err(Missing { looked })
}

/// Where `scripts/setup` lays a sysroot out.
fn cached_sysroot() -> Option<PathBuf> {
    let not_empty = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let cache = match not_empty("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(not_empty("HOME")?).join(".cache"),
    };
    Some(cache.join("tidegate").join(TARGET))
}

/// `rustc`, if it has the target's library itself, as rustup adds it.
fn with_own_library(folder: &Path, rustc: &Path) -> Result<Toolchain, String> {
    let libraries = ask(folder, rustc, &["--print", "target-libdir", "--target", TARGET])?;
    let is_std = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    };
    let found =
        std::fs::read_dir(&libraries).is_ok_and(|entries| entries.flatten().any(|entry| is_std(&entry.file_name())));
    if !found {
        return Err(format!("{} has none in {libraries}", rustc.display()));
    }
    Ok(Toolchain { rustc: rustc.to_owned(), version: ask(folder, rustc, &["--version"])?, linker: None })
}

/// The sysroot's compiler, if the sysroot was made for the compiler that is installed now.
fn with_sysroot(folder: &Path, sysroot: &Path) -> Result<Toolchain, String> {
    let (rustc, linker, stamp) = (sysroot.join("bin/rustc"), sysroot.join("bin/wasm-ld"), sysroot.join("stamp"));
    let Ok(stamp) = std::fs::read_to_string(stamp) else {
        return Err(format!("no sysroot was built in {}", sysroot.display()));
    };
    let built_for = stamp.lines().next().unwrap_or_default().to_owned();
    let version = ask(folder, &rustc, &["--version"])?;
    if version != built_for {
        return Err(format!("the sysroot in {} is for {built_for}, and {version} is installed", sysroot.display()));
    }
    if !linker.exists() {
        return Err(format!("the linker of the sysroot in {} is gone (Debian's package lld)", sysroot.display()));
    }
    Ok(Toolchain { rustc, version, linker: Some(linker) })
}

/// Flags that take the machine's paths out of a guest of `workspace`: it names its sources in panics, and where they lay
/// when it was built is nobody's business and would make its digest differ from machine to machine.
pub fn without_paths(workspace: &Path) -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let named = [(Some(workspace.to_owned()), "tidegate"), (home, "cargo")];
    let flag = |(path, name): (Option<PathBuf>, _)| Some(format!("--remap-path-prefix={}={name}", path?.display()));
    named.into_iter().filter_map(flag).collect()
}

/// The first line that `program` prints, or why it could not be asked.
fn ask(folder: &Path, program: &Path, args: &[&str]) -> Result<String, String> {
    let name = program.display();
    let output = Command::new(program).args(args).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} says: {}", said.lines().next().unwrap_or("nothing")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

impl Toolchain {
    /// A `cargo build` for guests that runs in `folder`. `flags` are given to rustc beside those of every guest; the
    /// caller adds the profile and what to build.
    #[must_use]
    pub fn cargo_build(&self, cargo: &OsStr, folder: &Path, flags: &[String]) -> Command {
        let mut command = Command::new(cargo);
        command.args(["build", "--target", TARGET]).current_dir(folder).stdin(Stdio::null());
        for name in NOT_FOR_GUESTS {
            command.env_remove(name);
        }
        // By `--config`, for the environment's variable would split a path at its blanks.
        let flags: Vec<String> = FLAGS.into_iter().chain(flags.iter().map(String::as_str)).map(toml_string).collect();
        command.arg("--config").arg(format!("target.{TARGET}.rustflags = [{}]", flags.join(", ")));
        command.env("RUSTC", &self.rustc);
        if let Some(linker) = &self.linker {
            command.env("CARGO_TARGET_WASM32_WASIP1_LINKER", linker);
        }
        command
    }
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A program that runs and answers, but is no compiler.
    const NO_COMPILER: &str = "/bin/echo";

    /// A sysroot made for what `NO_COMPILER` says its version is, and that version.
    fn sysroot(folder: &Path) -> String {
        let version = ask(folder, Path::new(NO_COMPILER), &["--version"]).unwrap();
        std::fs::create_dir(folder.join("bin")).unwrap();
        symlink(NO_COMPILER, folder.join("bin/rustc")).unwrap();
        symlink(NO_COMPILER, folder.join("bin/wasm-ld")).unwrap();
        std::fs::write(folder.join("stamp"), format!("{version}\nlayout 1\n")).unwrap();
        version
    }

    #[test]
    fn where_nothing_is_both_names_of_the_target_and_the_cure_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = find_among(folder.path(), Path::new(NO_COMPILER), Some(folder.path())).unwrap_err();
        assert_eq!(missing.looked.len(), 2, "{missing}");
        let said = missing.to_string();
        for wanted in ["wasm32-wasip1", "wasm32-wasi)", "rustup target add wasm32-wasip1", "make setup"] {
            assert!(said.contains(wanted), "{wanted} is not in: {said}");
        }
    }

    #[test]
    fn a_compiler_that_is_not_there_is_said_to_be_so() {
        let folder = tempfile::tempdir().unwrap();
        let missing = find_among(folder.path(), Path::new("/no/rustc"), None).unwrap_err();
        assert!(missing.looked[0].starts_with("/no/rustc cannot be run"), "{missing}");
    }

    #[test]
    fn the_sysroot_is_taken_with_its_linker_where_the_compiler_has_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let version = sysroot(folder.path());
        let found = find_among(folder.path(), Path::new(NO_COMPILER), Some(folder.path())).unwrap();
        let (rustc, linker) = (folder.path().join("bin/rustc"), folder.path().join("bin/wasm-ld"));
        assert_eq!(found, Toolchain { rustc: rustc.clone(), version, linker: Some(linker.clone()) });

        let cargo = found.cargo_build(OsStr::new("cargo"), folder.path(), &[]);
        let set = |name: &str| cargo.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        assert_eq!(set("RUSTC"), Some(rustc.as_os_str()));
        assert_eq!(set("CARGO_TARGET_WASM32_WASIP1_LINKER"), Some(linker.as_os_str()));
    }

    #[test]
    fn a_sysroot_for_another_compiler_is_refused_naming_both() {
        let folder = tempfile::tempdir().unwrap();
        let version = sysroot(folder.path());
        std::fs::write(folder.path().join("stamp"), "rustc 1.0.0\nlayout 1\n").unwrap();
        let missing = find_among(folder.path(), Path::new(NO_COMPILER), Some(folder.path())).unwrap_err();
        assert!(missing.looked[1].contains("rustc 1.0.0") && missing.looked[1].contains(&version), "{missing}");
    }

    #[test]
    fn guests_are_built_with_simd_and_hear_nothing_of_the_build_of_the_host() {
        let toolchain = Toolchain { rustc: "rustc".into(), version: String::new(), linker: None };
        let flags = ["--remap-path-prefix=/a \"b\"=c".to_owned()];
        let cargo = toolchain.cargo_build(OsStr::new("cargo"), Path::new("/"), &flags);
        let args: Vec<_> = cargo.get_args().map(OsStr::to_string_lossy).collect();
        assert_eq!(args[..3], ["build", "--target", TARGET]);
        assert_eq!(
            args.last().unwrap(),
            r#"target.wasm32-wasip1.rustflags = ["-C", "target-feature=+simd128", "--remap-path-prefix=/a \"b\"=c"]"#
        );
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"] {
            assert!(removed.contains(&OsStr::new(name)), "{name} is passed on");
        }
    }
}
