//! The host's settings: its file, and the flags that win over it.
//!
//! Owns that order. Invariant: whatever a file can say, a flag can.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Answer, Exit, Trouble};
use crate::{
    config::{self, LoadedHost, codes},
    plugin::{Cache, CompileWorker, Engine},
    unit::Size,
};

/// Settings that decide whether pipelines fit the host.
#[derive(Args, Debug, Default)]
pub(super) struct Settings {
    /// File with the host's settings.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Budget against which the sum of all limits is checked [default: 1GiB].
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Most threads: one for each worker, and 64 for the rest [default: 256].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(65..))]
    threads: Option<u32>,
    /// Folder of what outlives the process; `none` keeps nothing [default: .tidegate].
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
    /// Folder of compiled plugins [default: .tidegate/cache].
    #[arg(long, value_name = "FOLDER")]
    cache: Option<String>,
}

impl Settings {
    /// Reads the file, if there is one, and puts the flags over it.
    pub(super) fn read(&self) -> Result<LoadedHost, Box<Answer>> {
        let mut loaded = match &self.config {
            Some(path) => config::load_host(path).map_err(|faults| Box::new(Answer::refused(faults)))?,
            None => LoadedHost::default(),
        };
        if self.memory.is_some() || self.threads.is_some() {
            // A fault of these figures has no place in the file any more.
            loaded.text = std::sync::Arc::default();
        }
        if let Some(memory) = self.memory {
            loaded.host.memory = memory.into();
        }
        if let Some(threads) = self.threads {
            loaded.host.threads.max = threads.into();
        }
        if let Some(state) = &self.state {
            loaded.host.state.clone_from(state);
        }
        if let Some(cache) = &self.cache {
            loaded.host.plugins.cache.clone_from(cache);
        }
        Ok(loaded)
    }
}

/// An engine with the cache in `folder`, which is made where there is none.
pub(super) fn engine(folder: &Path) -> Result<Engine, Box<Answer>> {
    let cache = Cache::open(folder).map_err(|error| {
        let trouble = Trouble::of(format!("{error:#}")).code(codes::UNSAFE_CACHE);
        let cure = "name a folder that only you can write with `--cache`";
        Box::new(Answer::failed(Exit::Environment, trouble.cure(cure)))
    })?;
    start(Some(cache))
}

/// An engine with the cache in `folder`, if there is one that can be used: to look at a plugin must leave no trace.
pub(super) fn engine_if_cached(folder: &Path) -> Result<Engine, Box<Answer>> {
    let cache = if folder.is_dir() { Cache::open(folder) } else { return start(None) };
    match cache {
        Ok(cache) => start(Some(cache)),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the cache of compiled code is not used");
            start(None)
        }
    }
}

fn start(cache: Option<Cache>) -> Result<Engine, Box<Answer>> {
    let engine = Engine::with_worker(cache, CompileWorker::of_this_program());
    engine.map_err(|error| Box::new(Answer::failed(Exit::Environment, Trouble::of(format!("{error:#}")))))
}
