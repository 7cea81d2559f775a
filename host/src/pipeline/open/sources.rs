//! Opening the sources of a pipeline: ports are bound, files and logs found.
//!
//! Owns which kind of source stands behind which configuration. It must not know what is read from it.

use anyhow::Context as _;

use super::NO_TOPICS;
use crate::{
    config::graph::{self, Graph, Input, Medium, Passage},
    pipeline::topics,
    queue::Queues,
    source::{
        self, Source,
        journal::{self, Answer},
    },
    topic::Topics,
};

/// Opens a source of `graph`.
///
/// # Errors
/// Why it cannot be opened.
pub(super) async fn open(
    graph: &Graph,
    config: &graph::Source,
    topics: Option<&Topics>,
    queues: &Queues,
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
        Input::Passage(Passage { name: edge, writer, reader, medium: Medium::Log(_) }) => {
            let (topic, writer) = (topics.context(NO_TOPICS)?.topic(edge), topics::part(writer, name));
            Box::new(source::passage::open(topic, &writer, reader, &topics::part(&graph.name, name))?)
        }
        Input::Passage(Passage { name: edge, medium: Medium::Queue(capacity, drops), .. }) => {
            Box::new(source::queue::open(queues.queue(edge, *capacity, *drops)))
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
