//! What keeps its promise is found to; what does not is found, and the record named. Fault table 52, P11.

use serde_json::json;

use super::*;
use crate::{
    batch::Column,
    plugin::{
        FaultKind, standard,
        tests::{ENGINE, guest},
    },
    stage::prepare::Wants,
};

fn of_guest(name: &str) -> Plugin {
    Plugin::load(&ENGINE, &guest(Kind::Filter, name)).unwrap()
}

fn of_standard(name: &str) -> Plugin {
    Plugin::load(&ENGINE, standard::find(name).unwrap()).unwrap()
}

fn records(values: &[&str]) -> Batch {
    Batch::of_values(values.iter().collect())
}

fn numbers(plugin: &Plugin) -> Batch {
    let values: Column = (0..40).map(|at| format!(r#"{{"a":{at},"k":"{}"}}"#, at % 3)).collect();
    let keys: Column = (0..40).map(|at| (at % 3).to_string()).collect();
    let batch = Batch::of_values(values).with_keys(keys).unwrap().with_timestamps((0..40).collect()).unwrap();
    let needs: Vec<String> = plugin.described().needs.iter().map(ToString::to_string).collect();
    Wants::new(&needs, None).prepare(0, batch)
}

fn verdict(plugin: &Plugin, config: &Value, records: &Batch) -> Verdict {
    verify(plugin, &Limits::default(), config, records).unwrap()
}

#[test]
fn a_plugin_that_keeps_something_between_calls_is_found_and_a_record_is_named() {
    let plugin = of_guest("hashed");
    let found = verdict(&plugin, &json!({}), &records(&["a", "b", "c", "d", "e", "f"]));
    assert_eq!((found.records, found.poison.as_slice()), (6, &[][..]));
    let ways: Vec<How> = found.differences.iter().map(|difference| difference.how).collect();
    assert!(!ways.contains(&How::Again), "fresh instances draw the same: {ways:?}");
    assert!(ways.contains(&How::HandedOver) && ways.contains(&How::Split), "{ways:?}");
    let first = &found.differences[0];
    assert!(first.record < 6 && first.fresh != first.found, "{first:?}");
}

#[test]
fn a_plugin_that_keeps_nothing_passes_in_every_arrangement() {
    for (name, config) in [
        ("where", json!({ "where": "a > 20" })),
        ("route", json!({ "big": "a > 20" })),
        ("summary", json!({ "field": "/a", "quantiles": [0.5] })),
    ] {
        let plugin = of_standard(name);
        let found = verdict(&plugin, &config, &numbers(&plugin));
        assert_eq!(found.differences, [], "std/{name}");
        assert_eq!((found.poison.len(), found.records), (0, 40), "std/{name}");
        assert!(found.arrangements >= 11 && found.passed > 10, "std/{name}: {found:?}");
    }
}

#[test]
fn records_that_make_a_plugin_fault_are_named_and_left_out_of_the_comparison() {
    let found = verdict(&of_guest("poison"), &json!({}), &records(&["1", "panic", "2", "divide", "3"]));
    let poison: Vec<(usize, FaultKind)> = found.poison.iter().map(|one| (one.record, one.fault.kind)).collect();
    assert_eq!(poison, [(1, FaultKind::Trap), (3, FaultKind::Trap)]);
    assert_eq!((found.differences.as_slice(), found.passed), (&[][..], 3));
}

#[test]
fn what_a_plugin_logs_is_no_answer() {
    // It leaves its first value behind and says it in the log at the next call.
    let found = verdict(&of_guest("remember"), &json!({}), &records(&["a", "b", "!"]));
    assert_eq!((found.poison.len(), found.poison[0].record), (1, 2));
    assert_eq!(found.differences, []);
}

fn vector(value: Value) -> Vector {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_vector_is_kept_exactly_if_everything_that_it_says_came_out() {
    let plugin = of_standard("route");
    let config = json!({ "big": "a > 1" });
    let records =
        json!([{ "value": { "a": 1 } }, { "value": { "a": 2 }, "key": "k", "time": 7 }, { "value": "no json" }]);
    let small = json!({ "of": 0, "value": { "a": 1 } });
    let big = json!({ "of": 1, "output": "big", "key": "k", "time": 7 });
    let good = vector(json!({ "config": config, "records": records, "out": [small, big], "refused": [2] }));
    assert_eq!(vectors(&plugin, &Limits::default(), &[good]), []);
    for (out, refused, expected) in [
        (json!([small]), json!([2]), "record 1: output 1"),
        (json!([small, big, small]), json!([2]), "nothing comes out where it says"),
        (json!([{ "of": 0, "value": { "a": 3 } }, big]), json!([2]), "record 0: output 0"),
        (json!([small, { "of": 1 }]), json!([2]), "record 1: output 1"),
        (json!([small, { "of": 1, "output": "big", "key": "l" }]), json!([2]), "record 1"),
        (json!([small, { "of": 1, "output": "big", "time": 8 }]), json!([2]), "record 1"),
        (json!([small, big]), json!([]), "record 2: it is refused"),
        (json!([small, big]), json!([1, 2]), "record 1 is not refused"),
    ] {
        let bad = vector(json!({ "config": config, "records": records, "out": out, "refused": refused }));
        let unfit = vectors(&plugin, &Limits::default(), &[bad]);
        assert!(unfit.len() == 1 && unfit[0].why.starts_with(expected), "{expected}: {unfit:?}");
    }
    let refused = vector(json!({ "config": { "big": "" }, "records": [] }));
    let unfit = vectors(&plugin, &Limits::default(), &[refused]);
    assert!(unfit[0].why.starts_with("a fault, instantiate_failed"), "{unfit:?}");
}

#[test]
fn a_vector_of_an_aggregate_says_what_its_groups_come_to() {
    let plugin = of_standard("summary");
    let one = |value: u64, key: &str| json!({ "value": { "a": value }, "key": key });
    let records = json!([one(1, "l"), one(5, "k"), one(3, "l")]);
    let given = vector(json!({ "config": { "field": "/a" }, "records": records }));
    let gave = arrange(
        Kind::Aggregate,
        &given.batch(&plugin),
        &[(0, 3)],
        once(&mut plugin.instantiate(&Limits::default(), &given.config).unwrap()),
    );
    let outputs = gave.unwrap().into_iter().filter_map(|gave| match gave.what {
        What::Out(out) => Some((gave.at, String::from_utf8(out.key).unwrap())),
        _ => None,
    });
    assert_eq!(outputs.collect::<Vec<_>>(), [(0, "l".to_owned()), (1, "k".to_owned())]);
    let said = json!({ "config": { "field": "/a" }, "records": records, "out": [{ "of": 0, "key": "l" }, { "of": 1, "key": "k" }] });
    assert_eq!(vectors(&plugin, &Limits::default(), &[vector(said)]), []);
}

#[test]
fn records_are_cut_without_a_gap() {
    for (len, seed) in [(0, 0), (1, 0), (1, 1), (40, 0), (40, 1), (5000, 2), (5000, 3)] {
        let pieces = split(len, seed);
        let joined = pieces.iter().try_fold(0, |at, (start, end)| (at == *start && end > start).then_some(*end));
        assert_eq!(joined, Some(len), "{pieces:?}");
        assert_eq!(pieces, split(len, seed));
    }
}
