//! A pipeline's commits in the host's store: what each epoch writes, and how a new process is given it back.
//!
//! Owns the kinds of values, their form, and whether a store's state fits the pipeline as it is now written. It must not
//! know how the store keeps them. Invariant: what [`Durable::restore`] gives back is exactly what the last commit that
//! was acknowledged had written.
//!
//! | kind | of | value |
//! |---|---|---|
//! | 0 | the pipeline | JSON: the edges that counts are kept for, and whether all sources have ended |
//! | 1, 2, 3 | a source, stage, sink | JSON: where it stood; of a stage also the signature of its state |
//! | 4 | a group, by stage, slot, key and window | count, time, seen (8 bytes each, big-endian), panes (4), late (1), state |
//! | 5 | a fact of a source, by source and key | in the source's own words |
//! | 8, 9 | of a topic: a sink that writes, a group that reads | JSON: where its log stands, how far it has come (`topics`) |
//! | 10 | a stage or sink whose breaker is open | JSON: why, since when, and when it is tried again |
//! | 11 | the pipeline | JSON: how often the host fell with it since the last commit, and with which records (`falls`) |

mod facts;
mod group;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Release},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    breakers::Openings,
    committed::{Committed, Point, SinkPoint, SourcePoint, StagePoint},
    coordinator::Participant,
    falls::Falls,
    ledger, topics,
};
use crate::{
    config::graph::{Graph, Producer},
    epoch::Epoch,
    plugin::Kind,
    source::Kept,
    stage::{
        table::{Change, slot},
        tally::Tally,
    },
    store::{Commit, Place, Places, Store, StoreError},
    time::{BEGIN, END, Window},
};
pub(super) use group::{group, value_of};

pub use super::signature::Signature;

pub(super) const PIPELINE: u8 = 0;
pub(super) const SOURCE: u8 = 1;
pub(super) const STAGE: u8 = 2;
pub(super) const SINK: u8 = 3;
pub(super) const GROUP: u8 = 4;
pub(super) const FACT: u8 = 5;
pub(super) const BREAKER: u8 = 10;
const FALLS: u8 = 11;

/// How long to wait before a full disk is asked again.
const FULL: Duration = Duration::from_secs(1);

/// All of time, which is the window of groups that have none.
pub(super) const ALL: Window = Window { start: BEGIN, end: END };

/// Why a store's state cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stage whose state was made otherwise.
    #[error("go on with the state of stage `{stage}`: it was made by {before}, and the stage is now {now}")]
    Changed {
        /// Name of the stage.
        stage: String,
        /// How the state was made.
        before: Box<Signature>,
        /// How it would be made now.
        now: Box<Signature>,
    },
    /// Something the file no longer names.
    #[error("go on without {what} `{name}`, of which the store holds where it stood")]
    Gone {
        /// What it was.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A value that is whole and means nothing.
    #[error("read what the store holds of `{name}`: {why}")]
    Unread {
        /// Whose value it is.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Whole {
    pub(super) edges: Vec<String>,
    pub(super) is_over: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) signature: Signature,
    pub(super) point: StagePoint,
}

/// The store as one pipeline sees it.
#[derive(Clone, Debug)]
pub struct Durable {
    pub(super) store: Arc<Store>,
    pub(super) name: Arc<str>,
    pub(super) graph: Arc<Graph>,
    signatures: Vec<Signature>,
    /// The last epoch that has been committed since this was made.
    pub(super) reached: Arc<AtomicU64>,
}

/// Where a process before this one has come to.
#[derive(Debug, Default)]
pub struct Restored {
    /// Its last commit; a part that it did not have is `None`.
    pub epoch: Epoch,
    /// Sources, as the graph has them.
    pub sources: Vec<Option<SourcePoint>>,
    /// Stages.
    pub stages: Vec<Option<StagePoint>>,
    /// Sinks.
    pub sinks: Vec<Option<SinkPoint>>,
    /// Whether all sources had ended: there is nothing more to do.
    pub is_over: bool,
    /// Breakers that were open.
    pub openings: Openings,
    /// How often the host fell.
    pub falls: Option<Falls>,
    /// Stages whose state lies under the name that they had before.
    pub renamed: BTreeSet<usize>,
}

impl Durable {
    /// The part of `store` that belongs to the pipeline of `graph`, whose stages' states have these signatures.
    pub fn new(store: Arc<Store>, graph: Arc<Graph>, signatures: Vec<Signature>) -> Self {
        Self { store, name: graph.name.as_str().into(), graph, signatures, reached: Arc::default() }
    }

    /// Forgets what the store holds of these sources, stages and sinks; of the whole pipeline where one of them is
    /// `all`.
    ///
    /// # Errors
    /// The store's.
    pub async fn reset(&self, names: &[String]) -> Result<(), StoreError> {
        topics::forget_groups(&self.store, &self.graph, names).await?;
        reset(&self.store, self.name.clone(), names).await
    }

    /// What a process before this one has committed, if any has.
    ///
    /// # Errors
    /// When it is damaged, or does not fit the pipeline.
    pub fn restore(&self) -> Result<Option<Restored>, Unfit> {
        let graph = &self.graph;
        let mut found = Restored::nothing(graph);
        let (mut whole, mut unfit, mut groups) = (None, None, Vec::new());
        let mut facts: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
        let restored = self.store.restore(&self.name, |place, value| {
            let read = match place.kind {
                PIPELINE => parse(&place, value).map(|value: Whole| whole = Some(value)),
                BREAKER => parse(&place, value)
                    .map(|opened| drop(found.openings.insert(place.participant.to_string(), opened))),
                FALLS => parse(&place, value).map(|falls| found.falls = Some(falls)),
                // Workers read them there themselves.
                GROUP if self.stays(&place.participant) => Ok(()),
                GROUP => group(&place, value)
                    .map(|(group, saved)| groups.push((place.participant.to_string(), group, saved))),
                FACT => {
                    let fact = Kept { key: place.key.to_vec(), value: Some(value.to_vec()) };
                    facts.entry(place.participant.to_string()).or_default().push(fact);
                    Ok(())
                }
                _ => self.part(&place, value, &mut found),
            };
            if let Err(error) = read {
                unfit.get_or_insert(error);
            }
        })?;
        if let Some(unfit) = unfit {
            return Err(unfit);
        }
        let Some(epoch) = restored.epoch else { return Ok(None) };
        for (stage, group, saved) in groups {
            let at = self.stage(&stage);
            let Some(point) = at.and_then(|at| found.stages.get_mut(at)).and_then(Option::as_mut) else {
                return Err(Unfit::Gone { what: "stage", name: stage });
            };
            if at.and_then(|at| graph.stages.get(at)).is_some_and(|stage| stage.kind != Kind::Aggregate) {
                let why = "it has groups, and is no aggregate any more".to_owned();
                return Err(Unfit::Unread { name: stage, why });
            }
            point.groups.insert(group, saved);
        }
        for (name, kept) in facts {
            let at = self.graph.sources.iter().position(|source| source.name == name);
            let Some(point) = at.and_then(|at| found.sources.get_mut(at)).and_then(Option::as_mut) else {
                return Err(Unfit::Gone { what: "source", name });
            };
            point.kept = Arc::new(kept);
        }
        found.epoch = Epoch(epoch);
        match whole {
            Some(whole) if whole.edges == self.edges() => found.is_over = whole.is_over,
            _ => found.count_anew(graph),
        }
        Ok(Some(found))
    }

    fn part(&self, place: &Place<'_>, value: &[u8], found: &mut Restored) -> Result<(), Unfit> {
        let name = &*place.participant;
        let gone = |what| Unfit::Gone { what, name: name.to_owned() };
        match place.kind {
            SOURCE => {
                let at = self.graph.sources.iter().position(|source| source.name == name);
                let slot = at.and_then(|at| found.sources.get_mut(at)).ok_or_else(|| gone("source"))?;
                *slot = Some(parse(place, value)?);
            }
            STAGE => {
                let at = self.stage(name);
                let now = at.and_then(|at| self.signatures.get(at)).ok_or_else(|| gone("stage"))?;
                let slot = at.and_then(|at| found.stages.get_mut(at)).ok_or_else(|| gone("stage"))?;
                let Staged { signature, point } = parse(place, value)?;
                let kind = at.and_then(|at| self.graph.stages.get(at)).map_or(Kind::Aggregate, |stage| stage.kind);
                if !now.may_go_on_with(kind, &signature, &point.standing) {
                    let (before, now) = (Box::new(signature), Box::new(now.clone()));
                    return Err(Unfit::Changed { stage: name.to_owned(), before, now });
                }
                if slot.replace(point).is_some() {
                    let why = "the stage that it was renamed to has a state of its own".to_owned();
                    return Err(Unfit::Unread { name: name.to_owned(), why });
                }
                found
                    .renamed
                    .extend(at.filter(|at| self.graph.stages.get(*at).is_some_and(|stage| stage.name != name)));
            }
            SINK => {
                let at = self.graph.sinks.iter().position(|sink| sink.name == name);
                let slot = at.and_then(|at| found.sinks.get_mut(at)).ok_or_else(|| gone("sink"))?;
                *slot = Some(parse(place, value)?);
            }
            // They outlive the parts that wrote them, and are read for all pipelines at once.
            topics::WRITER | topics::READER => {}
            kind => {
                let why = format!("it is of kind {kind}, which this version does not know");
                return Err(Unfit::Unread { name: name.to_owned(), why });
            }
        }
        Ok(())
    }

    /// The stage that is called `name`, or was.
    fn stage(&self, name: &str) -> Option<usize> {
        let stages = &self.graph.stages;
        let named = stages.iter().position(|stage| stage.name == name);
        named.or_else(|| stages.iter().position(|stage| stage.was.as_deref() == Some(name)))
    }

    /// Moves the state of stages that were renamed to where their new names have it, in one commit.
    ///
    /// # Errors
    /// The store's.
    pub async fn rename(&self, restored: &mut Restored) -> Result<(), StoreError> {
        let mut commit = Commit::of_facts(self.name.clone(), now());
        for at in &restored.renamed {
            let (Some(stage), Some(signature), Some(Some(point))) =
                (self.graph.stages.get(*at), self.signatures.get(*at), restored.stages.get(*at))
            else {
                continue;
            };
            let was = stage.was.as_deref().unwrap_or_default();
            [STAGE, GROUP].into_iter().for_each(|kind| commit.delete_all(Places::Of(kind, was)));
            put(
                &mut commit,
                STAGE,
                &stage.name,
                &Staged { signature: signature.of_point(point), point: point.without_groups() },
            );
            for ((key, window), saved) in &point.groups {
                let change = Change { key, window: *window, kept: Some((&saved.state, saved.facts)) };
                put_group(&mut commit, &stage.name, change);
            }
        }
        if !commit.is_empty() {
            self.store.commit(commit).await?;
        }
        for (stage, point) in self.graph.stages.iter().zip(&mut restored.stages) {
            point.iter_mut().filter(|_| stage.state.memory.is_some()).for_each(|point| point.groups.clear());
        }
        Ok(())
    }

    fn edges(&self) -> Vec<String> {
        self.graph.edges.iter().map(|edge| ledger::name(&self.graph, edge)).collect()
    }

    /// Everything that the participants reported of `epoch`, to be written at once.
    pub fn commit(&self, epoch: Epoch, points: &[Point], is_over: bool) -> Commit {
        let mut commit = Commit::of_epoch(self.name.clone(), epoch.0, now());
        put(&mut commit, PIPELINE, "", &Whole { edges: self.edges(), is_over });
        for point in points {
            match point {
                Point::Source(at, point) => {
                    let Some(source) = self.graph.sources.get(*at) else { continue };
                    put(&mut commit, SOURCE, &source.name, point);
                    for Kept { key, value } in point.kept.iter() {
                        let place = Place::group(FACT, &source.name, 0, key, None);
                        match value {
                            Some(value) => commit.put(&place, value),
                            None => commit.delete(&place),
                        }
                    }
                    topics::put_source(&mut commit, source, point);
                }
                Point::Sink(at, point) => {
                    let Some(sink) = self.graph.sinks.get(*at) else { continue };
                    put(&mut commit, SINK, &sink.name, point);
                    topics::put_sink(&mut commit, sink, point);
                }
                Point::Stage(at, handed) => {
                    let (Some(stage), Some(signature)) = (self.graph.stages.get(*at), self.signatures.get(*at)) else {
                        continue;
                    };
                    let point = StagePoint::of(handed);
                    put(&mut commit, STAGE, &stage.name, &Staged { signature: signature.of_point(&point), point });
                }
            }
        }
        for point in points {
            if let Point::Stage(at, handed) = point
                && let Some(stage) = self.graph.stages.get(*at)
            {
                handed.changes.iter().for_each(|change| put_group(&mut commit, &stage.name, change));
            }
        }
        commit
    }

    /// Writes a commit, and says how long that took; where the disk is full, again and again, telling `full` why it waits.
    ///
    /// # Errors
    /// What ends the pipeline.
    pub async fn write(&self, commit: Commit, full: impl Fn(Option<String>)) -> Result<Duration, StoreError> {
        let mut waited = false;
        loop {
            match self.store.commit(commit.clone()).await {
                Ok(committed) => {
                    self.reached.fetch_max(commit.epoch().unwrap_or_default(), Release);
                    if waited {
                        tracing::info!(pipeline = &*self.name, "there is room again, the pipeline goes on");
                        full(None);
                    }
                    return Ok(committed.took);
                }
                Err(error @ StoreError::Full { .. }) => {
                    if !waited {
                        tracing::error!(pipeline = &*self.name, %error, "the pipeline pauses");
                    }
                    waited = true;
                    full(Some(error.to_string()));
                    tokio::time::sleep(FULL).await;
                    self.store.room().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Restored {
    /// What there is where nobody has committed anything.
    pub fn nothing(graph: &Graph) -> Self {
        Self {
            sources: vec![None; graph.sources.len()],
            stages: vec![None; graph.stages.len()],
            sinks: vec![None; graph.sinks.len()],
            ..Self::default()
        }
    }

    /// The sources and sinks that it holds.
    pub fn begun(&self) -> Vec<Participant> {
        let sources = self.sources.iter().enumerate().filter(|(_, point)| point.is_some());
        let sinks = self.sinks.iter().enumerate().filter(|(_, point)| point.is_some());
        sources.map(|(at, _)| Participant::Source(at)).chain(sinks.map(|(at, _)| Participant::Sink(at))).collect()
    }

    /// Counts of other edges than there are now would never balance.
    fn count_anew(&mut self, graph: &Graph) {
        let empty = Committed::empty(graph);
        for (at, point) in self.sources.iter_mut().enumerate() {
            if let Some(point) = point {
                point.tally = Default::default();
                point.sent = vec![0; graph.out_of(Producer::Source(at)).count()];
            }
        }
        for (point, empty) in self.stages.iter_mut().zip(empty.stages) {
            if let Some(point) = point {
                let (groups, standing) = (std::mem::take(&mut point.groups), std::mem::take(&mut point.standing));
                *point = StagePoint { groups, standing, watermark: point.watermark, ..empty };
            }
        }
        for (point, empty) in self.sinks.iter_mut().zip(empty.sinks) {
            if let Some(point) = point {
                // What waits to be delivered has been received, by the counts that begin too.
                let tally = Tally { received: point.waiting, ..Tally::default() };
                *point = SinkPoint { position: point.position.take(), waiting: point.waiting, tally, ..empty };
            }
        }
    }
}

/// Forgets what `store` holds of these sources, stages and sinks of a pipeline; of all of it where one is `all`.
///
/// # Errors
/// The store's.
pub async fn reset(store: &Store, pipeline: Arc<str>, names: &[String]) -> Result<(), StoreError> {
    if names.iter().any(|name| name == "all") {
        return store.forget(pipeline).await;
    }
    let mut commit = Commit::of_facts(pipeline, now());
    for name in names {
        [SOURCE, STAGE, SINK, GROUP, FACT, BREAKER]
            .into_iter()
            .for_each(|kind| commit.delete_all(Places::Of(kind, name)));
    }
    if !commit.is_empty() {
        // Counts of some that begin anew and some that do not can never balance: all begin anew.
        commit.delete(&Place::of(PIPELINE, ""));
        store.commit(commit).await?;
    }
    Ok(())
}

pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn parse<T: DeserializeOwned>(place: &Place<'_>, value: &[u8]) -> Result<T, Unfit> {
    serde_json::from_slice(value)
        .map_err(|error| Unfit::Unread { name: place.participant.to_string(), why: error.to_string() })
}

fn put(commit: &mut Commit, kind: u8, name: &str, value: &impl Serialize) {
    match serde_json::to_vec(value) {
        Ok(value) => commit.put(&Place::of(kind, name), &value),
        // Numbers, texts and lists always are JSON.
        Err(error) => tracing::error!(%error, name, "a position cannot be written"),
    }
}

pub(super) fn put_group(commit: &mut Commit, stage: &str, change: Change<'_>) {
    let Change { key, window, kept } = change;
    let place = Place::group(GROUP, stage, slot(key), key, (window != ALL).then_some((window.start, window.end)));
    match kept {
        Some((state, facts)) => commit.put(&place, &value_of(state, facts)),
        None => commit.delete(&place),
    }
}
