//! From the command to the last result: a pipeline of five plugins and 1,000 records, in a process of its own.
//!
//! Owns the pipeline and the two states of the cache. Invariant: the process has ended by itself and written its results,
//! all of them, when the time is taken.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::records;

/// Records of the run.
pub const RECORDS: u64 = 1000;

/// How long a start took, by the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Result {
    /// With nothing compiled before.
    pub cold: Duration,
    /// With everything compiled before.
    pub warm: Duration,
}

/// Five stages, each with a plugin of its own.
fn pipeline() -> String {
    let [served, reshape, sums] = ["served", "reshape", "sums"].map(|name| crate::guest(name).display().to_string());
    format!(
        "version: 1
name: start
sources:
  access: {{ file: {{ path: input.ndjson }}, decode: json, key: /client, time: /ts }}
stages:
  known: {{ from: access, filter: std/where, config: {{ where: status > 0 }} }}
  routed: {{ from: known, map: std/route, config: {{ odd: ms > 1000000 }} }}
  served: {{ from: routed, filter: {served} }}
  reshape: {{ from: served, map: {reshape} }}
  sums: {{ from: reshape, aggregate: {sums}, window: {{ tumbling: 1s }} }}
sinks:
  out: {{ from: sums, stdout: {{}}, encode: json }}
  odd: {{ from: routed.odd, discard: {{}} }}
"
    )
}

/// Runs `program` on the pipeline in `folder`, and returns how long that took.
fn run(program: &Path, folder: &Path) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let output = Command::new(program)
        .args(["run", "pipeline.yaml", "--cache", "cache", "--state", "none"])
        .current_dir(folder)
        .output()?;
    let took = started.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    #[derive(serde::Deserialize)]
    struct Total {
        count: u64,
    }
    let totals = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let counts =
        totals.map(|line| Ok(serde_json::from_slice::<Total>(line)?.count)).collect::<anyhow::Result<Vec<_>>>()?;
    let served = (0..RECORDS).filter(|at| !records::record(*at, 256).contains(workloads::NEEDLE)).count() as u64;
    ensure!(counts.iter().sum::<u64>() == served, "{} of {served} records were summed", counts.iter().sum::<u64>());
    Ok(took)
}

/// Measures `rounds` cold and warm starts of `program`, in turns.
///
/// # Errors
/// When a run fails or its results are not complete.
pub fn measure(program: &Path, rounds: usize) -> anyhow::Result<Result> {
    let folder = tempfile::tempdir()?;
    records::write(&folder.path().join("input.ndjson"), RECORDS, 256)?;
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline())?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let cache = folder.path().join("cache");
        if cache.exists() {
            std::fs::remove_dir_all(&cache)?;
        }
        cold.push(run(program, folder.path())?);
        warm.push(run(program, folder.path())?);
    }
    Ok(Result { cold: median(cold), warm: median(warm) })
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
