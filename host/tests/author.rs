//! What an author of plugins does, outside of this repository: start a crate, test it, build it.
//!
//! The crates lie in empty folders, but share one target folder, so that what they depend on is built once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate::cli::author;
use tidegate::plugin::Kind;

fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("author")
}

/// Starts a crate of `kind`, runs its own tests, and builds it for wasm.
#[track_caller]
fn check(kind: Kind, name: &str) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join(name);
    author::create(&folder, kind).unwrap();

    let mut test = Command::new("cargo");
    test.args(["test", "--quiet", "--target-dir"]).arg(target_folder()).current_dir(&folder);
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        test.env_remove(inherited);
    }
    let output = test.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("test result: ok. 1 passed"), "{said}");

    let extra = [OsString::from("--target-dir"), target_folder().into_os_string()];
    let built = author::build(&folder, &extra).unwrap();
    assert_eq!(built.len(), 1, "{built:?}");
    let bytes = std::fs::read(&built[0].path).unwrap();
    assert!(bytes.starts_with(b"\0asm"));
    assert_eq!(built[0].name, name.replace('-', "_"));
    assert_eq!(built[0].size, bytes.len() as u64);
    assert_eq!(built[0].digest.len(), 64);
}

#[test]
fn a_new_filter_passes_its_tests_and_builds_in_an_empty_folder() {
    check(Kind::Filter, "by-status");
}

#[test]
fn a_new_map_passes_its_tests_and_builds_in_an_empty_folder() {
    check(Kind::Map, "fahrenheit");
}

#[test]
fn a_new_aggregate_passes_its_tests_and_builds_in_an_empty_folder() {
    check(Kind::Aggregate, "per_path");
}

#[test]
fn a_new_crate_builds_within_another_workspace_too() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    author::create(&parent.path().join("inner"), Kind::Map).unwrap();
    let extra = [OsString::from("--target-dir"), target_folder().into_os_string()];
    author::build(&parent.path().join("inner"), &extra).unwrap();
}

#[test]
fn what_does_not_compile_is_the_authors_answer_and_exit_1() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("broken");
    author::create(&folder, Kind::Map).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "fn broken( {}").unwrap();
    let extra = [OsString::from("--target-dir"), target_folder().into_os_string()];
    let error = author::build(&folder, &extra).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
}
