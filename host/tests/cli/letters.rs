//! Dead letters as people meet them: through kills of the host, read while it runs and when it does not, given up.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::folder::{Folder, guest, through};

/// A pipeline whose source, stage and sink refuse records.
const PIPELINE: &str = "version: 1
name: refusing
epoch: 100ms
sources:
  in: { file: { path: input.ndjson }, decode: json, key: /client, rate: 8000/s }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
sinks:
  out: { from: served, file: { path: 'out/{key}.ndjson' }, encode: json }
";

const RECORDS: u64 = 16_000;

/// The record with this number, and who refuses it.
fn record(n: u64) -> (String, Option<&'static str>) {
    match n % 50 {
        7 => (format!("{{\"client\":\"a\",\"status\":\"x\",\"n\":{n}}}"), Some("served")),
        13 => (format!("broken {n}"), Some("in")),
        21 => (format!("{{\"client\":\"..\",\"status\":1,\"n\":{n}}}"), Some("out")),
        _ => (format!("{{\"client\":\"c{}\",\"status\":1,\"n\":{n}}}", n % 3), None),
    }
}

fn letters(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["dlq", "export"].iter().chain(args).chain(&["--json"]).copied().collect();
    folder.run(&args).exits(0).json()["result"]["letters"].as_array().unwrap().clone()
}

#[test]
fn a_host_killed_again_and_again_keeps_each_refused_record_once() {
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE);
    folder.write("input.ndjson", (0..RECORDS).map(|n| record(n).0 + "\n").collect::<String>());
    let mut kept_at_a_kill = 0;
    for kill in 1..=4 {
        let mut host = folder.start(&["run", "p.yaml"]);
        host.until_running();
        host.kill_after(Duration::from_millis(70 * kill));
        kept_at_a_kill += letters(&folder, &[]).len();
    }
    folder.run(&["run", "p.yaml"]).exits(0).complains("ledger balanced").complains("960 dead letters");
    assert!(kept_at_a_kill > 0, "no kill came when a letter was kept: this has tested nothing");
    for by in ["in", "served", "out"] {
        let found: Vec<String> = letters(&folder, &["refusing", "--stage", by])
            .iter()
            .map(|letter| letter["value"].as_str().unwrap().to_owned())
            .collect();
        let expected = (0..RECORDS).map(record).filter(|(_, refused_by)| *refused_by == Some(by));
        assert_eq!(found, expected.map(|(value, _)| value).collect::<Vec<_>>(), "{by}");
    }
    let not_decoded = letters(&folder, &["--kind", "decode", "--text", "broken 13"]);
    assert!(not_decoded[0]["place"].as_str().unwrap().contains("input.ndjson:14"), "{}", not_decoded[0]);
    let by_plugin = &letters(&folder, &["--stage", "served", "--limit", "1"])[0];
    assert_eq!(by_plugin["key"], "a");
    assert_eq!(by_plugin["plugin"]["digest"].as_str().map(str::len), Some(64));
}

/// A folder where a host has kept letters of five records, and has ended.
fn five_letters() -> Folder {
    let folder = Folder::new();
    folder.write("p.yaml", through("filter", "std/where", "{ where: 'status > 1' }"));
    folder.write("input.ndjson", "a\nb\nc\nd\n\u{1b}[31me\n");
    folder.run(&["run", "p.yaml"]).exits(0).complains("5 dead letters");
    folder
}

#[test]
fn letters_are_listed_shown_counted_and_given_up() {
    let folder = five_letters();
    let listed = folder.run(&["dlq", "ls", "--limit", "2"]).exits(0);
    assert!(listed.out.contains("through") && listed.out.contains("work") && listed.out.contains("the newest 2 of 5"));
    assert!(!listed.out.contains('\u{1b}'), "a letter paints the terminal: {:?}", listed.out);
    let shown = folder.run(&["dlq", "show", "through", "2"]).exits(0);
    assert!(shown.out.contains("\"value\": \"c\""), "{}", shown.out);
    folder.run(&["dlq", "show", "through", "5"]).exits(1).complains("dlq ls through");
    let stats = folder.run(&["dlq", "stats", "--json"]).exits(0).json();
    assert_eq!(stats["result"]["groups"][0]["letters"], 5);
    assert_eq!(letters(&folder, &["--since", "1h", "--limit", "3"]).len(), 3);

    folder.run(&["dlq", "purge", "through"]).exits(2).complains("--yes");
    assert_eq!(letters(&folder, &[]).len(), 5);
    folder.run(&["dlq", "purge", "through", "--text", "[31m", "--yes"]).exits(0);
    let left = |folder: &Folder| -> Vec<u64> {
        letters(folder, &[]).iter().map(|letter| letter["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!(left(&folder), [0, 1, 2, 3], "by what they hold, wherever they lie");
    let purged = folder.run(&["dlq", "purge", "through", "--before", "2", "--yes"]).exits(0);
    assert_eq!(purged.out, "2 dead letters given up\n");
    assert_eq!(left(&folder), [2, 3]);
    folder.run(&["dlq", "purge", "through", "--before", "1h", "--yes"]).exits(0);
    assert_eq!(letters(&folder, &[]).len(), 2, "none is that old");
    folder.run(&["dlq", "purge", "through", "--yes"]).exits(0);
    assert_eq!(letters(&folder, &[]), Vec::<Value>::new());
    let again = folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0).complains("5 dead letters");
    assert!(!again.err.contains("given up"), "there were none: {}", again.err);
    let again = folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0).complains("5 dead letters");
    again.complains("its dead letters are given up");
}

#[test]
fn a_running_host_shows_its_letters_and_lets_nobody_purge_them() {
    let folder = Folder::new();
    let pipeline = through("filter", "std/where", "{ where: 'status > 1' }");
    folder.write("p.yaml", pipeline.replace("path: input.ndjson", "path: input.ndjson, follow: true"));
    folder.write("input.ndjson", "a\nb\n");
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    let until = Instant::now() + crate::folder::PATIENCE;
    while letters(&folder, &[]).len() < 2 {
        assert!(Instant::now() < until, "the letters never come");
    }
    let status = folder.run(&["status"]).exits(0);
    assert!(status.out.contains("2 dead letters") && status.out.contains("dead_letters"), "{}", status.out);
    let mut input = std::fs::OpenOptions::new().append(true).open(folder.path("input.ndjson")).unwrap();
    input.write_all(b"c\n").unwrap();
    while letters(&folder, &["through", "--stage", "work"]).len() < 3 {
        assert!(Instant::now() < until, "the third letter never comes");
    }
    folder.run(&["dlq", "purge", "through", "--yes"]).exits(3).complains("tidegate drain");
    host.signal(Signal::TERM);
    host.end().exits(0).complains("3 dead letters");
}

/// Row 17, of letters.
#[test]
fn a_flipped_bit_in_the_letters_refuses_to_start_and_names_the_place() {
    let folder = five_letters();
    let file =
        std::fs::read_dir(folder.path(".tidegate/logs/letters/through")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[80] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    folder.run(&["dlq", "ls"]).exits(1).complains(name).complains("at byte 72");
    std::fs::write(folder.path("input.ndjson"), "a\nb\nc\nd\ne\nf\n").unwrap();
    let follows = folder.read("p.yaml").replace("path: input.ndjson", "path: input.ndjson, follow: true");
    folder.write("p.yaml", follows);
    let anew = ["run", "p.yaml", "--reset-state", "in"];
    folder.run(&anew).exits(1).complains(name).complains("at byte 72");

    folder.run(&["state", "verify"]).exits(1).complains("TG423").complains(name).complains("at byte 72");
    let said = folder.run(&["state", "repair", "--yes", "--json"]).exits(0).json();
    let skipped = said["result"]["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(skipped[0].as_str().unwrap().contains(name), "{skipped:?}");
    folder.run(&["state", "verify"]).exits(0);
    folder.run(&["dlq", "ls"]).exits(0);
    folder.run(&[&anew[..], &["--duration", "200ms"]].concat()).exits(0);
}

#[test]
fn without_state_a_refused_record_stops_and_letters_cannot_be_asked_for() {
    let folder = Folder::new();
    folder.write("p.yaml", through("filter", "std/where", "{ where: 'status > 1' }"));
    folder.write("input.ndjson", "a\n");
    folder.run(&["run", "p.yaml", "--state", "none"]).exits(4).complains("`on_error` is `stop`");
    let pipeline = folder.read("p.yaml").replace("config:", "on_error: dead_letter, config:");
    folder.write("p.yaml", pipeline);
    folder.run(&["check", "p.yaml", "--state", "none"]).exits(2).complains("TG212").complains("`work`");
    folder.run(&["check", "p.yaml"]).exits(0);
}

#[test]
fn a_dry_replay_says_how_many_letters_pass_through_the_stage_or_a_candidate_and_changes_nothing() {
    let folder = five_letters();
    folder.write("keep.wasm", guest("filter", "keep")).write("poison.wasm", guest("filter", "poison"));
    let stage = letters(&folder, &[])[0]["name"].as_str().unwrap().to_owned();
    let replay = |more: &[&str]| folder.run(&[&["dlq", "replay", "p.yaml", "--dry-run"], more].concat());

    let said = replay(&[]).exits(1);
    assert!(said.out.starts_with("0 of 5 now pass\n") && said.out.contains("refused, as letter 0: "), "{}", said.out);
    let said = replay(&["--stage", &stage, "--plugin", "keep.wasm"]).exits(0);
    assert_eq!(said.out, "5 of 5 now pass\n");
    let found = replay(&["--stage", &stage, "--plugin", "poison.wasm", "--json"]).exits(1).json()["result"].clone();
    assert!(found["passed"].as_u64() < Some(5) && found["failed"][0]["letters"].as_u64() > Some(0), "{found}");
    // Only those that are picked.
    assert_eq!(replay(&["--by", "nobody"]).exits(0).out, "0 of 0 now pass\n");
    assert!(replay(&["--by", "where"]).exits(1).out.starts_with("0 of 5 now pass"));
    assert_eq!(replay(&["--text", "no such text", "--stage", &stage]).exits(0).out, "0 of 0 now pass\n");

    assert_eq!(letters(&folder, &[]).len(), 5, "nothing has been given up");
    replay(&["--plugin", "keep.wasm"]).exits(2).complains("--stage");
    replay(&["--stage", &stage, "--plugin", "std/route"]).exits(2).complains("it is a map, and the stage is a filter");
    folder
        .run(&["dlq", "replay", "p.yaml", "--stage", &stage, "--plugin", "keep.wasm"])
        .exits(2)
        .complains("--dry-run");
}

/// Row 72.
#[test]
fn letters_are_replayed_without_a_host_and_what_fails_again_comes_back_until_somebody_insists() {
    let folder = five_letters();
    folder.write("p.yaml", folder.read("p.yaml").replace("stdout: {}", "file: { path: out.txt }"));
    folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0).complains("5 dead letters");
    let replay = |more: &[&str]| folder.run(&[&["dlq", "replay", "p.yaml"], more].concat());
    for attempts in [2, 3] {
        let said = replay(&[]).exits(1);
        assert!(said.out.starts_with("replayed 5: 0 passed, 5 came back\n"), "{}", said.out);
        assert!(said.out.contains("5 of `work`, refused, as letter"), "{}", said.out);
        let back = letters(&folder, &[]);
        assert!(back.len() == 5 && back.iter().all(|letter| letter["attempts"] == attempts), "{back:?}");
    }
    assert!(replay(&[]).exits(1).out.contains("5 stayed: they were refused 3 times; `--force`"));
    assert_eq!(replay(&["--force", "--text", "no such"]).exits(0).out, "replayed 0: 0 passed, 0 came back\n");

    folder.write("keep.wasm", guest("filter", "keep"));
    let mended = folder.read("p.yaml").replace("std/where", "keep.wasm").replace("{ where: 'status > 1' }", "{}");
    folder.write("p.yaml", mended);
    let one = letters(&folder, &[])[4]["offset"].to_string();
    let said = replay(&["--force", "--letter", &one]).exits(0);
    assert_eq!(said.out, "replayed 1: 1 passed, 0 came back\n");
    assert_eq!(replay(&["--force", "--limit", "1", "--json"]).exits(0).json()["result"]["passed"], 1);
    replay(&["--force", "--rate", "100/s"]).exits(0);
    assert_eq!(letters(&folder, &[]), Vec::<Value>::new());
    assert_eq!(folder.read("out.txt"), "\u{1b}[31me\na\nb\nc\nd\n");
    assert_eq!(folder.run(&["dlq", "stats"]).exits(0).out, "");
    // Its own source has not moved, and the pipeline is over as before.
    folder.run(&["run", "p.yaml"]).exits(0).complains("ledger balanced");
}

#[test]
fn letters_are_replayed_into_a_running_host_and_a_reload_lets_them_pass() {
    let folder = Folder::new();
    let pipeline = through("filter", "std/where", "{ where: 'status > 1' }");
    let pipeline = pipeline.replace("stdout: {}", "file: { path: out.txt }");
    folder.write("p.yaml", pipeline.replace("path: input.ndjson", "path: input.ndjson, follow: true"));
    folder.write("input.ndjson", "a\nb\n").write("keep.wasm", guest("filter", "keep"));
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    let until = Instant::now() + crate::folder::PATIENCE;
    while letters(&folder, &[]).len() < 2 {
        assert!(Instant::now() < until, "the letters never come");
    }
    let said = folder.run(&["dlq", "replay", "p.yaml"]).exits(1);
    assert!(said.out.starts_with("replayed 2: 0 passed, 2 came back\n"), "{}", said.out);
    let back = letters(&folder, &[]);
    assert_eq!((&back[0]["attempts"], &back[0]["was"], back.len()), (&2.into(), &0.into(), 2));

    let keep = folder.path("keep.wasm").display().to_string();
    folder.run(&["plugin", "reload", "through", "work", &keep]).exits(0);
    let said = folder.run(&["dlq", "replay", "p.yaml", "--json"]).exits(0).json();
    assert_eq!((&said["result"]["replayed"], &said["result"]["passed"]), (&2.into(), &2.into()), "{said}");
    assert_eq!(letters(&folder, &[]), Vec::<Value>::new());
    host.signal(Signal::TERM);
    host.end().exits(0).complains("ledger balanced");
    assert_eq!(folder.read("out.txt"), "a\nb\n");
}

/// Row 72: what a source could not decode goes through its decoder once more, and what a sink refused to that sink.
#[test]
fn letters_of_sources_and_sinks_go_back_to_them() {
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE);
    folder.write("input.ndjson", (0..50).map(|n| record(n).0 + "\n").collect::<String>());
    folder.run(&["run", "p.yaml"]).exits(0).complains("3 dead letters");
    let said = folder.run(&["dlq", "replay", "p.yaml", "--json"]).exits(1).json();
    assert_eq!((&said["result"]["replayed"], &said["result"]["came_back"]), (&3.into(), &3.into()), "{said}");
    let back = letters(&folder, &[]);
    let of = |by: &str| back.iter().find(|letter| letter["name"] == by).unwrap();
    for (by, kind) in [("in", "decode"), ("served", "refused"), ("out", "refused")] {
        assert_eq!((&of(by)["attempts"], &of(by)["kind"]), (&2.into(), &kind.into()), "{}", of(by));
    }
    assert_eq!(of("in")["value"], "broken 13");
    // The source takes lines now, and its reader passes them on.
    let mended = PIPELINE.replace("decode: json, key: /client", "decode: lines").replace("std/where", "keep.wasm");
    let mended = mended.replace("config: { where: status < 500 }", "config: {}").replace("out/{key}", "out/all");
    folder.write("p.yaml", mended).write("keep.wasm", guest("filter", "keep"));
    let said = folder.run(&["dlq", "replay", "p.yaml", "--json"]).exits(0).json();
    assert_eq!(said["result"]["passed"], 3, "{said}");
    let all = folder.read("out/all.ndjson");
    assert!([7, 13, 21].iter().all(|n| all.contains(&record(*n).0)), "{all}");
}
