//! What a running host keeps, asked for over its control socket: groups, epochs, ledgers, backups.
//!
//! Owns how these questions are answered. Invariant: a store is read on a thread that may wait, and what is read is
//! handed over in parts, so that no answer has to fit into memory.

use std::{convert::Infallible, ops::ControlFlow, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
    time::timeout,
};

use super::{Hosted, Service};
use crate::{
    pipeline::{
        Command,
        kept::{self, Asked, End, Line, Unkept},
        ledger::Account,
    },
    store::Store,
    topic::Status,
    unit::Span,
};

/// Bytes of lines that are handed over at once.
const PART: usize = 64 << 10;

/// Parts that wait for somebody who reads slowly.
const PARTS: usize = 4;

/// Why there is no answer, as it is written into the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A fragment that reads after "failed to".
    pub error: String,
}

/// The ledger of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its ledger as of its last commit.
    pub ledger: Account,
}

/// The epochs of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epochs {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Those that the store remembers, the oldest first.
    pub epochs: Vec<kept::Past>,
}

/// An epoch that somebody waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its number.
    pub epoch: u64,
    /// Seconds from its beginning until it was committed.
    pub seconds: f64,
}

/// A question that gets no answer.
#[derive(Debug)]
pub(super) struct Refused {
    code: StatusCode,
    error: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.code, Json(Refusal { error: self.error })).into_response()
    }
}

impl From<Unkept> for Refused {
    fn from(error: Unkept) -> Self {
        let code = match error {
            Unkept::Unknown { .. } | Unkept::Ambiguous { .. } => StatusCode::NOT_FOUND,
            Unkept::Unfit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        refused(code, error.to_string())
    }
}

pub(super) fn refused(code: StatusCode, error: impl Into<String>) -> Refused {
    Refused { code, error: error.into() }
}

fn unread(panic: &JoinError) -> Refused {
    refused(StatusCode::INTERNAL_SERVER_ERROR, format!("read the store: {panic}"))
}

/// The store of the host, if it has one.
fn store(service: &Service) -> Result<Arc<Store>, Refused> {
    service.store.clone().ok_or_else(|| refused(StatusCode::CONFLICT, "look into the state: the host keeps none"))
}

/// The topics of the host as they stand.
pub(super) async fn topics(State(service): State<Arc<Service>>) -> Result<Json<Vec<Status>>, Refused> {
    let topics = service
        .topics
        .clone()
        .ok_or_else(|| refused(StatusCode::CONFLICT, "look for topics: the host keeps no state"))?;
    let looked = spawn_blocking(move || topics.status()).await.map_err(|panic| unread(&panic))?;
    looked.map(Json).map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))
}

/// Runs what reads the store on a thread that may wait.
async fn read<T: Send + 'static>(
    service: &Service,
    act: impl FnOnce(&Store) -> Result<T, Unkept> + Send + 'static,
) -> Result<T, Refused> {
    let store = store(service)?;
    Ok(spawn_blocking(move || act(&store)).await.map_err(|panic| unread(&panic))??)
}

/// Which pipeline, of those that run or are kept.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    pipeline: Option<String>,
}

/// The pipelines that are meant.
pub(super) fn hosted<'s>(service: &'s Service, named: Option<&str>) -> Result<Vec<&'s Arc<Hosted>>, Refused> {
    let all = service.pipelines.iter();
    let meant: Vec<_> = all.filter(|one| named.is_none_or(|name| one.is_of(name))).collect();
    if meant.is_empty() {
        let named = named.unwrap_or_default();
        let error = format!("find the pipeline `{named}`: the host runs none of that name");
        return Err(refused(StatusCode::NOT_FOUND, error));
    }
    Ok(meant)
}

/// The ledgers as of the last commits.
pub(super) async fn audit(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Audited>>, Refused> {
    let audited = |one: &Arc<Hosted>| {
        let pipeline = one.board.graph().name.clone();
        Audited { pipeline, ledger: one.board.account() }
    };
    Ok(Json(hosted(&service, which.pipeline.as_deref())?.into_iter().map(audited).collect()))
}

/// The epochs that the store remembers.
pub(super) async fn epochs(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Epochs>>, Refused> {
    Ok(Json(read(&service, move |store| past(store, which.pipeline.as_deref())).await?))
}

/// The epochs of the pipeline that is `named`, or of all.
///
/// # Errors
/// There is no such pipeline; damage.
pub fn past(store: &Store, named: Option<&str>) -> Result<Vec<Epochs>, Unkept> {
    let names = match named {
        Some(_) => vec![kept::pipeline(store, named)?],
        None => store.pipelines()?,
    };
    names.into_iter().map(|pipeline| Ok(Epochs { epochs: kept::epochs(store, &pipeline)?, pipeline })).collect()
}

#[derive(Debug, Deserialize)]
pub(super) struct EpochTerms {
    pipeline: Option<String>,
    deadline: Span,
}

/// Asks for an epoch, and answers when one that began afterwards has committed.
pub(super) async fn epoch(
    State(service): State<Arc<Service>>,
    Query(terms): Query<EpochTerms>,
) -> Result<Json<Committed>, Refused> {
    let mut meant = hosted(&service, terms.pipeline.as_deref())?;
    // A part that is named itself is meant alone.
    if let Some(named) = meant.iter().position(|one| Some(&one.board.graph().name) == terms.pipeline.as_ref()) {
        meant = vec![meant.swap_remove(named)];
    }
    let [one] = meant.as_slice() else {
        return Err(refused(StatusCode::NOT_FOUND, "tell which pipeline is meant: the host runs several"));
    };
    Ok(Json(one.epoch(terms.deadline.0).await?))
}

impl Hosted {
    /// Whether it is the pipeline of that name, or one of its parts.
    pub(super) fn is_of(&self, name: &str) -> bool {
        let rest = self.board.graph().name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    async fn epoch(&self, deadline: Duration) -> Result<Committed, Refused> {
        let pipeline = self.board.graph().name.clone();
        let (mut pulse, wanted) = self.board.pulse();
        let over = || refused(StatusCode::CONFLICT, format!("commit an epoch of `{pipeline}`: it has ended"));
        // Whoever does not listen any more has ended, which the pulse tells.
        let _ = self.commands.send(Command::Epoch).await;
        let reached = pulse.wait_for(|pulse| pulse.epoch >= wanted || pulse.is_over);
        let reached = match timeout(deadline, reached).await {
            Ok(Ok(reached)) => *reached,
            Ok(Err(_)) => return Err(over()),
            Err(_) => {
                let holds: Vec<String> =
                    self.board.not_ready().into_iter().map(|held| format!("; {}: {}", held.who, held.why)).collect();
                let error = format!(
                    "commit an epoch of `{pipeline}` within {}: it is still under way{}",
                    Span(deadline),
                    holds.concat()
                );
                return Err(refused(StatusCode::GATEWAY_TIMEOUT, error));
            }
        };
        if reached.epoch < wanted {
            return Err(over());
        }
        Ok(Committed { pipeline, epoch: reached.epoch, seconds: reached.took.as_secs_f64() })
    }
}

/// [`Asked`] as a query writes it.
#[derive(Debug, Deserialize)]
pub(super) struct GroupQuery {
    pipeline: Option<String>,
    stage: Option<String>,
    key: Option<String>,
    window: Option<i64>,
    limit: Option<u64>,
}

/// The pairs of the query that asks for groups, the key in base64.
pub fn query(asked: &Asked) -> Vec<(&'static str, String)> {
    let pairs = [
        ("pipeline", asked.pipeline.clone()),
        ("stage", asked.stage.clone()),
        ("key", asked.key.as_ref().map(|key| STANDARD.encode(key))),
        ("window", asked.window.map(|start| start.to_string())),
        ("limit", asked.limit.map(|limit| limit.to_string())),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Groups, a line each, in parts as they are read.
pub(super) async fn groups(
    State(service): State<Arc<Service>>,
    Query(query): Query<GroupQuery>,
) -> Result<impl IntoResponse, Refused> {
    let store = store(&service)?;
    let GroupQuery { pipeline, stage, key, window, limit } = query;
    let key = key.map(|text| STANDARD.decode(text)).transpose();
    let key = key.map_err(|error| refused(StatusCode::BAD_REQUEST, format!("read the key: {error}")))?;
    let asked = Asked { pipeline, stage, key, window, limit };
    let (sender, mut parts) = mpsc::channel(PARTS);
    // It ends when it has been read, or when nobody takes the parts any more.
    let reading = spawn_blocking(move || hand_over(&store, &asked, &sender));
    // What is wrong with the question is known before the first part.
    let Some(first) = parts.recv().await else {
        reading.await.map_err(|panic| unread(&panic))??;
        return Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "read the store: it said nothing"));
    };
    let rest = stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
    let body = Body::from_stream(stream::iter([first]).chain(rest).map(Ok::<Bytes, Infallible>));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body))
}

fn hand_over(store: &Store, asked: &Asked, to: &mpsc::Sender<Bytes>) -> Result<(), Unkept> {
    let mut part = Vec::with_capacity(PART);
    let mut is_begun = false;
    let read = kept::lines(store, asked, &mut |line| {
        part.extend_from_slice(line.written().as_bytes());
        part.push(b'\n');
        if part.len() < PART {
            return ControlFlow::Continue(());
        }
        is_begun = true;
        match to.blocking_send(std::mem::take(&mut part).into()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    match read {
        Err(error) if is_begun => {
            let end = End { groups: 0, epoch: 0, error: Some(error.to_string()) };
            part.extend_from_slice(Line::End(end).written().as_bytes());
            part.push(b'\n');
        }
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    // Whoever has gone wants no more.
    let _ = to.blocking_send(part.into());
    Ok(())
}

#[derive(Debug, Deserialize)]
pub(super) struct BackupTerms {
    to: PathBuf,
}

/// Copies the store into a new file of the host's machine, while commits go on.
pub(super) async fn backup(
    State(service): State<Arc<Service>>,
    Query(terms): Query<BackupTerms>,
) -> Result<Json<Value>, Refused> {
    read(&service, move |store| Ok(store.backup(&terms.to)?)).await?;
    Ok(Json(Value::Null))
}
