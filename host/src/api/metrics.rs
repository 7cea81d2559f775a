//! The metrics registry: every family with its name, its meaning and where its samples come from.
//!
//! Owns the list that documentation and dashboards are checked against. It must not count anything itself. Invariant:
//! every label takes as many values as the configuration has names, or as a plugin has counters, which the plugin host
//! bounds.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use super::{PluginInfo, Service, VERSION};
use crate::{
    config::graph::Graph,
    pipeline::{
        Status,
        board::{EdgeStatus, PartStatus},
        generations::Counts,
    },
    stage::spread::Quantiles,
    time::END,
};

/// What `/metrics` is written in.
pub const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a family only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, but for a restart; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, as it is scraped.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// A value and the label's values for each sample.
    samples: fn(&View<'_>, &mut Samples),
}

/// One pipeline at the moment of a scrape.
struct View<'a> {
    status: Status,
    graph: &'a Graph,
    plugins: Vec<PluginInfo>,
    now: i64,
}

type Samples = Vec<(Vec<String>, f64)>;

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&View<'_>, &mut Samples),
) -> Family {
    Family { name, kind: Kind::Counter, help, labels, samples }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&View<'_>, &mut Samples),
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, samples }
}

/// Every family of a pipeline.
pub const FAMILIES: &[Family] = &[
    counter(
        "tidegate_source_records_total",
        "Records that a source read, and what became of them",
        &["pipeline", "source", "result"],
        |view, to| results(view, &view.status.sources, to),
    ),
    counter(
        "tidegate_stage_records_total",
        "Records that a stage received, what became of them, and records that it put out",
        &["pipeline", "stage", "result"],
        |view, to| results(view, &view.status.stages, to),
    ),
    counter(
        "tidegate_sink_records_total",
        "Records that a sink received, and what became of them",
        &["pipeline", "sink", "result"],
        |view, to| results(view, &view.status.sinks, to),
    ),
    gauge(
        "tidegate_source_behind_records",
        "Records of a topic that a source has not committed yet; absent where it reads no topic",
        &["pipeline", "source"],
        |view, to| counts(view, &view.status.sources, to, |source| source.behind),
    ),
    gauge(
        "tidegate_outbox_records",
        "Records that wait in a sink's outbox, as of the last commit; absent where it has none",
        &["pipeline", "sink"],
        |view, to| counts(view, &view.status.sinks, to, |sink| sink.waiting),
    ),
    gauge("tidegate_channel_records", "Records that wait in a channel", &["pipeline", "from", "to"], |view, to| {
        channels(view, to, |edge| edge.waiting.records as f64);
    }),
    gauge("tidegate_channel_bytes", "Bytes that wait in a channel", &["pipeline", "from", "to"], |view, to| {
        channels(view, to, |edge| edge.waiting.bytes as f64);
    }),
    counter(
        "tidegate_channel_sent_records_total",
        "Records that were sent down a channel",
        &["pipeline", "from", "to"],
        |view, to| channels(view, to, |edge| edge.sent as f64),
    ),
    gauge(
        "tidegate_plugin_info",
        "Which plugin serves a stage; always 1",
        &["pipeline", "stage", "plugin", "version", "digest"],
        |view, to| {
            to.extend(view.plugins.iter().map(|plugin| {
                let PluginInfo { stage, name, version, digest } = plugin.clone();
                (vec![view.status.pipeline.clone(), stage, name, version, digest], 1.0)
            }));
        },
    ),
    gauge("tidegate_generation", "Number of the generation that serves a stage", &["pipeline", "stage"], |view, to| {
        stages(view, to, |stage| stage.generation.as_ref().and_then(|one| one.generation).unwrap_or_default() as f64);
    }),
    counter(
        "tidegate_reload_total",
        "Reloads of a stage's plugin, and how they ended",
        &["pipeline", "stage", "result"],
        |view, to| {
            for stage in &view.status.stages {
                let Counts { active, rolled_back, refused } = stage.reloads.unwrap_or_default();
                to.extend([("active", active), ("rolled_back", rolled_back), ("refused", refused)].map(
                    |(result, count)| {
                        (vec![view.status.pipeline.clone(), stage.name.clone(), result.to_owned()], count as f64)
                    },
                ));
            }
        },
    ),
    counter("tidegate_plugin_fuel_total", "Fuel that a stage's plugin used", &["pipeline", "stage"], |view, to| {
        stages(view, to, |stage| stage.reading.fuel as f64);
    }),
    counter(
        "tidegate_plugin_fuel_budget_total",
        "Fuel that a stage's plugin was allowed",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.fuel_budget as f64),
    ),
    counter(
        "tidegate_plugin_seconds_total",
        "Time inside a stage's plugin, of all workers",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| seconds(stage.reading.plugin_nanos)),
    ),
    gauge(
        "tidegate_plugin_memory_bytes",
        "Highest memory of one instance of a stage's plugin",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.plugin_memory as f64),
    ),
    gauge(
        "tidegate_plugin_memory_limit_bytes",
        "Memory that an instance of a stage's plugin is allowed; 0 before its first call",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.plugin_memory_budget as f64),
    ),
    counter(
        "tidegate_plugin_recycled_total",
        "Instances of a stage's plugin that made room for a fresh one because their memory had grown",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.recycled as f64),
    ),
    gauge(
        "tidegate_plugin_fuel_per_record",
        "Fuel that a stage's plugin used for a record, by quantile, as a mean over each call; at most an eighth too high",
        &["pipeline", "stage", "quantile"],
        |view, to| {
            for stage in &view.status.stages {
                let Quantiles { p50, p99, max } = stage.reading.fuel_per_record;
                for (quantile, fuel) in [("0.5", p50), ("0.99", p99), ("1", max)] {
                    let labels = vec![view.status.pipeline.clone(), stage.name.clone(), quantile.to_owned()];
                    to.push((labels, fuel as f64));
                }
            }
        },
    ),
    gauge(
        "tidegate_plugin_fuel_peak_ratio",
        "The most that a call of a stage's plugin which went well used of its fuel",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.fuel_peak as f64 / 1e3),
    ),
    counter(
        "tidegate_plugin_faults_total",
        "Calls of a stage's plugin that ended in a fault; those that search for its cause count too",
        &["pipeline", "stage", "kind"],
        |view, to| {
            for stage in &view.status.stages {
                to.extend(stage.faults.iter().map(|(kind, count)| {
                    (vec![view.status.pipeline.clone(), stage.name.clone(), kind.name().to_owned()], *count as f64)
                }));
            }
        },
    ),
    counter(
        "tidegate_plugin_count_total",
        "Counters of the plugin's own",
        &["pipeline", "stage", "name"],
        |view, to| {
            for stage in &view.status.stages {
                to.extend(stage.counts.iter().map(|(name, count)| {
                    (vec![view.status.pipeline.clone(), stage.name.clone(), name.to_string()], *count as f64)
                }));
            }
        },
    ),
    gauge("tidegate_stage_groups", "Groups that a stage holds", &["pipeline", "stage"], |view, to| {
        stages(view, to, |stage| stage.reading.groups as f64);
    }),
    gauge(
        "tidegate_stage_state_bytes",
        "Memory that the groups of a stage take",
        &["pipeline", "stage"],
        |view, to| {
            stages(view, to, |stage| stage.reading.state_bytes as f64);
        },
    ),
    gauge(
        "tidegate_stage_cold_groups",
        "Groups of a stage that are not in memory but in the store alone",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.cold_groups as f64),
    ),
    counter(
        "tidegate_stage_cold_reads_total",
        "Groups that a stage has read from the store because they were needed again",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.cold_reads as f64),
    ),
    counter(
        "tidegate_stage_evicted_groups_total",
        "Groups that a stage has given up because there was no room for them",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| stage.reading.evicted as f64),
    ),
    counter(
        "tidegate_stage_blocked_seconds_total",
        "Time that a stage waited for room downstream",
        &["pipeline", "stage"],
        |view, to| stages(view, to, |stage| seconds(stage.reading.blocked_nanos)),
    ),
    gauge(
        "tidegate_watermark_lag_seconds",
        "How far a stage's event time is behind the clock; absent before the first record and after the last",
        &["pipeline", "stage"],
        |view, to| {
            for stage in &view.status.stages {
                if let Some(watermark) = stage.reading.watermark.filter(|watermark| *watermark != END) {
                    let lag = view.now.saturating_sub(watermark) as f64 / 1e3;
                    to.push((vec![view.status.pipeline.clone(), stage.name.clone()], lag));
                }
            }
        },
    ),
    gauge("tidegate_epoch", "Number of the last committed epoch", &["pipeline"], |view, to| {
        whole(view, to, view.status.epoch as f64);
    }),
    gauge(
        "tidegate_epoch_age_seconds",
        "How long the epoch under way has taken; 0 between epochs",
        &["pipeline"],
        |view, to| whole(view, to, view.status.epoch_age.unwrap_or_default()),
    ),
    gauge("tidegate_commit_seconds", "How long the last commit took to be written", &["pipeline"], |view, to| {
        whole(view, to, view.status.commit_seconds);
    }),
    gauge(
        "tidegate_epoch_seconds",
        "How long the last committed epoch took, from its beginning until it was committed",
        &["pipeline"],
        |view, to| whole(view, to, view.status.epoch_seconds),
    ),
    gauge(
        "tidegate_ledger_imbalance_records",
        "Records that the ledger of the last commit does not account for; always 0",
        &["pipeline"],
        |view, to| {
            let off = view.status.imbalances.iter().map(|imbalance| imbalance.left.abs_diff(imbalance.right));
            whole(view, to, off.sum::<u64>() as f64);
        },
    ),
    gauge(
        "tidegate_breaker_open",
        "Whether the breaker of a stage or sink is open: 1, or 0",
        &["pipeline", "name"],
        |view, to| {
            for part in view.status.stages.iter().chain(&view.status.sinks) {
                if let Some(breaker) = &part.breaker {
                    let is_open = f64::from(u8::from(breaker.opened.is_some()));
                    to.push((vec![view.status.pipeline.clone(), part.name.clone()], is_open));
                }
            }
        },
    ),
    counter(
        "tidegate_restarts_total",
        "Restarts of a pipeline inside the process, each after a fault of the host's own code",
        &["pipeline"],
        |view, to| whole(view, to, view.status.restarts as f64),
    ),
    gauge(
        "tidegate_dead_letters",
        "Dead letters that are kept; absent where the host keeps no state",
        &["pipeline"],
        |view, to| {
            if let Some(letters) = view.status.dead_letters {
                whole(view, to, letters as f64);
            }
        },
    ),
    gauge("tidegate_ready", "Whether a pipeline is ready: 1, or 0", &["pipeline"], |view, to| {
        whole(view, to, if view.status.not_ready.is_empty() { 1.0 } else { 0.0 });
    }),
];

fn whole(view: &View<'_>, to: &mut Samples, value: f64) {
    to.push((vec![view.status.pipeline.clone()], value));
}

fn stages(view: &View<'_>, to: &mut Samples, value: fn(&PartStatus) -> f64) {
    let named = |stage: &PartStatus| (vec![view.status.pipeline.clone(), stage.name.clone()], value(stage));
    to.extend(view.status.stages.iter().map(named));
}

fn channels(view: &View<'_>, to: &mut Samples, value: fn(&EdgeStatus) -> f64) {
    for (edge, status) in view.graph.edges.iter().zip(&view.status.edges) {
        let (producer, port) = (view.graph.producer(edge.from), view.graph.port(edge.from, edge.port));
        let from = if port.is_empty() { producer.to_owned() } else { format!("{producer}.{port}") };
        let labels = vec![view.status.pipeline.clone(), from, view.graph.consumer(edge.to).to_owned()];
        to.push((labels, value(status)));
    }
}

/// A count of each part that has it.
fn counts(view: &View<'_>, parts: &[PartStatus], to: &mut Samples, of: impl Fn(&PartStatus) -> Option<u64>) {
    for part in parts {
        let labels = vec![view.status.pipeline.clone(), part.name.clone()];
        to.extend(of(part).map(|count| (labels, count as f64)));
    }
}

fn results(view: &View<'_>, parts: &[PartStatus], to: &mut Samples) {
    for part in parts {
        let tally = &part.reading.tally;
        for (result, count) in [
            ("received", tally.received),
            ("passed", tally.passed),
            ("filtered", tally.filtered),
            ("absorbed", tally.absorbed),
            ("late", tally.late),
            ("refused", tally.refused),
            ("dropped", tally.dropped),
            ("stood_in", tally.stood_in),
            ("diverted", tally.diverted),
            ("lost", tally.lost),
            ("produced", tally.produced),
        ] {
            to.push((vec![view.status.pipeline.clone(), part.name.clone(), result.to_owned()], count as f64));
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What the registry asks at each scrape.
#[derive(Debug)]
struct Boards(Arc<Service>);

impl Collector for Boards {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let pipelines = self.0.pipelines.iter().map(|pipeline| (&pipeline.board, pipeline.plugins()));
        let views: Vec<_> = pipelines
            .map(|(board, plugins)| View { status: board.status(), graph: board.graph(), plugins, now })
            .collect();
        for family in FAMILIES {
            let mut samples = Samples::new();
            views.iter().for_each(|view| (family.samples)(view, &mut samples));
            write(&mut encoder, family, &samples)?;
        }
        let host = gauge("tidegate_info", "The host; always 1", &["version"], |_, _| {});
        write(&mut encoder, &host, &[(vec![VERSION.to_owned()], 1.0)])
    }
}

fn write(encoder: &mut DescriptorEncoder, family: &Family, samples: &[(Vec<String>, f64)]) -> fmt::Result {
    let (name, kind) = match family.kind {
        // The encoder appends the ending itself.
        Kind::Counter => (family.name.strip_suffix("_total").unwrap_or(family.name), MetricType::Counter),
        Kind::Gauge => (family.name, MetricType::Gauge),
    };
    let mut metric = encoder.encode_descriptor(name, &format!("{}.", family.help), None, kind)?;
    for (values, value) in samples {
        let labels: Vec<(&str, &str)> = family.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
        let mut sample = metric.encode_family(&labels)?;
        match family.kind {
            Kind::Counter => sample.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
            Kind::Gauge => sample.encode_gauge(value)?,
        }
    }
    Ok(())
}

/// All metrics of a host, as `/metrics` answers them.
///
/// # Errors
/// None that a string could give.
pub fn text(service: Arc<Service>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Boards(service)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_base_units_and_counters_end_in_total() {
        for family in FAMILIES {
            assert!(family.name.starts_with("tidegate_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(!family.name.contains("milli") && !family.help.ends_with('.'), "{}", family.name);
            assert_eq!(family.labels.first(), Some(&"pipeline"), "{}", family.name);
        }
    }

    #[test]
    fn no_name_comes_twice() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
