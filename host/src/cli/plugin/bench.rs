//! `plugin bench`: what a record costs in a plugin, for batches of several sizes, and the limits that it calls for.
//!
//! Owns the measuring: calls into one instance, with the limits that a pipeline has by default. What a host does around
//! a call is not in it.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{
    Answer, Exit, Outcome, Trouble, Which,
    call::{faulted, refused_config},
    figure, load,
    propose::Sample,
    records,
};
use crate::{
    batch::{Batch, Column},
    cli::table::{self, Align},
    plugin::{Fault, Groups, Instance, Kind, Limits, Plugin},
    unit::Span,
};

/// Groups that the records of an aggregate fall into.
const GROUPS: usize = 100;

#[derive(Args, Debug)]
pub(in crate::cli) struct Bench {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reading: records::Reading,
    /// File with the records; they are made up where none is given.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Bytes of a made-up record.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,
    /// Records in a batch.
    #[arg(long, value_name = "RECORDS", value_delimiter = ',', default_values_t = [1, 64, 1024],
        value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    batch: Vec<u32>,
    /// How long each size is measured.
    #[arg(long = "for", value_name = "TIME", default_value = "1s")]
    spend: Span,
}

/// What was measured for one size of batch.
#[derive(Serialize)]
struct Measured {
    batch: usize,
    /// Median over the calls, for each record.
    nanos: f64,
    /// Mean, for each record.
    fuel: f64,
    calls: usize,
}

impl Bench {
    pub(super) fn perform(self) -> Outcome {
        let plugin = load(&self.which.plugin)?;
        let largest = self.batch.iter().copied().max().unwrap_or(1) as usize;
        let records = match &self.input {
            Some(path) => {
                let (batch, undecoded) = self.reading.read_file(path, &plugin)?;
                if let Some(first) = undecoded.first() {
                    let trouble = Trouble::of(format!("read {}: {}", first.place, first.reason));
                    return Err(Box::new(Answer::failed(Exit::No, trouble)));
                }
                batch
            }
            None => records::made_up(largest.max(1024), self.size as usize, &plugin),
        };
        if records.is_empty() {
            return Err(Box::new(Answer::failed(Exit::Usage, Trouble::of("measure: there is no record"))));
        }
        let (mut rows, mut sample) = (Vec::new(), Sample::default());
        for &size in &self.batch {
            rows.push(self.measure(&plugin, &records, (size as usize).min(records.len()), &mut sample)?);
        }
        let of = if self.input.is_some() { "these records" } else { "made-up records; --input FILE takes yours" };
        let text = format!("{}\nroom enough for {of}:\n\n{}", shown(&rows), sample.yaml());
        let result = json!({ "sizes": rows, "limits": sample.limits() });
        Ok(Answer::fine(format!("{} of {}", plugin.kind(), plugin.described().name), result, text))
    }

    fn measure(
        &self,
        plugin: &Plugin,
        records: &Batch,
        size: usize,
        sample: &mut Sample,
    ) -> Result<Measured, Box<Answer>> {
        let name = &self.which.plugin;
        let mut instance =
            plugin.instantiate(&Limits::default(), &self.which.config).map_err(|fault| refused_config(name, &fault))?;
        let batches: Vec<Batch> = (0..records.len())
            .step_by(size)
            .map(|at| records.slice(at, at + size))
            .filter(|part| part.len() == size)
            .collect();
        let (mut nanos, mut fuel) = (Vec::new(), 0);
        let mut spent = Duration::ZERO;
        // The first round warms up.
        for round in 0.. {
            for batch in &batches {
                let before = instance.usage();
                call(plugin.kind(), &mut instance, batch).map_err(|fault| faulted(name, plugin, 0, batch, *fault))?;
                let after = instance.usage();
                sample.note(batch.len(), batch.bytes(), before, after);
                if round > 0 {
                    nanos.push((after.nanos - before.nanos) as f64 / size as f64);
                    fuel += after.fuel - before.fuel;
                }
                spent += Duration::from_nanos(after.nanos - before.nanos);
                drop(instance.take_effects());
            }
            if round > 0 && spent >= self.spend.0 {
                break;
            }
        }
        nanos.sort_by(f64::total_cmp);
        let calls = nanos.len();
        let median = nanos.get(calls / 2).copied().unwrap_or_default();
        Ok(Measured { batch: size, nanos: median, fuel: fuel as f64 / (calls * size) as f64, calls })
    }
}

fn call(kind: Kind, instance: &mut dyn Instance, batch: &Batch) -> Result<(), Box<Fault>> {
    match kind {
        Kind::Filter => instance.filter(0, batch).map(drop),
        Kind::Map => instance.map(0, batch).map(drop),
        Kind::Aggregate => {
            let count = GROUPS.min(batch.len());
            let keys: Column = (0..count).map(|group| format!("c{group}")).collect();
            let groups = Groups { states: Column::blank(count), keys, windows: None };
            let group_of: Vec<u32> = (0..batch.len()).map(|at| u32::try_from(at % count).unwrap_or_default()).collect();
            instance.accumulate(0, &groups, &group_of, batch).map(drop)
        }
    }
}

fn shown(rows: &[Measured]) -> String {
    let head = ["batch", "time/record", "fuel/record", "calls"].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| {
        let fuel = figure::count(row.fuel.round() as u64);
        vec![figure::count(row.batch as u64), figure::nanos(row.nanos), fuel, figure::count(row.calls as u64)]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    table::lay_out("", &[Align::Right; 4], &rows)
}
