//! Guarantees: what each path has, and that nothing more can be asked for.

use super::{
    super::{
        LoadedHost, codes,
        guarantee::{Guarantee, Guarantee::*, fit, guarantees},
    },
    checked, shown,
};

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
const PLAIN: &str = "stdout: {}";

#[test]
fn a_guarantee_is_the_weakest_of_what_lies_on_the_way() {
    let cases: [(&[&str], &str, Guarantee, &[&str]); 9] = [
        (&[FILE], ONE, ExactlyOnce, &[]),
        (&[FILE], MANY, AtLeastOnce, &["`out`"]),
        (&[FILE], PLAIN, AtLeastOnce, &["`out`"]),
        (&[FILE, "generate: {}"], "discard: {}", ExactlyOnce, &[]),
        (&[HTTP], ONE, AtLeastOnce, &["`a`"]),
        (&[GONE], ONE, AtMostOnce, &["`a`"]),
        (&["host_metrics: {}"], ONE, AtMostOnce, &["`a`"]),
        (&[FILE, GONE], PLAIN, BestEffort, &["`b`", "`out`"]),
        (&[HTTP, GONE], ONE, BestEffort, &["`a`", "`b`"]),
    ];
    for (sources, sink, expected, blamed) in cases {
        let graph = checked(&yaml(sources, sink), &[]).unwrap();
        let found = &guarantees(&graph, true)[0];
        assert_eq!((found.sink.as_str(), found.guarantee), ("out", expected), "{sources:?} {sink}");
        let named: Vec<_> = found.because.iter().map(|because| because.split(':').next().unwrap()).collect();
        assert_eq!(named, blamed, "{sources:?} {sink}");
        let found = &guarantees(&graph, false)[0];
        assert_eq!(found.guarantee, BestEffort, "what is not kept guarantees nothing");
    }
}

#[test]
fn a_source_that_does_not_reach_a_sink_takes_nothing_from_it() {
    let yaml = "version: 1\nname: p\nsources: { a: { file: { path: in.log } }, b: { stdin: {} } }\n\
                sinks: { out: { from: a, file: { path: out.log } }, other: { from: b, stdout: {} } }\n";
    let found = guarantees(&checked(yaml, &[]).unwrap(), true);
    assert_eq!(found.iter().map(|one| one.guarantee).collect::<Vec<_>>(), [ExactlyOnce, BestEffort]);
}

#[test]
fn what_cannot_be_had_is_refused_and_the_reason_told() {
    let asks = |sources: &[&str], sink: &str, asked| shown(&yaml(sources, &format!("{sink}, guarantee: {asked}")), &[]);
    assert_eq!(asks(&[FILE], ONE, "exactly_once"), "");
    assert_eq!(asks(&[HTTP], PLAIN, "at_least_once"), "");
    let refused = asks(&[FILE], PLAIN, "exactly_once");
    for part in ["error[TG211]: `out` cannot have every record exactly once", ":5:", "at least once: `out`: what was"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(asks(&[GONE], ONE, "at_least_once").contains("TG211"));
}

#[test]
fn a_host_without_state_refuses_whoever_asks_for_a_guarantee() {
    let mut host = LoadedHost::default();
    let asking = checked(&yaml(&[FILE], &format!("{ONE}, guarantee: at_least_once")), &[]).unwrap();
    let silent = checked(&yaml(&[FILE], ONE), &[]).unwrap();
    assert_eq!(fit(&[&asking, &silent], &host), Ok(()));
    host.host.state = "none".to_owned();
    assert_eq!(fit(&[&silent], &host), Ok(()));
    let faults = fit(&[&asking], &host).unwrap_err();
    assert_eq!((faults.len(), faults[0].code), (1, codes::NO_GUARANTEE));
}
