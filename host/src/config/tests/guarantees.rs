//! Guarantees: what each path has, and that nothing more can be asked for.

use std::path::Path;

use super::{
    super::guarantee::{Guarantee, Guarantee::*, guarantees},
    super::{
        diagnostic::{Colour, render},
        graph::{Graph, check},
    },
    facts, loaded,
};
use crate::config::Diagnostic;

/// The graph of a file, on a host that keeps state, or not.
fn checked(yaml: &str, state: Option<&Path>) -> Result<Graph, Vec<Diagnostic>> {
    let loaded = loaded(yaml, &[])?;
    check(&loaded, &facts(&loaded), state)
}

/// Where state is kept.
fn folder() -> Option<&'static Path> {
    Some(Path::new("state"))
}

/// A pipeline of these sources, one filter that reads all of them, and a sink for what passes and what does not.
fn yaml(sources: &[&str], sink: &str) -> String {
    let declared: String =
        sources.iter().zip(["a", "b"]).map(|(kind, name)| format!("{name}: {{ {kind} }}, ")).collect();
    let named = ["a", "b"][..sources.len()].join(", ");
    format!(
        "version: 1\nname: p\nsources: {{ {declared} }}\nstages: {{ s: {{ from: [{named}], filter: f }} }}\n\
         sinks: {{ out: {{ from: s, {sink} }}, rest: {{ from: s.rest, discard: {{}} }} }}\n"
    )
}

const FILE: &str = "file: { path: in.log }";
const HTTP: &str = "http: { listen: '127.0.0.1:0' }";
const GONE: &str = "stdin: {}";
const ONE: &str = "file: { path: out.log }";
const MANY: &str = "file: { path: 'out/{key}.log' }";
const POSTED: &str = "http: { url: 'http://h/' }";
const PUT_BY: &str = "http: { url: 'http://h/', timeout: 5s }, retry: { max: 10s }, outbox: true";
const PLAIN: &str = "stdout: {}";

#[test]
fn a_guarantee_is_the_weakest_of_what_lies_on_the_way() {
    let cases: [(&[&str], &str, Guarantee, &[&str]); 12] = [
        (&[FILE], ONE, ExactlyOnce, &[]),
        (&[FILE], MANY, AtLeastOnce, &["`out`"]),
        (&[FILE], PLAIN, AtLeastOnce, &["`out`"]),
        (&[FILE, "generate: {}"], "discard: {}", ExactlyOnce, &[]),
        (&[HTTP], ONE, AtLeastOnce, &["`a`"]),
        (&[GONE], ONE, AtMostOnce, &["`a`"]),
        (&["host_metrics: {}"], ONE, AtMostOnce, &["`a`"]),
        (&[FILE, GONE], PLAIN, BestEffort, &["`b`", "`out`"]),
        (&[HTTP, GONE], ONE, BestEffort, &["`a`", "`b`"]),
        (&[FILE], POSTED, AtLeastOnce, &["`out`"]),
        (&[FILE], PUT_BY, EffectivelyOnce, &["`out`"]),
        (&[HTTP], PUT_BY, AtLeastOnce, &["`a`"]),
    ];
    for (sources, sink, expected, blamed) in cases {
        let graph = checked(&yaml(sources, sink), folder()).unwrap();
        let found = &guarantees(&graph, true)[0];
        assert_eq!((found.sink.as_str(), found.guarantee), ("out", expected), "{sources:?} {sink}");
        let named: Vec<_> = found.because.iter().map(|because| because.split(':').next().unwrap()).collect();
        assert_eq!(named, blamed, "{sources:?} {sink}");
        if sink == PUT_BY {
            assert!(checked(&yaml(sources, sink), None).is_err(), "there is no place for an outbox");
        }
        let found = &guarantees(&graph, false)[0];
        assert_eq!(found.guarantee, BestEffort, "what is not kept guarantees nothing");
    }
}

#[test]
fn a_source_that_does_not_reach_a_sink_takes_nothing_from_it() {
    let yaml = "version: 1\nname: p\nsources: { a: { file: { path: in.log } }, b: { stdin: {} } }\n\
                sinks: { out: { from: a, file: { path: out.log } }, other: { from: b, stdout: {} } }\n";
    let found = guarantees(&checked(yaml, folder()).unwrap(), true);
    assert_eq!(found.iter().map(|one| one.guarantee).collect::<Vec<_>>(), [ExactlyOnce, BestEffort]);
}

#[test]
fn what_cannot_be_had_is_refused_and_the_reason_told() {
    let asks_of = |state, sources: &[&str], sink: &str, asked| {
        let checked = checked(&yaml(sources, &format!("{sink}, guarantee: {asked}")), state);
        checked.map_or_else(|faults| render(&faults, Colour::Off), |_| String::new())
    };
    let asks = |sources: &[&str], sink: &str, asked| asks_of(folder(), sources, sink, asked);
    assert_eq!(asks(&[FILE], ONE, "exactly_once"), "");
    assert_eq!(asks(&[HTTP], PLAIN, "at_least_once"), "");
    let refused = asks(&[FILE], PLAIN, "exactly_once");
    for part in ["error[TG211]: `out` cannot have every record exactly once", ":5:", "at least once: `out`: what was"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(asks(&[FILE], PUT_BY, "effectively_once"), "");
    assert_eq!(asks(&[FILE], ONE, "effectively_once"), "");
    let refused = asks(&[FILE], PUT_BY, "exactly_once");
    assert!(refused.contains("effectively once: `out`: at a receiver") && refused.contains("15s"), "{refused}");
    assert!(asks(&[FILE], POSTED, "effectively_once").contains("TG211"));
    assert!(asks(&[GONE], ONE, "at_least_once").contains("TG211"));
    assert!(
        asks_of(None, &[FILE], ONE, "at_least_once").contains("`state: none`"),
        "what is not kept guarantees nothing"
    );
}

/// What comes over an edge that drops does not come again: where nothing else feeds a sink, not even one that takes
/// nothing back doubles it.
#[test]
fn behind_an_edge_that_drops_each_record_counts_at_most_once() {
    let cases = [
        (FILE, ONE, AtMostOnce),
        (FILE, PLAIN, AtMostOnce),
        (FILE, PUT_BY, AtMostOnce),
        (FILE, POSTED, BestEffort),
        (HTTP, ONE, BestEffort),
    ];
    for (source, sink, expected) in cases {
        let edges =
            "edges: [{ from: s, to: out, when_full: drop_newest }, { from: s.rest, to: rest, when_full: durable }]\n";
        let graph = checked(&(yaml(&[source], sink) + edges), folder()).unwrap();
        let [out, rest] = &guarantees(&graph, true)[..] else { panic!() };
        assert_eq!(out.guarantee, expected, "{source} → {sink}");
        assert!(out.because.iter().any(|why| why == "the edge from `s` to `out` drops what it has no room for"));
        assert_eq!(rest.guarantee, if source == FILE { ExactlyOnce } else { AtLeastOnce });
    }
    let both = yaml(&[FILE], PLAIN).replace("out: { from: s,", "out: { from: [s, a],");
    let graph = checked(&(both + "edges: [{ from: s, to: out, when_full: drop_oldest }]\n"), folder());
    let told = graph.unwrap_err().iter().map(|fault| fault.message.clone()).collect::<Vec<_>>();
    assert_eq!(told, ["the edge from `s` to `out` begins a part and leads round in a circle of parts"]);
}

#[test]
fn a_sink_that_another_stands_in_for_has_no_more_than_that_one_and_that_one_no_more_than_its_sources() {
    let yaml = |standby: &str| {
        format!(
            "version: 1\nname: p\nsources: {{ a: {{ {FILE} }}, b: {{ {GONE} }} }}\nsinks:\n  out: {{ from: a, {PUT_BY}, \
             breaker: {{ then: fallback, fallback: spare }} }}\n  spare: {{ from: b, {standby} }}\n"
        )
    };
    for (standby, expected) in [(ONE, [EffectivelyOnce, AtMostOnce]), (PLAIN, [AtLeastOnce, BestEffort])] {
        let graph = checked(&yaml(standby), folder()).unwrap();
        let found = guarantees(&graph, true);
        assert_eq!(found.iter().map(|found| found.guarantee).collect::<Vec<_>>(), expected, "{standby}");
    }
    let graph = checked(&yaml(ONE).replace(GONE, HTTP), folder()).unwrap();
    let spare = &guarantees(&graph, true)[1];
    assert_eq!((spare.guarantee, spare.because.len()), (AtLeastOnce, 1), "{spare:?}");
}
