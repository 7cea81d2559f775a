//! Edges that do not block, seen from outside: a pipeline in parts, each with epochs of its own.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    folder::{Folder, PATIENCE},
    kills::{kills, moment, seed, told},
};

/// Records of the input for each kill.
const RECORDS: u64 = 3_000;

/// From a file through a filter into a file, and behind a durable edge through another one.
const FILE: &str = "version: 1
name: p
epoch: 100ms
sources:
  in: { file: { path: input.ndjson }, decode: json, key: /client, time: /ts, rate: 20000/s }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
  even: { from: served, filter: std/where, config: { where: n % 2 == 0 } }
sinks:
  near: { from: served, file: { path: near.ndjson }, encode: json }
  far: { from: even, file: { path: far.ndjson }, encode: json, guarantee: exactly_once }
edges:
  - { from: served, to: even, when_full: durable, max: 4MiB }
";

fn record(n: u64) -> String {
    format!("{{\"n\":{n},\"ts\":{},\"client\":\"c{}\",\"status\":{}}}", n / 20, n % 17, 200 + n % 7 * 60)
}

fn input(records: u64) -> String {
    (0..records).map(|n| record(n) + "\n").collect()
}

/// What the two sinks have to write.
fn expected(records: u64) -> (String, String) {
    let served = |n: &u64| 200 + n % 7 * 60 < 500;
    let lines = |is_kept: &dyn Fn(&u64) -> bool| (0..records).filter(is_kept).map(|n| record(n) + "\n").collect();
    (lines(&served), lines(&|n| served(n) && n.is_multiple_of(2)))
}

/// Waits until a sink has written so much, and looks whether it is that.
#[track_caller]
fn until_written(folder: &Folder, name: &str, expected: &str) {
    let began = Instant::now();
    let length = || folder.path(name).metadata().map_or(0, |file| file.len());
    while length() < expected.len() as u64 {
        assert!(began.elapsed() < PATIENCE, "{name} has {} of {} bytes", length(), expected.len());
        std::thread::yield_now();
    }
    assert!(folder.read(name) == expected, "{name} is another one");
}

/// T1: file → durable edge → file is exactly once through any crash of the host, in both parts.
#[test]
fn a_host_killed_again_and_again_carries_each_record_over_a_durable_edge_once() {
    let (folder, seed) = (Folder::new(), seed());
    let kills = kills() * 2 / 5;
    let records = RECORDS * u64::from(kills);
    folder.write("input.ndjson", input(records)).write("p.yaml", FILE);
    let (mut cut, mut worst) = (0, Duration::ZERO);
    for kill in 0..kills {
        let started = Instant::now();
        let mut host = folder.start(&["run", "p.yaml"]);
        host.until_running();
        worst = worst.max(started.elapsed());
        host.kill_after(moment(seed, kill));
        cut += usize::from(folder.path("far.ndjson").exists() && !folder.read("far.ndjson").is_empty());
    }
    assert!(cut > 0, "no kill came when something had been written: seed {seed} has tested nothing");
    // All sources have ended: so does what is behind them.
    folder.run(&["run", "p.yaml"]).exits(0);
    let (near, far) = expected(records);
    let found = folder.read("far.ndjson");
    told(seed, kills, records, worst, &found.lines().collect::<Vec<_>>(), &far.lines().collect::<Vec<_>>());
    assert_eq!((folder.read("near.ndjson"), found), (near, far), "byte by byte: seed {seed}");
}

#[test]
fn a_pipeline_in_parts_is_checked_drawn_run_and_changed_as_one() {
    let (folder, records) = (Folder::new(), 2_000);
    folder.write("input.ndjson", input(records)).write("p.yaml", FILE);
    let checked = folder.run(&["check", "p.yaml"]).exits(0);
    assert!(
        checked.out.contains("1 source, 2 stages, 2 sinks")
            && checked.out.contains("`far` has every record exactly once")
    );
    folder.run(&["run", "p.yaml", "--state", "none"]).exits(2).complains("TG212");
    let drawn = folder.run(&["graph", "p.yaml"]).exits(0);
    assert!(drawn.out.contains("═▶ even") && drawn.out.contains("─▶ near"), "{}", drawn.out);
    let said = folder.run(&["run", "p.yaml"]).exits(0);
    assert!(said.err.contains("`p.even`") || said.err.contains("p.even"), "{}", said.err);
    let (near, far) = expected(records);
    let removed = || ["near.ndjson", "far.ndjson"].map(|name| std::fs::remove_file(folder.path(name)).unwrap());
    let written = || (folder.read("near.ndjson"), folder.read("far.ndjson"));
    assert_eq!(written(), (near.clone(), far.clone()));
    // What is completed is not done again.
    folder.run(&["run", "p.yaml"]).exits(0);
    assert_eq!(written(), (near.clone(), far.clone()));
    let listed = folder.run(&["topic", "ls", "--json"]).exits(0).json();
    let (edge, group) = (&listed["result"][0], &listed["result"][0]["groups"][0]);
    assert_eq!(
        (&edge["topic"], &group["group"], &group["behind"]),
        (&"p>served>even".into(), &"p.even".into(), &0.into())
    );
    assert!(folder.run(&["state", "verify"]).exits(0).out.contains("whole"));
    // Without the edge, what the part behind it has is nobody's.
    let (without, _) = FILE.split_once("edges:").unwrap();
    folder.write("p.yaml", without);
    folder.run(&["run", "p.yaml"]).exits(2).complains("its part `p.even`");
    removed();
    folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0).complains("it is given up");
    assert_eq!(written(), (near.clone(), far.clone()));
    // With it again, the stage behind it has moved.
    folder.write("p.yaml", FILE);
    folder.run(&["run", "p.yaml"]).exits(2).complains("stage `even`");
    removed();
    folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0);
    assert_eq!(written(), (near, far));
}

#[test]
fn a_part_behind_a_durable_edge_is_told_under_the_name_of_its_pipeline() {
    let folder = Folder::new();
    folder.write("input.ndjson", input(1_000));
    folder.write("p.yaml", FILE.replace("path: input.ndjson", "path: input.ndjson, follow: true"));
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    let behind = || {
        let told = folder.run(&["audit", "p", "--json"]).exits(0).json();
        let parts: Vec<_> = told["result"].as_array().unwrap().iter().map(|it| it["pipeline"].clone()).collect();
        assert_eq!(parts, ["p", "p.even"], "{told}");
        told["result"][1]["ledger"]["parts"][0]["received"].as_u64().unwrap()
    };
    let began = Instant::now();
    while behind() < 715 {
        assert!(began.elapsed() < PATIENCE);
    }
    // A stage behind the edge waits, and its sibling in front goes on.
    folder.run(&["breaker", "trip", "p", "even"]).exits(0);
    let mut grown = std::fs::OpenOptions::new().append(true).open(folder.path("input.ndjson")).unwrap();
    grown.write_all(input(2_000).strip_prefix(&input(1_000)).unwrap().as_bytes()).unwrap();
    let (near, far) = expected(2_000);
    until_written(&folder, "near.ndjson", &near);
    let status = folder.run(&["status"]);
    assert!(status.out.contains("not ready: even: its breaker is open"), "{}", status.out);
    assert_eq!(folder.read("far.ndjson"), expected(1_000).1);
    folder.run(&["breaker", "reset", "p", "even"]).exits(0);
    until_written(&folder, "far.ndjson", &far);
    host.signal(Signal::TERM);
    host.end().exits(0);
}

#[test]
fn a_part_that_fails_ends_those_behind_it_and_what_it_has_committed_is_read_later() {
    let (folder, records) = (Folder::new(), 1_000);
    let stops = FILE
        .replace("decode: json, key: /client, time: /ts, rate: 20000/s", "decode: lines, rate: 4000/s")
        .replace("n % 2 == 0 } }", "n % 2 == 0 }, on_error: stop }")
        .replace("status < 500 } }", "status < 500 }, on_error: stop }");
    folder.write("input.ndjson", input(records) + "no record\n").write("p.yaml", &stops);
    folder.run(&["run", "p.yaml"]).exits(4).complains("p.even");
    // Somebody mends the stage, and everything is there once.
    folder.write("p.yaml", stops.replace("status < 500 }, on_error: stop", "status < 500 }, on_error: drop"));
    folder.run(&["run", "p.yaml"]).exits(0);
    assert_eq!((folder.read("near.ndjson"), folder.read("far.ndjson")), expected(records));
}

/// The same with an edge that drops.
fn drops() -> String {
    let (file, _) = FILE.split_once("edges:").unwrap();
    let edge = "{ from: served, to: even, when_full: drop_oldest, capacity: { records: 4000, bytes: 4MiB } }";
    format!("{}edges:\n  - {edge}\n", file.replace(", guarantee: exactly_once", ""))
}

#[test]
fn who_waits_behind_an_edge_that_drops_holds_nobody_and_what_is_dropped_is_shown() {
    let folder = Folder::new();
    folder.write("input.ndjson", "").write("p.yaml", drops().replace("input.ndjson", "input.ndjson, follow: true"));
    let checked = folder.run(&["check", "p.yaml"]).exits(0);
    let told = "`far` has every record at most once: the edge from `served` to `even` drops what it has no room for";
    assert!(checked.out.contains(told) && checked.out.contains("`near` has every record exactly once"), "{checked:?}");
    folder.write("q.yaml", drops().replace("far.ndjson }", "far.ndjson }, guarantee: at_least_once"));
    folder.run(&["check", "q.yaml"]).exits(2).complains("TG211");
    let drawn = folder.run(&["graph", "p.yaml"]).exits(0);
    assert!(drawn.out.contains("┄▶ even"), "{}", drawn.out);
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    folder.run(&["breaker", "trip", "p", "even"]).exits(0);
    let records = 14_000;
    let served = (0..records).filter(|n| 200 + n % 7 * 60 < 500).count();
    let mut grown = std::fs::OpenOptions::new().append(true).open(folder.path("input.ndjson")).unwrap();
    grown.write_all(input(records).as_bytes()).unwrap();
    let (near, far) = expected(records);
    until_written(&folder, "near.ndjson", &near);
    folder.run(&["breaker", "reset", "p", "even"]).exits(0);
    host.signal(Signal::TERM);
    let said = host.end().exits(0);
    assert!(said.out.contains("dropped") || said.err.contains("dropped"), "{said:?}");
    let kept = folder.run(&["audit", "p.even", "--json"]).exits(0).json();
    let edge = part(&kept, "served>even");
    let count = |what: &str| edge[what].as_u64().unwrap();
    assert_eq!((count("received"), count("passed") + count("dropped")), (served as u64, served as u64), "{kept}");
    assert!(count("dropped") > 1_000 && count("passed") >= 4_000, "{kept}");
    // The last of the records are there, each once and in order.
    let found = folder.read("far.ndjson");
    assert!(found.lines().count() > 1_000 && found.lines().last() == far.lines().last());
    let mut all = far.lines();
    assert!(found.lines().all(|line| all.any(|one| one == line)), "in order, and each once");
}

/// What an audit of one pipeline tells of its source, stage or sink `name`.
fn part<'a>(kept: &'a Value, name: &str) -> &'a Value {
    let parts = kept["result"][0]["ledger"]["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{kept}"))
}

/// T1 with an edge that drops: whatever falls, nothing comes twice behind it, and what is missing has been counted.
#[test]
fn a_host_killed_again_and_again_doubles_nothing_behind_an_edge_that_drops() {
    let (folder, seed) = (Folder::new(), seed());
    let kills = kills() * 2 / 5;
    let records = RECORDS * u64::from(kills);
    folder.write("input.ndjson", input(records)).write("p.yaml", drops());
    for kill in 0..kills {
        let mut host = folder.start(&["run", "p.yaml"]);
        host.until_running();
        host.kill_after(moment(seed, kill));
    }
    folder.run(&["run", "p.yaml"]).exits(0);
    let (near, far) = expected(records);
    assert_eq!(folder.read("near.ndjson"), near, "byte by byte: seed {seed}");
    let found = folder.read("far.ndjson");
    let mut all = far.lines();
    assert!(found.lines().all(|line| all.any(|one| one == line)), "in order, and each once: seed {seed}");
    let kept = folder.run(&["audit", "p.even", "--json"]).exits(0).json();
    let edge = part(&kept, "served>even");
    assert_eq!(edge["received"].as_u64().unwrap(), near.lines().count() as u64, "seed {seed}: {kept}");
}
