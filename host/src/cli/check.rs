//! `check`: whether pipelines can run, without running them.
//!
//! Owns what is said of a good one. Invariant: no port is bound and no file written.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Answer, Outcome, figure, files, settings};
use crate::{
    config::{
        budget,
        graph::{Graph, LETTERS},
        guarantee::{Guaranteed, guarantees},
    },
    unit::Size,
};

#[derive(Args, Debug)]
#[command(
    after_help = "What is legal and probably not meant is a warning: it is shown, and the exit code is 0 all the same.

Example:
  tidegate check pipelines/*.yaml README.md"
)]
pub(super) struct Check {
    /// Pipelines: YAML files, or Markdown files whose `yaml` fences are pipelines.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    settings: settings::Settings,
}

/// A pipeline that was found good.
#[derive(Serialize)]
struct Good {
    file: PathBuf,
    pipeline: String,
    sources: usize,
    stages: usize,
    sinks: usize,
    /// Bytes that all limits add up to.
    memory: u64,
    workers: usize,
    guarantees: Vec<Guaranteed>,
}

impl Good {
    fn of(file: PathBuf, graph: &Graph, is_kept: bool) -> Self {
        let guarantees = guarantees(graph, is_kept);
        let memory = budget::summands(graph).iter().map(|part| part.bytes).fold(0, u64::saturating_add);
        Self {
            file,
            pipeline: graph.name.clone(),
            // The host's own source and sink of dead letters are not in the file.
            sources: graph.sources.iter().filter(|source| source.name != LETTERS).count(),
            stages: graph.stages.len(),
            sinks: guarantees.len(),
            memory,
            workers: graph.stages.iter().map(|stage| stage.workers).sum(),
            guarantees,
        }
    }

    fn line(&self) -> String {
        let mebibytes = Size(self.memory.div_ceil(1 << 20) << 20);
        format!(
            "{}: `{}` is fine: {}, {}, {}; at most {mebibytes} of memory, {}\n",
            self.file.display(),
            self.pipeline,
            figure::several(self.sources, "source"),
            figure::several(self.stages, "stage"),
            figure::several(self.sinks, "sink"),
            figure::several(self.workers, "worker"),
        ) + &self.guarantees.iter().map(guarantee_line).collect::<String>()
    }
}

fn guarantee_line(of: &Guaranteed) -> String {
    let because: Vec<&str> = of.because.iter().map(String::as_str).collect();
    let colon = if because.is_empty() { "" } else { ": " };
    format!("  `{}` has every record {}{colon}{}\n", of.sink, of.guarantee.words(), because.join("; "))
}

impl Check {
    pub(super) fn perform(self) -> Outcome {
        let host = self.settings.read()?;
        super::log::start(&crate::config::Log { level: crate::config::LogLevel::Warn, ..host.host.log.clone() });
        let engine = settings::engine_if_cached(Path::new(&host.host.plugins.cache))?;
        let mut checked =
            files::check(&self.files, &host, &engine).map_err(|faults| Box::new(Answer::refused(faults)))?;
        let warnings: Vec<_> = checked.iter_mut().flat_map(|one| std::mem::take(&mut one.warnings)).collect();
        let is_kept = host.host.state_folder().is_some();
        let good: Vec<Good> = checked.into_iter().map(|one| Good::of(one.file, &one.prepared.graph, is_kept)).collect();
        let text: String = good.iter().map(Good::line).collect();
        let warned = if warnings.is_empty() {
            String::new()
        } else {
            format!(", {}", figure::several(warnings.len(), "warning"))
        };
        let summary = format!("{} fine{warned}", figure::several(good.len(), "pipeline"));
        Ok(Answer { diagnostics: warnings, ..Answer::fine(summary, &good, text) })
    }
}
