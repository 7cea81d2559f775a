//! Every fault that has to be in `tests/FAULTS.md` is, and every test that it names is a test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the table has to answer for, by the ids of its first column.
const REQUIRED: &str = "1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 27, 30, 31, 32, 34, 35, \
                        36, 39, 40, 41, 42, 43, 44, 45, 47, 48, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 60, \
                        61, 62, 63, 65, 66, 67, 68, 69, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 86, \
                        Seeded bugs, YAML, Repeated requests, Body limits, Slow-loris, Interpolation, \
                        Secrets, Fallbacks, Rates, Who waits, Path traversal, File source, Outbox, T3, T4, T12, T13, P1, P2, P4, P5, P7, \
                        P8, P9, P10, P11, P12, P13, P14, F1, F2, F4, F6, F8, F9, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, \
                        S11, S12, S13, S14, S15, S16";

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Names of the functions of `text` that have a test's attribute on one of the lines above them.
fn tests(text: &str) -> BTreeSet<&str> {
    let (mut is_test, mut found) = (false, BTreeSet::new());
    for line in text.lines().map(str::trim_start) {
        let rest = line.strip_prefix("async ").unwrap_or(line);
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = rest.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) {
            if is_test {
                found.insert(name);
            }
            is_test = false;
        }
    }
    found
}

#[test]
fn every_row_of_the_fault_table_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("tests/FAULTS.md")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();

    let mut files = Vec::new();
    for folder in ["host", "plugin-sdk", "plugins"] {
        sources(&root.join(folder), &mut files);
    }
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let all: BTreeSet<&str> = texts.iter().flat_map(|text| tests(text)).collect();
    let (mut ids, mut missing) = (BTreeSet::new(), Vec::new());
    for row in &rows {
        let [of, _, _, tests] = row.as_slice() else { panic!("a row of {} cells: {row:?}", row.len()) };
        for id in of.split(", ") {
            assert!(ids.insert(id), "{id} stands twice");
        }
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{of} names no test");
        missing.extend(names.into_iter().filter(|name| !all.contains(name)).map(|name| (*of, name)));
    }
    assert_eq!(missing, []);
    let unanswered: Vec<&str> = REQUIRED.split(", ").filter(|id| !ids.contains(id)).collect();
    assert_eq!(unanswered, [""; 0]);
}
