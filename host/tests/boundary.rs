//! A plugin that an author has written panics: the report leads to the author's line.

use std::ffi::OsString;
use std::path::Path;

use serde_json::json;
use tidegate::batch::Batch;
use tidegate::cli::author;
use tidegate::plugin::{Engine, FaultKind, Instance, Kind, Limits, Plugin};

const SOURCE: &str = "use tidegate_plugin::prelude::*;

#[filter]
fn careless(record: &Record) -> Result<bool> {
    Ok(first_digit(record.value()) > 4)
}

fn first_digit(value: &[u8]) -> u8 {
    match value[0] {
        digit @ b'0'..=b'9' => digit - b'0',
        other => panic!(\"{} is no digit\", other as char),
    }
}
";

#[test]
fn a_panic_is_reported_with_the_record_and_the_authors_lines() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("careless");
    author::create(&folder, Kind::Filter).unwrap();
    std::fs::write(folder.join("src/lib.rs"), SOURCE).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author");
    let built = author::build(&folder, &[OsString::from("--target-dir"), target.into_os_string()]).unwrap();
    let bytes = std::fs::read(&built[0].path).unwrap();

    let plugin = Plugin::load(&Engine::new(None).unwrap(), &bytes).unwrap();
    assert_eq!(plugin.digest(), built[0].digest);
    let mut instance = plugin.instantiate(&Limits::default(), &json!({})).unwrap();
    let records = Batch::of_values(["7", "3", "x", "9"].iter().collect());
    let fault = instance.filter(0, &records).unwrap_err();

    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(fault.message, "x is no digit");
    assert_eq!(fault.at, Some(2));
    assert_eq!(fault.place.as_deref().map(|place| place.starts_with("src/lib.rs:11:")), Some(true), "{fault:?}");
    let line = |expected: &str| fault.backtrace.iter().any(|frame| frame.contains(expected));
    assert!(line("src/lib.rs:11"), "{:#?}", fault.backtrace);
    assert!(line("first_digit"), "{:#?}", fault.backtrace);
    assert!(line("src/lib.rs:5"), "{:#?}", fault.backtrace);

    let mut fresh = plugin.instantiate(&Limits::default(), &json!({})).unwrap();
    let records = Batch::of_values(["7", "3", "9"].iter().collect());
    assert_eq!(fresh.filter(0, &records).unwrap().keep, [0, 2]);
}
