//! `std/select-metrics`: keeps the samples that are wanted, of real disks and networks.
//!
//! Owns which file systems and interfaces are none of anybody's business. It asks for the fields that decide, so it
//! parses no record. Invariant: it looks at one sample at a time.

use std::borrow::Cow;

use tidegate_plugin::prelude::*;

/// File systems that are no disk.
const PSEUDO: [&str; 23] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// What to keep.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Names of the metrics to keep; one that ends in `*` stands for all that begin so.
    metrics: Vec<String>,
    /// File systems to drop, by their type; those of the kernel, unless given.
    #[serde(default = "pseudo")]
    without_fs: Vec<String>,
    /// Network interfaces to drop; the loopback one, unless given.
    #[serde(default = "loopback")]
    without_interfaces: Vec<String>,
}

fn pseudo() -> Vec<String> {
    PSEUDO.map(str::to_owned).to_vec()
}

fn loopback() -> Vec<String> {
    vec!["lo".to_owned()]
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[filter(fields = ["/metric", "/labels/fs", "/labels/interface"])]
fn select_metrics(config: &Config, record: &Record) -> Result<bool> {
    let metric: Text = record.field_as(0)?;
    let is_among =
        |label: Option<Text>, names: &[String]| label.is_some_and(|label| names.iter().any(|n| *n == label.0));
    Ok(config.metrics.iter().any(|wanted| matches(wanted, &metric.0))
        && !is_among(record.field_as(1)?, &config.without_fs)
        && !is_among(record.field_as(2)?, &config.without_interfaces))
}

fn matches(wanted: &str, metric: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == metric, |beginning| metric.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metric: &str, labels: Value, expected: bool) {
        let config = json!({ "metrics": ["cpu.*", "disk.used", "network.*"] });
        let sample = testing::json(json!({ "metric": metric, "value": 1, "labels": labels }));
        assert_eq!(testing::filter::<select_metrics>(config, [sample]).kept.len(), usize::from(expected), "{metric}");
    }

    #[test]
    fn only_metrics_on_the_list_are_kept() {
        check("cpu.usage", json!({ "cpu": "0" }), true);
        check("disk.used", json!({ "fs": "ext4" }), true);
        check("disk.used.bytes", json!({}), false);
        check("memory.used", json!({}), false);
    }

    #[test]
    fn pseudo_file_systems_and_loopback_are_dropped() {
        check("disk.used", json!({ "fs": "tmpfs", "mount": "/run" }), false);
        check("network.received", json!({ "interface": "lo" }), false);
        check("network.received", json!({ "interface": "eth0" }), true);
    }

    #[test]
    fn what_else_to_drop_can_be_said() {
        let config = json!({ "metrics": ["*"], "without_fs": [], "without_interfaces": ["veth0"] });
        let labels = [json!({ "fs": "tmpfs" }), json!({ "interface": "veth0" }), json!({ "interface": "lo" })];
        let samples = labels.map(|labels| testing::json(json!({ "metric": "m", "labels": labels })));
        assert_eq!(testing::filter::<select_metrics>(config, samples).kept, [0, 2]);
    }

    #[test]
    fn a_sample_without_a_name_is_refused() {
        let given =
            testing::filter::<select_metrics>(json!({ "metrics": [] }), [testing::json("{}"), testing::text("?")]);
        assert_eq!(given.refused.len(), 2);
        assert!(given.refused[0].reason.contains("field /metric"), "{}", given.refused[0].reason);
    }

    #[test]
    fn no_payload_has_to_cross() {
        assert_eq!(testing::describe::<select_metrics>()["values"], false);
    }
}
