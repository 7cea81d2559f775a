//! `plugin reload`, `plugin rollback`, `plugin history`: the generations of the stages of a running host.
//!
//! Owns what is asked and how answers are shown. It must not know how a stage changes over.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::super::{
    Answer, Exit, Outcome, Trouble,
    ask::Ask,
    figure,
    table::{self, Align},
};
use crate::{
    api::{
        client,
        reload::{History, Reloaded},
    },
    pipeline::board::GenerationStatus,
};

#[derive(Args, Debug)]
#[command(
    after_help = "The plugin is checked and compiled while the old one serves; then the stage changes over between two calls, and every
record is processed by exactly one of the two. For 30 s or 10,000 records the new one is on probation: if it refuses more
than 1 % of its records and three times what the old one did, or takes three times its fuel, the old one comes back by
itself (`reload:` of the stage says otherwise).

Examples:
  tidegate plugin reload access-log errors
  tidegate plugin reload access-log errors target/candidate.wasm
  tidegate plugin reload access-log per_path --no-rollback"
)]
pub(in crate::cli) struct Reload {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Its stage.
    #[arg(value_name = "STAGE")]
    stage: String,
    /// Another file than the one that the pipeline names, until the host ends.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Roll a candidate back that is on probation, and try this one.
    #[arg(long)]
    now: bool,
    /// Let it serve for good, whatever it does: states of another version are rewritten, and there is no way back.
    #[arg(long)]
    no_rollback: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
#[command(after_help = "What the newer one has folded and sent stays.

Examples:
  tidegate plugin rollback access-log errors")]
pub(in crate::cli) struct Rollback {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Its stage.
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tidegate plugin history
  tidegate plugin history access-log errors --json")]
pub(in crate::cli) struct Told {
    /// The pipeline; all, where none is named.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    /// Its stage; all, where none is named.
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Reload {
    pub(super) fn perform(self) -> Outcome {
        let mut pairs = vec![("pipeline", self.pipeline), ("stage", self.stage)];
        if let Some(file) = self.file {
            // The host has a working folder of its own.
            let file = std::path::absolute(&file).map_err(|error| {
                let trouble = Trouble::of(format!("find `{}`: {error}", file.display()));
                Box::new(Answer::failed(Exit::Usage, trouble))
            })?;
            pairs.push(("file", file.display().to_string()));
        }
        pairs.extend([("now", self.now.to_string()), ("for_good", self.no_rollback.to_string())]);
        let reloaded: Reloaded = self.ask.ask(Method::POST, &client::with_query("/api/v1/plugins/reload", &pairs))?;
        Ok(changed(&reloaded))
    }
}

impl Rollback {
    pub(super) fn perform(self) -> Outcome {
        let pairs = [("pipeline", self.pipeline), ("stage", self.stage)];
        let reloaded: Reloaded = self.ask.ask(Method::POST, &client::with_query("/api/v1/plugins/rollback", &pairs))?;
        Ok(changed(&reloaded))
    }
}

fn changed(reloaded: &Reloaded) -> Answer {
    let Reloaded { pipeline, stage, generation } = reloaded;
    let summary = format!("generation {generation} serves `{stage}` of `{pipeline}`");
    Answer::fine(&summary, reloaded, format!("{summary}\n"))
}

impl Told {
    pub(super) fn perform(self) -> Outcome {
        let mut pairs = Vec::new();
        pairs.extend(self.pipeline.map(|name| ("pipeline", name)));
        pairs.extend(self.stage.map(|name| ("stage", name)));
        let all: Vec<History> = self.ask.ask(Method::GET, &client::with_query("/api/v1/plugins", &pairs))?;
        let text: String = all.iter().map(shown).collect();
        let count = all.iter().map(|one| one.generations.len()).sum();
        let summary = format!("{} of {}", figure::several(count, "generation"), figure::several(all.len(), "stage"));
        Ok(Answer::fine(summary, all, text))
    }
}

fn shown(one: &History) -> String {
    let head = ["generation", "sha256", "since", "records", "refused", "", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(one.generations.iter().map(|one| {
        let GenerationStatus { generation, digest, since, fate, why, figures } = one;
        vec![
            generation.map_or("-".to_owned(), |number| number.to_string()),
            digest.as_deref().map_or("-", |digest| digest.get(..12).unwrap_or(digest)).to_owned(),
            figure::time(*since),
            figure::count(figures.records),
            figure::count(figures.refused),
            fate.to_string(),
            why.clone().unwrap_or_default(),
        ]
    }));
    let aligns = [Align::Right, Align::Left, Align::Left, Align::Right, Align::Right, Align::Left, Align::Left];
    format!("{}: {}\n{}", one.pipeline, one.stage, table::lay_out("  ", &aligns, &rows))
}
