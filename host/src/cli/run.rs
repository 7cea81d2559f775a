//! `run`: pipelines from their files to their ends.
//!
//! Owns the order: check everything, open everything, start everything, wait for every end. Invariant: nothing is
//! opened before all files have been found good, and nothing started before everything is open.

mod host;
mod live;
pub(super) mod state;
mod summary;
mod watch;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Answer, Exit, Outcome, Trouble, answer::Patience, files, log, settings};
use crate::{
    config::{self, LoadedHost, LogFormat, LogLevel, budget},
    pipeline::run::threads,
    unit::Span,
};

pub(super) use summary::part_rows;

#[derive(Args, Debug)]
pub(super) struct Run {
    /// Pipelines; those that the host's settings name, where none is given.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    settings: settings::Settings,
    /// Where the control socket is made [default: .tidegate/tidegate.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// Begin anew with this source, stage or sink of the pipelines, or with `all`: forget what was committed of it.
    #[arg(long, value_name = "NAME")]
    reset_state: Vec<String>,
    /// Address and port for metrics and health over TCP; they are on the control socket in any case.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// How log lines look [default: human].
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// What is worth a log line [default: info].
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// How long a drain may take; what is not finished then is given up.
    #[arg(long, value_name = "TIME", default_value = "25s")]
    drain_deadline: Span,
    /// Drain after this time.
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// Say every second what flows, where standard error is no terminal; on a terminal it stands there in any case.
    #[arg(long)]
    progress: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// What stops something.
    Error,
    /// What may stop something.
    Warn,
    /// Decisions.
    Info,
    /// Their reasons.
    Debug,
    /// Everything.
    Trace,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Human => Self::Human,
            Format::Json => Self::Json,
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

impl Run {
    pub(super) fn perform(self) -> Outcome {
        let host = self.host()?;
        log::start(&host.host.log);
        let files = self.files(&host)?;
        let engine = settings::engine(Path::new(&host.host.plugins.cache))?;
        let checked = files::check(&files, &host, &engine).map_err(|faults| Box::new(Answer::refused(faults)))?;
        let workers: usize = checked.iter().map(|one| threads(&one.prepared.graph)).sum();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(workers + budget::REST)
            .thread_name("tidegate")
            .enable_all()
            .build()
            .map_err(|error| {
                Box::new(Answer::failed(Exit::Environment, Trouble::of(format!("start a runtime: {error}"))))
            })?;
        let terms = watch::Terms {
            drain_deadline: self.drain_deadline.0,
            duration: self.duration.map(|duration| duration.0),
            live: live::Live::new(self.progress, checked.iter().any(|one| owns_stdout(&one.prepared.graph))),
        };
        let outcome = runtime.block_on(async {
            // Nobody who has seen that it runs may end it otherwise than by a drain.
            let signals = watch::Signals::catch();
            let opened = host::open(checked, &host.host, &self.reset_state, self.drain_deadline.0).await?;
            let watched = watch::watch(opened, terms, signals).await;
            Ok(summary::answer(watched))
        });
        // What has not ended by now never will; the process ends without it.
        runtime.shutdown_background();
        outcome
    }

    /// The settings of the host, flags put over the file.
    fn host(&self) -> Result<LoadedHost, Box<Answer>> {
        let mut loaded = self.settings.read()?;
        let host = &mut loaded.host;
        host.api.socket = self.socket.clone().or_else(|| host.api.socket.take());
        host.api.listen = self.listen.clone().or_else(|| host.api.listen.take());
        if let Some(format) = self.log_format {
            host.log.format = format.into();
        }
        if let Some(level) = self.log_level {
            host.log.level = level.into();
        }
        Ok(loaded)
    }

    /// The files that were named, or else those that the host's settings name.
    fn files(&self, host: &LoadedHost) -> Result<Vec<PathBuf>, Box<Answer>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let usage = |message: String| Box::new(Answer::failed(Exit::Usage, Trouble::of(message)));
        let folder = self.settings.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for pattern in &host.host.pipelines {
            let whole = folder.join(pattern);
            let found = glob::glob(&whole.to_string_lossy())
                .map_err(|error| usage(format!("read the pattern `{pattern}` of `pipelines`: {error}")))?;
            for file in found {
                files.push(file.map_err(|error| usage(format!("look for `{pattern}`: {error}")))?);
            }
        }
        if files.is_empty() {
            return Err(usage(
                "find a pipeline: no file is named, and `pipelines` of the settings fits none".to_owned(),
            ));
        }
        Ok(files)
    }
}

/// Whether records of `graph` go to standard output.
fn owns_stdout(graph: &config::graph::Graph) -> bool {
    graph.sinks.iter().any(|sink| matches!(sink.output, config::graph::Output::Stdout(_)))
}
