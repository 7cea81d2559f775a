//! How a run ends: by itself, by a signal, by a second signal, at the deadline.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::folder::{Folder, Started, endless, straight};

/// A host whose sink cannot get rid of anything: its standard output is a pipe that nobody reads.
fn stuck(folder: &Folder, args: &[&str]) -> Started {
    folder.write("p.yaml", endless("stuck", "stdout: {}, encode: json"));
    let mut all = vec!["run", "p.yaml", "--progress"];
    all.extend(args);
    let mut host = folder.start(&all);
    // The channel is full and nothing moves any more once the source reads nothing for a second.
    host.until(|line| {
        line.contains("epoch") && line.contains(": in 0/s → out 0/s; ") && !line.contains("; 0 in flight")
    });
    host
}

#[test]
fn an_input_that_ends_ends_the_run_with_0_and_a_balanced_ledger() {
    let folder = Folder::new();
    folder
        .write("input.ndjson", "{\"a\":1}\n{\"a\":2}\n")
        .write("p.yaml", straight("short", "stdout: {}, encode: json"));
    let said = folder.run(&["run", "p.yaml"]).exits(0).complains("ledger balanced").complains("short: completed");
    assert_eq!(said.out, "{\"a\":1}\n{\"a\":2}\n");
    assert!(said.err.contains("in → out  2  sent  2  received"), "{}", said.err);
    assert!(!folder.path(".tidegate/tidegate.sock").exists());
}

/// Row 8.
#[test]
fn a_signal_drains_a_healthy_pipeline_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        folder.write("p.yaml", endless("healthy", "file: { path: out.ndjson }, encode: json"));
        let mut host = folder.start(&["run", "p.yaml", "--progress", "--json"]);
        host.until(|line| line.contains("epoch") && !line.contains("out 0/s"));
        let asked = Instant::now();
        host.signal(signal);
        let said = host.end().exits(0);
        assert!(asked.elapsed() < Duration::from_secs(2), "a drain took {:?}", asked.elapsed());
        let pipeline = said.json()["result"]["pipelines"][0].clone();
        assert_eq!(
            (pipeline["ending"].as_str(), pipeline["ledger"]["balanced"].as_bool()),
            (Some("drained"), Some(true))
        );
        let edge = &pipeline["ledger"]["edges"][0];
        assert_eq!(edge["sent"], edge["received"]);
        // Recounted from outside: nothing is left behind, nothing comes twice.
        let written: Vec<u64> = folder
            .read("out.ndjson")
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(Some(written.len() as u64), edge["received"].as_u64());
        assert!(written.iter().copied().eq(0..written.len() as u64));
    }
}

/// Row 9, of a sink that is retried: it notices the deadline.
#[test]
fn a_sink_that_cannot_write_makes_the_drain_end_at_its_deadline_with_5() {
    let folder = Folder::new();
    folder.write("p.yaml", endless("full", "file: { path: /dev/full }, encode: json"));
    let mut host = folder.start(&["run", "p.yaml", "--drain-deadline", "300ms", "--json"]);
    host.until(|line| line.contains("writing failed, trying again"));
    host.signal(Signal::TERM);
    let asked = Instant::now();
    let said = host.end().exits(5);
    assert!(asked.elapsed() < Duration::from_millis(300 + 1000), "{:?}", asked.elapsed());
    assert_eq!(said.json()["error"]["code"], "TG503");
    // What is not committed is not acknowledged: the source's committed position is where it began.
    assert_eq!(said.json()["result"]["pipelines"][0]["ledger"]["edges"][0]["sent"], 0);
}

/// Row 9, of a sink that hangs in a call of the system: it is left behind.
#[test]
fn a_sink_that_hangs_makes_the_drain_end_at_its_deadline_with_5() {
    let folder = Folder::new();
    let mut host = stuck(&folder, &["--drain-deadline", "300ms"]);
    host.signal(Signal::TERM);
    let asked = Instant::now();
    assert_eq!(host.status().code(), Some(5));
    assert!(asked.elapsed() < Duration::from_millis(300 + 1000), "{:?}", asked.elapsed());
}

/// Row 9, of a plugin that does not come back: it is interrupted.
#[test]
fn a_plugin_that_does_not_come_back_is_interrupted_at_the_deadline() {
    let folder = Folder::new();
    folder.write("spin.wasm", crate::folder::guest("filter", "spin")).write("input.ndjson", "{}\n");
    let limits = "{}, limits: { time: 1h, fuel: 1_000_000_000_000_000/record + 1/byte }";
    folder.write("p.yaml", crate::folder::through("filter", "spin.wasm", limits));
    let mut host = folder.start(&["run", "p.yaml", "--drain-deadline", "300ms", "--json"]);
    host.until_running();
    while !folder.run(&["status", "--json"]).exits(0).out.contains("\"received\":1,") {}
    host.signal(Signal::TERM);
    let asked = Instant::now();
    let said = host.end().exits(5);
    assert!(asked.elapsed() < Duration::from_millis(300 + 1000), "{:?}", asked.elapsed());
    // It has ended in order, and tells what it has not done; nobody calls it a fault.
    let pipeline = &said.json()["result"]["pipelines"][0];
    assert_eq!((&pipeline["ending"], &pipeline["ledger"]["uncommitted"]), (&"deadline_passed".into(), &1.into()));
    assert_eq!(said.json()["error"]["code"], "TG503");
}

/// Row 10.
#[test]
fn a_second_signal_ends_the_process_at_once_with_the_code_of_that_signal() {
    for (first, second, code) in [(Signal::TERM, Signal::TERM, 143), (Signal::TERM, Signal::INT, 130)] {
        let folder = Folder::new();
        let mut host = stuck(&folder, &[]);
        host.signal(first);
        host.until(|line| line.contains("draining"));
        let asked = Instant::now();
        host.signal(second);
        assert_eq!(host.status().code(), Some(code));
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert!(!folder.path(".tidegate/tidegate.sock").exists());
    }
}

#[test]
fn a_duration_drains_by_itself() {
    let folder = Folder::new();
    folder.write("p.yaml", endless("brief", "discard: {}"));
    let said = folder.run(&["run", "p.yaml", "--duration", "300ms"]).exits(0).complains("brief: drained");
    assert!(said.err.contains("ledger balanced"), "{}", said.err);
}

#[test]
fn each_pipeline_has_an_end_of_its_own_and_the_worst_exit_code_wins() {
    let folder = Folder::new();
    folder.write("input.ndjson", "{\"a\":1}\n");
    folder.write("good.yaml", straight("good", "file: { path: good.ndjson }, encode: json"));
    folder.write("bad.yaml", crate::folder::through("filter", "panics.wasm", "{}").replace("through", "bad"));
    folder.write("panics.wasm", crate::folder::guest("filter", "panics"));
    let said = folder.run(&["run", "bad.yaml", "good.yaml", "--json", "--state", "none"]).exits(4);
    let pipelines = said.json()["result"]["pipelines"].clone();
    let ends = [0, 1].map(|at| (pipelines[at]["ending"].as_str().unwrap(), pipelines[at]["exit"].as_u64().unwrap()));
    assert_eq!(ends, [("faulted", 4), ("completed", 0)]);
    assert_eq!(folder.read("good.ndjson"), "{\"a\":1}\n");
}
