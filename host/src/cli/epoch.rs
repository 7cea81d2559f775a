//! `epoch`: what has been committed when, and committing now.

use clap::{Args, Subcommand};
use hyper::Method;

use super::{
    Answer, Outcome,
    ask::Ask,
    figure,
    state::{Kept, Way, unkept},
    table::{self, Align},
};
use crate::{
    api::{
        client,
        kept::{self, Committed, Epochs},
    },
    unit::Span,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Ask a running host for an epoch, and wait until it has committed.
    Now(Now),
    /// List the last epochs that were committed.
    Ls(Ls),
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Now(_) => "epoch now",
            Self::Ls(_) => "epoch ls",
        }
    }

    pub(super) fn perform(self) -> Outcome {
        match self {
            Self::Now(verb) => verb.perform(),
            Self::Ls(verb) => verb.perform(),
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Whatever a source had sent before is in the epoch that is answered.

Example:
  tidegate epoch now access-log")]
pub(super) struct Now {
    /// The pipeline; needed where the host runs several.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    /// How long to wait for it.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    deadline: Span,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The last 32 epochs of each pipeline are remembered. How long one took to write is known from the next one on.

Examples:
  tidegate epoch ls
  tidegate epoch ls access-log --json"
)]
pub(super) struct Ls {
    /// The pipeline; all, where none is named.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

/// What is said of a state without a pipeline.
pub(super) const NOTHING: &str = "nothing has been committed\n";

/// The pair of a query that names a pipeline, if one is named.
pub(super) fn which(pipeline: Option<String>) -> Vec<(&'static str, String)> {
    pipeline.into_iter().map(|name| ("pipeline", name)).collect()
}

impl Now {
    fn perform(self) -> Outcome {
        let mut pairs = which(self.pipeline);
        pairs.push(("deadline", self.deadline.to_string()));
        let path = client::with_query("/api/v1/epoch", &pairs);
        let committed: Committed = self.ask.ask(Method::POST, &path)?;
        let took = figure::nanos(committed.seconds * 1e9);
        let summary = format!("epoch {} of `{}` has committed after {took}", committed.epoch, committed.pipeline);
        Ok(Answer::fine(&summary, committed, format!("{summary}\n")))
    }
}

impl Ls {
    fn perform(self) -> Outcome {
        let all: Vec<Epochs> = match self.kept.way()? {
            Way::Store(store) => kept::past(&store, self.pipeline.as_deref()).map_err(unkept)?,
            Way::Host(ask) => ask.ask(Method::GET, &client::with_query("/api/v1/epochs", &which(self.pipeline)))?,
        };
        let text = if all.is_empty() { NOTHING.to_owned() } else { all.iter().map(shown).collect() };
        let count: usize = all.iter().map(|one| one.epochs.len()).sum();
        let summary = format!("{} of {}", figure::several(count, "epoch"), figure::several(all.len(), "pipeline"));
        Ok(Answer::fine(summary, all, text))
    }
}

fn shown(one: &Epochs) -> String {
    let head = ["epoch", "committed", "values", "bytes", "took"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(one.epochs.iter().map(|past| {
        vec![
            past.epoch.to_string(),
            figure::time(past.at),
            figure::count(past.writes),
            figure::count(past.bytes),
            past.seconds.map_or("-".to_owned(), |seconds| figure::nanos(seconds * 1e9)),
        ]
    }));
    let aligns = [Align::Right, Align::Left, Align::Right, Align::Right, Align::Right];
    format!("{}\n{}", one.pipeline, table::lay_out("  ", &aligns, &rows))
}
