//! What is kept beyond the process, looked at and changed by a person, with a host running and without.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::folder::{Folder, Said, Started};

/// File → windows → file; the input goes on for as long as the host runs.
const PIPELINE: &str = "version: 1
name: kept
epoch: 50ms
sources:
  in: { file: { path: input.ndjson, follow: true }, decode: json, key: /client, time: /ts, watermark: { lag: 100ms } }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
  sums: { from: [served, served.rest], aggregate: std/summary, config: { field: /ms, echo: [/client] }, window: { tumbling: 1s } }
sinks:
  out: { from: sums, file: { path: out.ndjson }, encode: json }
";

fn record(n: u64) -> String {
    format!(
        "{{\"ts\":{},\"client\":\"client-{}\",\"status\":{},\"ms\":{}}}\n",
        n * 10,
        n % 5,
        200 + n % 7 * 60,
        n % 100
    )
}

fn records(from: u64, to: u64) -> String {
    (from..to).map(record).collect()
}

/// A folder with a pipeline and the first 150 records: those of a window and a half.
fn prepared() -> Folder {
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE).write("input.ndjson", records(0, 150));
    folder
}

/// A host that has committed so many records.
#[track_caller]
fn host(folder: &Folder, records: u64) -> Started {
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    loop {
        folder.run(&["epoch", "now", "kept"]).exits(0);
        let said = folder.run(&["audit", "--json"]).exits(0);
        let ledger = &said.json()["result"][0]["ledger"];
        if ledger["parts"][0]["received"] == records {
            return host;
        }
    }
}

#[track_caller]
fn drained(host: Started) {
    host.signal(Signal::TERM);
    host.end().exits(0).complains("ledger balanced");
}

/// Runs until so many records of the input are committed, and stops there.
#[track_caller]
fn ran(folder: &Folder, records: u64) {
    drained(host(folder, records));
}

/// The groups that `state scan` shows, a line each, without its answer.
fn groups(said: &Said) -> Vec<Value> {
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.into_iter().filter(|line| line.get("stage").is_some()).collect()
}

#[track_caller]
fn scanned(folder: &Folder) -> Vec<Value> {
    groups(&folder.run(&["state", "scan", "--json"]).exits(0))
}

#[test]
fn groups_epochs_and_the_ledger_are_the_same_from_a_host_and_from_what_it_leaves() {
    let folder = prepared();
    let host = host(&folder, 150);
    let asked = |args: &[&str]| folder.run(args).exits(0);
    let get = ["state", "get", "sums", "--key", "client-3", "--json"];
    let scan = ["state", "scan", "--json"];
    let audit = ["audit", "kept", "--json"];
    let (got, all, ledger) = (asked(&get), asked(&scan), asked(&audit));
    asked(&["state", "export", "of-host.ndjson"]);
    let now = asked(&["epoch", "now", "--json"]).json();
    assert!(now["result"]["epoch"].as_u64().unwrap() > 0 && now["result"]["seconds"].as_f64().unwrap() > 0.0);
    let epochs = asked(&["epoch", "ls", "--json"]).json();
    let last = epochs["result"][0]["epochs"].as_array().unwrap().last().unwrap().clone();
    assert!(last["epoch"].as_u64() >= now["result"]["epoch"].as_u64(), "{epochs}");
    drained(host);

    let group = got.json()["result"][0].clone();
    assert_eq!((&group["key"], &group["window"]), (&json!("client-3"), &json!({ "start": 1000, "end": 2000 })));
    assert_eq!(group["time"], 1480);
    assert_eq!(groups(&all).len(), 5);
    assert_eq!(all.json()["summary"].as_str().unwrap().split(" as").next(), Some("5 groups"));
    assert_eq!(asked(&get).json(), got.json());
    assert_eq!(scanned(&folder), groups(&all));
    assert_eq!(asked(&audit).json()["result"][0]["ledger"]["edges"], ledger.json()["result"][0]["ledger"]["edges"]);
    asked(&["state", "export", "of-store.ndjson"]);
    let export = |name: &str| {
        folder.read(name).lines().filter(|line| line.starts_with("{\"stage\":")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(export("of-host.ndjson"), export("of-store.ndjson"));
    let kept = asked(&["epoch", "ls", "kept", "--json"]).json();
    let kept = kept["result"][0]["epochs"].as_array().unwrap().clone();
    assert!(kept.len() <= 32 && kept.iter().any(|past| past["epoch"] == last["epoch"]), "{kept:?}");

    assert!(asked(&["state", "get", "sums", "--key-base64", "Y2xpZW50LTM="]).out.contains("\"client-3\""));
    let window = ["state", "get", "sums", "--key", "client-3", "--window"];
    asked(&[&window[..], &["1970-01-01T00:00:01Z"]].concat());
    folder.run(&[&window[..], &["7000"]].concat()).exits(1).complains("TG422");
    assert_eq!(groups(&asked(&["state", "scan", "sums", "--limit", "2", "--json"])).len(), 2);
    folder.run(&["state", "scan", "sumz"]).exits(2).complains("TG422").complains("`served`, `sums`");
    folder.run(&["state", "scan", "--pipeline", "other"]).exits(2).complains("TG422").complains("`kept`");
    folder.run(&["state", "scan", "--state", "nowhere"]).exits(3).complains("TG409");
    assert!(!folder.path("nowhere").exists(), "looking makes nothing");
}

#[test]
fn what_writes_is_refused_while_a_host_has_the_state_and_names_it() {
    let folder = prepared();
    let host = host(&folder, 150);
    folder.run(&["state", "backup", "copy"]).exits(0);
    folder.run(&["state", "export", "groups.ndjson"]).exits(0);
    for args in [
        &["state", "import", "groups.ndjson"][..],
        &["state", "reset", "kept", "--yes"],
        &["state", "restore", "copy", "--yes"],
        &["state", "verify"],
        &["state", "repair", "--yes"],
    ] {
        let said = folder.run(args).exits(3).complains("TG421").complains("process ");
        assert!(said.err.contains("tidegate drain"), "{}", said.err);
    }
    folder.run(&["state", "scan", "--socket", "other.sock"]).exits(3).complains("TG421").complains("--socket");
    folder.run(&["epoch", "now", "other"]).exits(2).complains("`other`");
    drained(host);
    folder.run(&["epoch", "now"]).exits(3).complains("reach a host");
}

/// What is exported, given up and imported is the state that it was: the run that goes on writes what one writes that
/// was never stopped.
#[test]
fn an_export_that_is_taken_back_is_the_state_that_it_was() {
    let clean = prepared();
    clean.write("input.ndjson", records(0, 400));
    ran(&clean, 400);

    let folder = prepared();
    ran(&folder, 150);
    let before = scanned(&folder);
    folder.run(&["state", "export", "groups.ndjson"]).exits(0);
    folder.run(&["state", "export", "groups.ndjson"]).exits(2).complains("groups.ndjson");
    folder.run(&["state", "reset", "kept/sums"]).exits(2).complains("TG425").complains("--yes");
    assert_eq!(scanned(&folder), before, "nobody has said so");
    folder.run(&["state", "reset", "kept/sums", "--yes"]).exits(0);
    assert_eq!(scanned(&folder), [] as [Value; 0]);
    folder.run(&["state", "reset", "kept/sums", "--yes"]).exits(2).complains("TG422");

    let whole = folder.read("groups.ndjson");
    let cut = whole.lines().count() - 1;
    for (bad, why) in [
        (whole.lines().take(cut).map(|line| format!("{line}\n")).collect::<String>(), "cut off"),
        (whole.replace("\"start\":1000", "\"start\":1001"), "line 2"),
        (whole.replace("\"groups\":5", "\"groups\":6"), "6 groups were written"),
        (whole.replace("client-3\",", "client-3\",\"unknown\":1,"), "it is no group"),
        (whole.replace("\"tidegate_state\":1", "\"tidegate_state\":2"), "version 2"),
        (String::new(), "empty"),
    ] {
        folder.write("bad.ndjson", bad);
        folder.run(&["state", "import", "bad.ndjson"]).exits(2).complains("TG424").complains(why);
        assert_eq!(scanned(&folder), [] as [Value; 0], "{why}: nothing of it");
    }
    let said = folder.run(&["state", "import", "groups.ndjson", "--json"]).exits(0);
    assert_eq!(said.json()["result"]["groups"]["sums"], 5);
    assert_eq!(scanned(&folder), before);
    folder.write(
        "changed.ndjson",
        whole.replace("tumbling 1s", "tumbling 500ms").replace("\"end\":2000", "\"end\":1500"),
    );
    folder.run(&["state", "import", "changed.ndjson"]).exits(2).complains("TG424").complains("tumbling 500ms");

    folder.write("input.ndjson", records(0, 400));
    let host = folder.start(&["run", "p.yaml"]);
    until_written(&folder, &clean.read("out.ndjson"));
    drained(host);
    assert_eq!(folder.read("out.ndjson"), clean.read("out.ndjson"));
}

/// Waits, an epoch at a time, until the output is as long as it will be.
#[track_caller]
fn until_written(folder: &Folder, expected: &str) {
    let deadline = std::time::Instant::now() + crate::folder::PATIENCE;
    while folder.read("out.ndjson").len() < expected.len() {
        assert!(std::time::Instant::now() < deadline, "{}", folder.read("out.ndjson"));
        folder.run(&["epoch", "now"]);
    }
}

/// Going back to a backup takes back what was written since, and what comes after is written once.
#[test]
fn a_host_goes_on_from_a_backup_as_if_nothing_had_come_after_it() {
    let folder = prepared();
    ran(&folder, 150);
    folder.run(&["state", "backup", "monday"]).exits(0);
    folder.run(&["state", "backup", "monday"]).exits(3);
    let before = scanned(&folder);
    folder.write("input.ndjson", records(0, 400));
    ran(&folder, 400);
    let (after, written) = (scanned(&folder), folder.read("out.ndjson"));
    assert_ne!(after, before);

    folder.run(&["state", "restore", "monday"]).exits(2).complains("TG425");
    folder.write("no-backup", "precious");
    folder.run(&["state", "restore", "no-backup", "--yes"]).exits(3).complains("no-backup");
    assert_eq!(scanned(&folder), after);
    folder.run(&["state", "restore", "monday", "--yes"]).exits(0);
    assert_eq!(scanned(&folder), before);
    assert!(folder.path(".tidegate/store.before").exists());
    ran(&folder, 400);
    assert_eq!((scanned(&folder), folder.read("out.ndjson")), (after, written));
}

/// Row 17, as a person meets it.
#[test]
fn a_flipped_bit_is_found_by_name_and_a_repair_counts_what_it_skips() {
    let folder = prepared();
    ran(&folder, 150);
    folder.run(&["state", "verify"]).exits(0);
    let whole = folder.run(&["state", "repair", "--yes", "--json"]).exits(0).json();
    assert_eq!(whole["result"]["skipped"], json!([]));

    // In a value of each source and stage, and in copies of the page that are no longer in use.
    let mut bytes = std::fs::read(folder.path(".tidegate/store")).unwrap();
    let what = b"\"watermark\":";
    let places: Vec<usize> = (0..bytes.len() - what.len()).filter(|&at| bytes[at..].starts_with(what)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 1] ^= 1);
    std::fs::write(folder.path(".tidegate/store"), bytes).unwrap();

    folder.run(&["state", "verify"]).exits(1).complains("TG423").complains(".tidegate/store");
    folder.run(&["run", "p.yaml"]).exits(3).complains("TG423").complains(".tidegate/store");
    folder.run(&["state", "repair"]).exits(2).complains("TG425");
    let said = folder.run(&["state", "repair", "--yes", "--json"]).exits(0).json();
    let skipped = said["result"]["skipped"].as_array().unwrap();
    // The source, that of letters, both stages, and that they are missing.
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    assert!(skipped.iter().any(|what| what.as_str().unwrap().contains("`sums`")), "{skipped:?}");
    folder.run(&["state", "verify"]).exits(0);
    assert!(folder.path(".tidegate/store.before").exists());
}

/// The ledger of a state that somebody has changed by hand.
#[test]
fn a_ledger_that_does_not_balance_is_exit_1_and_names_the_place() {
    use tidegate::{
        disk::RealDisk,
        store::{Commit, Lock, Place, Settings, Store},
    };
    let folder = prepared();
    ran(&folder, 150);
    let balanced = folder.run(&["audit"]).exits(0);
    for part in ["kept as of epoch", "source", "in = ", "served.rest → sums", "ledger balanced"] {
        assert!(balanced.out.contains(part), "{part} in {}", balanced.out);
    }
    let path = folder.path(".tidegate");
    let store =
        Store::open(std::sync::Arc::new(RealDisk), &path, Lock::take(&path).unwrap(), Settings::default()).unwrap();
    let place = Place::of(2, "served");
    let mut stage: Value = serde_json::from_slice(&store.get("kept", &place).unwrap().unwrap()).unwrap();
    stage["point"]["tally"]["received"] = json!(151);
    stage["point"]["sent"][1] = json!(1000);
    let mut commit = Commit::of_facts("kept".into(), 0);
    commit.put(&place, stage.to_string().as_bytes());
    futures::executor::block_on(store.commit(commit)).unwrap();
    drop(store);
    let said = folder.run(&["audit", "--json"]).exits(1).json();
    let places: Vec<&str> = said["result"][0]["ledger"]["imbalances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|off| off["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["served", "served.rest → sums"]);
    assert_eq!(said["error"]["code"], "TG504");
}

#[test]
fn a_host_that_keeps_nothing_says_so_and_audits_all_the_same() {
    let folder = prepared();
    let mut host = folder.start(&["run", "p.yaml", "--state", "none"]);
    host.until_running();
    folder.run(&["epoch", "now"]).exits(0);
    assert_eq!(folder.run(&["audit", "--json"]).exits(0).json()["result"][0]["ledger"]["balanced"], true);
    folder.run(&["state", "scan"]).exits(3).complains("keeps none");
    drained(host);
}

#[test]
fn an_epoch_that_does_not_commit_in_time_says_who_holds_it() {
    let folder = Folder::new();
    folder.write("p.yaml", crate::folder::endless("full", "file: { path: /dev/full }, encode: json"));
    let mut host = folder.start(&["run", "p.yaml", "--drain-deadline", "10ms"]);
    host.until(|line| line.contains("writing failed, trying again"));
    let said = folder.run(&["epoch", "now", "full", "--deadline", "100ms"]).exits(1);
    said.complains("within 100ms").complains("out: it tries again");
    host.signal(Signal::TERM);
    host.end().exits(5);
}
