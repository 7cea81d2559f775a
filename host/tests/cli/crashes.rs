//! The host told to fall at every named place of an epoch and of a recovery, and started again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;
use tidegate::crash::POINTS;

use crate::folder::Folder;

/// Hits at which the host falls.
const HITS: [u32; 2] = [1, 4];

/// Places that a host passes only when it posts.
const POSTING: [&str; 2] = ["sink.before-post", "sink.answered"];

/// Records of the input, of which every tenth is refused.
const RECORDS: u64 = 3_000;

const PIPELINE: &str = "version: 1
name: falling
epoch: 50ms
batch: { records: 200 }
sources:
  in: { file: { path: input.ndjson }, decode: json, key: /client, time: /ts, rate: 12000/s, watermark: { lag: 100ms } }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
  sums: { from: served, aggregate: std/summary, config: { field: /ms, echo: [/client] }, window: { tumbling: 20ms } }
sinks:
  out: { from: sums, file: { path: out.ndjson }, encode: json }
";

fn prepared() -> Folder {
    let folder = Folder::new();
    let record = |n: u64| match n % 10 {
        7 => format!("{{\"ts\":{},\"client\":\"c\",\"status\":\"none\",\"n\":{n}}}\n", n / 20),
        _ => format!(
            "{{\"ts\":{},\"client\":\"c{}\",\"status\":{},\"ms\":{}}}\n",
            n / 20,
            n % 7,
            200 + n % 3 * 200,
            n % 100
        ),
    };
    folder.write("input.ndjson", (0..RECORDS).map(record).collect::<String>()).write("p.yaml", PIPELINE);
    folder
}

/// Forgets what the hosts before have done, but for compiled plugins.
fn begin_anew(folder: &Folder) {
    if folder.path("state").exists() {
        std::fs::remove_dir_all(folder.path("state")).unwrap();
    }
    if folder.path("out.ndjson").exists() {
        std::fs::remove_file(folder.path("out.ndjson")).unwrap();
    }
}

/// What a host leaves that comes to its end: its output, and how often each record is among the letters.
fn ended(folder: &Folder, what: &str) -> (String, BTreeMap<String, u32>) {
    let said = folder.run(&["run", "p.yaml", "--json", "--state", "state"]);
    assert_eq!(said.code, Some(0), "{what}: {}", said.err);
    assert_eq!(said.json()["result"]["pipelines"][0]["ledger"]["balanced"], true, "{what}");
    let mut letters = BTreeMap::new();
    let exported = folder.run(&["dlq", "export", "--json", "--state", "state"]).exits(0).json();
    for letter in exported["result"]["letters"].as_array().unwrap() {
        *letters.entry(letter["value"].to_string()).or_default() += 1;
    }
    (folder.read("out.ndjson"), letters)
}

/// T3: whatever place of an epoch or a recovery the host falls at, the next one writes what one that never fell writes,
/// and keeps each refused record once.
#[test]
fn a_fall_at_any_named_place_leaves_no_trace() {
    let folder = prepared();
    let expected = ended(&folder, "a host that does not fall");
    assert_eq!((expected.1.len() as u64, expected.1.values().max()), (RECORDS / 10, Some(&1)));
    // Nothing is posted here.
    let places = POINTS.iter().filter(|place| !place.starts_with("outbox") && !POSTING.contains(place));
    for place in places {
        let mut fell = 0;
        for hit in HITS {
            begin_anew(&folder);
            let what = format!("{place}:{hit}");
            let mut command = folder.command(&["run", "p.yaml", "--state", "state"]);
            let status = command.env("TIDEGATE_CRASH", &what).output().unwrap().status;
            let is_fallen = status.signal() == Some(Signal::ABORT.as_raw());
            assert!(is_fallen || status.code() == Some(0), "{what}: {status}");
            fell += u32::from(is_fallen);
            assert!(ended(&folder, &what) == expected, "{what}: another output, or other letters");
        }
        assert!(fell > 0, "nobody comes by `{place}`");
    }
}

/// Falls that a host is seen to take before it comes up by itself: two that tell nothing, and two with the same record in hand.
const FALLS: u32 = 4;

/// Row 13: a record with which the host itself falls, in a stage of one worker or several, is found and put
/// aside, and nothing else is lost or doubled; so is a second one that is the same.
#[test]
fn a_record_that_takes_the_host_down_again_and_again_becomes_a_letter_and_all_others_arrive() {
    for (twins, workers) in [(1, 1), (2, 3)] {
        let folder = Folder::new();
        let record = |n: u64| match n {
            _ if (200..200 + twins).contains(&n) => {
                "{\"ts\":200,\"client\":\"c\",\"status\":200,\"ms\":1,\"poison\":true}\n".to_owned()
            }
            n => {
                format!("{{\"ts\":{n},\"client\":\"c{}\",\"status\":{},\"ms\":{}}}\n", n % 3, 200 + n % 2 * 600, n % 10)
            }
        };
        folder.write("input.ndjson", (0..400).map(record).collect::<String>());
        let pipeline = PIPELINE.replace(" rate: 12000/s,", "");
        folder.write("p.yaml", pipeline.replace("config: { where", &format!("workers: {workers}, config: {{ where")));
        let mut fell = 0;
        let said = loop {
            let mut command = folder.command(&["run", "p.yaml", "--json", "--state", "state"]);
            let output = command.env("TIDEGATE_CRASH_ON", "poison").output().unwrap();
            if output.status.signal() != Some(Signal::ABORT.as_raw()) {
                break output;
            }
            fell += 1;
            assert!(fell < 20, "{}", String::from_utf8_lossy(&output.stderr));
        };
        let error = String::from_utf8_lossy(&said.stderr);
        assert_eq!((said.status.code(), fell), (Some(0), FALLS + 2 * (twins as u32 - 1)), "{error}");
        let exported = folder.run(&["dlq", "export", "--json", "--state", "state"]).exits(0).json();
        let letters = exported["result"]["letters"].as_array().unwrap();
        assert_eq!(letters.len() as u64, twins, "{exported}");
        for letter in letters {
            assert_eq!(
                (letter["kind"].as_str(), letter["name"].as_str()),
                (Some("host_crash"), Some("served")),
                "{letter}"
            );
            assert!(letter["value"].as_str().unwrap().contains("poison"), "{letter}");
        }
        let count = |text: &str| -> u64 {
            let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.map(|line| line["count"].as_u64().unwrap()).sum()
        };
        let kept = (0..400).filter(|n| !(200..200 + twins).contains(n) && n % 2 == 0).count() as u64;
        assert_eq!(count(&folder.read("out.ndjson")), kept);
        // It is over, and nothing is counted any more.
        folder.run(&["run", "p.yaml", "--state", "state"]).exits(0);
    }
}
