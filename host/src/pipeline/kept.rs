//! What a store keeps of a pipeline, looked at without the pipeline's file.
//!
//! Owns how groups, ledger and epochs are read from a store, and what is said of a name that it does not hold. It must
//! not know who asks: a person on a folder, or the interface of a running host. Invariant: nothing here writes but
//! [`import()`], and that only what fits what is kept.

mod group;
mod import;
mod lines;

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    group::{Group, GroupWindow},
    import::{Imported, Misfit, import},
    lines::{End, Head, Line, StageHead, read},
};
use super::{
    committed::{SinkPoint, SourcePoint},
    durable::{GROUP, PIPELINE, SINK, SOURCE, STAGE, Staged, Unfit, Whole, parse},
    ledger::{Account, Flow, Kind, Part},
};
use crate::{
    stage::table::slot,
    store::{Place, Places, Store, StoreError},
};

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// The store, or a value that means nothing.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The store does not hold what was asked for.
    #[error("find {what} `{name}` in the store: it holds {known}")]
    Unknown {
        /// What it would have been.
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is, in words.
        known: String,
    },
    /// The store holds several pipelines.
    #[error("tell which pipeline is meant: the store holds {known}")]
    Ambiguous {
        /// Their names, in words.
        known: String,
    },
}

impl From<StoreError> for Unkept {
    fn from(error: StoreError) -> Self {
        Self::Unfit(error.into())
    }
}

/// Which groups are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Name of the pipeline; the only one of the store, where none is named.
    pub pipeline: Option<String>,
    /// Name of the stage; all of the pipeline, where none is named.
    pub stage: Option<String>,
    /// The key, in a stage that is named; all keys, where none is given.
    pub key: Option<Vec<u8>>,
    /// The first millisecond of the window, since 1970; all windows, where none is given.
    pub window: Option<i64>,
    /// How many groups to show at most.
    pub limit: Option<u64>,
}

/// One epoch that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its number.
    pub epoch: u64,
    /// When it was committed, in milliseconds since 1970.
    pub at: i64,
    /// Values that it changed.
    pub writes: u64,
    /// Bytes of all that it changed.
    pub bytes: u64,
    /// Seconds that writing it took; not known of the last one.
    pub seconds: Option<f64>,
}

/// The name of the pipeline that is meant: the one that is named, or the only one there is.
///
/// # Errors
/// There is none of that name, or there are several.
pub fn pipeline(store: &Store, named: Option<&str>) -> Result<String, Unkept> {
    let mut names = store.pipelines()?;
    let known = || listed(&names, "no pipeline");
    match named {
        Some(name) if names.iter().any(|other| other == name) => Ok(name.to_owned()),
        Some(name) => Err(Unkept::Unknown { what: "the pipeline", name: name.to_owned(), known: known() }),
        None if names.len() > 1 => Err(Unkept::Ambiguous { known: known() }),
        None => names.pop().ok_or_else(|| Unkept::Unknown {
            what: "a",
            name: "pipeline".to_owned(),
            known: "none; nothing has been committed".to_owned(),
        }),
    }
}

/// Names in words.
fn listed(names: &[String], none: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { none.to_owned() } else { quoted.join(", ") }
}

/// The epochs of a pipeline that the store remembers, the oldest first.
///
/// # Errors
/// Damage.
pub fn epochs(store: &Store, pipeline: &str) -> Result<Vec<Past>, Unkept> {
    let seconds = |took: Option<Duration>| took.map(|took| took.as_secs_f64());
    let past = store.history(pipeline)?.into_iter().map(|past| Past {
        epoch: past.epoch,
        at: past.at,
        writes: past.writes,
        bytes: past.bytes,
        seconds: seconds(past.took),
    });
    Ok(past.collect())
}

/// Everything that is kept of a pipeline beside its groups.
#[derive(Default)]
struct Points {
    whole: Option<Whole>,
    sources: BTreeMap<String, SourcePoint>,
    stages: BTreeMap<String, Staged>,
    sinks: BTreeMap<String, SinkPoint>,
    epoch: u64,
}

/// Reads it in one look, for the values of groups come last.
fn points(store: &Store, pipeline: &str) -> Result<Points, Unkept> {
    let (mut found, mut unfit) = (Points::default(), None);
    let restored = store.scan(pipeline, Places::All, |place, value| {
        let name = place.participant.to_string();
        let read = match place.kind {
            PIPELINE => parse(&place, value).map(|value| found.whole = Some(value)),
            SOURCE => parse(&place, value).map(|value| drop(found.sources.insert(name, value))),
            STAGE => parse(&place, value).map(|value| drop(found.stages.insert(name, value))),
            SINK => parse(&place, value).map(|value| drop(found.sinks.insert(name, value))),
            _ => return ControlFlow::Break(()),
        };
        match read {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                unfit = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match unfit {
        Some(unfit) => Err(unfit.into()),
        None => Ok(Points { epoch: restored.epoch.unwrap_or_default(), ..found }),
    }
}

/// The ledger as of a pipeline's last commit. Edges are not in it where counts begin anew with the next run.
///
/// # Errors
/// Damage, and values that mean nothing.
pub fn account(store: &Store, pipeline: &str) -> Result<Account, Unkept> {
    let points = points(store, pipeline)?;
    let mut edges = Vec::new();
    let (mut sent, mut received) = (BTreeMap::new(), BTreeMap::new());
    for name in points.whole.iter().flat_map(|whole| &whole.edges) {
        let unread = || {
            let why = "the store holds no counts of it".to_owned();
            Unkept::from(Unfit::Unread { name: name.clone(), why })
        };
        // Counts stand in the order of the edges, of each producer and of each consumer.
        let (from, to) = name.split_once(" → ").ok_or_else(unread)?;
        let from = from.split('.').next().unwrap_or(from);
        let out = (points.sources.get(from).map(|point| &point.sent))
            .or_else(|| points.stages.get(from).map(|stage| &stage.point.sent))
            .or_else(|| points.sinks.get(from).map(|point| &point.sent));
        let into = (points.stages.get(to).map(|stage| &stage.point.received))
            .or_else(|| points.sinks.get(to).map(|point| &point.received));
        let next = |counts: &[u64], at: &mut usize| {
            *at += 1;
            counts.get(*at - 1).copied()
        };
        edges.push(Flow {
            name: name.clone(),
            sent: out.and_then(|counts| next(counts, sent.entry(from).or_default())).ok_or_else(unread)?,
            received: into.and_then(|counts| next(counts, received.entry(to).or_default())).ok_or_else(unread)?,
        });
    }
    let sources = points.sources.into_iter().map(|(name, point)| (Kind::Source, name, point.tally));
    let stages = points.stages.into_iter().map(|(name, stage)| (Kind::Stage, name, stage.point.tally));
    let parts = sources.chain(stages).map(|(kind, name, tally)| Part { kind, name, waiting: 0, tally });
    let sinks = points.sinks.into_iter().map(|(name, point)| {
        let SinkPoint { waiting, tally, .. } = point;
        Part { kind: Kind::Sink, name, waiting, tally }
    });
    let parts = parts.chain(sinks);
    Ok(Account::of(points.epoch, parts.collect(), edges))
}

/// Whether a source, stage or sink of that name is kept.
///
/// # Errors
/// It is not; damage.
pub fn part(store: &Store, pipeline: &str, name: &str) -> Result<(), Unkept> {
    let points = points(store, pipeline)?;
    let names = points.sources.keys().chain(points.stages.keys()).chain(points.sinks.keys());
    let names: Vec<String> = names.cloned().collect();
    if names.iter().any(|other| other == name) {
        return Ok(());
    }
    let known = listed(&names, "no part of it");
    Err(Unkept::Unknown { what: "the source, stage or sink", name: name.to_owned(), known })
}

/// Shows the groups that are asked for as the lines of [`Line`]: a head, the groups in the order of stage, slot, key
/// and window, and an end; until `visit` breaks.
///
/// # Errors
/// There is no such pipeline or stage; damage; then there is no end.
pub fn lines(store: &Store, asked: &Asked, visit: &mut dyn FnMut(&Line) -> ControlFlow<()>) -> Result<(), Unkept> {
    let pipeline = pipeline(store, asked.pipeline.as_deref())?;
    let points = points(store, &pipeline)?;
    let names: Vec<String> = points.stages.keys().cloned().collect();
    if let Some(stage) = asked.stage.as_ref().filter(|stage| !names.contains(*stage)) {
        return Err(Unkept::Unknown { what: "the stage", name: stage.clone(), known: listed(&names, "no stage") });
    }
    let is_asked = |name: &String| asked.stage.as_ref().is_none_or(|stage| stage == name);
    let stages = points.stages.into_iter().filter(|(name, _)| is_asked(name));
    let stages =
        stages.map(|(name, stage)| (name, StageHead { signature: stage.signature, watermark: stage.point.watermark }));
    if visit(&Line::Head(Head::of(&pipeline, stages.collect()))).is_break() {
        return Ok(());
    }
    let places = match (&asked.stage, &asked.key) {
        (None, _) => Places::Kind(GROUP),
        (Some(stage), None) => Places::Of(GROUP, stage),
        (Some(stage), Some(key)) => Places::Key(GROUP, stage, slot(key), key),
    };
    let (mut shown, mut unfit, mut is_over) = (0, None, false);
    let restored = store.scan(&pipeline, places, |place: Place<'_>, value: &[u8]| {
        if asked.limit.is_some_and(|limit| shown >= limit) {
            return ControlFlow::Break(());
        }
        if asked.window.is_some_and(|start| place.window.is_none_or(|window| window.0 != start)) {
            return ControlFlow::Continue(());
        }
        match Group::of(&place, value) {
            Ok(group) => {
                shown += 1;
                let next = visit(&Line::Group(group));
                is_over = next.is_break();
                next
            }
            Err(error) => {
                unfit = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match unfit {
        Some(unfit) => return Err(unfit.into()),
        None if is_over => return Ok(()),
        None => {}
    }
    let end = End { groups: shown, epoch: restored.epoch.unwrap_or_default(), error: None };
    // It was the last line, whether or not somebody wants more.
    let _ = visit(&Line::End(end));
    Ok(())
}
