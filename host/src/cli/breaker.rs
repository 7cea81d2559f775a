//! `breaker`: which stages and sinks are left alone, why, and until when.
//!
//! Owns how breakers are shown. It must not know how one works.

use clap::{Args, Subcommand};
use hyper::Method;

use super::{
    Answer, Outcome,
    ask::Ask,
    epoch::which,
    figure,
    table::{self, Align},
};
use crate::{
    api::{breakers::Breaker, client},
    stage::gate::Word,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the breakers of a running host.
    Ls(Ls),
    /// Open a breaker until it is reset: its plugin, or its sink, is left alone.
    Trip(Pull),
    /// Close a breaker, and try again at once.
    Reset(Pull),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tidegate breaker ls
  tidegate breaker ls access-log --json")]
pub(super) struct Ls {
    /// The pipeline; all, where none is named.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
#[command(
    after_help = "It acts between two calls, and is remembered over a restart of the host. What stands in for the plugin of a stage
(`then: fallback`) has a breaker of its own, called STAGE.fallback.

Examples:
  tidegate breaker trip access-log errors
  tidegate breaker reset access-log errors"
)]
pub(super) struct Pull {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// The stage or sink.
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    ask: Ask,
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ls(_) => "breaker ls",
            Self::Trip(_) => "breaker trip",
            Self::Reset(_) => "breaker reset",
        }
    }

    pub(super) fn perform(self) -> Outcome {
        match self {
            Self::Ls(verb) => verb.perform(),
            Self::Trip(verb) => verb.perform("trip"),
            Self::Reset(verb) => verb.perform("reset"),
        }
    }
}

impl Ls {
    fn perform(self) -> Outcome {
        let path = client::with_query("/api/v1/breakers", &which(self.pipeline));
        let all: Vec<Breaker> = self.ask.ask(Method::GET, &path)?;
        let open = all.iter().filter(|breaker| breaker.shown.opened.is_some()).count();
        let mut rows = vec![["pipeline", "breaker", "state", "then", "why"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(row));
        let text = table::lay_out("", &[Align::Left; 5], &rows);
        Ok(Answer::fine(format!("{open} of {} open", figure::several(all.len(), "breaker")), all, text))
    }
}

impl Pull {
    fn perform(self, lever: &str) -> Outcome {
        let path = client::with_query(&format!("/api/v1/breakers/{}/{}/{lever}", self.pipeline, self.stage), &[]);
        let breaker: Breaker = self.ask.ask(Method::POST, &path)?;
        let summary =
            format!("the breaker of `{}` in `{}` is {}", breaker.name, breaker.pipeline, word(breaker.shown.state));
        Ok(Answer::fine(&summary, breaker, format!("{summary}\n")))
    }
}

fn word(state: Word) -> &'static str {
    match state {
        Word::Closed => "closed",
        Word::Open => "open",
        Word::HalfOpen => "half open",
    }
}

fn row(breaker: &Breaker) -> Vec<String> {
    let why = breaker.shown.opened.as_ref().map_or_else(String::new, |opened| match &opened.last {
        Some(last) => format!("{opened}; the last: {last}"),
        None => opened.to_string(),
    });
    let then = serde_json::to_value(breaker.then).ok().and_then(|then| then.as_str().map(str::to_owned));
    let state = word(breaker.shown.state).to_owned();
    vec![breaker.pipeline.clone(), breaker.name.clone(), state, then.unwrap_or_default(), why]
}
