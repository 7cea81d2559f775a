//! The graph that a pipeline's file comes to.
//!
//! Owns the graph as the pipeline is built from it, every name resolved and every default filled in. It must not know
//! tasks, channels or how plugins are loaded. Invariant: stages stand in topological order, and every edge leads
//! forward.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Breaker, Diagnostic, Late, Limits, Loaded, OnError, Reload, Retry, Secret, State, Watermark,
    guarantee::{self, Asked},
    load,
};
use crate::{
    batch,
    codec::{Format, Stamp},
    plugin::Kind,
    sink, source,
    unit::{Rate, Size, Span},
};

mod build;
mod domains;
mod fallbacks;
mod fields;
mod letters;
mod order;
mod outputs;
mod render;
mod topics;
mod wiring;

pub use domains::{Domain, Medium, Passage, WhenFull};
pub use letters::{LETTERS, Letters};
pub use render::{Picture, render};

/// What a plugin says about itself, as far as the graph is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginFacts {
    /// What the plugin does with records.
    pub kind: Kind,
    /// Names of its side outputs, in the order of their ports.
    pub outputs: Vec<String>,
    /// Whether the keys of the stage's `config` name further side outputs, in ascending order of these names.
    pub outputs_from_config: bool,
    /// Columns wanted beside values: `id`, `input`, `null`, `field:/json/pointer`.
    pub needs: Vec<String>,
    /// JSON Schema of `config`; none = any.
    pub config_schema: Option<serde_json::Value>,
}

/// What is known of the plugins of a pipeline. A stage without an answer is checked as far as that goes: whoever could
/// not load its plugin has told the user already.
pub trait Facts {
    /// What the plugin of `stage` says about itself; that which stands in for it has a [name](Fallback::name) of its own.
    fn of(&self, stage: &str) -> Option<&PluginFacts>;
}

impl Facts for std::collections::BTreeMap<String, PluginFacts> {
    fn of(&self, stage: &str) -> Option<&PluginFacts> {
        self.get(stage)
    }
}

/// A pipeline ready to be built.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name of the pipeline.
    pub name: String,
    /// Folder that paths are relative to.
    pub folder: PathBuf,
    /// How often sources put a barrier into the stream, about.
    pub epoch: Span,
    /// The largest batch.
    pub batch: batch::Limit,
    /// How long to wait to fill a batch.
    pub linger: Span,
    /// What sources that cannot seek keep, to send it again.
    pub uncommitted: Size,
    /// Where records enter, in the order of the file.
    pub sources: Vec<Source>,
    /// Where records are processed, in topological order.
    pub stages: Vec<Stage>,
    /// Where records leave, in the order of the file.
    pub sinks: Vec<Sink>,
    /// The channels, sorted by consumer and input.
    pub edges: Vec<Edge>,
}

/// A source, its defaults filled in.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What is read.
    pub input: Input,
    /// How bytes become records.
    pub format: Format,
    /// What is read from each record's JSON while it is decoded.
    pub stamp: Stamp,
    /// How event time goes on.
    pub watermark: Watermark,
    /// Most records in a time.
    pub rate: Option<Rate>,
    /// The largest record.
    pub max_record: Size,
    /// Whether something downstream needs record ids.
    pub ids: bool,
}

/// The kind of a source, with what it was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Reads files.
    File(source::file::Config),
    /// Reads standard input.
    Stdin(source::stdin::Config),
    /// Takes what others post.
    Http(source::http::Config),
    /// Reads a topic, as this group.
    Topic(source::topic::Config, String),
    /// Makes records up.
    Generate(source::generate::Config),
    /// Measures this machine.
    HostMetrics(source::host_metrics::Config),
    /// Gives letters back to who refused them, which the host itself sees to.
    Letters,
    /// Reads what another part of the pipeline has written.
    Passage(Passage),
}

impl Input {
    /// Whether its records have places of their own, which ids are made of: who reads it again finds them there.
    pub fn knows_places(&self) -> bool {
        match self {
            Self::File(_) | Self::Generate(_) | Self::Http(_) => true,
            // A topic's records bring the ids of where they stand in it, those of another part the ones that they had.
            Self::Stdin(_) | Self::HostMetrics(_) | Self::Topic(..) | Self::Passage(_) | Self::Letters => false,
        }
    }
}

/// A stage, its defaults filled in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What its plugin does.
    pub kind: Kind,
    /// The plugin: a path relative to the folder, or `std/NAME`.
    pub plugin: String,
    /// What `configure` is told, as JSON; it may hold secrets.
    pub config: Secret,
    /// Names of side outputs, in the order of their ports: `outputs[i]` is port `i + 1`.
    pub outputs: Vec<String>,
    /// Columns wanted beside values.
    pub needs: Vec<String>,
    /// Most records in a time.
    pub rate: Option<Rate>,
    /// What stands in for it while its breaker is open.
    pub fallback: Option<Fallback>,
    /// How many instances work side by side.
    pub workers: usize,
    /// What the plugin may use.
    pub limits: Limits,
    /// What becomes of a refused record, where nothing reads `.refused`.
    pub on_error: OnError,
    /// When its plugin is left alone for a while.
    pub breaker: Breaker,
    /// JSON pointer to what the stage groups by; none = the record's key.
    pub key: Option<String>,
    /// What the stage finishes one by one.
    pub window: Windowing,
    /// How long, in event time, a group without a window is kept after its last record.
    pub ttl: Option<Span>,
    /// How another plugin takes its place while the pipeline runs.
    pub reload: Reload,
    /// How much its groups may take.
    pub state: State,
    /// Its name in an earlier version of the file.
    pub was: Option<String>,
    /// JSON pointers that somebody downstream, past filters only, wants of what this stage puts out.
    pub fields: Arc<[Arc<str>]>,
    /// Whether something downstream needs the ids of what this stage puts out.
    pub ids: bool,
}

/// A plugin that stands in for a stage's own, under the same limits and the same configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The plugin: a path relative to the folder, or `std/NAME`.
    pub plugin: String,
    /// Columns wanted beside values.
    pub needs: Vec<String>,
}

impl Fallback {
    /// What what stands in for the stage called `name` is called: its breaker, and what a plugin says about itself.
    pub fn name(name: &str) -> String {
        format!("{name}.fallback")
    }
}

/// What an aggregate finishes one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windowing {
    /// One running state for each key.
    None,
    /// Stretches of event time.
    Tumbling {
        /// Length of each.
        size: Span,
        /// How long after its end a window still takes records.
        lateness: Span,
        /// Where records go that come later still.
        late: Late,
    },
    /// So many records of a key.
    Count(u64),
}

/// A sink, its defaults filled in.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Where records go.
    pub output: Output,
    /// How records become bytes.
    pub format: Format,
    /// What has to hold for each record.
    pub asked: Option<Asked>,
    /// How long to wait before what may work later is tried again.
    pub retry: Retry,
    /// When it is left alone for a while.
    pub breaker: Breaker,
}

impl Sink {
    /// Whether there is anything that its breaker could leave alone: not where nothing fails, nor where records only wait for
    /// room on the host's own disk.
    pub fn has_breaker(&self) -> bool {
        !matches!(self.output, Output::Discard(_) | Output::Topic(_) | Output::Passage(_) | Output::DeadLetters(_))
    }
}

/// The kind of a sink, with what it was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Appends to files.
    File(sink::file::Config),
    /// Posts to a receiver, in requests like these.
    Http(sink::http::Config, sink::http::Requests),
    /// Writes to a topic.
    Topic(sink::topic::Config),
    /// Writes to standard output.
    Stdout(sink::stdout::Config),
    /// Counts records and lets them go.
    Discard(sink::discard::Config),
    /// Keeps what could not be processed, which the host itself sees to.
    DeadLetters(Letters),
    /// Writes what another part of the pipeline reads.
    Passage(Passage),
}

/// Who puts records out: position in [`Graph::sources`], [`Graph::stages`] or [`Graph::sinks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// A source.
    Source(usize),
    /// A stage.
    Stage(usize),
    /// A sink, of what it refuses, or hands to another.
    Sink(usize),
}

/// Who takes records in: position in [`Graph::stages`] or [`Graph::sinks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consumer {
    /// A stage.
    Stage(usize),
    /// A sink.
    Sink(usize),
}

/// One of the outputs of a source or stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// The main output.
    Main,
    /// Side output `outputs[i]`, which the plugin calls port `i + 1`; of the source of letters, the reader of that number.
    Named(usize),
    /// What a filter did not keep.
    Rest,
    /// What came too late for its window.
    Late,
    /// What could not be decoded, or what the plugin or sink refused.
    Refused,
    /// What a sink hands to the one that stands in for it.
    Fallback,
}

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who sends.
    pub from: Producer,
    /// Which of its outputs.
    pub port: Port,
    /// Who receives.
    pub to: Consumer,
    /// Position in the receiver's `from`.
    pub input: usize,
    /// Most records and bytes in it.
    pub capacity: batch::Limit,
    /// What it does when it is full.
    pub when_full: WhenFull,
}

impl Graph {
    /// Folder of the host's state, where it keeps any.
    pub fn state(&self) -> Option<&Path> {
        self.sinks.iter().find_map(|sink| match &sink.output {
            Output::DeadLetters(letters) => Some(letters.state.as_path()),
            _ => None,
        })
    }

    /// The channels that `producer` sends on.
    pub fn out_of(&self, producer: Producer) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == producer)
    }

    /// The channels that `consumer` receives from, by input.
    pub fn into(&self, consumer: Consumer) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == consumer)
    }
}

/// Checks a file as a whole, and makes its graph; `state` is the folder of what outlives the process, where anything does.
///
/// # Errors
/// All faults of the file: of its shape, of its graph, and of the configuration of its plugins. Where `facts` knows
/// nothing of a plugin and nothing else is wrong, the list is empty: whoever could not load it has told why.
pub fn check(loaded: &Loaded, facts: &dyn Facts, state: Option<&Path>) -> Result<Graph, Vec<Diagnostic>> {
    let mut flaws = Vec::new();
    let stages = outputs::settle(loaded, facts, &mut flaws);
    let mut edges = wiring::draw(loaded, &stages, &mut flaws);
    fallbacks::draw(loaded, &mut edges, &mut flaws);
    let order = order::sort(&stages, &edges, &mut flaws);
    let formats: Vec<_> = loaded.pipeline.sources.iter().map(|(_, source)| build::format(source)).collect();
    let wanted = fields::want(loaded, &formats, &stages, &edges, &mut flaws);
    letters::need_state(loaded, state, &mut flaws);
    topics::need_state(loaded, state, &mut flaws);
    let on_error = letters::default_of(state);
    let graph = build::build(loaded, &stages, &order, edges, &wanted, on_error);
    if let Some(graph) = &graph {
        domains::check(loaded, graph, state.is_some(), &mut flaws);
        guarantee::check(loaded, graph, state.is_some(), &mut flaws);
    }
    let graph = graph.map(|graph| match state {
        Some(state) => graph.with_letters(&loaded.pipeline.dead_letters, state),
        None => graph,
    });
    let told: Vec<_> = loaded.faults.iter().filter_map(|fault| fault.labels.first()).collect();
    // A place with a fault of its own may lead to others; one is enough to know where to look.
    flaws.retain(|flaw| {
        let place = flaw.labels.first().map(|label| &label.0);
        !told.iter().any(|label| place == Some(&label.span) && !is_thing(loaded, &label.span))
            && !place.is_some_and(|place| loaded.broken.doubts(place))
    });
    let faults: Vec<_> =
        loaded.faults.iter().cloned().chain(flaws.into_iter().map(|flaw| flaw.told(&loaded.text))).collect();
    match graph {
        Some(graph) if faults.is_empty() => Ok(graph),
        _ => Err(load::in_order(faults)),
    }
}

/// Whether a place is the name of a source, stage or sink: several things can be wrong with these.
fn is_thing(loaded: &Loaded, span: &std::ops::Range<usize>) -> bool {
    let pipeline = &loaded.pipeline;
    let named = |name: &super::Spanned<String>| name.span == *span;
    pipeline.sources.iter().any(|(name, _)| named(name))
        || pipeline.stages.iter().any(|(name, _)| named(name))
        || pipeline.sinks.iter().any(|(name, _)| named(name))
}
