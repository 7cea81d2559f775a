//! A pipeline that is opened for nothing but a replay of its letters, where no host runs it.
//!
//! Owns what has to hold for that: its sources rest where they were committed, and the plugins of its file serve at once.
//! Invariant: nothing but letters goes through it.

use std::{path::Path, time::Duration};

use super::super::{Answer, Exit, Trouble, run::state};
use crate::{
    config::{
        Loaded, budget, codes,
        graph::{Graph, LETTERS, WhenFull},
    },
    letter::Order,
    pipeline::{
        self, Command, Drain, Ended, Ending, Parts,
        durable::Restored,
        open::{self, Prepared},
        replay::{Replayed, replay as ask},
        run::threads,
    },
    plugin::Engine,
};

/// How long what is under way may take once the replay is over.
const DEADLINE: Duration = Duration::from_secs(25);

/// Replays letters of the pipeline of a file, whose state is in `folder`, which no host may use.
///
/// # Errors
/// What a `run` would say, or that the pipeline has to run once before.
pub(super) fn replay(loaded: &Loaded, engine: &Engine, folder: &Path, order: Order) -> Result<Replayed, Box<Answer>> {
    let environment = |message: String| Box::new(Answer::failed(Exit::Environment, Trouble::of(message)));
    let mut prepared = open::open(loaded, engine, Some(folder)).map_err(|faults| Box::new(Answer::refused(faults)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(threads(&prepared.graph) + budget::REST)
        .thread_name("tidegate")
        .enable_all()
        .build()
        .map_err(|error| environment(format!("start a runtime: {error}")))?;
    let name = prepared.graph.name.clone();
    if prepared.graph.edges.iter().any(|edge| edge.when_full != WhenFull::Block) {
        let trouble =
            Trouble::of(format!("replay letters of `{name}`, which is of several parts, where no host runs it"));
        return Err(Box::new(Answer::failed(Exit::Usage, trouble.cure("run it, and replay them meanwhile"))));
    }
    let outcome = runtime.block_on(async {
        let Some(store) = state::open(Some(folder), &[])? else { return Ok(Replayed::default()) };
        let (durable, restored) = state::restore(&store, &prepared, Some(folder), &[]).await?;
        let Some(found) = &restored else { return Ok(Replayed { pipeline: name.clone(), ..Replayed::default() }) };
        fits(&mut prepared, found)?;
        let topics = std::sync::Arc::new(state::topics(&store, folder)?);
        let opened = prepared.into_parts_at_rest(Some(topics)).await;
        let opened = opened.map_err(|error| environment(format!("open `{name}`: {error:#}")))?;
        let running = pipeline::start(Parts { durable: Some((durable, restored)), ..opened });
        let replayed = ask(&running.board, order).await;
        // Whatever has ended by itself hears nothing of it.
        let _ = running.commands.send(Command::Drain(Drain::within(DEADLINE))).await;
        let ended = running.task.await.map_err(|panic| environment(format!("end `{name}`: {panic}")))?;
        unended(&ended)?;
        replayed.map_err(|error| Box::new(Answer::failed(Exit::No, Trouble::of(error.to_string()))))
    });
    runtime.shutdown_background();
    outcome
}

/// Lets the plugins of the file serve at once, if what was committed can go on so.
fn fits(prepared: &mut Prepared, found: &Restored) -> Result<(), Box<Answer>> {
    let graph = prepared.graph.clone();
    let Graph { name, sources, stages, .. } = &*graph;
    let refused = |message: String| {
        let trouble = Trouble::of(message).code(codes::STATE_UNFIT);
        Box::new(Answer::failed(
            Exit::Usage,
            trouble.cure("run the pipeline once, and replay its letters while it runs or afterwards"),
        ))
    };
    let unknown = sources.iter().zip(&found.sources).find(|(source, point)| point.is_none() && source.name != LETTERS);
    if let Some((source, _)) = unknown {
        let source = &source.name;
        return Err(refused(format!("open `{name}` for its letters: its source `{source}` has never been committed")));
    }
    for ((at, stage), point) in stages.iter().enumerate().zip(&found.stages) {
        let Some(standing) = point.as_ref().map(|point| &point.standing) else { continue };
        let version = standing.state_version;
        if !standing.digest.is_empty() && prepared.state_version(at) != Some(version) {
            let stage = &stage.name;
            return Err(refused(format!(
                "open `{name}` for its letters: states of the stage `{stage}` are of version {version}, which its file does not write"
            )));
        }
        prepared.serve_file(at, standing);
    }
    Ok(())
}

/// What ended the pipeline, if it was not the drain.
fn unended(ended: &Ended) -> Result<(), Box<Answer>> {
    let (message, code) = match &ended.ending {
        Ending::Drained | Ending::Completed => return Ok(()),
        Ending::DeadlinePassed => {
            ("finish what was under way before the deadline; it was not committed".to_owned(), Some(codes::DRAIN_LATE))
        }
        Ending::Stopped(stop) => (stop.to_string(), Some(codes::RECORD_REFUSED)),
        Ending::Faulted(report) => (report.to_string(), Some(codes::PLUGIN_FAULT)),
        Ending::Failed(why) => (why.clone(), None),
    };
    Err(Box::new(Answer::failed(Exit::of(&ended.ending), Trouble { code, ..Trouble::of(message) })))
}
