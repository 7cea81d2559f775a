//! The layers hold: who may name whom, how long files are, and who starts tasks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, in the order in which each may name only those before it (and itself).
const LAYERS: [&[&str]; 11] = [
    &["batch", "bug", "crash", "epoch", "secret", "time", "unit"],
    &["codec"],
    // What outlives the process, and the seam to the disk below it.
    &["disk"],
    &["letter", "log", "store"],
    // What the pipelines of a host share, and the parts of one.
    &["queue", "topic"],
    // How blocking work is lent to a thread and given back; sources and sinks use it.
    &["lent"],
    &["plugin", "sink", "source"],
    &["config"],
    &["stage"],
    &["pipeline"],
    &["api", "cli"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Path below `src`, with slashes.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

fn layer_of(path: &Path) -> Option<usize> {
    let name = name(path);
    let first = name.split('/').next()?.trim_end_matches(".rs").to_owned();
    LAYERS.iter().position(|layer| layer.contains(&first.as_str()))
}

/// Lines without comments.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn a_layer_names_only_those_above_it() {
    let mut wrong = Vec::new();
    for path in files(&root()) {
        let Some(own) = layer_of(&path) else { continue };
        let text = code(&path).join("\n");
        for (at, layer) in LAYERS.iter().enumerate().skip(own + 1) {
            let named = layer.iter().filter(|name| names_module(&text, name));
            wrong.extend(named.map(|named| format!("{} names {named} (layer {at}, own {own})", name(&path))));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Whether `crate::NAME` or an entry `NAME::` of a `use crate::{…}` occurs.
fn names_module(text: &str, module: &str) -> bool {
    let direct = format!("crate::{module}");
    if text
        .match_indices(&direct)
        .any(|(at, _)| !text[at + direct.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    {
        return true;
    }
    text.split("use crate::{").skip(1).any(|uses| {
        let uses = uses.split(";\n").next().unwrap_or_default();
        let (mut depth, mut entry, mut found) = (0, String::new(), false);
        for c in uses.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth <= 0 => {
                    found |= is_entry(&entry, module);
                    entry.clear();
                    continue;
                }
                _ => {}
            }
            entry.push(c);
        }
        found || is_entry(&entry, module)
    })
}

fn is_entry(entry: &str, module: &str) -> bool {
    let first: String = entry.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    first == module
}

#[test]
fn each_library_is_named_only_where_it_belongs() {
    let belongs: [(&str, &[&str]); 5] = [
        ("wasmtime::", &["plugin"]),
        ("redb::", &["store"]),
        ("clap::", &["cli", "main.rs"]),
        ("axum::", &["api", "source/http"]),
        ("hyper::", &["api", "source/http", "sink/http", "cli"]),
    ];
    let mut wrong = Vec::new();
    for path in files(&root()) {
        let (text, name) = (code(&path).join("\n"), name(&path));
        for (library, places) in belongs {
            if text.contains(library) && !places.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name} names {library}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn tasks_that_touch_batches_are_started_in_one_place() {
    let starters: Vec<String> = files(&root())
        .into_iter()
        .filter(|path| {
            ["stage", "pipeline"].iter().any(|layer| name(path).starts_with(layer)) && !name(path).contains("tests")
        })
        .filter(|path| {
            code(path).iter().any(|line| line.contains("spawn_blocking(") || line.contains("runtime.spawn("))
        })
        .map(|path| name(&path))
        .collect();
    // `launch` calls the crew; nobody else may.
    assert_eq!(starters, ["pipeline/crew.rs", "pipeline/launch.rs"]);
}

#[test]
fn files_are_short_begin_with_what_they_own_and_are_named_after_it() {
    let banned = ["mod", "utils", "common", "helpers", "types", "misc", "manager", "base"];
    let (mut wrong, mut long, mut all) = (Vec::new(), 0, 0);
    for path in files(&root()) {
        let (text, name) = (fs::read_to_string(&path).unwrap(), name(&path));
        let lines = text.lines().count();
        all += 1;
        long += usize::from(lines > 400);
        if lines > 500 {
            wrong.push(format!("{name} has {lines} lines"));
        }
        if banned.contains(&path.file_stem().unwrap().to_str().unwrap()) {
            wrong.push(format!("{name} is named after nothing"));
        }
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if !is_test && !text.starts_with("//!") {
            wrong.push(format!("{name} does not say what it owns"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(long * 10 <= all, "{long} of {all} files have over 400 lines");
}

#[test]
fn the_machines_clock_is_read_only_where_nothing_is_decided_by_it() {
    // The clock that does not jump; what is shown or is data; and what is compared with others' clocks: file systems that
    // stamp files, a receiver that names a date.
    let places = [
        "api/metrics.rs",
        "cli/dlq.rs",
        "pipeline/durable.rs",
        "pipeline/shelf.rs",
        "sink/file/outlet.rs",
        "sink/http/answer.rs",
        "source/file/tail.rs",
        "source/host_metrics/sampler.rs",
        "time/wall.rs",
    ];
    let reads = |path: &PathBuf| {
        let lines = code(path);
        let clocks = ["SystemTime::now(", "Timestamp::now(", "Zoned::now("];
        lines.iter().any(|line| clocks.iter().any(|clock| line.contains(clock)))
    };
    let found: Vec<String> = files(&root()).iter().filter(|path| reads(path)).map(|path| name(path)).collect();
    let found: Vec<&String> = found.iter().filter(|name| !name.contains("tests")).collect();
    assert_eq!(found, places);
}
