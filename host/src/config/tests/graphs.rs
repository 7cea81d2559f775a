//! Graphs: what a good file comes to, and that random ones are told exactly their faults.

use std::path::Path;

use proptest::prelude::*;

use super::{
    super::{
        OnError, codes,
        graph::{Consumer, Graph, Output, Picture, Port, Producer, check, render},
    },
    checked, facts, loaded,
};

const GOOD: &str = include_str!("../../../tests/config/good.yaml");
const ENV: &[(&str, &str)] = &[("PORT", "8080"), ("TOKEN", "hunter2")];

#[test]
fn a_good_file_becomes_a_graph_in_topological_order() {
    let graph = &checked(GOOD, ENV).unwrap();
    let names: Vec<_> = graph.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["errors", "per_path", "classify"]);
    for edge in &graph.edges {
        if let (Producer::Stage(from), Consumer::Stage(to)) = (edge.from, edge.to) {
            assert!(from < to);
        }
    }
    let classify: Vec<_> = graph.into(Consumer::Stage(2)).map(|edge| (edge.from, edge.port, edge.input)).collect();
    assert_eq!(classify, [(Producer::Source(0), Port::Main, 0), (Producer::Stage(1), Port::Main, 1)]);
    assert_eq!(graph.stages[2].outputs, ["robots", "slow"]);
    assert_eq!(graph.stages[2].config.expose(), r#"{"slow":"ms > 1000","robots":"hunter2"}"#);
    let slow = graph.out_of(Producer::Stage(2)).find(|edge| edge.port == Port::Named(1)).unwrap();
    assert_eq!((slow.capacity.records, slow.capacity.bytes), (10, 8 << 20));
}

#[test]
fn a_source_decodes_the_fields_that_stages_behind_filters_ask_for() {
    let graph = checked(GOOD, ENV).unwrap();
    let fields: Vec<_> = graph.sources[0].stamp.fields.iter().map(|field| &**field).collect();
    // `errors` needs `/status`; `per_path` groups by `/path`, and reads what the filter let pass.
    assert_eq!(fields, ["/path", "/status"]);
    assert!(graph.stages.iter().all(|stage| stage.fields.is_empty()));
}

#[test]
fn a_sink_that_posts_has_its_own_requests_and_retries() {
    let graph = checked(GOOD, ENV).unwrap();
    let alarms = graph.sinks.iter().find(|sink| sink.name == "alarms").unwrap();
    let Output::Http(config, requests) = &alarms.output else { panic!("{:?}", alarms.output) };
    assert_eq!(config.url, "http://127.0.0.1:8080/alarms");
    assert_eq!(config.token.as_ref().unwrap().expose(), "hunter2");
    assert_eq!((requests.limit.records, requests.limit.bytes, requests.in_flight), (100, 1 << 20, 4));
    assert_eq!((requests.linger.as_millis(), alarms.retry.max.0.as_secs()), (1000, 30));
    let shown = format!("{graph:?}");
    assert!(shown.contains("alarms") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn ids_are_made_for_a_sink_that_posts_of_places_where_the_source_knows_them() {
    for (source, knows_places) in
        [("file: { path: a }", true), ("http: { listen: '127.0.0.1:0' }", true), ("stdin: {}", false)]
    {
        for (sink, expected) in [("http: { url: \"http://h/\" }", true), ("stdout: {}", false)] {
            let yaml = format!(
                "version: 1\nname: p\nsources: {{ in: {{ {source} }} }}\nstages: {{ s: {{ from: in, map: m }} }}\n\
                 sinks: {{ out: {{ from: s, {sink} }} }}\n"
            );
            let graph = checked(&yaml, &[]).unwrap();
            assert_eq!((graph.sources[0].ids, graph.stages[0].ids), (expected, expected), "{yaml}");
            assert_eq!(graph.sources[0].stamp.ids.is_some(), expected && knows_places, "{yaml}");
        }
    }
}

#[test]
fn ids_are_made_upstream_of_whoever_needs_them() {
    let yaml = "
version: 1
name: p
sources: { in: { stdin: {} }, other: { stdin: {} } }
stages:
  first: { from: in, map: m }
  second: { from: first, map: seeded }
sinks: { out: { from: [second, other], discard: {} } }
";
    let graph = checked(yaml, &[]).unwrap();
    assert_eq!((graph.sources[0].ids, graph.sources[1].ids), (true, false));
    assert_eq!((graph.stages[0].ids, graph.stages[1].ids), (true, false));
}

#[test]
fn what_nobody_reads_of_what_is_refused_goes_to_the_dead_letters_where_state_is_kept() {
    let yaml = "
version: 1
name: p
sources: { in: { stdin: {} }, other: { stdin: {} } }
stages:
  kept: { from: in, filter: f }
  read: { from: kept, filter: f, on_error: dead_letter }
  dropped: { from: [read, kept.rest], filter: f, on_error: drop }
sinks:
  out: { from: [dropped, other], discard: {} }
  aside: { from: [read.refused, other.refused], stdout: {} }
";
    let loaded = loaded(yaml, &[]).unwrap();
    let graph = &check(&loaded, &facts(&loaded), Some(Path::new("state"))).unwrap();
    assert_eq!(graph.sinks[2].name, "dead_letters");
    let senders: Vec<_> = graph.into(Consumer::Sink(2)).map(|edge| (graph.producer(edge.from), edge.port)).collect();
    let expected = ["in", "dead_letters", "kept", "out", "aside"];
    assert_eq!(senders, expected.map(|sender| (sender, Port::Refused)));
    // Each of them gets its letters back: a source by those that read it.
    let replayed = graph.out_of(Producer::Source(2)).filter(|edge| edge.port != Port::Refused);
    let takers: Vec<_> = replayed.map(|edge| (graph.consumer(edge.to), edge.port)).collect();
    let expected = ["kept", "read", "dropped", "out", "aside"];
    assert_eq!(takers, [0, 1, 2, 3, 4].map(|at| (expected[at], Port::Named(at))));
    assert_eq!([graph.takers("in"), graph.takers("other"), graph.takers("aside")], [vec![0], vec![3], vec![4]]);
    let on_error: Vec<_> = graph.stages.iter().map(|stage| stage.on_error).collect();
    assert_eq!(on_error, [OnError::DeadLetter, OnError::DeadLetter, OnError::Drop]);
    let ascii = render(graph, Picture::Ascii);
    assert!(ascii.contains("dead_letters  kept 7d, at most 1GiB\n") && ascii.contains("  .refused ─▶ dead_letters\n"));

    let faults = check(&loaded, &facts(&loaded), None).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [codes::NO_STATE]);
    assert!(faults[0].message.contains("`read`"), "{}", faults[0].message);
    let without = checked(&yaml.replace(", on_error: dead_letter", ""), &[]).unwrap();
    assert_eq!((without.sinks.len(), without.stages[0].on_error), (2, OnError::Stop));
    assert_eq!(codes_of(&yaml.replace("aside", "dead_letters")), [codes::NO_STATE, codes::TAKEN_NAME]);
}

#[test]
fn groups_leave_memory_only_where_they_can_lie_elsewhere_and_nobody_needs_their_age() {
    let yaml = |state: &str| {
        format!(
            "version: 1\nname: p\nsources: {{ in: {{ stdin: {{}} }} }}\nstages:\n  s: {{ from: in, aggregate: a, state: {{ {state} }} }}\nsinks: {{ out: {{ from: s, discard: {{}} }} }}\n"
        )
    };
    let told = |yaml: &str, state: Option<&Path>| -> Vec<&'static str> {
        let loaded = match loaded(yaml, &[]) {
            Ok(loaded) => loaded,
            Err(faults) => return faults.iter().map(|fault| fault.code).collect(),
        };
        check(&loaded, &facts(&loaded), state).err().into_iter().flatten().map(|fault| fault.code).collect()
    };
    let state = Some(Path::new("state"));
    let good = yaml("max: 10GiB, memory: 256MiB, when_full: refuse");
    assert_eq!((told(&good, state), told(&good, None)), (vec![], vec![codes::NO_STATE]));
    for (written, code) in [
        ("max: 10GiB, memory: 256MiB, when_full: evict", codes::APART),
        ("max: 1MiB, memory: 2MiB", codes::OUT_OF_RANGE),
        ("memory: 1KiB", codes::OUT_OF_RANGE),
    ] {
        assert_eq!(told(&yaml(written), state), [code], "{written}");
    }
}

#[test]
fn a_graph_is_drawn_three_ways() {
    let graph = checked(GOOD, ENV).unwrap();
    let ascii = render(&graph, Picture::Ascii);
    assert!(ascii.contains("errors     filter by_status, 2 workers\n  ─▶ per_path\n  .rest ─▶ rest\n"), "{ascii}");
    let dot = render(&graph, Picture::Dot);
    assert!(dot.contains("\"classify\" -> \"alarms\" [label=\"slow\"];"), "{dot}");
    let mermaid = render(&graph, Picture::Mermaid);
    assert!(mermaid.contains("  _classify -- slow --> _alarms\n"), "{mermaid}");
}

/// A file of `from` lists: stage `s0` is a source, the others map what they name.
fn file(reads: &[Vec<usize>]) -> String {
    let mut yaml = "version: 1\nname: p\nsources: { s0: { stdin: {} } }\nstages:\n".to_owned();
    for (at, from) in reads.iter().enumerate() {
        let from: Vec<_> = from.iter().map(|from| format!("s{from}")).collect();
        yaml += &format!("  s{}: {{ from: [{}], map: m }}\n", at + 1, from.join(", "));
    }
    let all: Vec<_> = (0..=reads.len()).map(|at| format!("s{at}")).collect();
    yaml + &format!("sinks: {{ out: {{ from: [{}], discard: {{}} }} }}\n", all.join(", "))
}

fn codes_of(yaml: &str) -> Vec<&'static str> {
    checked(yaml, &[]).map_or_else(|faults| faults.iter().map(|fault| fault.code).collect(), |_| Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_graph_without_circles_is_sorted(
        seeds in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1..12),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let mut reads: Vec<Vec<usize>> = seeds.iter().enumerate().map(|(at, seeds)| {
            let mut from: Vec<_> = seeds.iter().map(|seed| seed.index(at + 1)).collect();
            from.sort_unstable();
            from.dedup();
            from
        }).collect();
        // The order of the file is another than that of the graph.
        let turn = shuffle.index(reads.len());
        let name = |old: usize| if old == 0 { 0 } else { (old - 1 + turn) % reads.len() + 1 };
        let mut turned = vec![Vec::new(); reads.len()];
        for (at, from) in reads.iter().enumerate() {
            turned[name(at + 1) - 1] = from.iter().map(|from| name(*from)).collect();
        }
        reads = turned;
        let graph = checked(&file(&reads), &[]).unwrap();
        prop_assert_eq!(graph.stages.len(), reads.len());
        let edges: usize = reads.iter().map(Vec::len).sum();
        prop_assert_eq!(graph.edges.len(), edges + reads.len() + 1);
        for edge in &graph.edges {
            if let (Producer::Stage(from), Consumer::Stage(to)) = (edge.from, edge.to) {
                prop_assert!(from < to);
            }
        }
    }

    #[test]
    fn an_edge_back_is_a_circle_that_is_named(len in 1_usize..10, back in any::<prop::sample::Index>()) {
        let mut reads: Vec<Vec<usize>> = (0..len).map(|at| vec![at]).collect();
        let to = back.index(len);
        reads[to].push(len);
        let faults = checked(&file(&reads), &[]).unwrap_err();
        prop_assert_eq!(faults.len(), 1);
        prop_assert_eq!(faults[0].code, codes::CYCLE);
        let round: Vec<_> = (to + 1..=len).chain([to + 1]).map(|at| format!("`s{at}`")).collect();
        prop_assert!(faults[0].message.ends_with(&round.join(" → ")), "{}", faults[0].message);
    }

    #[test]
    fn every_dangling_name_and_every_empty_input_is_told(gone in 1_usize..6, empty in 1_usize..6) {
        let mut reads: Vec<Vec<usize>> = (0..gone).map(|at| vec![100 + at]).collect();
        reads.extend((0..empty).map(|_| Vec::new()));
        let codes = codes_of(&file(&reads));
        prop_assert_eq!(codes.iter().filter(|code| **code == codes::NO_SUCH_OUTPUT).count(), gone);
        prop_assert_eq!(codes.iter().filter(|code| **code == codes::NO_INPUT).count(), empty);
        prop_assert_eq!(codes.len(), gone + empty);
    }
}

#[test]
fn what_stands_in_gets_what_it_needs_and_its_memory_is_counted() {
    let yaml = "version: 1\nname: p\nsources: { in: { generate: {} } }\nstages:\n  s: { from: in, map: m, breaker: { then: \
                fallback, fallback: seeded } }\n  t: { from: in, filter: f, config: { min: 1 }, breaker: { then: fallback, \
                fallback: by_status } }\nsinks: { out: { from: [s, t], discard: {} } }\n";
    let with = checked(yaml, &[]).unwrap();
    assert!(with.sources[0].ids);
    assert_eq!(with.sources[0].stamp.fields.iter().map(|field| &**field).collect::<Vec<_>>(), ["/status"]);
    assert_eq!(with.stages[0].needs, [""; 0], "nobody gets more than they asked for");
    let without = checked(&yaml.replace(", breaker: { then: fallback, fallback: seeded }", ""), &[]).unwrap();
    let bytes = |graph: &Graph| crate::config::budget::summands(graph).iter().map(|summand| summand.bytes).sum::<u64>();
    assert!(bytes(&with) >= bytes(&without) + with.stages[0].limits.memory.0);
}
