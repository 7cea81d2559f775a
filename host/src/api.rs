//! The host's own interface: health, metrics, status and drain, over HTTP.
//!
//! Owns who may ask what: everything on the control socket, which only the owner of the host can open, and what changes
//! nothing on TCP. It must not know clap or how a pipeline is made. Invariant: nothing here is on the way of a batch; a
//! board is read, and a drain is asked for.

pub mod breakers;
pub mod client;
mod guard;
pub mod kept;
pub mod metrics;
pub mod reload;
pub mod replay;
mod routes;
mod serve;
pub mod socket;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::{
    config::graph::Stage,
    letter,
    log::Readable,
    pipeline::{Board, Command, Drain, Status},
    store::Store,
    topic::Topics,
};

pub use routes::{control, open};
pub use serve::serve;

/// Version of the host.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that can be asked about a running host.
#[derive(Debug)]
pub struct Service {
    /// Its pipelines, in the order in which they were named.
    pub pipelines: Vec<Arc<Hosted>>,
    /// What outlives it, if anything does.
    pub store: Option<Arc<Store>>,
    /// What its pipelines share, where anything outlives it.
    pub topics: Option<Arc<Topics>>,
    /// Where a drain is asked for; the host's main loop holds the other end.
    pub drains: mpsc::Sender<Drain>,
    /// How long a drain may take where nobody says.
    pub drain_deadline: Duration,
    /// Becomes true when every pipeline has ended; the host's main loop holds the other end.
    pub all_ended: watch::Receiver<bool>,
    /// When the host started.
    pub started: Instant,
}

/// A pipeline as the interface sees it.
#[derive(Debug)]
pub struct Hosted {
    /// What it shows of itself.
    pub board: Arc<Board>,
    /// Where it is told.
    pub commands: mpsc::Sender<Command>,
    /// How it ended, once it has.
    pub end: OnceLock<End>,
}

/// Which plugin serves a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Name of the stage.
    pub stage: String,
    /// The plugin's name, as its author gave it.
    pub name: String,
    /// Its version, as its author gave it.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
}

/// How a pipeline ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Name of the pipeline.
    pub pipeline: String,
    /// In a word: `completed`, `drained`, `deadline_passed`, `stopped`, `faulted` or `failed`.
    pub ending: String,
    /// Exit code that it alone would give the process.
    pub exit: u8,
}

/// The answer to `/api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Version of the host.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub seconds: f64,
    /// Whether anything outlives its process.
    pub keeps_state: bool,
    /// Its pipelines.
    pub pipelines: Vec<Status>,
    /// Those that have ended, and how.
    pub ended: Vec<End>,
    /// The plugins of each pipeline.
    pub plugins: Vec<Vec<PluginInfo>>,
}

/// The dead letters of one pipeline, in the answer to `/api/v1/letters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letterbox {
    /// The pipeline.
    pub pipeline: String,
    /// Letters that are kept.
    pub letters: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

impl Letterbox {
    /// What is kept of `pipeline`.
    pub fn of(pipeline: &str, letters: &Readable) -> Self {
        Self { pipeline: pipeline.to_owned(), letters: letters.records(), bytes: letters.log.bytes() }
    }
}

/// The answer to `/api/v1/drain`, once everything has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// How each pipeline ended.
    pub ended: Vec<End>,
}

impl Hosted {
    /// The plugins that serve its stages.
    pub fn plugins(&self) -> Vec<PluginInfo> {
        let info = |(at, stage): (usize, &Stage)| {
            let letter::Plugin { name, version, digest } = self.board.plugin(at)?;
            Some(PluginInfo { stage: stage.name.clone(), name, version, digest })
        };
        self.board.graph().stages.iter().enumerate().filter_map(info).collect()
    }
}

impl Service {
    /// The host as it stands.
    pub fn status(&self) -> HostStatus {
        HostStatus {
            version: VERSION.to_owned(),
            pid: std::process::id(),
            seconds: self.started.elapsed().as_secs_f64(),
            keeps_state: self.store.is_some(),
            pipelines: self.pipelines.iter().map(|pipeline| pipeline.board.status()).collect(),
            ended: self.ends(),
            plugins: self.pipelines.iter().map(|pipeline| pipeline.plugins()).collect(),
        }
    }

    /// The dead letters of its pipelines.
    pub fn letterboxes(&self) -> Vec<Letterbox> {
        let kept =
            |hosted: &Arc<Hosted>| Some(Letterbox::of(&hosted.board.graph().name, &hosted.board.letters().readable()?));
        self.pipelines.iter().filter_map(kept).collect()
    }

    /// The dead letters of one of its pipelines.
    pub fn letters(&self, pipeline: &str) -> Option<Readable> {
        let hosted = self.pipelines.iter().find(|hosted| hosted.board.graph().name == pipeline)?;
        hosted.board.letters().readable()
    }

    fn ends(&self) -> Vec<End> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.end.get().cloned()).collect()
    }
}
