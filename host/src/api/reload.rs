//! The generations of stages, asked about and told over the control socket.
//!
//! Owns the questions and the answers. It must not know how a stage changes over.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Hosted, Service,
    kept::{Refused, refused},
};
use crate::pipeline::{
    Command,
    board::GenerationStatus,
    generations::{Ask, Other, Watched},
    reload::{Order, What},
};

/// The generations of one stage, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the stage.
    pub stage: String,
    /// Its generations.
    pub generations: Vec<GenerationStatus>,
}

/// What came of a reload, or of going back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the stage.
    pub stage: String,
    /// The generation that serves.
    pub generation: u64,
}

/// Which stages, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Terms {
    pipeline: Option<String>,
    stage: Option<String>,
    file: Option<PathBuf>,
    /// A candidate on probation is rolled back first.
    now: bool,
    /// The candidate is not watched.
    for_good: bool,
}

pub(super) async fn history(
    State(service): State<Arc<Service>>,
    Query(terms): Query<Terms>,
) -> Result<Json<Vec<History>>, Refused> {
    let mut all = Vec::new();
    for hosted in &service.pipelines {
        let graph = hosted.board.graph();
        for (at, stage) in graph.stages.iter().enumerate() {
            let is_meant = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
            if is_meant(&terms.pipeline, &graph.name) && is_meant(&terms.stage, &stage.name) {
                let (pipeline, stage) = (graph.name.clone(), stage.name.clone());
                all.push(History { pipeline, stage, generations: hosted.board.generations(at) });
            }
        }
    }
    if all.is_empty() && terms.pipeline.is_some() {
        return Err(refused(StatusCode::NOT_FOUND, "find that stage: no pipeline here has it"));
    }
    Ok(Json(all))
}

pub(super) async fn reload(
    State(service): State<Arc<Service>>,
    Query(terms): Query<Terms>,
) -> Result<Json<Reloaded>, Refused> {
    let other = if terms.now { Other::Goes } else { Other::Stays };
    let watched = if terms.for_good { Watched::No } else { Watched::Yes };
    let what = What::Reload(Ask::Person { other, watched }, terms.file.clone());
    tell(&service, &terms, what).await
}

pub(super) async fn roll_back(
    State(service): State<Arc<Service>>,
    Query(terms): Query<Terms>,
) -> Result<Json<Reloaded>, Refused> {
    tell(&service, &terms, What::Back).await
}

async fn tell(service: &Service, terms: &Terms, what: What) -> Result<Json<Reloaded>, Refused> {
    let (hosted, at, pipeline, stage) = find(service, terms)?;
    let (answer, answered) = oneshot::channel();
    let gone = || refused(StatusCode::CONFLICT, format!("reload a plugin: `{pipeline}` has ended"));
    hosted.commands.send(Command::Reload(Order { stage: at, what, answer })).await.map_err(|_| gone())?;
    match answered.await {
        Ok(Ok(generation)) => Ok(Json(Reloaded { pipeline, stage, generation })),
        Ok(Err(why)) => {
            Err(refused(StatusCode::UNPROCESSABLE_ENTITY, format!("reload `{stage}` of `{pipeline}`: {why}")))
        }
        Err(_) => Err(gone()),
    }
}

fn find<'s>(service: &'s Service, terms: &Terms) -> Result<(&'s Hosted, usize, String, String), Refused> {
    let unknown = |what: String| refused(StatusCode::NOT_FOUND, what);
    let name = terms.pipeline.as_deref().unwrap_or_default();
    let stage = terms.stage.as_deref().unwrap_or_default();
    let mut meant = service.pipelines.iter().filter(|hosted| hosted.is_of(name)).peekable();
    if meant.peek().is_none() {
        return Err(unknown(format!("find the pipeline `{name}`: the host does not run it")));
    }
    let at = |hosted: &Hosted| hosted.board.graph().stages.iter().position(|one| one.name == stage);
    let found = meant.find_map(|hosted| Some((hosted, at(hosted)?)));
    let (hosted, at) =
        found.ok_or_else(|| unknown(format!("find the stage `{stage}`: `{name}` has none of that name")))?;
    Ok((hosted, at, name.to_owned(), stage.to_owned()))
}
