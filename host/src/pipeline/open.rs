//! From a file that has been read to everything a pipeline is made of.
//!
//! Owns the order of the checks: plugins are loaded and asked before the graph is, and nothing is opened before the
//! whole of it has been found good (invariant 7). It must not know how a file is written or how a plugin is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    build::{Parts, PluginPart},
    ledger,
};
use crate::{
    config::{
        Diagnostic, Loaded, codes,
        graph::{self, Domain, Graph, Input, Letters, Output, PluginFacts, Stage},
        in_order,
    },
    disk::RealDisk,
    letter::{self, Origin, Origins, Part},
    log::Access,
    plugin::{Engine, Fault, Instance, Interrupt, Limits, LoadError, Plugin, standard},
    sink::{
        self, Sink,
        log::{Form, LogSink},
    },
    source::{self, Source},
    stage::worker::Maker,
};

/// The folder that a plugin's name begins with when the binary carries it.
const STANDARD: &str = "std/";

/// A pipeline that has been checked as a whole, plugins included, and of which nothing has been opened yet.
pub struct Prepared {
    /// Its graph.
    pub graph: Arc<Graph>,
    /// The plugins of its stages, in the order of the graph.
    pub plugins: Vec<Plugin>,
    makers: Vec<PluginPart>,
}

/// Instances of a plugin under the limits and the configuration of one stage.
struct Configured {
    plugin: Plugin,
    limits: Limits,
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
    for (name, stage) in loaded.pipeline.stages.iter() {
        let Some(written) = stage.plugin() else { continue };
        match load(&loaded.folder, &written.value, engine) {
            Ok(plugin) => {
                facts.insert(name.value.clone(), facts_of(&plugin));
                plugins.insert(name.value.clone(), plugin);
            }
            Err(wrong) => {
                let (code, message, cure) = *wrong;
                let fault = Diagnostic::error(code, &loaded.text, message).at(written.span.clone());
                faults.push(match cure {
                    Some(cure) => fault.cure(cure),
                    None => fault,
                });
            }
        }
    }
    let graph = match graph::check(loaded, &facts, state) {
        Ok(graph) => graph,
        Err(more) => {
            faults.extend(more);
            return Err(in_order(faults));
        }
    };
    let (mut used, mut makers) = (Vec::new(), Vec::new());
    for stage in &graph.stages {
        let Some(plugin) = plugins.get(&stage.name) else { continue };
        match configured(stage, plugin) {
            Ok(maker) => {
                used.push(plugin.clone());
                let (digest, state_version) = (plugin.digest().to_owned(), plugin.described().state_version);
                makers.push(PluginPart { digest, state_version, maker: Arc::new(maker) });
            }
            Err(message) => faults.push(refused(loaded, stage, message)),
        }
    }
    if faults.is_empty() {
        Ok(Prepared { graph: Arc::new(graph), plugins: used, makers })
    } else {
        Err(in_order(faults))
    }
}

/// Why a plugin cannot be used: the code, the message, and the cure where there is one.
pub type Wrong = Box<(&'static str, String, Option<String>)>;

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
        LoadError::Describe(_) => (codes::BAD_DESCRIPTION, None),
    };
    (code, format!("`{written}` cannot be used: {error}"), cure.map(str::to_owned))
}

fn facts_of(plugin: &Plugin) -> PluginFacts {
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
fn configured(stage: &Stage, plugin: &Plugin) -> Result<Configured, String> {
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

fn refused(loaded: &Loaded, stage: &Stage, message: String) -> Diagnostic {
    let written = loaded.pipeline.stages.iter().find(|(name, _)| name.value == stage.name);
    let span = written.and_then(|(_, stage)| stage.plugin()).map(|plugin| plugin.span.clone());
    let message = format!("stage `{}`: `{}` refuses its configuration: {message}", stage.name, stage.plugin);
    let fault = Diagnostic::error(codes::CONFIG_REFUSED, &loaded.text, message);
    match span {
        Some(span) => fault.at(span),
        None => fault,
    }
}

impl Prepared {
    /// The parts that commit by themselves, each with the positions of those that it reads.
    pub fn domains(&self) -> Vec<(Self, BTreeSet<usize>)> {
        let picked = |Domain { graph, stages, feeders }: Domain| {
            let plugins = stages.iter().filter_map(|at| self.plugins.get(*at)).cloned().collect();
            let makers = stages.iter().filter_map(|at| self.makers.get(*at)).cloned().collect();
            (Self { graph: Arc::new(graph), plugins, makers }, feeders)
        };
        self.graph.domains().into_iter().map(picked).collect()
    }

    /// Opens sources and sinks: ports are bound, files opened.
    ///
    /// # Errors
    /// What cannot be opened.
    pub async fn into_parts(self) -> anyhow::Result<Parts> {
        let mut sources = Vec::new();
        for source in &self.graph.sources {
            sources.push(open_source(&self.graph, source).await?);
        }
        let letters = Access::default();
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for sink in &self.graph.sinks {
            sinks.push(match &sink.output {
                Output::File(file) => Box::new(sink::file::open(file, &self.graph.folder, &sink.name, sink.format)?),
                Output::Http(http, requests) => {
                    let scope = scope(&self.graph, &sink.name);
                    Box::new(sink::http::open(http, *requests, scope)?)
                }
                Output::Stdout(_) => Box::new(sink::stdout::open(sink.format)?),
                Output::Discard(_) => Box::new(sink::discard::open()),
                Output::DeadLetters(terms) => Box::new(self.open_letters(terms, letters.clone())),
            });
        }
        Ok(Parts { graph: self.graph, sources, plugins: self.makers, sinks, letters, durable: None })
    }

    fn open_letters(&self, terms: &Letters, access: Access) -> LogSink {
        let pipeline = &self.graph.name;
        let terms = sink::log::Terms {
            disk: Arc::new(RealDisk),
            state: terms.state.clone(),
            folder: terms.folder.clone(),
            keep: terms.keep.0,
            max: terms.max.0,
            cure: format!(
                "look at them with `tidegate dlq ls {pipeline}`, and make room with `tidegate dlq purge {pipeline}` once the host has been drained, or raise `dead_letters.max`"
            ),
        };
        let origins = self.origins();
        let form: Form = Arc::new(move |batch, epoch, now| letter::blocks(batch, &origins, epoch, now));
        sink::log::open(terms, form, access)
    }

    /// Who may refuse records.
    fn origins(&self) -> Origins {
        let graph = &self.graph;
        let plain = |name: &String, part| Origin { name: name.clone(), part, plugin: None };
        let sources = graph.sources.iter().map(|source| plain(&source.name, Part::Source));
        let stages = graph.stages.iter().zip(&self.plugins).map(|(stage, plugin)| {
            let described = plugin.described();
            let (name, version) = (described.name.clone(), described.version.clone());
            let plugin = letter::Plugin { name, version, digest: plugin.digest().to_owned() };
            Origin { plugin: Some(plugin), ..plain(&stage.name, Part::Stage) }
        });
        let sinks = graph.sinks.iter().map(|sink| plain(&sink.name, Part::Sink));
        Arc::new(sources.chain(stages).chain(sinks).map(|origin| (origin.name.clone(), origin)).collect())
    }
}

async fn open_source(graph: &Graph, config: &graph::Source) -> anyhow::Result<Box<dyn Source>> {
    let graph::Source { name, format, stamp, .. } = config;
    let max_record = config.max_record.bytes();
    Ok(match &config.input {
        Input::File(file) => Box::new(source::file::open(file, &graph.folder, name, *format, stamp, max_record)?),
        Input::Stdin(_) => Box::new(source::stdin::open(*format, stamp, max_record)?),
        Input::Generate(generate) => source::generate::open(generate, stamp)?,
        Input::HostMetrics(metrics) => source::host_metrics::open(metrics, name, stamp, max_record)?,
        Input::Http(http) => {
            let decode = source::http::Decode { format: *format, stamp, max_record };
            Box::new(source::http::open(http, name, decode, config.rate, source::http::Limits::default()).await?)
        }
    })
}

/// Within which ids of records mean the same: where counts begin anew, for the edges have changed, ids do too, and are
/// those of other records.
fn scope(graph: &Graph, sink: &str) -> String {
    let edges: Vec<String> = graph.edges.iter().map(|edge| ledger::name(graph, edge)).collect();
    format!("{}\0{sink}\0{}", graph.name, edges.join("\0"))
}
