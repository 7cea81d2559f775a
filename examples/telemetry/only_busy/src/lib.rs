//! Keeps the samples that are wanted and are not zero.
//!
//! Owns what "busy" means. It takes the configuration of `std/select-metrics`, so that it can stand in its place. Invariant: it
//! looks at one sample at a time.

use std::borrow::Cow;

use tidegate_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Names of the metrics to keep; one that ends in `*` stands for all that begin so.
    metrics: Vec<String>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

// The fields are read by the host, once for all stages: a filter that parsed every sample itself would take three times
// the fuel of the shipped one, and be rolled back for it.
#[filter(fields = ["/metric", "/value", "/labels/interface"])]
fn only_busy(config: &Config, record: &Record) -> Result<bool> {
    let (metric, value): (Text, f64) = (record.field_as(0)?, record.field_as(1)?);
    let interface: Option<Text> = record.field_as(2)?;
    if cfg!(feature = "careless") && interface.as_ref().expect("every sample names an interface").0 == "lo" {
        return Ok(false);
    }
    let is_loopback = interface.is_some_and(|interface| interface.0 == "lo");
    Ok(value != 0.0 && !is_loopback && config.metrics.iter().any(|wanted| matches(wanted, &metric.0)))
}

fn matches(wanted: &str, metric: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == metric, |beginning| metric.starts_with(beginning))
}

#[cfg(all(test, not(feature = "careless")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_or_on_no_list_is_dropped() {
        let config = json!({ "metrics": ["cpu.*", "app.request"] });
        let samples = [("cpu.usage", 0.5), ("cpu.usage", 0.0), ("disk.used", 1.0), ("app.request", 3.0)];
        let given = testing::filter::<only_busy>(
            config,
            samples.map(|(metric, value)| testing::json(json!({ "metric": metric, "value": value }))),
        );
        assert_eq!(given.kept, [0, 3]);
        assert!(given.refused.is_empty());
    }
}
