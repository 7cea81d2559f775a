//! Plugins reloaded in a running host: what its user sees, and what happens to the records meanwhile.

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt as _, time::Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::crash::RELOAD_POINTS;

use crate::folder::{Folder, PATIENCE, Started, guest_described, guest_of};

/// What a filter does with every record.
pub(crate) const KEEP: &str = "(call $keep_all (local.get $batch))";
/// As much work as keeping, for fuel is compared.
pub(crate) const DROP: &str =
    "(drop (call $keep_all (local.get $batch))) (call $selection (i32.const 0) (i32.const 0))";
pub(crate) const TRAP: &str = "unreachable";

/// A filter that calls itself `name`.
pub(crate) fn filter(name: &str, body: &str) -> Vec<u8> {
    guest_of("filter", name, &function(body))
}

/// The function of a filter.
fn function(body: &str) -> String {
    let head = "(func (export \"tidegate:plugin/filtering@0.1.0#filter\") (param $batch i32) (result i32)";
    format!("{head}\n  {body})")
}

/// A pipeline through a filter into two files: what it keeps, and what it does not.
fn pipeline(reload: &str, rate: u32) -> String {
    format!(
        "version: 1\nname: p\nepoch: 100ms\nbatch: {{ records: 100 }}\nsources:\n  \
         in: {{ file: {{ path: input.txt, follow: true }}, rate: {rate}/s }}\n\
         stages:\n  work: {{ from: in, filter: work.wasm, reload: {reload} }}\n\
         sinks:\n  out: {{ from: work, file: {{ path: out.txt }} }}\n  \
         rest: {{ from: work.rest, file: {{ path: rest.txt }} }}\n"
    )
}

fn prepared(records: u32, reload: &str, rate: u32) -> Folder {
    let folder = Folder::new();
    folder.write("input.txt", (0..records).map(|n| format!("{n}\n")).collect::<String>());
    folder.write("p.yaml", pipeline(reload, rate)).write("work.wasm", filter("keep", KEEP));
    folder
}

/// The generations of the stage, oldest first, as a running host tells.
fn history(folder: &Folder) -> Vec<Value> {
    let said = folder.run(&["plugin", "history", "p", "work", "--json"]).exits(0).json();
    said["result"][0]["generations"].as_array().unwrap().clone()
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never happens: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the last generation, or refused candidate, has come this far.
#[track_caller]
fn until_last(folder: &Folder, count: usize, fate: &str) -> Value {
    until(&format!("the {count}th is {fate}"), || {
        let all = history(folder);
        let is_so = all.len() == count && all.last().is_some_and(|last| last["fate"] == fate);
        is_so.then(|| all.last().unwrap().clone())
    })
}

/// Puts a file in the place of another at once, as editors and compilers do.
pub(crate) fn replace(folder: &Folder, name: &str, bytes: &[u8]) {
    folder.write("new", bytes);
    fs::rename(folder.path("new"), folder.path(name)).unwrap();
}

fn lines(folder: &Folder, name: &str) -> Vec<u32> {
    let text = fs::read_to_string(folder.path(name)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Checks that each record up to the last one stands in one place, once, and that order was kept; says how many there are.
#[track_caller]
fn each_once(folder: &Folder) -> usize {
    let letters = folder.run(&["dlq", "export", "p", "--json"]).exits(0).json();
    let letters = letters["result"]["letters"].as_array().unwrap().clone();
    let refused: Vec<u32> = letters.iter().map(|letter| letter["value"].as_str().unwrap().parse().unwrap()).collect();
    let all = [lines(folder, "out.txt"), lines(folder, "rest.txt"), refused];
    assert!(all.iter().all(|file| file.is_sorted()), "order is kept");
    let mut all = all.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..all.len() as u32), "lost 0, doubled 0");
    all.len()
}

fn drain(folder: &Folder, host: Started) {
    folder.run(&["drain"]).exits(0);
    host.end().exits(0).complains("ledger balanced");
}

/// T13 and rows 54, 55, 56 and 58 from outside.
#[test]
fn a_watched_plugin_is_replaced_under_load_and_whatever_its_file_holds_no_record_is_lost_or_doubled() {
    let folder = prepared(400_000, "{ watch: true, probation: 500ms }", 5_000);
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    until("records flow", || (!lines(&folder, "out.txt").is_empty()).then_some(()));
    replace(&folder, "work.wasm", &filter("drop", DROP));
    until_last(&folder, 2, "active");
    until("the new one serves", || (!lines(&folder, "rest.txt").is_empty()).then_some(()));

    // A file that is written in two goes, with a long pause between them.
    let again = filter("again", KEEP);
    let (first, second) = again.split_at(again.len() / 2);
    folder.write("work.wasm", first);
    let refused = until_last(&folder, 3, "refused");
    assert!(refused["why"].as_str().unwrap().contains("not valid WebAssembly"), "{refused}");
    folder.write("work.wasm", [first, second].concat());
    until_last(&folder, 4, "active");

    let transform = "(func (export \"tidegate:plugin/mapping@0.1.0#transform\") (param i32) (result i32) unreachable)";
    replace(&folder, "work.wasm", &guest_of("map", "other", transform));
    let refused = until_last(&folder, 5, "refused");
    assert!(refused["why"].as_str().unwrap().contains("is a map, not a filter"), "{refused}");

    replace(&folder, "work.wasm", &filter("trap", TRAP));
    let bad = until_last(&folder, 6, "rolled_back");
    // Whoever looks first says it.
    let whys = ["it refuses 100.0 % of its records", "the breaker opened: "];
    assert!(whys.iter().any(|why| bad["why"].as_str().unwrap().starts_with(why)), "{bad}");
    let serving =
        &folder.run(&["status", "--json"]).exits(0).json()["result"]["pipelines"][0]["stages"][0]["generation"];
    assert_eq!((&serving["generation"], &serving["fate"]), (&3.into(), &"active".into()));
    drain(&folder, host);

    let count = each_once(&folder);
    assert!(!lines(&folder, "rest.txt").is_empty() && count < 400_000, "under load: {count}");
    let letters = folder.run(&["dlq", "export", "p", "--json"]).json()["result"]["letters"].clone();
    let letters = letters.as_array().unwrap();
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter["plugin"]["name"] == "trap"), "{}", letters[0]);
}

#[test]
fn a_plugin_is_reloaded_rolled_back_and_refused_by_command_and_by_signal() {
    let folder = prepared(100_000, "{ probation: 1h }", 5_000);
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    let reload = |args: &[&str]| folder.run(&[&["plugin", "reload", "p", "work", "--json"], args].concat());

    let same = reload(&[]).exits(1).json();
    assert!(same["error"]["message"].as_str().unwrap().contains("generation 1 has the same bytes"), "{same}");
    folder.write("other.wasm", filter("drop", DROP));
    let said = reload(&["other.wasm"]).exits(0).json();
    assert_eq!((&said["result"]["generation"], &said["ok"]), (&2.into(), &true.into()));
    until("it serves", || (!lines(&folder, "rest.txt").is_empty()).then_some(()));
    let busy = reload(&[]).exits(1).json();
    assert!(busy["error"]["message"].as_str().unwrap().contains("generation 2 is on probation"), "{busy}");
    replace(&folder, "work.wasm", &filter("third", KEEP));
    assert_eq!(reload(&["--now"]).exits(0).json()["result"]["generation"], 3);
    let fates: Vec<String> = history(&folder).iter().map(|one| one["fate"].to_string()).collect();
    assert_eq!(fates, ["\"replaced\"", "\"rolled_back\"", "\"probation\""]);
    let described = json!({
        "contract": "0.1.0", "kind": "filter", "name": "tested", "version": "1",
        "selftest": [{ "records": [{ "value": "a" }], "out": [{ "of": 0 }] }],
    });
    folder.write("tested.wasm", guest_described("filter", &described, &function(DROP)));
    let unfit = reload(&["tested.wasm", "--now"]).exits(1).json();
    assert!(
        unfit["error"]["message"].as_str().unwrap().contains("does not pass its own self-test: vector 0"),
        "{unfit}"
    );
    folder.write("tested.wasm", guest_described("filter", &described, &function(KEEP)));
    assert_eq!(reload(&["tested.wasm", "--now"]).exits(0).json()["result"]["generation"], 4);
    let back = folder.run(&["plugin", "rollback", "p", "work"]).exits(0);
    assert_eq!(back.out, "generation 1 serves `work` of `p`\n");
    folder.run(&["plugin", "rollback", "p", "work"]).exits(1).complains("no generation to go back to");
    folder.run(&["plugin", "reload", "p", "nobody"]).exits(2).complains("has none of that name");
    host.signal(Signal::HUP);
    until_last(&folder, 6, "probation");
    let shown = folder.run(&["plugin", "history"]).exits(0).out;
    assert!(shown.starts_with("p: work\n") && shown.contains("somebody asked for the one before"), "{shown}");
    let status = folder.run(&["status"]).exits(0).out;
    assert!(status.contains("generation 5 of work is on probation"), "{status}");
    drain(&folder, host);
    each_once(&folder);
}

/// Row 57: wherever the host falls in a reload, the next one goes on with what its commit names, and reloads what the file
/// holds; no record is lost or doubled.
#[test]
fn a_fall_at_any_place_of_a_reload_leaves_the_old_or_the_new_one_as_the_commit_says() {
    for place in RELOAD_POINTS {
        let folder = prepared(3_000, "{ watch: true }", 6_000);
        let mut command = folder.command(&["run", "p.yaml"]);
        command.env("TIDEGATE_CRASH", format!("{place}:1"));
        let mut host = Started::of(command);
        host.until_running();
        until("records flow", || (!lines(&folder, "out.txt").is_empty()).then_some(()));
        replace(&folder, "work.wasm", &filter("drop", DROP));
        assert_eq!(host.status().signal(), Some(Signal::ABORT.as_raw()), "nobody comes by `{place}`");

        let host = folder.start(&["run", "p.yaml"]);
        until("a host answers", || (folder.run(&["status"]).code == Some(0)).then_some(()));
        until("the file's plugin serves", || {
            history(&folder).last().is_some_and(|l| l["fate"] == "probation").then_some(())
        });
        let all = history(&folder);
        assert_eq!((&all[0]["generation"], &all[1]["generation"]), (&1.into(), &2.into()), "{place}: {all:?}");
        until("everything is there", || {
            (lines(&folder, "out.txt").len() + lines(&folder, "rest.txt").len() == 3_000).then_some(())
        });
        drain(&folder, host);
        assert_eq!(each_once(&folder), 3_000, "{place}");
    }
}

/// What was committed serves first, and what the file holds by now is a candidate.
#[test]
fn a_file_that_changed_while_no_host_ran_is_a_reload() {
    let folder = prepared(2_000, "{}", 20_000);
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    until("records flow", || (!lines(&folder, "out.txt").is_empty()).then_some(()));
    drain(&folder, host);
    replace(&folder, "work.wasm", &filter("drop", DROP));
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    until_last(&folder, 2, "probation");
    let all = history(&folder);
    assert_eq!(all[0]["fate"], "replaced");
    drain(&folder, host);
    // The second one has been committed: it goes on although it was on probation.
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until_running();
    let all: BTreeMap<u64, Value> =
        history(&folder).into_iter().map(|one| (one["generation"].as_u64().unwrap(), one["fate"].clone())).collect();
    assert_eq!(all, BTreeMap::from([(2, "active".into())]));
    drain(&folder, host);
    each_once(&folder);
}
