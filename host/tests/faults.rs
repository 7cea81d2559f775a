//! Every fault that `tests/FAULTS.md` says is shown by a test, is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

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

#[test]
fn every_row_of_the_fault_table_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("tests/FAULTS.md")).unwrap();
    let shown = table.split("## Not shown").next().unwrap();
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "{} rows", rows.len());

    let mut files = Vec::new();
    for folder in ["host", "plugin-sdk", "plugins"] {
        sources(&root.join(folder), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let (mut ids, mut missing) = (BTreeSet::new(), Vec::new());
    for row in &rows {
        let [id, _, _, tests] = row.as_slice() else { panic!("a row of {} cells: {row:?}", row.len()) };
        assert!(ids.insert(*id), "{id} stands twice");
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{id} names no test");
        missing.extend(names.into_iter().filter(|name| !text.contains(&format!("fn {name}("))).map(|name| (*id, name)));
    }
    assert_eq!(missing, []);
}
