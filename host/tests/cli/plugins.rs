//! `plugin inspect`, `call` and `bench`.

use crate::folder::{Folder, guest};

const RECORDS: &str = "{\"status\":503,\"ms\":5,\"c\":\"a\"}\n{\"status\":200,\"ms\":7,\"c\":\"a\"}\n{\"status\":500,\"ms\":9,\"c\":\"b\"}\n";

#[test]
fn inspect_shows_what_a_plugin_is_and_wants() {
    let folder = Folder::new();
    let said = folder.run(&["plugin", "inspect", "std/summary"]).exits(0);
    for part in ["aggregate", "contract  0.1.0", "sha256", "keys, windows", "quantiles", "tidegate:plugin/host@0.1.0"] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    folder.write("keep.wasm", guest("filter", "keep"));
    let seen = folder.run(&["plugin", "inspect", "keep.wasm", "--json"]).exits(0).json()["result"].clone();
    assert_eq!((seen["kind"].as_str(), seen["version"].as_str()), (Some("filter"), Some("1.2.3")));
    assert_eq!(seen["size"].as_u64(), Some(guest("filter", "keep").len() as u64));
    folder.run(&["plugin", "inspect", "std/absent"]).exits(2).complains("TG301").complains("std/where");
}

#[test]
fn call_shows_what_a_filter_keeps() {
    let folder = Folder::new();
    let config = "{\"where\":\"status >= 500\"}";
    let said = folder
        .run_with(&["plugin", "call", "std/where", "--config", config], &format!("{RECORDS}no json\n7\n"))
        .exits(0);
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
    assert!(said.err.contains("not decoded: standard input:4"), "{}", said.err);
    let said = folder.run_with(&["plugin", "call", "std/where", "--config", config, "--json"], RECORDS).exits(0);
    let outputs = said.json()["result"]["outputs"].clone();
    let named: Vec<_> = outputs.as_array().unwrap().iter().map(|out| out["output"].as_str().unwrap()).collect();
    assert_eq!(named, ["main", "rest", "main"]);
}

#[test]
fn call_names_side_outputs_and_refusals() {
    let folder = Folder::new();
    let config = "{\"slow\":\"ms > 6\",\"big\":\"ms > 8\"}";
    let said = folder.run_with(&["plugin", "call", "std/route", "--config", config], RECORDS).exits(0);
    assert_eq!(said.out, "{\"status\":503,\"ms\":5,\"c\":\"a\"}\n");
    assert!(said.err.contains("output `slow`: {\"status\":200") && said.err.contains("output `big`: {\"status\":500"));
    let lines = ["plugin", "call", "std/where", "--config", "{\"where\":\"ms > 1\"}", "--decode", "lines"];
    folder.run_with(&lines, "no json\n").exits(0).complains("refused 0: ");
}

#[test]
fn call_finishes_every_group_of_an_aggregate_by_key() {
    let folder = Folder::new();
    let args = ["plugin", "call", "std/summary", "--config", "{\"field\":\"/ms\"}", "--key", "/c"];
    let said = folder.run_with(&args, RECORDS).exits(0);
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["key"], &lines[0]["count"], &lines[0]["max"]), (&"a".into(), &2.into(), &7.0.into()));
    assert_eq!((&lines[1]["key"], &lines[1]["count"]), (&"b".into(), &1.into()));
}

#[test]
fn a_fault_in_a_call_is_exit_4_with_the_record() {
    let folder = Folder::new();
    folder.write("panics.wasm", guest("filter", "panics"));
    folder
        .run_with(&["plugin", "call", "panics.wasm"], RECORDS)
        .exits(4)
        .complains("no status in record")
        .complains("{\"status\":503");
    folder
        .run_with(&["plugin", "call", "std/where", "--config", "{\"where\":\"1 +\"}"], RECORDS)
        .exits(2)
        .complains("TG309");
}

#[test]
fn bench_shows_time_and_fuel_for_each_size() {
    let folder = Folder::new();
    let base = ["plugin", "bench", "std/where", "--config", "{\"where\":\"status >= 500\"}", "--for", "1ms"];
    let said = folder.run(&[&base[..], &["--batch", "1,8", "--json"]].concat()).exits(0);
    let rows = said.json()["result"]["sizes"].clone();
    assert_eq!((&rows[0]["batch"], &rows[1]["batch"]), (&1.into(), &8.into()));
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| row["fuel"].as_f64().unwrap() > 0.0 && row["nanos"].as_f64().unwrap() > 0.0)
    );
    folder.write("records", RECORDS);
    let args =
        ["plugin", "bench", "std/summary", "--config", "{\"field\":\"/ms\"}", "--input", "records", "--for", "1ms"];
    assert!(folder.run(&args).exits(0).out.contains("fuel/record"));
}

#[test]
fn the_limits_that_bench_proposes_can_be_written_down_and_are_enough() {
    let folder = Folder::new();
    let config = "{\"field\":\"/ms\"}";
    let said = folder.run(&["plugin", "bench", "std/summary", "--config", config, "--for", "1ms"]).exits(0);
    let (_, limits) = said.out.split_once("limits:\n").unwrap();
    let limits: Vec<&str> = limits.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let pipeline = format!(
        "version: 1\nname: limited\nsources:\n  in: {{ file: {{ path: records }}, decode: json }}\nstages:\n  s:\n    from: in\n    \
         aggregate: std/summary\n    key: /c\n    config: {config}\n    limits: {{ {} }}\nsinks:\n  out: {{ from: s, discard: {{}} }}\n",
        limits.join(", ")
    );
    folder.write("p.yaml", pipeline).write("records", RECORDS.repeat(1000));
    let said = folder.run(&["run", "p.yaml"]).exits(0).complains("ledger balanced");
    assert!(
        !said.err.contains("fault") && said.err.contains("fuel p50 ") && said.err.contains(" memory"),
        "{}",
        said.err
    );
}

#[test]
fn verify_says_of_a_good_plugin_that_it_gives_the_same_in_all_arrangements() {
    let folder = Folder::new();
    folder.write("config.json", r#"{"where":"status >= 500"}"#);
    let said = folder.run(&["plugin", "verify", "std/where", "--config", "@config.json"]).exits(0);
    assert!(said.out.contains("gives the same in all: 142 records, 11 arrangements"), "{}", said.out);
    let summary =
        ["plugin", "verify", "std/summary", "--config", r#"{"field":"/ms"}"#, "--key", "/c", "--input", "records"];
    folder.write("records", RECORDS);
    let found = folder.run(&[&summary[..], &["--json"]].concat()).exits(0).json()["result"].clone();
    assert_eq!((found["records"].as_u64(), found["differences"].as_array().map(Vec::len)), (Some(3), Some(0)));
}

#[test]
fn verify_names_what_a_plugin_that_counts_its_calls_does_not_repeat() {
    let folder = Folder::new();
    folder.write("hashed.wasm", guest("filter", "hashed"));
    let said = folder.run(&["plugin", "verify", "hashed.wasm"]).exits(1);
    for part in ["differences", "not the same on an instance that has been called before", "it is kept", "HashMap"] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    // Whoever faults is told with the record.
    folder.write("poison.wasm", guest("filter", "poison")).write("records", "ok\npanic\nok\n");
    let said = folder.run(&["plugin", "verify", "poison.wasm", "--decode", "lines", "--input", "records"]).exits(4);
    assert!(said.out.contains("record 1: a fault, trap: "), "{}", said.out);
}

#[test]
fn verify_tries_the_vectors_of_a_file() {
    let folder = Folder::new();
    let vector = |keeps: &str| {
        format!(
            r#"[{{"config":{{"where":"a > 1"}},"records":[{{"value":{{"a":1}}}},{{"value":{{"a":2}}}}],"out":[{keeps}]}}]"#
        )
    };
    folder.write("good.json", vector(r#"{"of":1}"#)).write("bad.json", vector(r#"{"of":0}"#)).write("odd.json", "[{}]");
    let args = |file| ["plugin", "verify", "std/where", "--config", r#"{"where":"a > 1"}"#, "--vectors", file];
    folder.run(&args("good.json")).exits(0);
    let said = folder.run(&args("bad.json")).exits(1);
    assert!(said.out.contains("vector 0: record 1: it is kept"), "{}", said.out);
    folder.run(&args("odd.json")).exits(2).complains("missing field `records`");
}
