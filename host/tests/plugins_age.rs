//! No shipped plugin keeps anything between calls.
//!
//! Owns the comparison of a fresh instance that gets all records in one batch with an aged one that gets them in pieces.
//! Whatever a plugin might keep, a table of what it saw or a position, would show in the bytes that it gives.

use serde_json::{Value, json};
use tidegate::{
    batch::{Batch, Column, FIELD, Limit},
    codec::{Decoder, Format, Origin, Stamp},
    plugin::{Engine, Groups, Instance, Kind, Limits, Occasion, Plugin, Produced, Refusals, WasmInstance, standard},
    time::Window,
};

/// What a plugin gave for one record, or group: its position, then what came of it in bytes.
type Given = Vec<(u32, Vec<u8>)>;

/// A configuration for the plugin, and records for it, the last of which it refuses.
fn setting(plugin: &str) -> (Value, Vec<Value>) {
    let sample = |i: u64| {
        let (metric, unit) = [("cpu.usage", "percent"), ("disk.used", "MiB"), ("noise", "s")][i as usize % 3];
        let fs = if i.is_multiple_of(2) { "ext4" } else { "tmpfs" };
        let labels = json!({ "fs": fs, "cpu": i.to_string() });
        json!({ "ts": 1_000 * i, "host": "web-1", "metric": metric, "value": i, "unit": unit, "labels": labels })
    };
    let request =
        |i: u64| json!({ "ts": 1_000 * i, "path": format!("/{}", i % 3), "ms": i * 97 % 2_000, "status": 200 + i });
    let samples = || (0..50).map(sample).chain([json!({ "ts": 0, "metric": 7, "labels": {} })]).collect();
    let requests = || (0..50).map(request).chain([json!({ "ts": 0, "path": "/0", "ms": "slow" })]).collect();
    match plugin {
        "normalize-metrics" => (json!({ "labels": { "env": "test" } }), samples()),
        "select-metrics" => (json!({ "metrics": ["cpu.*", "disk.used"] }), samples()),
        "route" => (json!({ "slow": "ms > 1000", "even": "path == '/0' && ms < 1000" }), requests()),
        "where" => (json!({ "where": "ms > 1000" }), requests()),
        "summary" => (json!({ "field": "/ms", "quantiles": [0.5, 0.95], "echo": ["/path"] }), requests()),
        other => panic!("std/{other} has no records to be tried with; add some here"),
    }
}

/// The records as the host would hand them in: key, event time and the fields that the plugin asked for as columns.
fn batch(plugin: &Plugin, records: &[Value]) -> Batch {
    let fields = plugin.described().needs.iter().filter_map(|need| need.strip_prefix(FIELD)).map(Into::into).collect();
    let stamp = Stamp { key: Some("/path".to_owned()), time: Some("/ts".to_owned()), fields, ids: None };
    let mut decoder = Decoder::new(Format::Json, &stamp, 1 << 20);
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    let (mut builder, mut undecoded, most) = (decoder.builder(), Vec::new(), Limit::default());
    let used = decoder.end(lines.as_bytes(), Origin { name: "test", offset: 0 }, &mut builder, &mut undecoded, most);
    assert_eq!((used, undecoded), (lines.len(), vec![]));
    builder.finish()
}

/// Cuts `0..len` into pieces, none as long as the one before.
fn pieces(len: usize) -> Vec<(usize, usize)> {
    let mut sizes = [1, 7, 2, 13, 5].into_iter().cycle();
    let (mut pieces, mut start) = (Vec::new(), 0);
    while start < len {
        let end = len.min(start + sizes.next().unwrap_or(1));
        pieces.push((start, end));
        start = end;
    }
    pieces
}

fn outputs(given: &mut Given, first: usize, origins: &Batch, produced: Produced) {
    let produced = produced.over(origins);
    for at in 0..produced.len {
        let origin = produced.origins.as_ref().map_or(at as u32, |origins| origins[at]);
        let port = produced.ports.as_ref().map_or(0, |ports| ports[at]);
        let item = |own: &Option<Column>, inherited: Option<&Column>| {
            let from = own.as_ref().map(|own| (own, at)).or(inherited.map(|column| (column, origin as usize)));
            from.and_then(|(column, at)| column.get(at)).unwrap_or_default().to_vec()
        };
        let time = produced.timestamps.as_deref().map(|times| times[at]);
        let time = time.or(origins.timestamps().map(|times| times[origin as usize]));
        let value = item(&produced.values, Some(origins.values()));
        let (key, headers) = (item(&produced.keys, origins.keys()), item(&produced.headers, origins.headers()));
        let bytes = format!("{port} {time:?} {key:?} {headers:?} {:?} ", item(&produced.nulls, None)).into_bytes();
        given.push((first as u32 + origin, [bytes, value].concat()));
    }
}

fn refusals(given: &mut Given, first: usize, refused: &Refusals) {
    let refused = refused.at.iter().zip(refused.reasons.iter());
    given.extend(refused.map(|(at, reason)| (first as u32 + at, [&b"refused: "[..], reason].concat())));
}

/// What `instance` gives for `all`, cut into `pieces`.
fn run(kind: Kind, instance: &mut WasmInstance, all: &Batch, pieces: &[(usize, usize)]) -> Given {
    let mut given = Given::new();
    let (keys, group_of) = grouped(all);
    let windows = vec![Window { start: 0, end: 60_000 }; keys.len()];
    let states = Column::blank(keys.len());
    let mut groups = Groups { states, keys, windows: Some(windows) };
    for (start, end) in pieces.iter().copied() {
        let piece = all.slice(start, end);
        match kind {
            Kind::Filter => {
                let selection = instance.filter(0, &piece).unwrap();
                given.extend(selection.keep.iter().map(|at| (start as u32 + at, b"kept".to_vec())));
                refusals(&mut given, start, &selection.refused);
            }
            Kind::Map => {
                let mapped = instance.map(0, &piece).unwrap();
                outputs(&mut given, start, &piece, mapped.produced);
                refusals(&mut given, start, &mapped.refused);
            }
            Kind::Aggregate => {
                let folded = instance.accumulate(0, &groups, &group_of[start..end], &piece).unwrap();
                groups.states = folded.states;
                refusals(&mut given, start, &folded.refused);
            }
        }
    }
    if kind == Kind::Aggregate {
        given.extend(groups.states.iter().map(|state| (0, state.to_vec())));
        let finished = instance.finish(0, &groups, Occasion::Closed).unwrap();
        let origins = Batch::of_values(Column::blank(groups.keys.len())).with_keys(groups.keys.clone()).unwrap();
        outputs(&mut given, 0, &origins, finished.produced);
        refusals(&mut given, 0, &finished.refused);
    }
    given.sort();
    given
}

/// The keys of a batch, each once, and which of them each record has.
fn grouped(batch: &Batch) -> (Column, Vec<u32>) {
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut group_of = Vec::new();
    for key in batch.keys().unwrap().iter() {
        let at = keys.iter().position(|known| *known == key).unwrap_or(keys.len());
        if at == keys.len() {
            keys.push(key);
        }
        group_of.push(at as u32);
    }
    (keys.into_iter().collect(), group_of)
}

#[test]
fn a_standard_plugin_gives_the_same_bytes_fresh_or_aged_however_the_input_is_split() {
    let engine = Engine::new(None).unwrap();
    for name in standard::names() {
        let plugin = Plugin::load(&engine, standard::find(name).unwrap()).unwrap();
        let (config, records) = setting(name);
        let instance = || plugin.instantiate(&Limits::default(), &config).unwrap();
        let all = batch(&plugin, &records);
        let fresh = run(plugin.kind(), &mut instance(), &all, &[(0, all.len())]);
        assert!(fresh.len() > 2, "std/{name} gives something");
        assert!(fresh.iter().any(|(_, bytes)| bytes.starts_with(b"refused: ")), "std/{name} refuses something");

        let mut aged = instance();
        let others: Vec<Value> = records.iter().rev().cloned().collect();
        let others = batch(&plugin, &others);
        for _ in 0..20 {
            run(plugin.kind(), &mut aged, &others, &pieces(others.len()));
        }
        let again = run(plugin.kind(), &mut aged, &all, &pieces(all.len()));
        assert_eq!(again.len(), fresh.len(), "std/{name}");
        for (again, fresh) in again.iter().zip(&fresh) {
            let shown = |(at, bytes): &(u32, Vec<u8>)| format!("{at}: {}", String::from_utf8_lossy(bytes));
            assert!(again == fresh, "std/{name}: {} is not {}", shown(again), shown(fresh));
        }
    }
}
