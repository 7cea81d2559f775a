//! From a file that has been read to everything a pipeline is made of.
//!
//! Owns the order of the checks: plugins are loaded and asked before the graph is, and nothing is opened before the
//! whole of it has been found good (invariant 7). It must not know how a file is written or how a plugin is run.

mod letters;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    panic::resume_unwind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
};

use anyhow::{Context as _, ensure};

pub(super) use letters::open_replays;

use super::{
    build::{Parts, PluginPart},
    candidate::Candidates,
    generations::Terms,
    reload::{Build as _, Reloading},
    standby::{Place, refused, standing_in, written},
    topics,
};
use crate::{
    config::{
        Diagnostic, Loaded, codes,
        graph::{self, Domain, Fallback, Graph, Input, Letters, Medium, Output, Passage, PluginFacts, Stage, WhenFull},
        in_order,
    },
    disk::RealDisk,
    letter::{self, Office, Origin, Origins, Part},
    log::Access,
    plugin::{Engine, Fault, Instance, Interrupt, Limits, LoadError, Plugin, standard},
    queue::Queues,
    sink::{
        self, Sink,
        http::{
            HttpSink,
            outbox::{self, Outbox},
        },
        log::{Form, LogSink, Room},
    },
    source::{Role, Source, rest::Rest},
    stage::{generation::Standing, worker::Maker},
    topic::Topics,
};

/// The folder that a plugin's name begins with when the binary carries it.
pub(super) const STANDARD: &str = "std/";

/// A pipeline that has been checked as a whole, plugins included, and of which nothing has been opened yet.
pub struct Prepared {
    /// Its graph.
    pub graph: Arc<Graph>,
    /// The plugins of its stages, in the order of the graph.
    pub plugins: Vec<Plugin>,
    makers: Vec<PluginPart>,
    candidates: Arc<Candidates>,
    /// Positions of stages whose file has changed since what serves first was committed.
    changed: Vec<usize>,
    /// What stands between its parts, and drops.
    queues: Arc<Queues>,
}

/// Instances of a plugin under the limits and the configuration of one stage.
pub(super) struct Configured {
    plugin: Plugin,
    pub(super) limits: Limits,
    config: serde_json::Value,
}

impl Maker for Configured {
    fn make(&self, interrupt: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>> {
        Ok(Box::new(self.plugin.instantiate(&self.limits, &self.config)?.under(interrupt)))
    }
}

/// Checks a file as a whole: its shape, its plugins, its graph, and whether every plugin takes its configuration. What
/// cannot be processed is kept below `state`, the folder of what outlives the process; without one, nothing is.
///
/// # Errors
/// All faults that were found, in the order of the file.
pub fn open(loaded: &Loaded, engine: &Engine, state: Option<&Path>) -> Result<Prepared, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let (mut facts, mut plugins) = (BTreeMap::new(), BTreeMap::new());
    let known = load_all(loaded, engine);
    let named = loaded.pipeline.stages.iter().flat_map(|(name, stage)| {
        written(stage).map(|(place, plugin)| match place {
            Place::Own => (name.value.clone(), plugin),
            Place::Fallback => (Fallback::name(&name.value), plugin),
        })
    });
    for (name, written) in named {
        match known.get(written.value.as_str()) {
            Some(Ok(plugin)) => {
                facts.insert(name.clone(), facts_of(plugin));
                plugins.insert(name, plugin.clone());
            }
            Some(Err(wrong)) => {
                let (code, message, cure) = wrong.as_ref();
                let fault = Diagnostic::error(code, &loaded.text, message.clone()).at(written.span.clone());
                faults.push(match cure {
                    Some(cure) => fault.cure(cure.clone()),
                    None => fault,
                });
            }
            None => {}
        }
    }
    let graph = match graph::check(loaded, &facts, state) {
        Ok(graph) => graph,
        Err(more) => {
            faults.extend(more);
            return Err(in_order(faults));
        }
    };
    let (mut used, mut makers): (Vec<Plugin>, Vec<PluginPart>) = Default::default();
    for stage in &graph.stages {
        let Some(plugin) = plugins.get(&stage.name) else { continue };
        let fallback = plugins.get(&Fallback::name(&stage.name)).map(|plugin| standing_in(stage, plugin));
        let fallback = fallback.transpose().unwrap_or_else(|message| {
            faults.push(refused(loaded, stage, Place::Fallback, message));
            None
        });
        match configured(stage, plugin) {
            Ok(maker) => {
                used.push(plugin.clone());
                let fallback = fallback.map(Box::new);
                makers.push(PluginPart { fallback, ..part_of(stage, &stage.plugin, plugin, maker) });
            }
            Err(message) => faults.push(refused(loaded, stage, Place::Own, message)),
        }
    }
    if faults.is_empty() {
        let (graph, state) = (Arc::new(graph), state.map(Path::to_owned));
        let (loaded, engine) = (loaded.clone(), engine.clone());
        let names = used.iter().map(|plugin| plugin.described().name.clone()).collect();
        let stages = (0..graph.stages.len()).collect();
        let fallbacks = makers.iter().map(|part| part.fallback.clone()).collect();
        let candidates = Candidates { loaded, engine, graph: graph.clone(), stages, facts, state, names, fallbacks };
        Ok(Prepared {
            graph,
            plugins: used,
            makers,
            candidates: Arc::new(candidates),
            changed: Vec::new(),
            queues: Arc::default(),
        })
    } else {
        Err(in_order(faults))
    }
}

/// Why a plugin cannot be used: the code, the message, and the cure where there is one.
pub type Wrong = Box<(&'static str, String, Option<String>)>;

/// Every plugin of a file, each loaded once, as many at a time as there are processors.
fn load_all<'l>(loaded: &'l Loaded, engine: &Engine) -> BTreeMap<&'l str, Result<Plugin, Wrong>> {
    let written: BTreeSet<&str> =
        loaded.pipeline.stages.iter().flat_map(|(_, stage)| written(stage)).map(|(_, it)| it.value.as_str()).collect();
    let threads = available_parallelism().map_or(1, NonZero::get).min(written.len());
    let next = Mutex::new(written.into_iter());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(take).map(|name| (name, load(&loaded.folder, name, engine))).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.flatten().collect()
    })
}

/// Loads the plugin that is `written` in a file: `std/NAME`, or a path relative to `folder`.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn load(folder: &Path, written: &str, engine: &Engine) -> Result<Plugin, Wrong> {
    let missing = |message: String, cure: String| Box::new((codes::PLUGIN_MISSING, message, Some(cure)));
    let bytes = match written.strip_prefix(STANDARD) {
        Some(name) => standard::find(name).map(<[u8]>::to_vec).ok_or_else(|| {
            let known: Vec<String> = standard::names().map(|name| format!("`{STANDARD}{name}`")).collect();
            missing(format!("there is no standard plugin `{written}`"), format!("use one of {}", known.join(", ")))
        })?,
        None => {
            let path = folder.join(written);
            std::fs::read(&path).map_err(|error| {
                let cure = "build it with `tidegate plugin build`, or correct the path, which is relative to this file";
                missing(format!("cannot read the plugin `{}`: {error}", path.display()), cure.to_owned())
            })?
        }
    };
    Plugin::load(engine, &bytes).map_err(|error| Box::new(told(written, &error)))
}

fn told(written: &str, error: &LoadError) -> (&'static str, String, Option<String>) {
    let (code, cure) = match error {
        LoadError::NotWasm(_) => (
            codes::NOT_WASM,
            Some("build it for wasm32-wasip1 (called wasm32-wasi before), which `tidegate plugin build` does"),
        ),
        LoadError::TooLarge(_) => (codes::PLUGIN_TOO_LARGE, None),
        LoadError::Features(_) => (
            codes::FEATURE_DENIED,
            Some("build it without them; `-C target-feature=+simd128` is the one extra that is fine"),
        ),
        LoadError::Contract { .. } => (
            codes::OTHER_CONTRACT,
            Some(
                "build it again with the `tidegate-plugin` of this version, or run a host of the version it was built for",
            ),
        ),
        LoadError::Imports(_) => {
            (codes::IMPORT_DENIED, Some("plugins have no files, network or environment; remove what asks for them"))
        }
        LoadError::Compile(_) => (codes::NOT_WASM, None),
        LoadError::Limits(_) => (
            codes::PLUGIN_TOO_LARGE,
            Some(
                "build it with optimisation for size (`opt-level = \"s\"`) and without what it does not use, or divide it",
            ),
        ),
        LoadError::Worker(_) => (
            codes::NO_COMPILER,
            Some("see whether `/proc` is there, whether the program may be executed, and whether there is memory left"),
        ),
        LoadError::Describe(_) => (codes::BAD_DESCRIPTION, None),
    };
    (code, format!("`{written}` cannot be used: {error}"), cure.map(str::to_owned))
}

/// A plugin, ready to serve a stage as its first generation.
pub(super) fn part_of(stage: &Stage, written: &str, plugin: &Plugin, maker: Configured) -> PluginPart {
    PluginPart {
        written: written.to_owned(),
        about: about(plugin),
        state_version: plugin.described().state_version,
        needs: stage.needs.clone(),
        generation: 1,
        service: Arc::default(),
        maker: Arc::new(maker),
        fallback: None,
    }
}

fn about(plugin: &Plugin) -> letter::Plugin {
    let described = plugin.described();
    let (name, version) = (described.name.clone(), described.version.clone());
    letter::Plugin { name, version, digest: plugin.digest().to_owned() }
}

pub(super) fn facts_of(plugin: &Plugin) -> PluginFacts {
    let described = plugin.described();
    // What every batch carries is no need of a graph.
    let carried = ["values", "keys", "timestamps", "headers", "windows"];
    let needs = described.needs.iter().filter(|need| !carried.contains(&&***need));
    PluginFacts {
        kind: plugin.kind(),
        outputs: described.outputs.iter().map(ToString::to_string).collect(),
        outputs_from_config: described.outputs_from_config,
        needs: needs.map(ToString::to_string).collect(),
        config_schema: described.config_schema.clone(),
    }
}

/// A maker whose first instance has been made and configured, so that a refusal is told before anything starts.
pub(super) fn configured(stage: &Stage, plugin: &Plugin) -> Result<Configured, String> {
    let limits = &stage.limits;
    let limits = Limits {
        fuel_per_record: limits.fuel.record,
        fuel_per_byte: limits.fuel.byte,
        memory: limits.memory.0,
        time: limits.time.0,
        output: limits.output.0,
        logs: limits.logs.0,
        state: limits.state.0,
    };
    let config = serde_json::from_str(stage.config.expose()).map_err(|error| error.to_string())?;
    let maker = Configured { plugin: plugin.clone(), limits, config };
    match maker.make(&Interrupt::default()) {
        Ok(_) => Ok(maker),
        Err(fault) => Err(fault.message),
    }
}

/// What makes instances of `plugin` as `stage` configures and limits them, whichever plugin the stage itself has.
///
/// # Errors
/// Why the plugin does not take the stage's configuration.
pub fn maker(stage: &Stage, plugin: &Plugin) -> Result<Arc<dyn Maker>, String> {
    Ok(Arc::new(configured(stage, plugin)?))
}

impl Prepared {
    /// The parts that commit by themselves, each with the positions of those that it reads.
    pub fn domains(&self) -> Vec<(Self, BTreeSet<usize>)> {
        let picked = |Domain { graph, stages, feeders }: Domain| {
            let plugins = stages.iter().filter_map(|at| self.plugins.get(*at)).cloned().collect();
            let makers = stages.iter().filter_map(|at| self.makers.get(*at)).cloned().collect();
            let candidates = Arc::new(Candidates { stages, ..Candidates::clone(&self.candidates) });
            (
                Self {
                    graph: Arc::new(graph),
                    plugins,
                    makers,
                    candidates,
                    changed: Vec::new(),
                    queues: self.queues.clone(),
                },
                feeders,
            )
        };
        self.graph.domains().into_iter().map(picked).collect()
    }

    /// Opens sources and sinks: ports are bound, files opened. `topics` are those of the host, where it keeps state.
    ///
    /// # Errors
    /// What cannot be opened.
    pub async fn into_parts(self, topics: Option<Arc<Topics>>) -> anyhow::Result<Parts> {
        let is_whole = self.graph.edges.iter().all(|edge| edge.when_full == WhenFull::Block);
        ensure!(is_whole, "open a pipeline of several parts as one: open each of its `domains`");
        let (mut sources, office) = (Vec::new(), Office::default());
        for source in &self.graph.sources {
            sources.push(match &source.input {
                Input::Letters => open_replays(&self.graph, &office, Role::Attends),
                _ => sources::open(&self.graph, source, topics.as_deref(), &self.queues).await?,
            });
        }
        let reloading = Some(self.reloading());
        self.opened(sources, office, topics, reloading)
    }

    /// Opens sinks, so that letters can be replayed while all sources rest.
    ///
    /// # Errors
    /// What cannot be opened.
    pub async fn into_parts_at_rest(self, topics: Option<Arc<Topics>>) -> anyhow::Result<Parts> {
        let office = Office::default();
        let opened = |source: &graph::Source| match &source.input {
            Input::Letters => open_replays(&self.graph, &office, Role::Leads),
            _ => Box::new(Rest::default()),
        };
        let sources = self.graph.sources.iter().map(opened).collect();
        self.opened(sources, office, topics, None)
    }

    fn opened(
        self,
        sources: Vec<Box<dyn Source>>,
        office: Office,
        topics: Option<Arc<Topics>>,
        reloading: Option<Reloading>,
    ) -> anyhow::Result<Parts> {
        let letters = office.letters.clone();
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for sink in &self.graph.sinks {
            sinks.push(match &sink.output {
                Output::File(file) => {
                    Box::new(sink::file::open(file, Arc::new(RealDisk), &self.graph.folder, &sink.name, sink.format)?)
                }
                Output::Http(http, requests) => {
                    // Ids of records are unique within a pipeline, and another of its sinks may post the same.
                    let scope = format!("{}.{}", self.graph.name, sink.name);
                    let posts = sink::http::open(http, *requests, scope)?;
                    match requests.outbox {
                        Some(max) => Box::new(self.open_outbox(posts, sink, max.0)?),
                        None => Box::new(posts),
                    }
                }
                Output::Topic(config) => {
                    let topics = topics.as_deref().context(NO_TOPICS)?;
                    let writer = topics::part(&self.graph.name, &sink.name);
                    let (disk, state) = (topics.disk().clone(), topics.state());
                    Box::new(sink::topic::open(config, topics.topic(&config.name), &writer, disk, state))
                }
                Output::Passage(Passage { name, writer, medium: Medium::Log(max), .. }) => {
                    let topics = topics.as_deref().context(NO_TOPICS)?;
                    let writer = topics::part(writer, &sink.name);
                    let (disk, state) = (topics.disk().clone(), topics.state());
                    Box::new(sink::passage::open(topics.topic(name), &writer, *max, disk, state))
                }
                Output::Passage(Passage { name, medium: Medium::Queue(capacity, drops), .. }) => {
                    Box::new(sink::queue::open(self.queues.queue(name, *capacity, *drops)))
                }
                Output::Stdout(_) => Box::new(sink::stdout::open(sink.format)?),
                Output::Discard(_) => Box::new(sink::discard::open()),
                Output::DeadLetters(terms) => Box::new(self.open_letters(terms, letters.clone())),
            });
        }
        self.keep();
        let (graph, plugins, durable, journal) = (self.graph, self.makers, None, None);
        Ok(Parts { graph, sources, plugins, sinks, office, topics, reloading, durable, journal })
    }

    /// Lets the generation that was committed serve the stage at this position first; where its file holds another one by
    /// now, that is a reload.
    ///
    /// # Errors
    /// Why the generation cannot serve; what the file holds serves at once then.
    pub fn go_on_with(&mut self, at: usize, standing: &Standing) -> Result<(), String> {
        let Some(part) = self.makers.get_mut(at).filter(|_| !standing.digest.is_empty()) else { return Ok(()) };
        part.generation = standing.generation;
        if part.about.digest == standing.digest {
            return Ok(());
        }
        part.generation += 1;
        let kept = self.candidates.shelf().and_then(|shelf| shelf.find(&standing.digest));
        let kept = kept.ok_or("its bytes are not kept any more")?;
        *part = self.candidates.build(at, Some(&kept))?;
        part.generation = standing.generation;
        self.changed.push(at);
        Ok(())
    }

    /// Lets what the file holds serve the stage at this position at once, as the generation after the committed one if it is
    /// another.
    pub fn serve_file(&mut self, at: usize, standing: &Standing) {
        if let Some(part) = self.makers.get_mut(at).filter(|_| !standing.digest.is_empty()) {
            part.generation = standing.generation + u64::from(part.about.digest != standing.digest);
        }
    }

    /// The version of the states that the plugin in the file of the stage at this position writes.
    pub fn state_version(&self, at: usize) -> Option<u32> {
        self.plugins.get(at).map(|plugin| plugin.described().state_version)
    }

    /// Keeps the bytes of what serves, so that it can serve again.
    fn keep(&self) {
        let Some(shelf) = self.candidates.shelf() else { return };
        for plugin in &self.plugins {
            if let Err(error) = shelf.keep(plugin.digest(), plugin.bytes()) {
                let plugin = plugin.described().name.as_str();
                tracing::warn!(%error, plugin, "its bytes cannot be kept: if its file changes, the new one serves at once");
            }
        }
    }

    fn reloading(&self) -> Reloading {
        let graph = &self.graph;
        let terms = graph.stages.iter().map(|stage| Terms {
            probation: stage.reload.probation.0,
            rollback_at: stage.reload.rollback_at.0,
            rollbacks: (stage.reload.rollbacks.count as usize, stage.reload.rollbacks.per),
        });
        let watched = |(_, stage): &(usize, &Stage)| stage.reload.watch && !stage.plugin.starts_with(STANDARD);
        let files = graph.stages.iter().enumerate().filter(watched);
        let files = files.map(|(at, stage)| (at, graph.folder.join(&stage.plugin))).collect();
        Reloading { terms: terms.collect(), files, changed: self.changed.clone(), builder: self.candidates.clone() }
    }

    fn open_outbox(&self, posts: HttpSink, sink: &graph::Sink, max: u64) -> anyhow::Result<Outbox> {
        let state = self.graph.state().context("open an outbox: there is no state to keep it in")?.to_owned();
        let retry = (sink.retry.first.0, sink.retry.max.0);
        let folder = outbox::folder(&self.graph.name, &sink.name);
        Ok(outbox::open(posts, outbox::Terms { disk: Arc::new(RealDisk), state, folder, max, retry }))
    }

    fn open_letters(&self, terms: &Letters, access: Access) -> LogSink {
        let pipeline = &self.graph.name;
        let terms = sink::log::Terms {
            disk: Arc::new(RealDisk),
            state: terms.state.clone(),
            folder: terms.folder.clone(),
            keep: terms.keep.0,
            max: terms.max.0,
            room: Room::Person,
            cure: format!(
                "look at them with `tidegate dlq ls {pipeline}`, and make room with `tidegate dlq purge {pipeline}` once the host has been drained, or raise `dead_letters.max`"
            ),
        };
        let origins = self.origins();
        let form: Form = Arc::new(move |batch, epoch, now| letter::blocks(batch, &origins, epoch, now));
        sink::log::open(terms, form, access, None)
    }

    /// Who may refuse records.
    fn origins(&self) -> Origins {
        let graph = &self.graph;
        let plain = |name: &String, part| Origin { name: name.clone(), part, plugin: None };
        let sources = graph.sources.iter().map(|source| plain(&source.name, Part::Source));
        let stages = graph
            .stages
            .iter()
            .zip(&self.plugins)
            .map(|(stage, plugin)| Origin { plugin: Some(about(plugin)), ..plain(&stage.name, Part::Stage) });
        let sinks = graph.sinks.iter().map(|sink| plain(&sink.name, Part::Sink));
        Arc::new(sources.chain(stages).chain(sinks).map(|origin| (origin.name.clone(), origin)).collect())
    }
}

/// Why a topic cannot be opened; a check has refused it before.
const NO_TOPICS: &str = "open a topic without state";
