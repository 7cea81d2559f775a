//! What epochs cost a keyed pipeline, and how long a stage stands still for one.
//!
//! Owns the pipeline and the size of its state. Invariant: both sides of the comparison are the same pipeline over the same
//! store and the same records, and come to the same groups; they differ in how often they commit.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{anyhow, ensure};
use tidegate::{
    batch::Batch,
    config::{
        self, OnError,
        diagnostic::{Colour, render},
    },
    disk::RealDisk,
    pipeline::{
        self, Ending,
        durable::{Durable, Signature},
        open,
    },
    plugin::Engine,
    stage::worker::{SavedGroups, Work, Worker},
    store::{Lock, Settings, Store},
};
use tokio::runtime::Runtime;

use crate::calls::{failed, spec};
use crate::clock::{Side, Start, Took, alternate, median};

/// How long a run of the pipeline should take at least, so that some epochs fall into it.
pub const LEAST: Duration = Duration::from_secs(5);

/// What a group of [`pause`] takes.
const GROUP: u64 = 136;

/// A keyed aggregate of generated records, and what is kept of it.
struct Pipeline {
    folder: PathBuf,
    keys: u64,
    records: u64,
}

impl Pipeline {
    /// Runs it to its end with a barrier every `epoch` into a store of its own, and says how many epochs there were.
    fn run(&self, runtime: &Runtime, engine: &Engine, epoch: &str) -> anyhow::Result<(Took, u64)> {
        let Self { folder, keys, records } = self;
        let text = format!(
            "version: 1
name: epochs
epoch: {epoch}
sources: {{ in: {{ generate: {{ keys: {keys}, count: {records}, size: 64 }}, key: /key }} }}
stages: {{ sums: {{ from: in, aggregate: {}, state: {{ max: 4GiB }} }} }}
sinks: {{ out: {{ from: sums, discard: {{}} }} }}
",
            crate::guest("fold").display()
        );
        let file = folder.join("epochs.yaml");
        std::fs::write(&file, text)?;
        let told = |faults: Vec<config::Diagnostic>| anyhow!(render(&faults, Colour::Off));
        let loaded = config::load(&file, &|_| None).map_err(told)?;
        let prepared = open::open(&loaded, engine, None).map_err(told)?;
        let state = tempfile::tempdir_in(folder)?;
        let lock = Lock::take(state.path())?;
        let store = Arc::new(Store::open(Arc::new(RealDisk), state.path(), lock, Settings::default())?);
        let graph = prepared.graph.clone();
        let signatures = graph.stages.iter().map(|stage| Signature::of(stage, "fold", 1)).collect();
        let durable = Durable::new(store, graph, signatures);
        let (took, ended) = runtime.block_on(async {
            let mut parts = prepared.into_parts(None).await?;
            parts.durable = Some((durable, None));
            let started = Start::now();
            let ended = pipeline::start(parts).task.await?;
            anyhow::Ok((started.took(), ended))
        })?;
        ensure!(ended.ending == Ending::Completed, "the pipeline ended early: {:?}", ended.ending);
        let folded = ended.committed.stages.first().map(|stage| stage.tally.absorbed);
        ensure!(folded == Some(*records), "{folded:?} of {records} records were folded");
        Ok((took, ended.committed.epoch.0))
    }
}

/// What a pipeline comes to whose groups all change in every epoch.
#[derive(Clone, Copy, Debug)]
pub struct Result {
    /// Records of a run.
    pub records: u64,
    /// With one commit, at the end.
    pub without: Took,
    /// With an epoch each second.
    pub with: Took,
    /// Epochs of the last run.
    pub epochs: u64,
}

/// Measures a pipeline over `keys` keys, the median of `rounds` in which both sides take turns, each of `least` at least.
///
/// # Errors
/// When a run does not come to its end with all of its records.
pub fn measure(keys: u64, rounds: usize, least: Duration) -> anyhow::Result<Result> {
    let folder = tempfile::tempdir()?;
    let (runtime, engine) = (Runtime::new()?, Engine::new(None)?);
    let mut pipeline = Pipeline { folder: folder.path().to_owned(), keys, records: 4 * keys };
    // As many records as take long enough here.
    while pipeline.run(&runtime, &engine, "1h")?.0.wall < least {
        pipeline.records *= 2;
    }
    let epochs = std::cell::Cell::new(0);
    let mut sides: Vec<Side<'_>> = vec![
        Box::new(|| Ok(pipeline.run(&runtime, &engine, "1h")?.0)),
        Box::new(|| {
            let (took, all) = pipeline.run(&runtime, &engine, "1s")?;
            epochs.set(all);
            Ok(took)
        }),
    ];
    let took = alternate(rounds, &mut sides)?;
    drop(sides);
    let [without, with] = took[..] else { return Err(anyhow!("two sides were measured")) };
    Ok(Result { records: pipeline.records, without, with, epochs: epochs.get() })
}

/// How long a worker stands still to hand `changed` groups over, of as many as take `bytes`, and how many those are.
///
/// # Errors
/// Those of the plugin.
pub fn pause(bytes: u64, changed: u64, rounds: usize) -> anyhow::Result<(Took, u64)> {
    let groups = bytes / GROUP;
    let spec = spec("fold", &Engine::new(None)?, OnError::Stop)?;
    let mut worker =
        Worker::new(spec.clone(), spec.state_version, 0, &SavedGroups::new(), |_| true, None).map_err(failed)?;
    let touch = |worker: &mut Worker, from: u64, to: u64, step: u64| -> anyhow::Result<()> {
        let keys: Vec<u64> = (from..to).map(|at| at * step % groups).collect();
        for part in keys.chunks(1024) {
            let records = Batch::of_values(part.iter().map(|_| "0123456789abcdef").collect())
                .with_keys(part.iter().map(|key| format!("key-{key:08}")).collect())?
                .with_timestamps(part.iter().map(|_| 0).collect())?;
            worker.work(Work::Batch(0, records)).map_err(failed)?;
        }
        Ok(())
    };
    touch(&mut worker, 0, groups, 1)?;
    worker.take_changes();
    let mut runs = Vec::new();
    for round in 0..rounds as u64 {
        // A prime step, so that what changes lies all over.
        touch(&mut worker, round * changed, (round + 1) * changed, 7919)?;
        let started = Start::now();
        let changes = worker.take_changes();
        runs.push(started.took());
        ensure!(changes.len() as u64 <= changed, "{} groups were handed over", changes.len());
    }
    Ok((median(&runs), groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_fold_every_record_and_a_pause_hands_over_what_changed() {
        let result = measure(1000, 1, Duration::ZERO).unwrap();
        assert!(result.records == 4000 && result.epochs >= 1, "{result:?}");
        let (_, groups) = pause(1 << 20, 100, 1).unwrap();
        assert_eq!(groups, (1 << 20) / GROUP);
    }
}
