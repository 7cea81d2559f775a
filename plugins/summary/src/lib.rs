//! `std/summary`: count, smallest, mean, largest and quantiles of a number, for each group.
//!
//! Owns the form of the result. Quantiles come from a DDSketch, which merges and is within 1 % of the true value
//! (Masson, Rim and Lee 2019). Invariant: the same records give the same bytes, however they are cut into batches.

use sketches_ddsketch::{Config as SketchConfig, DDSketch};
use tidegate_plugin::prelude::*;

/// What to summarise.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// JSON pointer to the number.
    field: Pointer,
    /// Quantiles wanted, each from 0 to 1: 0.95 comes out as `p95`.
    #[serde(default)]
    quantiles: Vec<Quantile>,
    /// JSON pointers to fields that all records of a group share; they come out as they are, under their own names.
    /// Where there are none, the group's key comes out as `key`.
    #[serde(default)]
    echo: Vec<Pointer>,
}

/// A fraction from 0 to 1.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
struct Quantile(#[schemars(range(min = 0, max = 1))] f64);

impl TryFrom<f64> for Quantile {
    type Error = String;

    fn try_from(fraction: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&fraction) { Ok(Self(fraction)) } else { Err(format!("{fraction} is not from 0 to 1")) }
    }
}

impl Quantile {
    /// `p95` for 0.95, `p99.9` for 0.999.
    fn name(self) -> String {
        // Rounded, for 0.999 × 100 is not quite 99.9.
        format!("p{}", (self.0 * 1e8).round() / 1e6)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Summary {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    sketch: Option<DDSketch>,
    /// Raw JSON of the fields to echo, from the group's first record.
    echo: Vec<Option<String>>,
}

#[aggregate(name = "summary", state_version = 1, needs = ["keys", "windows"])]
impl Aggregate for Summary {
    type Config = Config;
    type State = Self;

    fn add(config: &Config, so_far: &mut Self, record: &Record, _: &mut Outputs) -> Result<()> {
        let number: f64 = record.pick_as(&config.field)?;
        if so_far.count == 0 {
            let echo = config.echo.iter().map(|field| Ok(record.pick(field)?.map(ToOwned::to_owned)));
            so_far.echo = echo.collect::<Result<_>>()?;
            (so_far.min, so_far.max) = (number, number);
        }
        so_far.count += 1;
        so_far.sum += number;
        so_far.min = so_far.min.min(number);
        so_far.max = so_far.max.max(number);
        if !config.quantiles.is_empty() {
            so_far.sketch.get_or_insert_with(|| DDSketch::new(SketchConfig::defaults())).add(number);
        }
        Ok(())
    }

    fn merge(_: &Config, so_far: &mut Self, later: Self) {
        if so_far.count == 0 || later.count == 0 {
            if so_far.count == 0 {
                *so_far = later;
            }
            return;
        }
        so_far.count += later.count;
        so_far.sum += later.sum;
        so_far.min = so_far.min.min(later.min);
        so_far.max = so_far.max.max(later.max);
        match (&mut so_far.sketch, later.sketch) {
            // Both are made with the same settings, which is all that could keep them apart.
            (Some(sketch), Some(later)) => sketch.merge(&later).expect("sketches of one configuration merge"),
            (sketch, later) => *sketch = sketch.take().or(later),
        }
    }

    fn finish(config: &Config, group: &Group, summary: &Self, out: &mut Outputs) -> Result<()> {
        let mut result = json!({
            "count": summary.count,
            "min": summary.min,
            "mean": summary.sum / summary.count as f64,
            "max": summary.max,
        });
        if let Some(window) = group.window() {
            result["start"] = window.start.into();
            result["end"] = window.end.into();
        }
        if config.echo.is_empty() {
            result["key"] = String::from_utf8_lossy(group.key()?).into();
        }
        for (field, json) in config.echo.iter().zip(&summary.echo) {
            result[field.name()] = json.as_deref().map(tidegate_plugin::parse).transpose()?.unwrap_or(Value::Null);
        }
        for quantile in &config.quantiles {
            let value = summary.sketch.as_ref().and_then(|sketch| sketch.quantile(quantile.0).ok().flatten());
            // The sketch answers with the middle of a bucket, which may lie beyond every number that was seen.
            let value = value.map(|value| value.max(summary.min).min(summary.max));
            result[quantile.name()] = json!(value);
        }
        out.json(&result)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
