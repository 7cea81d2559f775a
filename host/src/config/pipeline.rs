//! The fields of a pipeline's file.
//!
//! Owns their names, defaults and documentation, from which the JSON Schema follows. What fits together is checked
//! in `graph`. The kinds of a source, stage or sink are optional fields of one struct, checked to be exactly one, so
//! that every fault has a place and the schema stays flat.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    breaker::Breaker,
    guarantee::Asked,
    limits::Limits,
    place::{Spanned, Table},
    reload::Reload,
    state::State,
    tree::Tree,
    vars::Var,
};
use crate::{
    codec::Format,
    sink, source,
    unit::{Rate, Size, Span},
};

/// What a name of a pipeline, source, stage, sink or variable looks like.
pub(crate) const NAME: &str = "^[a-z][a-z0-9_-]{0,62}$";

/// A pipeline as its file declares it, variables replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tidegate pipeline")]
pub struct Pipeline {
    /// Version of the file's shape: 1.
    #[serde(default)]
    #[schemars(required)]
    pub version: Spanned<u32>,
    /// Name of the pipeline, unique in a host.
    #[serde(default)]
    #[schemars(required, regex(pattern = NAME))]
    pub name: Spanned<String>,
    /// The names that `${…}` may use, in scalar values only.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub vars: Table<Var>,
    /// How often sources put a barrier into the stream, about: what is between two barriers commits together.
    #[serde(default = "second")]
    pub epoch: Spanned<Span>,
    /// The largest batch, and how long to wait to fill one.
    #[serde(default)]
    pub batch: BatchSize,
    /// What sources that cannot seek keep, to send it again, until it is committed.
    #[serde(default = "uncommitted")]
    pub uncommitted: Size,
    /// Where records enter.
    #[serde(default)]
    pub sources: Table<Source>,
    /// Where records are processed by a plugin.
    #[serde(default)]
    pub stages: Table<Stage>,
    /// Where records leave.
    #[serde(default)]
    pub sinks: Table<Sink>,
    /// Channels that are not as the default.
    #[serde(default)]
    pub edges: Vec<Edge>,
    /// How much is kept of what could not be processed.
    #[serde(default)]
    pub dead_letters: DeadLetters,
}

/// How much is kept of what could not be processed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetters {
    /// How long a letter is kept at least; letters go by whole segments, an eighth of `max` each, 64 MiB at most.
    pub keep: Span,
    /// Most bytes; the pipeline pauses there, for nothing is dropped.
    pub max: Spanned<Size>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { keep: Span(Duration::from_secs(7 * 86_400)), max: Size(1 << 30).into() }
    }
}

/// The largest batch, and how long to wait to fill one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSize {
    /// Most records.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub records: Spanned<u32>,
    /// Most bytes; a larger record travels alone.
    pub bytes: Spanned<Size>,
    /// How long to wait for more.
    pub linger: Span,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self { records: 1024.into(), bytes: Size(1 << 20).into(), linger: Span(Duration::from_millis(5)) }
    }
}

/// A source: exactly one of `file`, `stdin`, `http`, `topic`, `generate`, `host_metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Reads files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<source::file::Config>,
    /// Reads standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<source::stdin::Config>,
    /// Takes what others post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<source::http::Config>,
    /// Reads what other pipelines of the host have written to a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<source::topic::Config>,
    /// Makes records up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<source::generate::Config>,
    /// Measures this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_metrics: Option<source::host_metrics::Config>,
    /// How bytes become records: `lines` by default for `file` and `stdin`, else `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<Spanned<Format>>,
    /// JSON pointer to the key in the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Spanned<String>>,
    /// JSON pointer to the event time: RFC 3339, or a number of milliseconds. Records of a topic have one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Spanned<String>>,
    /// How event time goes on.
    #[serde(default)]
    pub watermark: Watermark,
    /// Most records in a time; waits, does not drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest record; a larger one is refused.
    #[serde(default = "max_record")]
    pub max_record: Spanned<Size>,
}

impl Source {
    /// Whether what it takes in is written to a journal.
    pub fn is_journaled(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.journal) || self.stdin.as_ref().is_some_and(|stdin| stdin.journal)
    }
}

/// How event time goes on at a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Watermark {
    /// How far behind the latest event time seen records may come.
    pub lag: Span,
    /// After how long without a record the source no longer holds the others' event time.
    pub idle: Span,
    /// How far ahead of its arrival a record's time may be; beyond it, it is refused.
    pub ahead: Span,
}

impl Default for Watermark {
    fn default() -> Self {
        let seconds = |count| Span(Duration::from_secs(count));
        Self { lag: seconds(1), idle: seconds(30), ahead: seconds(3600) }
    }
}

/// A stage: exactly one of `filter`, `map`, `aggregate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Outputs that it reads.
    pub from: From,
    /// Plugin that keeps some records: a path relative to this file, or `std/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Spanned<String>>,
    /// Plugin that turns each record into none, one or many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Spanned<String>>,
    /// Plugin that folds the records of each group into a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Spanned<String>>,
    /// What the plugin is told, by the schema that it describes.
    #[serde(default, skip_serializing_if = "Tree::is_null")]
    pub config: Tree,
    /// Most records in a time; what is more waits, and is not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many instances work side by side.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Spanned<u32>,
    /// What the plugin may use.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of a record that the plugin refuses, where nothing reads `.refused`: `dead_letter` where the host
    /// keeps state, else `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<Spanned<OnError>>,
    /// When the plugin is left alone for a while, for most records or calls fail.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: Spanned<Breaker>,
    /// JSON pointer to what aggregates group by; without it, the record's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Spanned<String>>,
    /// Stretches that an aggregate finishes one by one; without it, one running state for each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Spanned<Window>>,
    /// How long, in event time, a group without a window is kept after its last record; for ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Spanned<Span>>,
    /// How another plugin takes the place of this one while the pipeline runs.
    #[serde(default, skip_serializing_if = "Reload::is_default")]
    pub reload: Reload,
    /// How much the groups of an aggregate may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Spanned<State>>,
    /// The name under which an earlier version of the file had this stage: its state is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Spanned<String>>,
}

impl Stage {
    /// The plugin that it names; the first, where a faulty file names several.
    pub fn plugin(&self) -> Option<&Spanned<String>> {
        [&self.filter, &self.map, &self.aggregate].into_iter().flatten().next()
    }
}

/// What becomes of a record that a plugin refuses, where nothing reads `.refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It is kept in the host's state, with the reason; `tidegate dlq` shows it.
    DeadLetter,
    /// The pipeline ends at the last commit before it.
    Stop,
    /// It is dropped and counted.
    Drop,
}

/// A window: exactly one of `tumbling`, `count`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Windows of event time, one beside the other, of this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<Span>,
    /// Windows of so many records of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How long after its end a window still takes records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Span>,
    /// Where records go that come later still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

/// Where records go that are too late for their window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Late {
    /// To the side output `.late`.
    #[default]
    Side,
    /// Nowhere; they are counted.
    Drop,
}

/// A sink: exactly one of `file`, `http`, `topic`, `stdout`, `discard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Outputs that it reads.
    pub from: From,
    /// Appends to files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<sink::file::Config>,
    /// Posts to a receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<sink::http::Config>,
    /// Keeps records for other pipelines of the host, in a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<sink::topic::Config>,
    /// Writes to standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<sink::stdout::Config>,
    /// Counts records and lets them go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<sink::discard::Config>,
    /// How records become bytes: `lines` by default; `http` has a `format` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encode: Option<Spanned<Format>>,
    /// What has to hold for each record; where it cannot be had, the file is refused. `check` says what does hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<Spanned<Asked>>,
    /// The largest request of `http`, and how long to wait to fill one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Spanned<BatchSize>>,
    /// How many requests of `http` may be under way at once, 1 by default: with more, the order between requests is not
    /// kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub in_flight: Option<Spanned<u32>>,
    /// When the sink is left alone for a while, for most attempts fail or are slow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: Spanned<Breaker>,
    /// How long to wait before what may work later is tried again, and how often that is done: for ever, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Spanned<Retry>>,
    /// Whether requests of `http` are committed first and sent after that, so that none ever changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Spanned<bool>>,
    /// Bytes on the disk, 1GiB by default, above which an outbox takes nothing more in until what is committed has been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox_max: Option<Spanned<Size>>,
}

impl Sink {
    /// Whether its requests go through an outbox.
    pub fn has_outbox(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.value)
    }
}

/// How long to wait before what may work later is tried again: from `first` on, twice as long each time, up to `max`;
/// and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The first wait, about.
    pub first: Spanned<Span>,
    /// The longest.
    pub max: Spanned<Span>,
    /// How many attempts there are in a row; without it, as many as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub attempts: Option<Spanned<u32>>,
    /// What follows the last of them.
    pub then: Spanned<GiveUp>,
}

/// What follows the last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// What the sink has in hand becomes dead letters.
    DeadLetter,
    /// The pipeline ends at the last commit.
    #[default]
    Stop,
}

impl Default for Retry {
    fn default() -> Self {
        let (first, max) = (Span(Duration::from_millis(100)).into(), Span(Duration::from_secs(30)).into());
        Self { first, max, attempts: None, then: GiveUp::Stop.into() }
    }
}

/// One channel that is not as the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The output that is read, written as in `from`.
    pub from: Spanned<String>,
    /// The stage or sink that reads it.
    pub to: Target,
    /// How much the channel holds.
    #[serde(default)]
    pub capacity: Capacity,
    /// What it does when it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<Spanned<Overflow>>,
    /// Most bytes of a durable edge, above which its sender waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Spanned<Size>>,
}

/// Most bytes of a durable edge where it does not say.
pub(crate) const MOST_IN_AN_EDGE: Size = Size(1 << 30);

/// What an edge does when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Its sender waits.
    #[default]
    Block,
    /// It is a log on disk, behind which a part of the pipeline begins that commits by itself: its sender does not wait for
    /// who reads it.
    Durable,
    /// It drops batches that come; behind it begins a part of the pipeline that commits by itself.
    DropNewest,
    /// It drops batches that have waited longest; behind it begins a part of the pipeline that commits by itself.
    DropOldest,
}

/// The name of a stage or sink.
pub type Target = Spanned<String>;

/// How much a channel holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Most records.
    pub records: Spanned<u32>,
    /// Most bytes.
    pub bytes: Spanned<Size>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { records: 8192.into(), bytes: Size(8 << 20).into() }
    }
}

/// The outputs that a stage or sink reads: one name, or a list.
#[derive(Clone, Debug, PartialEq)]
pub struct From(pub Vec<Spanned<String>>);

impl Serialize for From {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            many => many.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> serde::de::Visitor<'de> for OneOrMany {
            type Value = From;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("the name of an output, or a list of names")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<From, D::Error> {
                Vec::deserialize(from).map(From)
            }
        }
        from.deserialize_newtype_struct(super::place::ONE_OR_MANY, OneOrMany)
    }
}

impl JsonSchema for From {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "From".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "An output, written `NAME` or `NAME.OUTPUT`, or a list of them.",
            "type": ["string", "array"],
            "items": { "type": "string" },
            "minItems": 1,
        })
    }
}

fn is_default(breaker: &Spanned<Breaker>) -> bool {
    breaker.value.is_default()
}

fn second() -> Spanned<Span> {
    Span(Duration::from_secs(1)).into()
}

fn one() -> Spanned<u32> {
    1.into()
}

fn uncommitted() -> Size {
    Size(64 << 20)
}

fn max_record() -> Spanned<Size> {
    Size(1 << 20).into()
}
