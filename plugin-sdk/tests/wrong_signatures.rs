//! Every mistake in `wrong/` is reported at the author's own line, in words that say what to do.
//!
//! A case is a source file; its line that ends in `//~ TEXT` is where the compiler's first error has to point, and TEXT is
//! part of what it has to say. The compiler is run as cargo would run it, against the library built beside this test.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn a_mistake_is_reported_at_the_authors_line() {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = newest_library(&deps);
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir("tests/wrong").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let failures: Vec<String> = cases.iter().filter_map(|case| check(case, &deps, &library).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The library that cargo built last; others may be left of builds with other features.
fn newest_library(deps: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libtidegate_plugin-") && name.ends_with(".rlib")
    };
    std::fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(is_library)
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .unwrap()
}

fn check(case: &Path, deps: &Path, library: &Path) -> Result<(), String> {
    let source = std::fs::read_to_string(case).unwrap();
    let (line, text) = (1..)
        .zip(source.lines())
        .find_map(|(at, line)| line.split_once("//~ ").map(|(_, text)| (at, text)))
        .unwrap_or_else(|| panic!("{} expects nothing", case.display()));
    let out = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=json", "-o"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.rmeta"))
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("tidegate_plugin={}", library.display()))
        .arg(case)
        .env("CARGO_PKG_VERSION", "0.0.0")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let said: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = said.iter().find(|said| said["level"] == "error").ok_or(format!("{} compiles", case.display()))?;
    let points_at = error["spans"].as_array().unwrap().iter().find(|span| span["is_primary"] == true);
    let found = points_at.map(|span| span["line_start"].clone()).unwrap_or_default();
    let message = error["message"].as_str().unwrap();
    if found == line && message.contains(text) {
        return Ok(());
    }
    let rendered = error["rendered"].as_str().unwrap();
    Err(format!("{}: expected {text:?} at line {line}, found line {found}:\n{rendered}", case.display()))
}
