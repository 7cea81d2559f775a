//! Breakers, seen and pulled from outside.
//!
//! Owns their answers. It must not know how a breaker works. Invariant: what a plugin or a receiver said of a record, which
//! may be of what is in it, is shown on the control socket only.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Hosted, Service,
    kept::{Refused, hosted, refused},
};
use crate::{
    config::Then,
    pipeline::{Command, coordinator::Participant},
    stage::gate::{Lever, Shown, Word},
};

/// How long a breaker may take to do what it is told: a pipeline that is being restarted hears of it afterwards.
const PATIENCE: Duration = Duration::from_secs(30);

/// The breaker of one stage or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the stage or sink.
    pub name: String,
    /// What becomes of records while it is open.
    pub then: Then,
    /// How it stands.
    #[serde(flatten)]
    pub shown: Shown,
}

/// Whose breaker is meant.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// That of a stage or sink.
    Part(Participant),
    /// That of what stands in for the plugin of the stage at this position.
    Fallback(usize),
}

impl Whose {
    fn told(self, lever: Lever) -> Command {
        match self {
            Self::Part(who) => Command::Breaker(who, lever),
            Self::Fallback(stage) => Command::Fallback(stage, lever),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    pipeline: Option<String>,
}

/// All breakers, of one pipeline or of all.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Breaker>>, Refused> {
    let meant = hosted(&service, which.pipeline.as_deref())?;
    Ok(Json(meant.into_iter().flat_map(|hosted| hosted.breakers().map(|(_, breaker)| breaker)).collect()))
}

/// Trips or resets a breaker, and answers how it stands then.
pub(super) async fn pull(
    State(service): State<Arc<Service>>,
    Path((pipeline, name, lever)): Path<(String, String, Lever)>,
) -> Result<Json<Breaker>, Refused> {
    let meant = hosted(&service, Some(&pipeline))?;
    let of = |one: &Hosted| one.breakers().find(|(_, breaker)| breaker.name == name).map(|(who, _)| who);
    let Some((one, who)) = meant.into_iter().find_map(|one| Some((one, of(one)?))) else {
        let error = format!("find the stage or sink `{name}`: `{pipeline}` has none of that name with a breaker");
        return Err(refused(StatusCode::NOT_FOUND, error));
    };
    let mut rung = one.board.bell.subscribe();
    let over = || refused(StatusCode::CONFLICT, format!("change the breaker of `{name}`: `{pipeline}` has ended"));
    one.commands.send(who.told(lever)).await.map_err(|_| over())?;
    let is_done = |shown: &Shown| match lever {
        Lever::Trip => shown.opened.as_ref().is_some_and(|opened| opened.probe.is_none()),
        Lever::Reset => shown.state == Word::Closed,
    };
    let done = async {
        loop {
            let found = one.breakers().find(|(_, breaker)| breaker.name == name && is_done(&breaker.shown));
            if let Some((_, breaker)) = found {
                return Ok(Json(breaker));
            }
            // The board, which holds the other end, is there as long as the service is.
            rung.changed().await.map_err(|_| over())?;
        }
    };
    let late =
        |_| refused(StatusCode::GATEWAY_TIMEOUT, format!("change the breaker of `{name}`: `{pipeline}` is busy"));
    timeout(PATIENCE, done).await.map_err(late)?
}

impl Hosted {
    /// The breakers of its stages, of what stands in for them, and of sinks; what discards has none, and the host's own sink
    /// needs none.
    fn breakers(&self) -> impl Iterator<Item = (Whose, Breaker)> {
        let graph = self.board.graph();
        let stages = graph.stages.iter().enumerate();
        let stages = stages.map(|(at, stage)| (Whose::Part(Participant::Stage(at)), stage.breaker.then.value));
        // What nothing stands in for waits.
        let standby = self.board.fallback_gates.keys().map(|at| (Whose::Fallback(*at), Then::Pause));
        let sinks = graph.sinks.iter().enumerate().filter(|(_, sink)| sink.has_breaker());
        let sinks = sinks.map(|(at, sink)| (Whose::Part(Participant::Sink(at)), sink.breaker.then.value));
        let all = stages.chain(standby).chain(sinks);
        all.filter_map(|(whose, then)| {
            let gate = match whose {
                Whose::Part(who) => self.board.gate(who),
                Whose::Fallback(stage) => self.board.fallback_gates.get(&stage),
            }?;
            let (pipeline, name) = (graph.name.clone(), gate.name().to_owned());
            Some((whose, Breaker { pipeline, name, then, shown: gate.shown() }))
        })
    }
}
