//! The host's state: its store opened, and what it holds of each pipeline.
//!
//! Owns what a user is told when either cannot be used. It must not know what a commit holds.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{Answer, Exit, Trouble};
use crate::{
    config::{
        codes,
        graph::{Graph, LETTERS, Output},
    },
    crash,
    disk::{Disk, RealDisk},
    pipeline::{
        durable::{Durable, Restored, Signature, Unfit},
        forsaken, letters,
        open::Prepared,
        topics,
    },
    sink::http::outbox,
    source::journal,
    stage::stepping::Journal,
    store::{self, Lock, Settings, Store, StoreError},
    topic::Topics,
};

/// Opens the store in `folder`, if there is to be one. Where it is missing or of another version, and everything is to be
/// forgotten anyway, another one is begun.
pub(in crate::cli) fn open(folder: Option<&Path>, reset: &[String]) -> Result<Option<Arc<Store>>, Box<Answer>> {
    let Some(folder) = folder else { return Ok(None) };
    let open = |lock| Store::open(Arc::new(RealDisk), folder, lock, Settings::default());
    let store = Lock::take(folder).and_then(open).or_else(|error| match error {
        StoreError::Missing { .. } | StoreError::Format { .. } if reset.iter().any(|name| name == "all") => {
            tracing::warn!(%error, "everything begins anew; what was there is kept beside");
            let lock = Lock::take(folder)?;
            store::discard(&RealDisk, folder, &lock)?;
            open(lock)
        }
        error => Err(error),
    });
    let store = store.map_err(unusable)?;
    crash::point("recover.opened");
    Ok(Some(Arc::new(store)))
}

/// What `store` holds of a pipeline, once what is to be forgotten has been.
pub(in crate::cli) async fn restore(
    store: &Arc<Store>,
    prepared: &Prepared,
    folder: Option<&Path>,
    reset: &[String],
) -> Result<(Durable, Option<Restored>), Box<Answer>> {
    let graph = &prepared.graph;
    let signatures = graph.stages.iter().zip(&prepared.plugins).map(|(stage, plugin)| {
        let described = plugin.described();
        Signature::of(stage, &described.name, described.state_version)
    });
    let durable = Durable::new(store.clone(), graph.clone(), signatures.collect());
    let unread = |unfit: Unfit| match unfit {
        Unfit::Store(error) => unusable(error),
        Unfit::Changed { ref stage, .. } => refused(&graph.name, stage, &unfit),
        Unfit::Gone { ref name, .. } | Unfit::Unread { ref name, .. } => refused(&graph.name, name, &unfit),
    };
    let mut written = topics::logs(store, &graph.name).map_err(unread)?;
    durable.reset(reset).await.map_err(unusable)?;
    give_up_letters(graph, reset)?;
    if let Some(folder) = folder {
        give_up_journals(graph, folder, reset)?;
    }
    give_up_outboxes(graph, reset)?;
    if let Some(folder) = folder {
        // What waits on a durable edge goes with the edge.
        let is_all = reset.iter().any(|name| name == "all");
        let is_edge = |sink: &str| sink.contains('>') && reset.iter().any(|name| name == sink);
        let named = graph.topics_written().filter(|(_, sink)| is_all || is_edge(sink));
        let named: BTreeSet<_> =
            named.map(|(topic, sink)| (topic.to_owned(), topics::part(&graph.name, sink))).collect();
        written.retain(|_| is_all);
        written.extend(named);
        give_up_topics(graph, folder, &written)?;
    }
    let mut restored = durable.restore().map_err(unread)?;
    if let Some(restored) = &mut restored {
        durable.rename(restored).await.map_err(unusable)?;
    }
    crash::point("recover.restored");
    Ok((durable, restored))
}

/// Refuses to go on without parts of a pipeline that the store holds and its file does not have any more, or gives them up.
pub(super) async fn without(
    store: &Store,
    pipeline: &str,
    parts: &BTreeSet<&str>,
    folder: &Path,
    reset: &[String],
) -> Result<(), Box<Answer>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for part in forsaken::parts(store, pipeline, parts).map_err(unusable)? {
        if !reset.iter().any(|name| name == "all") {
            let trouble = Trouble::of(format!(
                "`{pipeline}`: go on without its part `{part}`, which the store holds: it began at an edge that its file has no more"
            ));
            let cure =
                "take the change of `edges` back, or give up everything that is kept of it with `--reset-state all`";
            return Err(Box::new(Answer::failed(Exit::Usage, trouble.code(codes::STATE_UNFIT).cure(cure))));
        }
        forsaken::give_up(store, &disk, folder, &part).await.map_err(|error| {
            let trouble = Trouble::of(format!("give up what is kept of `{part}`: {error:#}"));
            Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
        })?;
        tracing::warn!(pipeline, part, "it is given up: its file has it no more");
    }
    Ok(())
}

/// Lets the generations serve first that were committed.
pub(super) fn go_on(prepared: &mut Prepared, restored: &Restored) -> Result<(), Box<Answer>> {
    let graph = prepared.graph.clone();
    for ((at, stage), point) in graph.stages.iter().enumerate().zip(&restored.stages) {
        let Some(standing) = point.as_ref().map(|point| &point.standing) else { continue };
        let Err(why) = prepared.go_on_with(at, standing) else { continue };
        let (pipeline, name, generation) = (graph.name.as_str(), stage.name.as_str(), standing.generation);
        if prepared.state_version(at) == Some(standing.state_version) {
            tracing::warn!(
                pipeline,
                stage = name,
                generation,
                error = why,
                "what was committed cannot serve; the file does"
            );
            continue;
        }
        let version = standing.state_version;
        let trouble = Trouble::of(format!(
            "`{pipeline}`: go on with stage `{name}`: its states are of version {version}, which its file does not write, and generation {generation}, which does, cannot serve: {why}"
        ));
        let cure = format!("take the change of the plugin back, or give that state up with `--reset-state {name}`");
        return Err(Box::new(Answer::failed(Exit::Usage, trouble.code(codes::STATE_UNFIT).cure(cure))));
    }
    Ok(())
}

/// Removes the dead letters of a pipeline that begins anew: its records come again, and so do they.
fn give_up_letters(graph: &Graph, reset: &[String]) -> Result<(), Box<Answer>> {
    let is_named = |name: &String| name == "all" || name == LETTERS;
    for sink in graph.sinks.iter().filter(|_| reset.iter().any(is_named)) {
        let Output::DeadLetters(letters) = &sink.output else { continue };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let had_any = letters::discard(&disk, &letters.state.join(&letters.folder)).map_err(|error| {
            let trouble = Trouble::of(format!("give up the dead letters of `{}`: {error:#}", graph.name));
            Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
        })?;
        if had_any {
            tracing::warn!(pipeline = graph.name, "its dead letters are given up with its state");
        }
    }
    Ok(())
}

/// Removes the journals of sources that begin anew.
fn give_up_journals(graph: &Graph, folder: &Path, reset: &[String]) -> Result<(), Box<Answer>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for source in graph.sources.iter().filter(|source| reset.iter().any(|name| name == "all" || *name == source.name)) {
        let journal = folder.join(journal::folder(&graph.name, &source.name));
        let had_one = letters::discard(&disk, &journal).map_err(|error| {
            let trouble = Trouble::of(format!("give up the journal of `{}`: {error:#}", source.name));
            Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
        })?;
        if had_one {
            tracing::warn!(pipeline = graph.name, source = source.name, "its journal is given up with its state");
        }
    }
    Ok(())
}

/// Removes what waits in the outboxes of sinks that begin anew.
fn give_up_outboxes(graph: &Graph, reset: &[String]) -> Result<(), Box<Answer>> {
    let Some(state) = graph.state() else { return Ok(()) };
    for sink in graph.sinks.iter().filter(|sink| reset.iter().any(|name| name == "all" || *name == sink.name)) {
        if !matches!(&sink.output, Output::Http(_, requests) if requests.outbox.is_some()) {
            continue;
        }
        let (disk, name): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), &sink.name);
        let had_any = outbox::discard(&disk, &state.join(outbox::folder(&graph.name, name))).map_err(|error| {
            let trouble = Trouble::of(format!("give up the outbox of `{name}`: {error:#}"));
            Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
        })?;
        if had_any {
            tracing::warn!(pipeline = graph.name, sink = name, "what waited to be sent is given up");
        }
    }
    Ok(())
}

/// Removes what a pipeline that begins anew has written to topics: it writes it again.
fn give_up_topics(graph: &Graph, folder: &Path, logs: &BTreeSet<(String, String)>) -> Result<(), Box<Answer>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let discarded = topics::discard(&disk, folder, logs).map_err(|error| {
        let trouble = Trouble::of(format!("give up what `{}` wrote to topics: {error:#}", graph.name));
        Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
    })?;
    if discarded > 0 {
        tracing::warn!(pipeline = graph.name, logs = discarded, "what it wrote to topics is given up with its state");
    }
    Ok(())
}

/// The topics of the host, as its store in `folder` knows them.
pub(in crate::cli) fn topics(store: &Store, folder: &Path) -> Result<Topics, Box<Answer>> {
    topics::load(store, Arc::new(RealDisk), folder).map_err(|unfit| {
        let trouble = Trouble::of(format!("look for topics: {unfit}"));
        Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_DAMAGED)))
    })
}

/// The journal of the records that are called one by one.
pub(super) fn journal(folder: &Path) -> Result<Arc<Journal>, Box<Answer>> {
    Journal::open(&RealDisk, folder).map(Arc::new).map_err(|error| {
        let trouble = Trouble::of(format!("open the journal of records in hand below {}: {error}", folder.display()));
        Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE)))
    })
}

fn unusable(error: StoreError) -> Box<Answer> {
    let (code, cure) = match error {
        StoreError::Held { .. } => {
            (codes::STATE_UNUSABLE, "end that host with `tidegate drain`, or give this one a folder with `--state`")
        }
        StoreError::Damaged { .. } => (codes::STATE_DAMAGED, "`tidegate state verify` checks all of it"),
        _ => (codes::STATE_UNUSABLE, "name another folder with `--state`, or `--state none` to keep nothing"),
    };
    Box::new(Answer::failed(Exit::Environment, Trouble::of(error.to_string()).code(code).cure(cure)))
}

fn refused(pipeline: &str, name: &str, unfit: &Unfit) -> Box<Answer> {
    let cure = format!("take the change back, or give that state up with `--reset-state {name}`");
    let trouble = Trouble::of(format!("`{pipeline}`: {unfit}")).code(codes::STATE_UNFIT);
    Box::new(Answer::failed(Exit::Usage, trouble.cure(&cure)))
}
