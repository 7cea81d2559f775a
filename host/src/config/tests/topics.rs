//! Topics in files: what one may say, and what several come to together.

use std::path::Path;

use super::{
    super::{
        diagnostic::{Colour, render},
        graph::{Graph, check},
        guarantee::{Guarantee, guarantees},
        topics::{Pipeline, faults, unwritten},
    },
    facts, loaded,
};
use crate::config::Loaded;

/// A pipeline on a host that keeps state, or what is said about its file.
fn pipeline(name: &str, sources: &str, sinks: &str) -> (Loaded, Graph) {
    let loaded =
        loaded(&format!("version: 1\nname: {name}\nsources: {{ {sources} }}\nsinks: {{ {sinks} }}\n"), &[]).unwrap();
    let graph = check(&loaded, &facts(&loaded), Some(Path::new("state")));
    (loaded, graph.unwrap_or_else(|faults| panic!("{}", render(&faults, Colour::Off))))
}

/// A pipeline that copies one topic into another.
fn copies(name: &str, from: &str, to: &str, more: &str) -> (Loaded, Graph) {
    pipeline(
        name,
        &format!("in: {{ topic: {{ name: {from} }} }}"),
        &format!("out: {{ from: in, topic: {{ name: {to}{more} }} }}"),
    )
}

fn told(all: &[(Loaded, Graph)]) -> String {
    let all: Vec<Pipeline<'_>> = all.iter().map(|(loaded, graph)| (loaded, graph)).collect();
    render(&faults(&all), Colour::Off)
}

#[test]
fn a_circle_of_topics_that_wait_is_refused_and_one_that_drops_is_not() {
    let (a, b, c) = (copies("p", "a", "b", ""), copies("q", "b", "c", ""), copies("r", "c", "a", ""));
    assert_eq!(told(&[a.clone(), b.clone()]), "");
    let circle = told(&[a.clone(), b.clone(), c]);
    assert_eq!(circle.matches("error[TG221]").count(), 1, "{circle}");
    assert!(circle.contains("`a` → `out` of `p` → `b` → `out` of `q` → `c` → `out` of `r` → `a`"), "{circle}");
    assert_eq!(told(&[a, b, copies("r", "c", "a", ", when_full: drop_oldest")]), "");
    assert!(told(&[copies("p", "a", "a", "")]).contains("TG221"), "also of one pipeline");
    // What is read and what is written do not hang together.
    let sources = "in: { topic: { name: a } }, other: { file: { path: x } }";
    let apart = pipeline("p", sources, "out: { from: other, topic: { name: a } }, gone: { from: in, discard: {} }");
    assert_eq!(told(&[apart]), "");
}

#[test]
fn a_group_has_one_reader_in_a_host() {
    let reads = |name: &str, group: &str| {
        pipeline(name, &format!("in: {{ topic: {{ name: a{group} }} }}"), "out: { from: in, discard: {} }")
    };
    assert_eq!(told(&[reads("p", ""), reads("q", "")]), "", "each has a group of its own by default");
    let both = told(&[reads("p", ", group: g"), reads("q", ", group: g")]);
    assert!(both.contains("error[TG222]: `p.in` reads topic `a` as group `g` already"), "{both}");
}

#[test]
fn a_topic_that_nobody_writes_is_a_warning() {
    let (reads, writes) = (copies("p", "a", "b", ""), copies("q", "x", "a", ""));
    let warned = |all: &[(Loaded, Graph)]| {
        let all: Vec<Pipeline<'_>> = all.iter().map(|(loaded, graph)| (loaded, graph)).collect();
        render(&unwritten(all[0], &all), Colour::Off)
    };
    assert!(
        warned(std::slice::from_ref(&reads)).contains("warning[TG621]: nothing writes the topic `a` that `in` reads")
    );
    assert_eq!(warned(&[reads, writes]), "");
}

#[test]
fn records_through_a_topic_count_exactly_once() {
    let (_, graph) = copies("p", "a", "b", "");
    assert_eq!(guarantees(&graph, true)[0].guarantee, Guarantee::ExactlyOnce);
}

#[test]
fn a_topic_without_state_and_fields_without_effect_are_refused() {
    let yaml = "version: 1\nname: p\nsources:\n  in: { topic: { name: A, group: a.b, start: soon }, decode: json, max_record: 1KiB }\n\
                sinks:\n  out: { from: in, topic: { name: a, max: 1KiB }, encode: json }\n";
    let said = match loaded(yaml, &[]) {
        Ok(loaded) => render(&check(&loaded, &facts(&loaded), None).unwrap_err(), Colour::Off),
        Err(faults) => render(&faults, Colour::Off),
    };
    for expected in [
        "`A` cannot be the name of a topic",
        "`a.b` cannot be the name of a group",
        "found `soon`",
        "`decode` of a source whose records have been decoded would have no effect",
        "`max_record` of a source whose records have been decoded would have no effect",
        "`encode` of a sink that keeps records as they are would have no effect",
        "`max` cannot be 1024 bytes",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let yaml = "version: 1\nname: p\nsources: { in: { topic: { name: a } } }\nsinks: { out: { from: in, topic: { name: b } } }\n";
    let loaded = loaded(yaml, &[]).unwrap();
    let said = render(&check(&loaded, &facts(&loaded), None).unwrap_err(), Colour::Off);
    assert_eq!(said.matches("error[TG212]").count(), 2, "{said}");
    assert!(said.contains("name a folder with `--state`"), "{said}");
}
