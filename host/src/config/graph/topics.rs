//! Topics as one pipeline has them.
//!
//! Owns which topics lead to which inside of a graph, and that there has to be a place for them and for journals. What several pipelines
//! come to together is checked in `config::topics`.

use std::path::Path;

use super::{
    super::{Loaded, codes, diagnostic::Flaw, guarantee},
    Consumer, Graph, Input, Medium, Output, Passage, WhenFull,
};
use crate::sink::topic;

/// Finds topics and journals where nothing can be kept.
pub(super) fn need_state(loaded: &Loaded, state: Option<&Path>, flaws: &mut Vec<Flaw>) {
    if state.is_some() {
        return;
    }
    let pipeline = &loaded.pipeline;
    let sources = pipeline.sources.iter().filter(|(_, source)| source.topic.is_some()).map(|(name, _)| name);
    let sinks = pipeline.sinks.iter().filter(|(_, sink)| sink.topic.is_some()).map(|(name, _)| name);
    for name in sources.chain(sinks) {
        let message = format!("`{}` is a topic, and with `state: none` there is no place for it", name.value);
        flaws.push(Flaw::at(codes::NO_STATE, &name.span, message).cure("name a folder with `--state`"));
    }
    for (name, _) in pipeline.sources.iter().filter(|(_, source)| source.is_journaled()) {
        let message = format!("`{}` has a journal, and with `state: none` there is no place for it", name.value);
        let flaw = Flaw::at(codes::NO_STATE, &name.span, message);
        flaws.push(flaw.cure("name a folder with `--state`, or take `journal` out"));
    }
}

impl Input {
    /// The topic that is read, and the group: that of a durable edge has one.
    pub fn topic(&self) -> Option<(&str, &str)> {
        match self {
            Self::Topic(config, group) => Some((&config.name, group)),
            Self::Passage(Passage { name, reader, medium: Medium::Log(_), .. }) => Some((name, reader)),
            _ => None,
        }
    }
}

impl Output {
    /// The topic that is written to.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(config) => Some(&config.name),
            Self::Passage(Passage { name, medium: Medium::Log(_), .. }) => Some(name),
            _ => None,
        }
    }
}

impl Graph {
    /// The topics that are read, each with the name of the source and its group.
    pub fn topics_read(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.sources.iter().filter_map(|source| {
            let (topic, group) = source.input.topic()?;
            Some((topic, source.name.as_str(), group))
        })
    }

    /// The topics that are written to, each with the name of the sink.
    pub fn topics_written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sinks.iter().filter_map(|sink| Some((sink.output.topic()?, sink.name.as_str())))
    }

    /// Which topics wait for which: a sink that blocks when its topic is full holds up the reading of those above it. Each is
    /// a topic that is read, one that is written to, and the name of the sink.
    pub fn topics_waiting(&self) -> Vec<(&str, &str, &str)> {
        let mut waiting = Vec::new();
        for (at, sink) in self.sinks.iter().enumerate() {
            let Output::Topic(config) = &sink.output else { continue };
            if config.when_full != topic::WhenFull::Block {
                continue;
            }
            for source in
                guarantee::sources(self, Consumer::Sink(at), |edge| !matches!(edge.when_full, WhenFull::Drop(_)))
            {
                if let Some(Input::Topic(read, _)) = self.sources.get(source).map(|source| &source.input) {
                    waiting.push((read.name.as_str(), config.name.as_str(), sink.name.as_str()));
                }
            }
        }
        waiting
    }
}
