//! Parts of a graph: what a file with durable edges comes to, and that random graphs lose nothing by being divided.

use std::path::Path;

use proptest::prelude::*;

use super::{
    super::{
        Diagnostic,
        graph::{Consumer, Edge, Graph, Input, LETTERS, Medium, Output, Producer, WhenFull, check},
    },
    facts, loaded,
};
use crate::unit::Size;

const FILE: &str = "
version: 1
name: p
sources: { in: { stdin: {} } }
stages:
  first: { from: in, map: m }
  slow: { from: first, map: m }
sinks:
  near: { from: first, discard: {} }
  far: { from: [slow, in], discard: {} }
edges:
  - { from: first, to: slow, when_full: durable, max: 1MiB }
  - { from: in, to: far, when_full: durable }
";

/// Reads and checks a text, on a host that keeps state.
fn checked(yaml: &str) -> Result<Graph, Vec<Diagnostic>> {
    let loaded = loaded(yaml, &[])?;
    check(&loaded, &facts(&loaded), Some(Path::new("/state")))
}

/// Names of the sources, stages and sinks; the sink and the source of the dead letters are not among them.
fn names(graph: &Graph) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    (
        graph.sources.iter().map(|source| source.name.as_str()).filter(|name| *name != LETTERS).collect(),
        graph.stages.iter().map(|stage| stage.name.as_str()).collect(),
        graph.sinks.iter().map(|sink| sink.name.as_str()).filter(|name| *name != LETTERS).collect(),
    )
}

fn is_letter(graph: &Graph, edge: &Edge) -> bool {
    let is_back = matches!(edge.from, Producer::Source(at) if graph.sources[at].name == LETTERS);
    is_back || matches!(edge.to, Consumer::Sink(at) if graph.sinks[at].name == LETTERS)
}

#[test]
fn behind_a_durable_edge_begins_a_part_that_reads_what_the_other_has_written() {
    let whole = checked(FILE).unwrap();
    let parts = whole.domains();
    assert_eq!(parts.iter().map(|part| part.graph.name.as_str()).collect::<Vec<_>>(), ["p", "p.slow"]);
    let (front, behind) = (&parts[0], &parts[1]);
    assert_eq!(names(&front.graph), (vec!["in"], vec!["first"], vec!["near", "first>slow", "in>far"]));
    assert_eq!(names(&behind.graph), (vec!["first>slow", "in>far"], vec!["slow"], vec!["far"]));
    assert_eq!((front.feeders.len(), behind.feeders.iter().collect::<Vec<_>>()), (0, vec![&0]));
    assert_eq!((&front.stages, &behind.stages), (&vec![0], &vec![1]));
    let Output::Passage(written) = &front.graph.sinks[1].output else { panic!("{:?}", front.graph.sinks[1]) };
    let Input::Passage(read) = &behind.graph.sources[0].input else { panic!("{:?}", behind.graph.sources[0]) };
    assert_eq!((written, written.name.as_str(), written.medium), (read, "p>first>slow", Medium::Log(Size(1 << 20))));
    let graph = &behind.graph;
    let inputs = graph.into(Consumer::Sink(0)).filter(|edge| !is_letter(graph, edge));
    let inputs: Vec<_> = inputs.map(|edge| (edge.from, edge.input)).collect();
    assert_eq!(inputs, [(Producer::Stage(0), 0), (Producer::Source(1), 1)], "the order of `from` stays");
}

#[test]
fn a_graph_without_durable_edges_is_one_part() {
    let whole =
        checked(&FILE.replace("when_full: durable, max: 1MiB", "when_full: block").replace(", when_full: durable", ""))
            .unwrap();
    let parts = whole.domains();
    assert_eq!((parts.len(), parts[0].graph.edges.len()), (1, whole.edges.len()));
}

#[test]
fn each_part_has_letters_of_its_own() {
    let whole = checked(FILE).unwrap();
    let folders: Vec<_> = whole
        .domains()
        .iter()
        .filter_map(|part| match &part.graph.sinks.last()?.output {
            Output::DeadLetters(letters) => Some(letters.folder.display().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(folders, ["logs/letters/p", "logs/letters/p.slow"]);
}

#[test]
fn durable_edges_that_cannot_be_had_are_told() {
    let told = |yaml: &str, state: Option<&Path>| {
        let loaded = loaded(yaml, &[]).unwrap();
        let faults = check(&loaded, &facts(&loaded), state).unwrap_err();
        faults.iter().map(|fault| format!("{} {}", fault.code, fault.message)).collect::<Vec<_>>()
    };
    let nowhere = told(FILE, None);
    assert!(
        nowhere.len() == 2 && nowhere[0].starts_with("TG212 the edge from `first` to `slow` is durable"),
        "{nowhere:?}"
    );
    let vain = told(
        &FILE
            .replace("when_full: durable, max", "when_full: block, max")
            .replace("from: in, to: far, when_full: durable", "from: in, to: far"),
        Some(Path::new("/state")),
    );
    assert_eq!(vain, ["TG118 `max` would have no effect on the edge from `first` to `slow`, which is not durable"]);
    // What is behind `a` feeds, by blocking edges, what is in front of `b`.
    let round = "
version: 1
name: p
sources: { in: { stdin: {} } }
stages:
  a: { from: in, map: m }
  b: { from: [a, in], map: m }
sinks: { out: { from: b, discard: {} } }
edges:
  - { from: in, to: a, when_full: durable }
";
    let round = told(round, Some(Path::new("/state")));
    assert_eq!(round, ["TG201 the edge from `in` to `a` begins a part and leads round in a circle of parts"]);
}

proptest! {
    /// Every part of the whole is in one part, with its edges; each durable edge is written once and read once; what is
    /// divided anew stays as it is.
    #[test]
    fn dividing_a_graph_loses_nothing(
        reads in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..12),
        sinks in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..6),
    ) {
        let mut yaml = "version: 1\nname: p\nsources: { s0: { stdin: {} } }\nstages:\n".to_owned();
        let (mut outputs, mut edges) = (vec!["s0".to_owned()], String::new());
        let mut read = |name: String, (from, is_durable): &(prop::sample::Index, bool), outputs: &[String]| {
            let from = &outputs[from.index(outputs.len())];
            if *is_durable {
                edges.push_str(&format!("  - {{ from: {from}, to: {name}, when_full: durable }}\n"));
            }
            from.clone()
        };
        for (at, from) in reads.iter().enumerate() {
            let from = read(format!("t{at}"), from, &outputs);
            yaml.push_str(&format!("  t{at}: {{ from: {from}, map: m }}\n"));
            outputs.push(format!("t{at}"));
        }
        yaml.push_str("sinks:\n");
        for (at, from) in sinks.iter().enumerate() {
            let from = read(format!("o{at}"), from, &outputs);
            yaml.push_str(&format!("  o{at}: {{ from: {from}, discard: {{}} }}\n"));
        }
        // Whatever else is unread flows into sinks of its own.
        for output in &outputs {
            yaml.push_str(&format!("  r{output}: {{ from: {output}, discard: {{}} }}\n"));
        }
        if !edges.is_empty() {
            yaml.push_str(&format!("edges:\n{edges}"));
        }
        // Every part has one input, so that no durable edge leads back.
        let whole = checked(&yaml).unwrap();
        let parts = whole.domains();
        let own = |name: &&str| !name.contains('>');
        let mut all: Vec<String> = Vec::new();
        let (mut written, mut taken, mut inner): (Vec<String>, Vec<String>, usize) = Default::default();
        for part in &parts {
            let (sources, stages, sinks) = names(&part.graph);
            all.extend(sources.iter().chain(&stages).chain(&sinks).copied().filter(|name| own(name)).map(str::to_owned));
            written.extend(sinks.iter().filter(|name| name.contains('>')).map(|name| (*name).to_owned()));
            taken.extend(sources.iter().filter(|name| name.contains('>')).map(|name| (*name).to_owned()));
            inner += part.graph.edges.iter().filter(|edge| !is_letter(&part.graph, edge)).count();
            prop_assert_eq!(part.graph.domains().len(), 1);
            for (edge, mine) in part.stages.iter().zip(&part.graph.stages) {
                prop_assert_eq!(&whole.stages[*edge].name, &mine.name);
            }
        }
        let (sources, stages, sinks) = names(&whole);
        let mut expected: Vec<String> = sources.into_iter().chain(stages).chain(sinks).map(str::to_owned).collect();
        expected.sort();
        all.sort();
        written.sort();
        taken.sort();
        let durable = whole.edges.iter().filter(|edge| edge.when_full != WhenFull::Block).count();
        prop_assert_eq!(all, expected);
        prop_assert_eq!(written.len(), durable);
        prop_assert_eq!(&written, &taken);
        prop_assert_eq!(inner, whole.edges.iter().filter(|edge| !is_letter(&whole, edge)).count() + durable);
    }
}
