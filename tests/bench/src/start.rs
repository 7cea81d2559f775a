//! From the command to the last result: a pipeline of five plugins and 1,000 records, in a process of its own; and from the
//! command to being ready, for a host that was killed with many groups in its state.
//!
//! Owns the pipelines and the two states of the cache. Invariant: when the time is taken, the process has ended by itself
//! and written its results, all of them; or it says itself that it runs, with all groups.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

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

/// Groups that a host finds again.
pub const GROUPS: u64 = 1_000_000;

/// A running aggregate of a file that is followed, in a folder.
struct Host<'a> {
    program: &'a Path,
    folder: &'a Path,
}

impl Host<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(args).current_dir(self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self) -> std::io::Result<Child> {
        self.command(&["run", "groups.yaml", "--cache", "cache", "--memory", "2GiB"]).spawn()
    }

    /// Asks until the host runs and its stage holds all groups.
    fn until_ready(&self, host: &mut Child) -> anyhow::Result<()> {
        loop {
            let said = self.command(&["status", "--json"]).stdout(Stdio::piped()).output()?;
            let status: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
            let pipeline = &status["result"]["pipelines"][0];
            if pipeline["phase"] == "running" && pipeline["stages"][0]["groups"] == GROUPS {
                return Ok(());
            }
            if let Some(status) = host.try_wait()? {
                bail!("the host has ended: {status}");
            }
        }
    }
}

/// How long a host that was killed takes until it is ready again with [`GROUPS`] groups, the median of `rounds`.
///
/// # Errors
/// When the host ends.
pub fn recovery(program: &Path, rounds: usize) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let mut input = BufWriter::new(File::create(folder.path().join("input.ndjson"))?);
    for at in 0..GROUPS {
        writeln!(input, "{{\"key\":\"k{at}\",\"value\":{at}}}")?;
    }
    input.flush()?;
    let pipeline = "version: 1
name: groups
sources: { in: { file: { path: input.ndjson, follow: true }, decode: json, key: /key } }
stages: { sums: { from: in, aggregate: std/summary, config: { field: /value }, state: { max: 512MiB } } }
sinks: { out: { from: sums, discard: {} } }
";
    std::fs::write(folder.path().join("groups.yaml"), pipeline)?;
    let host = Host { program, folder: folder.path() };
    let mut first = host.start()?;
    host.until_ready(&mut first)?;
    let is_drained = host.command(&["drain"]).status()?.success();
    ensure!(is_drained && first.wait()?.success(), "the host was not drained");
    let mut all = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let mut again = host.start()?;
        host.until_ready(&mut again)?;
        all.push(started.elapsed());
        again.kill()?;
        again.wait()?;
    }
    Ok(median(all))
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
