//! `std/normalize-metrics`: checks samples, brings them to base units and labels them.
//!
//! Owns the units. A sample is `{ts, host, metric, value, unit, labels}`; it comes out the same but for its unit, value
//! and labels, under the key `METRIC|HOST`. Invariant: it looks at one sample at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tidegate_plugin::prelude::*;

/// What to add to each sample.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Labels for samples that do not have them.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct Sample<'a> {
    ts: i64,
    #[serde(borrow)]
    host: Text<'a>,
    #[serde(borrow)]
    metric: Text<'a>,
    value: f64,
    #[serde(borrow)]
    unit: Text<'a>,
    #[serde(borrow, default)]
    labels: BTreeMap<Text<'a>, Text<'a>>,
}

#[map]
fn normalize_metrics(config: &Config, record: &Record, out: &mut Outputs) -> Result<()> {
    let mut sample: Sample = record.json()?;
    ensure!(!sample.metric.0.is_empty() && !sample.host.0.is_empty(), "a sample needs a metric and a host");
    let (unit, factor) = base_unit(&sample.unit.0).with_context(|| format!("no unit is called {:?}", sample.unit.0))?;
    sample.value *= factor;
    ensure!(sample.value.is_finite(), "the value is no number in {unit}");
    sample.unit = Text(unit.into());
    for (name, value) in &config.labels {
        sample.labels.entry(Text(name.into())).or_insert(Text(value.into()));
    }
    out.json(&sample)?.key([sample.metric.0.as_bytes(), b"|", sample.host.0.as_bytes()].concat());
    Ok(())
}

/// The base unit of `unit`, and how much of it one `unit` is.
fn base_unit(unit: &str) -> Option<(&'static str, f64)> {
    const KIB: f64 = 1024.0;
    Some(match unit {
        "1" | "count" => ("1", 1.0),
        "ratio" => ("ratio", 1.0),
        "percent" | "%" => ("ratio", 0.01),
        "bytes" | "B" => ("bytes", 1.0),
        "kB" => ("bytes", 1000.0),
        "KiB" => ("bytes", KIB),
        "MiB" => ("bytes", KIB * KIB),
        "GiB" => ("bytes", KIB * KIB * KIB),
        "bytes/s" | "B/s" => ("bytes/s", 1.0),
        "KiB/s" => ("bytes/s", KIB),
        "MiB/s" => ("bytes/s", KIB * KIB),
        "1/s" => ("1/s", 1.0),
        "s" | "seconds" => ("s", 1.0),
        "ms" => ("s", 1e-3),
        "us" => ("s", 1e-6),
        "ns" => ("s", 1e-9),
        "celsius" => ("celsius", 1.0),
        "processes" => ("processes", 1.0),
        "ticks" => ("ticks", 1.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: Value, unit: &str) -> Value {
        json!({ "ts": 5, "host": "web-1", "metric": "m", "value": value, "unit": unit, "labels": { "cpu": "0" } })
    }

    #[track_caller]
    fn check(value: f64, unit: &str, expected: (f64, &str)) {
        let given = testing::map::<normalize_metrics>("", [testing::json(sample(json!(value), unit)).time(5)]);
        let out = &given.outputs[0];
        assert_eq!(out.json(), sample(json!(expected.0), expected.1));
        assert_eq!((out.key.as_slice(), out.time), (&b"m|web-1"[..], 5));
    }

    #[test]
    fn a_sample_comes_out_in_its_base_unit_under_its_metric_and_host() {
        check(12.5, "percent", (0.125, "ratio"));
        check(2.0, "KiB", (2048.0, "bytes"));
        check(250.0, "ms", (0.25, "s"));
        check(3.0, "bytes/s", (3.0, "bytes/s"));
        check(4.0, "1", (4.0, "1"));
    }

    #[test]
    fn labels_are_added_but_not_replaced() {
        let config = json!({ "labels": { "env": "test", "cpu": "all" } });
        let given = testing::map::<normalize_metrics>(config, [testing::json(sample(json!(1), "1"))]);
        assert_eq!(given.outputs[0].json()["labels"], json!({ "cpu": "0", "env": "test" }));
    }

    #[test]
    fn what_is_no_sample_is_refused_with_the_reason() {
        let cases = [
            (sample(Value::Null, "1"), "invalid type: null"),
            (sample(json!("NaN"), "1"), "invalid type: string"),
            (sample(json!(1), "furlong"), "no unit is called \"furlong\""),
            (sample(json!(1e308), "GiB"), "no number in bytes"),
            (json!({ "metric": "m" }), "missing field"),
        ];
        for (record, reason) in cases {
            let given = testing::map::<normalize_metrics>("", [testing::json(&record)]);
            assert!(given.refused[0].reason.contains(reason), "{}", given.refused[0].reason);
            assert!(given.outputs.is_empty());
        }
    }
}
