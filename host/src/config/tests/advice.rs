//! Warnings: a file that is right, and what it probably does not mean.

use super::{super::advice::advice, checked, loaded};
use crate::config::{Severity, codes};

/// What a file is warned of, each as its code and the line of its place.
#[track_caller]
fn warned(yaml: &str) -> Vec<(&'static str, usize)> {
    let (loaded, graph) = (loaded(yaml, &[]).unwrap(), checked(yaml, &[]).unwrap());
    let warnings = advice(&loaded, &graph);
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning && warning.cure.is_some()));
    let line = |at: usize| yaml[..at].lines().count() + usize::from(yaml[..at].ends_with('\n'));
    warnings.iter().map(|warning| (warning.code, line(warning.labels[0].span.start))).collect()
}

/// A file without anything to warn of: two sources, a filter, windows, a sink.
const FINE: &str = "version: 1
name: fine
batch: { records: 1024, bytes: 1MiB }
sources:
  a: { file: { path: a.ndjson }, decode: json, key: /k, time: /t, watermark: { lag: 4s } }
  b: { http: { listen: '127.0.0.1:0' }, key: /k, time: /t }
stages:
  f: { from: a, filter: f }
  sums: { from: [f, b], aggregate: a, window: { tumbling: 1s }, workers: 2 }
sinks:
  out: { from: sums, file: { path: out.ndjson }, encode: json }
  late: { from: sums.late, discard: {} }
";

#[test]
fn each_warning_comes_of_its_cause_and_stands_at_its_place() {
    assert_eq!(warned(FINE), []);
    /// What is written otherwise, how, and what it is warned of.
    type Case = (&'static str, &'static str, &'static [(&'static str, usize)]);
    let cases: &[Case] = &[
        ("window: {", "limits: { fuel: 50_000_000/record }, window: {", &[(codes::FUEL_OUTLASTS, 9)]),
        ("window: {", "limits: { fuel: 50_000_000/record, time: 2m }, window: {", &[]),
        ("window: {", "limits: { memory: 1MiB }, window: {", &[(codes::MEMORY_BELOW_BATCH, 9)]),
        ("tumbling: 1s", "tumbling: 499ms", &[(codes::WINDOW_BELOW_GRAIN, 9)]),
        ("tumbling: 1s", "tumbling: 500ms", &[]),
        ("lag: 4s", "lag: 4s, idle: 3s", &[(codes::IDLE_BELOW_LAG, 5)]),
        ("lag: 4s", "lag: 4s, idle: 4s", &[]),
        ("from: [f, b]", "from: b", &[]),
        ("tumbling: 1s }", "tumbling: 1s, late: side }", &[]),
        ("/k, time: /t, watermark", "/k, watermark", &[(codes::NO_EVENT_TIME, 9)]),
        ("path: out", "path: a", &[(codes::READS_ITSELF, 5)]),
    ];
    for (old, new, expected) in cases {
        let yaml = FINE.replacen(old, new, 1);
        assert_ne!(yaml, FINE, "{old}");
        // A filter that nothing reads any more is another fault.
        let yaml = if new.contains("from: b") {
            yaml.replace("  late:", "  rest: { from: f, discard: {} }\n  late:")
        } else {
            yaml
        };
        assert_eq!(warned(&yaml), *expected, "{new}");
    }
    let unread = FINE
        .replace("tumbling: 1s }", "tumbling: 1s, late: side }")
        .replace("  late: { from: sums.late, discard: {} }\n", "");
    assert_eq!(warned(&unread), [(codes::LATE_UNREAD, 9)]);
    assert_eq!(warned(&unread.replace("late: side", "late: drop")), []);
    let unkeyed = FINE.replace("key: /k, ", "");
    assert_eq!(warned(&unkeyed), [(codes::IDLE_WORKERS, 9)]);
    assert_eq!(warned(&unkeyed.replace("workers: 2", "workers: 2, key: /k")), []);
    assert_eq!(warned(&unkeyed.replace("filter: f", "map: m")), [], "a map may set keys");
}
