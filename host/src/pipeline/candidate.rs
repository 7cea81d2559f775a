//! Candidates: a plugin's file on its way to serving a stage that runs.
//!
//! Owns what is checked before anybody hears of a candidate: everything that is checked when a pipeline starts, and that
//! it fits the graph which is there. It must not know how a stage changes over. Invariant: whatever is wrong with a file,
//! nothing but the answer comes of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    build::PluginPart,
    open::{STANDARD, configured, facts_of, load, part_of},
    reload::Build,
    shelf::Shelf,
    watch::Seen,
};
use crate::{
    config::{
        Loaded,
        graph::{self, Graph, PluginFacts, Stage},
        mask,
    },
    crash,
    plugin::{Engine, Kind},
    stage::verify::{self, Vector},
};

/// How long a file has to stay as it is before it is read: whoever writes it writes on within that.
const STILL: Duration = Duration::from_millis(100);

/// How long to wait for that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Builds candidates for the stages of one pipeline.
#[derive(Clone)]
pub(super) struct Candidates {
    pub(super) loaded: Loaded,
    pub(super) engine: Engine,
    /// The graph as the file has it.
    pub(super) graph: Arc<Graph>,
    /// Where each stage of the pipeline stands in it.
    pub(super) stages: Vec<usize>,
    pub(super) facts: BTreeMap<String, PluginFacts>,
    pub(super) state: Option<PathBuf>,
    /// What the plugins call themselves whose states there are, by stage.
    pub(super) names: Vec<String>,
    /// What stands in for the plugin of each stage, whichever serves it.
    pub(super) fallbacks: Vec<Option<Box<PluginPart>>>,
}

impl Candidates {
    /// Where bytes are kept, where anything is.
    pub(super) fn shelf(&self) -> Option<Shelf> {
        self.state.as_deref().map(Shelf::of)
    }
}

impl Build for Candidates {
    fn build(&self, stage: usize, from: Option<&Path>) -> Result<PluginPart, String> {
        let stage = *self.stages.get(stage).ok_or("there is no such stage")?;
        let now = self.graph.stages.get(stage).ok_or("there is no such stage")?;
        let (folder, written) = match from {
            Some(path) => (Path::new(""), path.to_string_lossy()),
            None => (&*self.loaded.folder, now.plugin.as_str().into()),
        };
        if !written.starts_with(STANDARD) {
            wait_until_still(&folder.join(&*written))?;
        }
        let plugin = load(folder, &written, &self.engine).map_err(|wrong| told(*wrong))?;
        let facts = facts_of(&plugin);
        let mut all = self.facts.clone();
        all.insert(now.name.clone(), facts);
        let graph = graph::check(&self.loaded, &all, self.state.as_deref()).map_err(|faults| {
            let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
            messages.join("; ")
        })?;
        let then = graph.stages.iter().find(|stage| stage.name == now.name).ok_or("there is no such stage")?;
        fits(now, then, &self.graph, &graph)?;
        let (name, was) = (&plugin.described().name, self.names.get(stage));
        if now.kind == Kind::Aggregate && was.is_some_and(|was| was != name) {
            let was = was.map_or("", String::as_str);
            return Err(format!(
                "it is `{name}`, and the states are those of `{was}`: give them up with `--reset-state`"
            ));
        }
        let maker = configured(then, &plugin).map_err(|why| format!("it refuses its configuration: {}", mask(&why)))?;
        if let Some(written) = &plugin.described().selftest {
            let vectors: Vec<Vector> = serde_json::from_value(written.clone())
                .map_err(|error| format!("its self-test cannot be read: {error}"))?;
            if let Some(unfit) = verify::vectors(&plugin, &maker.limits, &vectors).first() {
                return Err(format!("it does not pass its own self-test: {unfit}"));
            }
        }
        // What a commit will name has to be there before it serves.
        if let Some(shelf) = self.shelf() {
            shelf
                .keep(plugin.digest(), plugin.bytes())
                .map_err(|error| format!("its bytes cannot be kept: {error}"))?;
        }
        crash::point("reload.kept");
        let fallback = self.fallbacks.get(stage).cloned().flatten();
        Ok(PluginPart { fallback, ..part_of(then, &written, &plugin, maker) })
    }
}

fn told((_, message, cure): (&'static str, String, Option<String>)) -> String {
    cure.map_or(message.clone(), |cure| format!("{message}; {cure}"))
}

/// Whether the graph that is there can go on with the stage as it would be.
fn fits(now: &Stage, then: &Stage, graph: &Graph, other: &Graph) -> Result<(), String> {
    if now.outputs != then.outputs {
        let listed = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!(
            "its side outputs are {}, those of the stage are {}: run the pipeline anew",
            listed(&then.outputs),
            listed(&now.outputs)
        ));
    }
    let sources = graph.sources.iter().zip(&other.sources).all(|(now, then)| now.ids == then.ids);
    let stages = graph.stages.iter().zip(&other.stages).all(|(now, then)| now.ids == then.ids);
    if sources && stages {
        Ok(())
    } else {
        Err("it wants ids, which the records of this pipeline do not have: run the pipeline anew".to_owned())
    }
}

/// Waits until nobody writes to the file at `path` any more.
fn wait_until_still(path: &Path) -> Result<(), String> {
    let began = Instant::now();
    let mut before = Seen::of(path);
    loop {
        sleep(STILL);
        let now = Seen::of(path);
        if now == before {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("`{}` is still being written", path.display()));
        }
        before = now;
    }
}
