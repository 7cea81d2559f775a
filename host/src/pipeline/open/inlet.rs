//! Sources, opened as a graph has them.
//!
//! Owns which kind is opened how, and who takes which letters back. It must not know what is read.

use anyhow::Context as _;

use super::topics;
use crate::{
    config::graph::{self, Graph, Input},
    letter::Office,
    source::{
        self, Role, Source,
        journal::{self, Answer},
        letters::{Decode, Taker},
    },
    topic::Topics,
};

/// The source of the letters of a pipeline.
pub(in crate::pipeline) fn open_replays(graph: &Graph, office: &Office, role: Role) -> Box<dyn Source> {
    let decode = |source: &graph::Source| {
        let graph::Source { format, stamp, ids, .. } = source;
        Decode { format: *format, stamp: stamp.clone(), max_record: source.max_record.bytes(), has_ids: *ids }
    };
    let sources = graph.sources.iter().map(|source| (&source.name, Some(decode(source))));
    let stages = graph.stages.iter().map(|stage| (&stage.name, None));
    let all = sources.chain(stages).chain(graph.sinks.iter().map(|sink| (&sink.name, None)));
    let takers = all.map(|(name, decode)| (name.clone(), Taker { readers: graph.takers(name), decode }));
    // The letters' own sink refuses nothing.
    let takers = takers.filter(|(name, _)| name != graph::LETTERS).collect();
    Box::new(source::letters::open(office.letters.clone(), office.desk.clone(), takers, role))
}

/// Why a topic cannot be opened; a check has refused it before.
pub(super) const NO_TOPICS: &str = "open a topic without state";

pub(super) async fn open_source(
    graph: &Graph,
    config: &graph::Source,
    topics: Option<&Topics>,
) -> anyhow::Result<Box<dyn Source>> {
    let graph::Source { name, format, stamp, .. } = config;
    let max_record = config.max_record.bytes();
    Ok(match &config.input {
        Input::File(file) => Box::new(source::file::open(file, &graph.folder, name, *format, stamp, max_record)?),
        Input::Stdin(stdin) => {
            let source: Box<dyn Source> = Box::new(source::stdin::open(*format, stamp, max_record)?);
            // Who writes to a pipe is not answered.
            if stdin.journal { journaled(source, Answer::Accepted, graph, name, topics)? } else { source }
        }
        Input::Topic(topic, group) => {
            let reader = topics::part(&graph.name, name);
            let group = group.clone();
            let terms = source::topic::Terms { reader, group, start: topic.start, stamp, has_ids: config.ids };
            Box::new(source::topic::open(topics.context(NO_TOPICS)?.topic(&topic.name), terms)?)
        }
        Input::Passage(passage) => {
            let (topic, writer) =
                (topics.context(NO_TOPICS)?.topic(&passage.topic), topics::part(&passage.writer, name));
            Box::new(source::passage::open(topic, &writer, &passage.reader, &topics::part(&graph.name, name))?)
        }
        Input::Generate(generate) => source::generate::open(generate, stamp)?,
        Input::HostMetrics(metrics) => source::host_metrics::open(metrics, name, stamp, max_record)?,
        Input::Letters => anyhow::bail!("open letters as a source like any other"),
        Input::Http(http) => {
            let decode = source::http::Decode { format: *format, stamp, max_record };
            let source = source::http::open(http, name, decode, config.rate, source::http::Limits::default()).await?;
            let source: Box<dyn Source> = Box::new(source);
            if http.journal { journaled(source, http.answer(), graph, name, topics)? } else { source }
        }
    })
}

/// Puts a journal in front of a source.
fn journaled(
    source: Box<dyn Source>,
    answer: Answer,
    graph: &Graph,
    name: &str,
    topics: Option<&Topics>,
) -> anyhow::Result<Box<dyn Source>> {
    let topics = topics.context("open a journal without state")?;
    let (disk, state, folder) = (topics.disk().clone(), topics.state().to_owned(), journal::folder(&graph.name, name));
    Ok(Box::new(journal::open(source, journal::Terms { disk, state, folder, answer })))
}
