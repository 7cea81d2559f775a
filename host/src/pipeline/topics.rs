//! Topics in the host's store: who has written and read what, as the commits of all pipelines say.
//!
//! Owns the two kinds of values and what is forgotten of them. It must not know how a topic is read. Invariants: where a
//! writer's log ends and how far a group has read is committed with the epoch that did it; both outlive the sink and the
//! source, so that a part that is renamed or taken out of a file takes nothing with it.
//!
//! | kind | participant | key | value |
//! |---|---|---|---|
//! | 8 | topic | the sink that writes | JSON: where its log stood |
//! | 9 | topic | the group that reads | JSON: offsets by writer |

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{
    build::Parts,
    committed::{SinkPoint, SourcePoint},
    durable::{Unfit, now, parse},
    letters,
};
use crate::{
    config::graph::{Graph, Sink, Source},
    disk::Disk,
    log::{self, Skipped},
    sink::{passage, topic::written},
    source::topic::Held,
    store::{Commit, Place, Places, Store, StoreError},
    topic::{Spots, Topics, folder},
};

pub(super) const WRITER: u8 = 8;
pub(super) const READER: u8 = 9;

/// The name of a part of a pipeline among all that write to a topic or read it.
pub fn part(pipeline: &str, name: &str) -> String {
    format!("{pipeline}.{name}")
}

/// Adds to an epoch's commit how far a source has read, where it reads a topic.
pub(super) fn put_source(commit: &mut Commit, source: &Source, point: &SourcePoint) {
    let Some((topic, group)) = source.input.topic() else { return };
    // A point that another kind of source left under that name says nothing of a topic.
    let held: Option<Held> = serde_json::from_value(point.position.0.clone()).ok();
    if let Some(held) = held.filter(|held| held.topic == topic && held.group == group)
        && let Ok(spots) = serde_json::to_vec(&held.spots)
    {
        commit.put(&Place::group(READER, topic, 0, group.as_bytes(), None), &spots);
    }
}

/// Adds to an epoch's commit where the log of a sink stands, where it writes to a topic.
pub(super) fn put_sink(commit: &mut Commit, sink: &Sink, point: &SinkPoint) {
    let Some(topic) = sink.output.topic() else { return };
    if written(&point.position).is_some()
        && let Ok(position) = serde_json::to_vec(&point.position)
    {
        commit.put(&Place::group(WRITER, topic, 0, sink.name.as_bytes(), None), &position);
    }
}

/// Lets the groups begin anew that these sources of `graph` read as, in the commits of all pipelines.
pub(super) async fn forget_groups(store: &Store, graph: &Graph, names: &[String]) -> Result<(), StoreError> {
    let is_named = |source: &str| names.iter().any(|name| name == "all" || name == source);
    let groups: Vec<(&str, &str)> =
        graph.topics_read().filter(|(_, source, _)| is_named(source)).map(|(topic, _, group)| (topic, group)).collect();
    for (topic, group) in groups {
        forget(store, topic, group).await?;
    }
    Ok(())
}

/// Gives a group up: what it has not read is waited for no longer, and a source that reads as it begins anew. Whether it was
/// known.
///
/// # Errors
/// The store's.
pub async fn forget(store: &Store, topic: &str, group: &str) -> Result<bool, StoreError> {
    let mut was_known = false;
    for pipeline in store.pipelines()? {
        let place = Place::group(READER, topic, 0, group.as_bytes(), None);
        if store.get(&pipeline, &place)?.is_some() {
            let mut commit = Commit::of_facts(pipeline.as_str().into(), now());
            commit.delete(&place);
            store.commit(commit).await?;
            was_known = true;
        }
    }
    Ok(was_known)
}

/// Lets the topics that `parts` write to be read as the store knows them, where an earlier run has completed the pipeline and
/// nobody opens its sinks.
pub(super) fn rest(parts: &Parts) {
    let is_over = parts.durable.as_ref().and_then(|(_, restored)| restored.as_ref()).is_some_and(|it| it.is_over);
    if let Some(topics) = parts.topics.as_ref().filter(|_| is_over) {
        for (topic, sink) in parts.graph.topics_written() {
            topics.topic(topic).rests(&part(&parts.graph.name, sink));
        }
    }
}

/// The topics of a host as `store` knows them, with their logs below `state`.
///
/// # Errors
/// The store's, and values that mean nothing.
pub fn load(store: &Store, disk: Arc<dyn Disk>, state: &Path) -> Result<Topics, Unfit> {
    let topics = Topics::new(disk, state);
    for pipeline in store.pipelines()? {
        visit(store, &pipeline, WRITER, |place, value| {
            let position = parse(place, value)?;
            if let Some(at) = written(&position) {
                let (topic, writer) = (topics.topic(&place.participant), part(&pipeline, &text(place)));
                topic.found(&writer, at);
                passage::told(&position).into_iter().for_each(|told| topic.tell(&writer, told));
            }
            Ok(())
        })?;
        visit(store, &pipeline, READER, |place, value| {
            let spots: Spots = parse(place, value)?;
            topics.topic(&place.participant).found_group(&text(place), &spots);
            Ok(())
        })?;
    }
    Ok(topics)
}

/// The logs that sinks of `pipeline` have written, each as its topic and its writer.
///
/// # Errors
/// The store's.
pub fn logs(store: &Store, pipeline: &str) -> Result<BTreeSet<(String, String)>, Unfit> {
    let mut logs = BTreeSet::new();
    visit(store, pipeline, WRITER, |place, _| {
        logs.insert((place.participant.to_string(), part(pipeline, &text(place))));
        Ok(())
    })?;
    Ok(logs)
}

/// Removes these logs, of which the store holds nothing any more; how many there were.
///
/// # Errors
/// What the disk says.
pub fn discard(disk: &Arc<dyn Disk>, state: &Path, logs: &BTreeSet<(String, String)>) -> anyhow::Result<usize> {
    let mut discarded = 0;
    for (topic, writer) in logs {
        discarded += usize::from(letters::discard(disk, &state.join(folder(topic, writer)))?);
    }
    Ok(discarded)
}

/// Reads and checks all records of all topics; how many there are.
///
/// # Errors
/// The first damage, and what the disk says.
pub fn verify(topics: &Topics) -> anyhow::Result<u64> {
    let mut records = 0;
    for topic in topics.all() {
        for (_, readable) in topic.logs()? {
            records += readable.log.verify()?.records;
        }
    }
    Ok(records)
}

/// Skips what is damaged of the topics, for good, and tells each stretch.
///
/// # Errors
/// What the store and the disk say.
pub fn repair(store: &Store, disk: &dyn Disk, state: &Path, mut skipped: impl FnMut(Skipped)) -> anyhow::Result<()> {
    for pipeline in store.pipelines()? {
        let mut found = Vec::new();
        visit(store, &pipeline, WRITER, |place, value| {
            let position = parse(place, value)?;
            let path = state.join(folder(&place.participant, &part(&pipeline, &text(place))));
            found.extend(written(&position).map(|at| (path, at.mark)));
            Ok(())
        })?;
        for (path, mark) in found {
            log::repair(disk, &path, mark)?.into_iter().for_each(&mut skipped);
        }
    }
    Ok(())
}

fn text(place: &Place<'_>) -> String {
    String::from_utf8_lossy(&place.key).into_owned()
}

/// Shows the values of one kind to `visit`; the first that it cannot read is the answer.
pub(super) fn visit(
    store: &Store,
    pipeline: &str,
    kind: u8,
    mut visit: impl FnMut(&Place<'_>, &[u8]) -> Result<(), Unfit>,
) -> Result<(), Unfit> {
    let mut unfit = None;
    store.scan(pipeline, Places::Kind(kind), |place, value| match visit(&place, value) {
        Ok(()) => std::ops::ControlFlow::Continue(()),
        Err(error) => {
            unfit = Some(error);
            std::ops::ControlFlow::Break(())
        }
    })?;
    unfit.map_or(Ok(()), Err)
}
