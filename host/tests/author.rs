//! What an author of plugins does, outside of this repository: start a crate, test it, build it, run it.
//!
//! The crates lie in empty folders, but share one target folder, so that what they depend on is built once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tidegate::cli::author;
use tidegate::plugin::Kind;

fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("author")
}

/// Starts a crate of `kind` in `parent`, runs its own tests, builds it for wasm, and runs the pipeline beside it, which has
/// to print `expected`.
#[track_caller]
fn check(parent: &Path, kind: Kind, name: &str, expected: &[Value]) {
    let folder = parent.join(name);
    author::create(&folder, kind).unwrap();

    let mut test = Command::new("cargo");
    test.args(["test", "--quiet", "--target-dir"]).arg(target_folder()).current_dir(&folder);
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        test.env_remove(inherited);
    }
    let said = succeed(&mut test);
    assert!(said.contains("test result: ok. 1 passed"), "{said}");

    let built = author::build(&folder, &into_shared_target()).unwrap();
    assert_eq!(built.len(), 1, "{built:?}");
    let bytes = std::fs::read(&built[0].path).unwrap();
    assert!(bytes.starts_with(b"\0asm"));
    assert_eq!(built[0].name, name.replace('-', "_"));
    assert_eq!(built[0].size, bytes.len() as u64);
    assert_eq!(built[0].digest.len(), 64);

    // Where it had been, had the target folder not been shared.
    let own = folder.join("target/wasm32-wasip1/release");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(&built[0].path, own.join(built[0].path.file_name().unwrap())).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let said = succeed(run.args(["run", "pipeline.yaml"]).current_dir(&folder));
    let records: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records, expected);
}

fn into_shared_target() -> [OsString; 2] {
    [OsString::from("--target-dir"), target_folder().into_os_string()]
}

/// What `command` prints, which has to succeed.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_filter_is_tested_built_and_run_in_an_empty_folder() {
    let parent = tempfile::tempdir().unwrap();
    check(parent.path(), Kind::Filter, "by-status", &[json!({ "path": "/basket", "status": 503 })]);
}

#[test]
fn a_new_map_is_tested_built_and_run_within_another_workspace() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let expected = [json!({ "celsius": 21.5, "fahrenheit": 70.7 }), json!({ "celsius": -40.0, "fahrenheit": -40.0 })];
    check(parent.path(), Kind::Map, "fahrenheit", &expected);
}

#[test]
fn a_new_aggregate_is_tested_built_and_run_in_an_empty_folder() {
    let parent = tempfile::tempdir().unwrap();
    let expected = [("/", 2), ("/basket", 1), ("/", 1)].map(|(key, count)| json!({ "key": key, "count": count }));
    check(parent.path(), Kind::Aggregate, "per_path", &expected);
}

#[test]
fn what_does_not_compile_is_the_authors_answer_and_exit_1() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "[package]\nname = \"broken\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/lib.rs"), "fn broken( {}").unwrap();
    let error = author::build(folder.path(), &into_shared_target()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
}
