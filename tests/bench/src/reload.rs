//! Reloads: how long a stage stands still, and how soon records come through code that has just been saved.
//!
//! Owns both measurements. Invariant: a pause is everything that a worker does for an exchange between two calls; a plugin
//! has arrived when the host has counted a record of its generation.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, ensure};
use tidegate::{
    batch::{Batch, ColumnBuilder},
    config::OnError,
    plugin::{Engine, Interrupt},
    stage::{
        generation::{Successor, Verdict},
        worker::{SavedGroups, Work, Worker},
    },
};

use crate::{calls, guest, records};

/// Exchanges that are timed.
pub const EXCHANGES: usize = 1000;

/// What pauses came to.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// Half of them were shorter.
    pub median: Duration,
    /// One in a hundred was longer.
    pub p99: Duration,
}

/// How long a worker under load takes for an exchange.
///
/// # Errors
/// When the plugin cannot be loaded or faults.
pub fn pauses() -> anyhow::Result<Pauses> {
    let engine = Engine::new(None)?;
    let spec = calls::spec("contains", &engine, OnError::Stop)?;
    let failed = |failure| anyhow!("{failure}");
    let mut worker = Worker::new(spec.clone(), 0, 0, &SavedGroups::new(), |_| true, None).map_err(failed)?;
    let mut values = ColumnBuilder::default();
    (0..1024).for_each(|at| values.push(records::record(at, 256).as_bytes()));
    let (batch, mut all) = (Batch::of_values(values.finish()), Vec::new());
    for _ in 0..EXCHANGES {
        worker.work(Work::Batch(0, batch.clone())).map_err(failed)?;
        let instance = spec.maker.make(&Interrupt::default()).map_err(|fault| anyhow!("{}", fault.message))?;
        let successor = Box::new(Successor { spec: spec.clone(), instance, refusal: Arc::default() });
        let began = Instant::now();
        worker.work(Work::Prepare(successor)).map_err(failed)?;
        worker.work(Work::Settle(Verdict::Take)).map_err(failed)?;
        all.push(began.elapsed());
    }
    all.sort_unstable();
    let at = |share: usize| all.get(EXCHANGES * share / 100).copied().unwrap_or_default();
    Ok(Pauses { median: at(50), p99: at(99) })
}

/// How long it takes from the moment at which a plugin has been saved until a record came through it, each time with bytes
/// that were never compiled before; sorted.
///
/// # Errors
/// When the host ends, or a plugin does not arrive.
pub fn arrivals(program: &Path, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let folder = tempfile::tempdir()?;
    let plugin = std::fs::read(guest("identity"))?;
    let pipeline = "version: 1
name: reload
sources: { in: { generate: {}, rate: 10000/s } }
stages: { work: { from: in, filter: work.wasm, reload: { watch: true, probation: 0s } } }
sinks: { out: { from: work, discard: {} } }
";
    std::fs::write(folder.path().join("reload.yaml"), pipeline)?;
    std::fs::write(folder.path().join("work.wasm"), &plugin)?;
    let command = |args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let mut host = command(&["run", "reload.yaml", "--cache", "cache"]).spawn()?;
    let mut all = Vec::new();
    for round in 0..=rounds {
        let began = Instant::now();
        if round > 0 {
            // A custom section without meaning makes other bytes of it.
            let mut bytes = plugin.clone();
            bytes.extend([0, 2, 1, u8::try_from(round)?]);
            std::fs::write(folder.path().join("new.wasm"), bytes)?;
            std::fs::rename(folder.path().join("new.wasm"), folder.path().join("work.wasm"))?;
        }
        loop {
            let said = command(&["status", "--json"]).output()?;
            let status: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
            let serves = &status["result"]["pipelines"][0]["stages"][0]["generation"];
            let has_arrived = serves["generation"].as_u64() > u64::try_from(round).ok();
            if has_arrived && serves["records"].as_u64() > Some(0) {
                break;
            }
            if let Some(status) = host.try_wait()? {
                bail!("the host has ended: {status}");
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "a plugin that was saved does not arrive: {serves}");
        }
        if round > 0 {
            all.push(began.elapsed());
        }
    }
    ensure!(command(&["drain"]).status()?.success() && host.wait()?.success(), "the host was not drained");
    all.sort_unstable();
    Ok(all)
}
