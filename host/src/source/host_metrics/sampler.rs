//! One look at the machine: processors, memory, file systems, networks, load, processes.
//!
//! Owns the names and units of the metrics and where they are read. It must not know when it is called. Reading is
//! blocking; rates are over the real time since the look before.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;
use sysinfo::{Networks, ProcessRefreshKind, ProcessesToUpdate, System};

use super::mounts;

/// One measurement, as it is written.
#[derive(Serialize)]
struct Measurement<'a> {
    /// Milliseconds since the Unix epoch.
    ts: u64,
    host: &'a str,
    metric: &'a str,
    value: f64,
    unit: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

/// What has to be remembered from one look to the next.
pub(super) struct Sampler {
    host: String,
    system: System,
    networks: Networks,
    looked: Instant,
}

/// The lines of one look.
struct Lines<'a> {
    ts: u64,
    host: &'a str,
    out: Vec<u8>,
}

impl Lines<'_> {
    fn put(&mut self, metric: &str, value: f64, unit: &str, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let labels = labels.iter().copied().collect();
        let line = Measurement { ts: self.ts, host: self.host, metric, value, unit, labels };
        serde_json::to_writer(&mut self.out, &line).with_context(|| format!("write {metric}"))?;
        self.out.push(b'\n');
        Ok(())
    }
}

impl Sampler {
    /// A first look, from which the next one's rates are counted.
    ///
    /// # Errors
    /// When this machine does not tell.
    pub(super) fn open() -> anyhow::Result<Self> {
        let mut system = System::new().context("look at the system")?;
        system.refresh_cpu_usage();
        let networks = Networks::new_with_refreshed_list().context("list the network interfaces")?;
        let host = System::host_name().context("find the host's name")?;
        Ok(Self { host, system, networks, looked: Instant::now() })
    }

    /// Measures everything; one JSON document a line. `missed` ticks are reported among the metrics.
    ///
    /// # Errors
    /// When this machine does not tell.
    pub(super) fn look(&mut self, missed: u64) -> anyhow::Result<Vec<u8>> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::All,
            true,
            ProcessRefreshKind::nothing().without_tasks(),
        );
        self.networks.refresh(true);
        let seconds = self.looked.elapsed().as_secs_f64().max(f64::EPSILON);
        self.looked = Instant::now();
        let ts = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut lines = Lines { ts, host: &self.host, out: Vec::with_capacity(8 << 10) };

        for (i, cpu) in self.system.cpus().iter().enumerate() {
            lines.put("cpu.usage", f64::from(cpu.usage()), "percent", &[("cpu", &i.to_string())])?;
        }
        for (metric, bytes) in [
            ("memory.used", self.system.used_memory()),
            ("memory.total", self.system.total_memory()),
            ("swap.used", self.system.used_swap()),
        ] {
            lines.put(metric, bytes as f64, "bytes", &[])?;
        }
        for mount in mounts::list()? {
            let labels = [("device", &*mount.device), ("fs", &*mount.fs), ("mount", &*mount.path)];
            lines.put("disk.used", mount.used as f64, "bytes", &labels)?;
            lines.put("disk.total", mount.total as f64, "bytes", &labels)?;
        }
        for (name, network) in &self.networks {
            let name = name.to_string_lossy();
            let labels = [("interface", &*name)];
            lines.put("network.received", network.received() as f64 / seconds, "bytes/s", &labels)?;
            lines.put("network.sent", network.transmitted() as f64 / seconds, "bytes/s", &labels)?;
            lines.put("network.received_total", network.total_received() as f64, "bytes", &labels)?;
            lines.put("network.sent_total", network.total_transmitted() as f64, "bytes", &labels)?;
        }
        let load = System::load_average().context("read the load")?;
        for (metric, value) in [("load.1", load.one), ("load.5", load.five), ("load.15", load.fifteen)] {
            lines.put(metric, value, "processes", &[])?;
        }
        lines.put("processes.count", self.system.processes().len() as f64, "processes", &[])?;
        if missed > 0 {
            lines.put("host_metrics.missed", missed as f64, "ticks", &[])?;
        }
        Ok(lines.out)
    }
}
