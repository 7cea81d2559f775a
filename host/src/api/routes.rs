//! What is asked by which path, and what is answered.
//!
//! Owns paths and documents. Invariant: whatever changes something, or shows what records hold, is a route of [`control`]
//! only.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Drained, HostStatus, Letterbox, Service, VERSION, breakers, guard, kept, metrics, reload, replay};
use crate::{
    letter,
    pipeline::{Drain, OpenWindows, board::NotReady},
    unit::Span,
};

/// Everything, for the control socket.
pub fn control(service: Arc<Service>) -> Router {
    readings()
        .route("/api/v1/drain", post(drain))
        .route("/api/v1/epoch", post(kept::epoch))
        .route("/api/v1/breakers", get(breakers::list))
        .route("/api/v1/breakers/{pipeline}/{name}/{lever}", post(breakers::pull))
        .route("/api/v1/epochs", get(kept::epochs))
        .route("/api/v1/audit", get(kept::audit))
        .route("/api/v1/state/groups", get(kept::groups))
        .route("/api/v1/state/backup", post(kept::backup))
        .route("/api/v1/plugins", get(reload::history))
        .route("/api/v1/plugins/reload", post(reload::reload))
        .route("/api/v1/plugins/rollback", post(reload::roll_back))
        .route("/api/v1/topics", get(kept::topics))
        .route("/api/v1/letters", get(letterboxes))
        .route("/api/v1/letters/{pipeline}", get(letters))
        .route("/api/v1/letters/{pipeline}/replay", post(replay::order))
        .with_state(service)
}

/// What changes nothing, for TCP; `listen` is the address as it was configured.
pub fn open(service: Arc<Service>, listen: &str) -> Router {
    readings().with_state(service).layer(middleware::from_fn_with_state(Arc::<str>::from(listen), guard::check))
}

fn readings() -> Router<Arc<Service>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/version", get(version))
        .route("/api/v1/status", get(status))
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

async fn livez() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the host is ready, and if not, who is not and why.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    pipelines: Vec<PipelineReady>,
}

#[derive(Serialize)]
struct PipelineReady {
    pipeline: String,
    ready: bool,
    not_ready: Vec<NotReady>,
}

/// A pipeline that has come to a good end wants nothing more; one that broke down is a reason not to be ready.
async fn readyz(State(service): State<Arc<Service>>) -> Response {
    let one = |pipeline: &Arc<super::Hosted>| {
        let name = pipeline.board.graph().name.clone();
        let not_ready = match pipeline.end.get() {
            Some(end) if end.exit == 0 => Vec::new(),
            Some(end) => vec![NotReady { who: name.clone(), why: format!("it has ended: {}", end.ending) }],
            None => pipeline.board.not_ready(),
        };
        PipelineReady { pipeline: name, ready: not_ready.is_empty(), not_ready }
    };
    let pipelines: Vec<_> = service.pipelines.iter().map(one).collect();
    let ready = pipelines.iter().all(|pipeline| pipeline.ready);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { ready, pipelines })).into_response()
}

async fn scrape(State(service): State<Arc<Service>>) -> Response {
    match metrics::text(service) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("write the metrics: {error}\n")).into_response(),
    }
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

async fn version() -> Json<Version> {
    Json(Version { name: "tidegate", version: VERSION })
}

async fn status(State(service): State<Arc<Service>>) -> Json<HostStatus> {
    Json(service.status())
}

#[derive(Deserialize)]
struct DrainTerms {
    deadline: Option<Span>,
    #[serde(default)]
    close_windows: bool,
}

/// Asks for a drain, and answers when everything has ended. Somebody who goes away meanwhile stops nothing.
async fn drain(State(service): State<Arc<Service>>, Query(terms): Query<DrainTerms>) -> Response {
    let deadline = terms.deadline.map_or(service.drain_deadline, |deadline| deadline.0);
    let windows = if terms.close_windows { OpenWindows::Close } else { OpenWindows::Keep };
    let mut all_ended = service.all_ended.clone();
    // The main loop that takes drains also says when everything has ended: without it, everything has.
    let asked = service.drains.send(Drain { deadline, windows }).await.is_ok();
    let ended = all_ended.wait_for(|ended| *ended).await.is_ok();
    let code = if asked || ended { StatusCode::OK } else { StatusCode::GONE };
    (code, Json(Drained { ended: service.ends() })).into_response()
}

async fn letterboxes(State(service): State<Arc<Service>>) -> Json<Vec<Letterbox>> {
    Json(service.letterboxes())
}

/// A page of a pipeline's dead letters; they are records of somebody's, which only the owner of the host may read.
async fn letters(
    State(service): State<Arc<Service>>,
    Path(pipeline): Path<String>,
    Query(query): Query<letter::Query>,
) -> Response {
    let Some(readable) = service.letters(&pipeline) else {
        return (StatusCode::NOT_FOUND, format!("no dead letters are kept of `{pipeline}`\n")).into_response();
    };
    let failed = |why: String| (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response();
    match tokio::task::spawn_blocking(move || letter::page(&readable, &query)).await {
        Ok(Ok(page)) => Json(page).into_response(),
        Ok(Err(error)) => failed(error.to_string()),
        Err(panic) => failed(panic.to_string()),
    }
}
