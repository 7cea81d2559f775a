//! Topics between the pipelines of a host, seen from outside.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    folder::{Folder, PATIENCE},
    kills::{kills, moment, seed, told},
};

/// Records of the input for each kill.
const RECORDS: u64 = 3_000;

/// A pipeline from a file through a filter into a topic.
const WRITES: &str = "version: 1
name: writes
epoch: 100ms
sources:
  in: { file: { path: input.ndjson }, decode: json, key: /client, time: /ts, rate: 20000/s }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
sinks:
  out: { from: served, topic: { name: served, max: 4MiB } }
";

/// Another one from that topic through a filter into a file.
const READS: &str = "version: 1
name: reads
epoch: 100ms
sources:
  in: { topic: { name: served, group: copies } }
stages:
  even: { from: in, filter: std/where, config: { where: n % 2 == 0 } }
sinks:
  out: { from: even, file: { path: out.ndjson }, encode: json }
";

fn record(n: u64) -> String {
    format!("{{\"n\":{n},\"ts\":{},\"client\":\"c{}\",\"status\":{}}}", n / 20, n % 17, 200 + n % 7 * 60)
}

/// What the second pipeline has to write.
fn expected(records: u64) -> String {
    let is_kept = |n: &u64| 200 + n % 7 * 60 < 500 && n.is_multiple_of(2);
    (0..records).filter(is_kept).map(|n| record(n) + "\n").collect()
}

/// Waits until the second pipeline has committed everything that comes of so many records.
fn until_read(folder: &Folder, records: u64) {
    let served = (0..records).filter(|n| 200 + n % 7 * 60 < 500).count() as u64;
    let began = Instant::now();
    loop {
        let listed = folder.run(&["topic", "ls", "--json"]).json();
        let topic = &listed["result"][0];
        if topic["writers"][0]["end"] == served && topic["groups"][0]["behind"] == 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it does not come to an end: {listed}");
    }
}

/// T1, over a topic: file → topic → file is exactly once through any crash of the host that runs both pipelines.
#[test]
fn a_host_killed_again_and_again_carries_each_record_over_a_topic_once() {
    let (folder, seed) = (Folder::new(), seed());
    let kills = kills() * 2 / 5;
    let records = RECORDS * u64::from(kills);
    folder.write("input.ndjson", (0..records).map(|n| record(n) + "\n").collect::<String>());
    folder.write("writes.yaml", WRITES).write("reads.yaml", READS);
    let run = ["run", "writes.yaml", "reads.yaml"];
    let (mut cut, mut worst) = (0, Duration::ZERO);
    for kill in 0..kills {
        let started = Instant::now();
        let mut host = folder.start(&run);
        host.until_running();
        worst = worst.max(started.elapsed());
        host.kill_after(moment(seed, kill));
        cut += usize::from(folder.path("out.ndjson").exists() && !folder.read("out.ndjson").is_empty());
    }
    assert!(cut > 0, "no kill came when something had been written: seed {seed} has tested nothing");
    let expected = expected(records);
    let mut host = folder.start(&run);
    host.until_running();
    until_read(&folder, records);
    host.signal(Signal::TERM);
    assert_eq!(host.status().code(), Some(0), "seed {seed}");
    let found = folder.read("out.ndjson");
    told(seed, kills, records, worst, &found.lines().collect::<Vec<_>>(), &expected.lines().collect::<Vec<_>>());
    assert_eq!(found, expected, "byte by byte: seed {seed}");
}

#[test]
fn topics_are_listed_beside_a_host_and_without_one_and_a_group_is_given_up_by_ones_word() {
    let folder = Folder::new();
    let records = 2_000;
    folder.write("input.ndjson", (0..records).map(|n| record(n) + "\n").collect::<String>());
    folder.write("writes.yaml", WRITES).write("reads.yaml", READS);
    folder.run(&["check", "reads.yaml"]).exits(0).complains("TG621");
    let checked = folder.run(&["check", "writes.yaml", "reads.yaml"]).exits(0);
    assert!(
        !checked.err.contains("TG621") && checked.out.contains("`out` has every record exactly once"),
        "{checked:?}"
    );
    folder.run(&["run", "reads.yaml", "--state", "none"]).exits(2).complains("TG212");

    let mut host = folder.start(&["run", "writes.yaml", "reads.yaml"]);
    host.until_running();
    until_read(&folder, records);
    assert_eq!(folder.read("out.ndjson"), expected(records));
    let listed = folder.run(&["topic", "ls", "--json"]).exits(0).json();
    let topic = &listed["result"][0];
    assert_eq!((&topic["topic"], &topic["groups"][0]["behind"]), (&"served".into(), &0.into()), "{listed}");
    assert_eq!(
        (&topic["groups"][0]["reader"], &topic["writers"][0]["writer"]),
        (&"reads.in".into(), &"writes.out".into())
    );
    folder.run(&["topic", "forget", "served", "copies", "--yes"]).exits(3).complains("TG421");
    host.signal(Signal::TERM);
    assert_eq!(host.status().code(), Some(0));

    let said = folder.run(&["topic", "ls"]).exits(0);
    assert!(said.out.contains("copies") && said.out.contains("nobody who runs"), "{}", said.out);
    folder.run(&["topic", "ls", "nothing"]).exits(2).complains("TG422");
    folder.run(&["topic", "forget", "served", "other", "--yes"]).exits(2).complains("TG422");
    folder.run(&["topic", "forget", "served", "copies"]).exits(2).complains("TG425");
    folder.run(&["topic", "forget", "served", "copies", "--yes"]).exits(0);
    let listed = folder.run(&["topic", "ls", "--json"]).exits(0).json();
    assert_eq!(listed["result"][0]["groups"], serde_json::json!([]));
    let kept = listed["result"][0]["writers"][0]["records"].as_u64().unwrap();
    assert_eq!(kept, (0..records).filter(|n| 200 + n % 7 * 60 < 500).count() as u64, "the records stay");
    // The writer's pipeline is complete; who begins anew with it writes its topic anew.
    folder
        .run(&["run", "writes.yaml", "--reset-state", "all"])
        .exits(0)
        .complains("what it wrote to topics is given up");
    let listed = folder.run(&["topic", "ls", "--json"]).exits(0).json();
    assert_eq!(listed["result"][0]["writers"][0]["records"].as_u64().unwrap(), kept);
    let verified = folder.run(&["state", "verify"]).exits(0);
    assert!(verified.out.contains("whole"), "{}", verified.out);
}
