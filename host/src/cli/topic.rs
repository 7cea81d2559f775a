//! `topic`: what pipelines of a host share, looked at, and groups given up.
//!
//! Owns the verbs and how topics are shown. Invariant: nothing but `forget` changes anything, and it asks.

use std::sync::Arc;

use clap::{Args, Subcommand};
use futures::executor::block_on;
use hyper::Method;
use serde_json::json;

use super::{
    Answer, Exit, Outcome, Trouble, figure,
    state::{Folder, Kept, Way, Word, unusable},
    table::{self, Align},
};
use crate::{config::codes, disk::RealDisk, pipeline::topics, topic::Status};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List topics with their writers and groups.
    Ls(Ls),
    /// Give a group up: what it has not read is waited for no longer.
    Forget(Forget),
}

#[derive(Args, Debug)]
#[command(
    after_help = "A group that nobody runs holds up a topic that is full, unless its sinks drop their oldest records.

Examples:
  tidegate topic ls
  tidegate topic ls orders --json"
)]
pub(super) struct Ls {
    /// The topic; all, where none is named.
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
#[command(after_help = "A source that reads as this group begins anew, where its `start` says.

Example:
  tidegate topic forget orders billing --yes")]
pub(super) struct Forget {
    /// The topic.
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The group.
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    word: Word,
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ls(_) => "topic ls",
            Self::Forget(_) => "topic forget",
        }
    }

    pub(super) fn perform(self) -> Outcome {
        match self {
            Self::Ls(verb) => verb.perform(),
            Self::Forget(verb) => verb.perform(),
        }
    }
}

impl Ls {
    fn perform(self) -> Outcome {
        let mut all: Vec<Status> = match self.kept.way()? {
            Way::Store(store) => {
                let topics = topics::load(&store, Arc::new(RealDisk), self.kept.path());
                let topics = topics.map_err(|unfit| damaged(&unfit.to_string()))?;
                topics.status().map_err(|error| damaged(&format!("{error:#}")))?
            }
            Way::Host(ask) => ask.ask(Method::GET, "/api/v1/topics")?,
        };
        if let Some(named) = &self.topic {
            all.retain(|one| one.topic == *named);
            if all.is_empty() {
                return Err(unknown(format!("find the topic `{named}`: nobody has written or read it")));
            }
        }
        let text = if all.is_empty() { "there are no topics\n".to_owned() } else { all.iter().map(shown).collect() };
        let records = all.iter().flat_map(|one| &one.writers).map(|writer| writer.records).sum();
        let summary = format!("{} in {}", figure::count(records), figure::several(all.len(), "topic"));
        Ok(Answer::fine(summary, all, text))
    }
}

impl Forget {
    fn perform(self) -> Outcome {
        let (topic, group) = (&self.topic, &self.group);
        let store = self.folder.alone()?;
        let topics = topics::load(&store, Arc::new(RealDisk), self.folder.path());
        let topics = topics.map_err(|unfit| damaged(&unfit.to_string()))?;
        if !topics.topic(topic).groups().iter().any(|known| known.group == *group) {
            return Err(unknown(format!("find the group `{group}` of topic `{topic}`: it has read nothing")));
        }
        self.word.given(&format!("forget how far group `{group}` of topic `{topic}` has read"))?;
        block_on(topics::forget(&store, topic, group)).map_err(unusable)?;
        let summary = format!("group `{group}` of topic `{topic}` is given up");
        Ok(Answer::fine(&summary, json!({ "topic": topic, "group": group }), format!("{summary}\n")))
    }
}

fn damaged(message: &str) -> Box<Answer> {
    let trouble = Trouble::of(format!("look at topics: {message}"));
    Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_DAMAGED)))
}

fn unknown(message: String) -> Box<Answer> {
    let trouble = Trouble::of(message).code(codes::NOT_KEPT).cure("`tidegate topic ls` lists topics and groups");
    Box::new(Answer::failed(Exit::Usage, trouble))
}

fn shown(one: &Status) -> String {
    let head = |cells: [&str; 4]| vec![cells.map(str::to_owned).to_vec()];
    let mut writers = head(["writer", "records", "bytes", "offsets"]);
    writers.extend(one.writers.iter().map(|it| {
        let offsets = format!("{}..{}", it.first, it.end);
        vec![it.writer.clone(), figure::count(it.records), figure::count(it.bytes), offsets]
    }));
    let mut groups = head(["group", "behind", "read by", ""]);
    groups.extend(one.groups.iter().map(|it| {
        let reader = it.reader.clone().unwrap_or_else(|| "nobody who runs".to_owned());
        vec![it.group.clone(), figure::count(it.behind), reader, String::new()]
    }));
    let aligns = [Align::Left, Align::Right, Align::Right, Align::Left];
    let writers = table::lay_out("  ", &aligns, &writers);
    let groups = table::lay_out("  ", &[Align::Left, Align::Right, Align::Left, Align::Left], &groups);
    format!("{}\n{writers}{groups}", one.topic)
}
