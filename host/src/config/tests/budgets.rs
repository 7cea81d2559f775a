//! What a text may cost, and what a pipeline may.

use std::time::Duration;

use super::{
    super::{Host, LoadedHost, budget, codes, graph::check},
    checked, facts, loaded,
};

const BOMB_HEAD: &str = "version: 1\nname: bomb\n";

/// What this thread has worked: other threads of a busy machine do not count.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

#[track_caller]
fn refused(yaml: &str, code: &str) {
    let start = cpu();
    let faults = loaded(yaml, &[]).map_or_else(|faults| faults, |loaded| loaded.faults);
    let took = cpu() - start;
    assert!(faults.iter().any(|fault| fault.code == code), "{faults:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_bomb_is_refused_before_it_costs_anything() {
    let nine = |name: &str, of: &str| format!("{name}: &{name} [{}]\n", [of; 9].join(", "));
    let mut laughs = BOMB_HEAD.to_owned() + &nine("a", "x");
    for (name, of) in [("b", "*a"), ("c", "*b"), ("d", "*c"), ("e", "*d"), ("f", "*e"), ("g", "*f")] {
        laughs += &nine(name, of);
    }
    refused(&laughs, codes::TOO_LARGE);
    let anchors: String = (0..65).map(|i| format!("k{i}: &a{i} 1\n")).collect();
    refused(&anchors, codes::TOO_LARGE);
    let merges: String =
        "base: &b { x: 1 }\n".to_owned() + &(0..65).map(|i| format!("k{i}: {{ <<: *b }}\n")).collect::<String>();
    refused(&merges, codes::TOO_LARGE);
    refused(&(0..20_001).map(|_| "- 1\n").collect::<String>(), codes::TOO_LARGE);
    refused(&format!("a: {}{}", "[".repeat(33), "]".repeat(33)), codes::TOO_LARGE);
    refused(&format!("a: {}", "[".repeat(100_000)), codes::TOO_LARGE);
    refused(&(0..40).map(|i| format!("{}k:\n", " ".repeat(i))).collect::<String>(), codes::TOO_LARGE);
    refused(&format!("a: {}", "x".repeat(1 << 20)), codes::TOO_LARGE);
    refused("version: 1\n---\nversion: 1\n", codes::TOO_LARGE);
}

const PIPELINE: &str = "
version: 1
name: p
sources: { in: { stdin: {} } }
stages: { s: { from: in, filter: f, workers: 3, limits: { memory: 32MiB } } }
sinks: { out: { from: s, stdout: {} } }
edges: [{ from: in, to: s, capacity: { records: 10, bytes: 3MiB } }]
";

#[test]
fn limits_over_the_budget_are_refused_with_their_summands() {
    let graph = checked(PIPELINE, &[]).unwrap();
    let sum: u64 = budget::summands(&graph).iter().map(|part| part.bytes).sum();
    let mib = 1 << 20;
    let (channels, source, sink) = (3 * mib + 8 * mib, 2 * mib + (64 << 10), 2 * mib + (64 << 10));
    let stage = 3 * (32 * mib) + 3 * (mib + 8 * mib + (64 << 10));
    assert_eq!(sum, channels + source + sink + stage + 64 * mib);

    let mut host = LoadedHost { host: Host::default(), ..LoadedHost::default() };
    host.host.memory.value.0 = sum;
    assert_eq!(budget::fit(&[&graph], &host), Ok(()));
    host.host.memory.value.0 = sum - 1;
    let faults = budget::fit(&[&graph], &host).unwrap_err();
    assert_eq!(faults[0].code, codes::OVER_MEMORY);
    assert!(faults[0].cure.as_deref().unwrap().contains("96MiB  instances of the stage `s`: 3 of 32MiB"));
}

#[test]
fn requests_in_hand_are_part_of_the_sum() {
    let sum = |sink: &str| {
        let graph = checked(&PIPELINE.replace("stdout: {}", sink), &[]).unwrap();
        budget::summands(&graph).iter().map(|part| part.bytes).sum::<u64>()
    };
    let mib = 1 << 20;
    // Two requests, each as it is and as it is sent, their answers, and the one that is being filled.
    let posted = sum("http: { url: \"http://h/\" }, batch: { bytes: 3MiB }, in_flight: 2");
    assert_eq!(posted - sum("stdout: {}"), 2 * (3 + 3 + 1) * mib + 3 * mib);
}

#[test]
fn groups_and_what_a_commit_holds_of_them_are_part_of_the_sum() {
    let sum = |stage: &str| {
        let graph = checked(&PIPELINE.replace("filter: f,", stage), &[]).unwrap();
        budget::summands(&graph).iter().map(|part| part.bytes).sum::<u64>()
    };
    let mib = 1 << 20;
    assert_eq!(sum("aggregate: a,") - sum("filter: f,"), 2 * 128 * mib);
    assert_eq!(sum("aggregate: a, state: { max: 5MiB },") - sum("filter: f,"), 2 * 5 * mib);
}

#[test]
fn threads_and_names_of_pipelines_are_checked_together() {
    let graph = checked(PIPELINE, &[]).unwrap();
    assert_eq!(budget::threads(&[&graph, &graph]), 72);
    let mut host = LoadedHost { host: Host::default(), ..LoadedHost::default() };
    host.host.threads.max.value = 71;
    let codes: Vec<_> = budget::fit(&[&graph, &graph], &host).unwrap_err().iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [codes::TAKEN_PIPELINE, codes::OVER_THREADS]);
}

#[test]
fn what_is_known_of_groups_that_are_not_in_memory_is_a_fifth_of_them() {
    let sum = |state: &str| -> u64 {
        let yaml = format!(
            "version: 1\nname: p\nsources: {{ in: {{ stdin: {{}} }} }}\nstages:\n  s: {{ from: in, aggregate: a, state: {{ {state} }} }}\nsinks: {{ out: {{ from: s, discard: {{}} }} }}\n"
        );
        let loaded = loaded(&yaml, &[]).unwrap();
        let graph = check(&loaded, &facts(&loaded), Some(std::path::Path::new("state"))).unwrap();
        budget::summands(&graph).iter().map(|summand| summand.bytes).sum()
    };
    let (all, tight) = (sum("max: 1026MiB"), sum("max: 1026MiB, memory: 1MiB"));
    assert_eq!(all - tight, (2 * 1026 - 2 - 205) << 20);
}
