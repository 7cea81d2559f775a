//! `dlq replay`: letters given back to who refused them, in a running host or without one.
//!
//! Owns what is asked and what is told of it. Whether they would pass without anything being changed is `dry`'s. Invariant:
//! what is told has been committed.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;

use super::{
    super::{Answer, Exit, Outcome, Trouble, ask::Ask, figure, files, settings},
    Picks, Where, cut, dry, offline,
    place::Place,
};
use crate::{
    api::{client, replay::query},
    config::{Host, Loaded},
    letter::{Insistence, Lateness, Order, TRIES, Untaken},
    pipeline::replay::{Reason, Replayed},
    unit::Rate,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Where a host runs the pipeline, the letters go into it beside whatever else flows; where none does, the pipeline is
opened for them, and its own sources rest. A letter is gone with the commit of what it came to. One that is refused again
comes back with its count. What a source could not decode is decoded again; a group that faulted when it ended is ended
again from its state. Whoever interrupts it loses nothing: what has not been handed out stays.
It exits with 1 if letters came back, or it ended early.

With `--dry-run` each letter is given alone to a fresh instance under the stage's configuration and limits. Nothing is
sent, kept or given up. It exits with 1 if a letter does not pass.

Examples:
  tidegate dlq replay pipeline.yaml --stage parse --rate 100/s
  tidegate dlq replay pipeline.yaml --dry-run --stage parse --plugin fixed.wasm"
)]
pub(in crate::cli) struct Replay {
    /// The pipeline's file: it says which plugin serves a stage, and how.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) at: Where,
    #[command(flatten)]
    pub(super) picks: Picks,
    /// Those of a part behind a durable edge, by the whole name that `ls` gives it.
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    part: Option<String>,
    /// Only this letter, as `ls` names it.
    #[arg(long, value_name = "LETTER")]
    pub(super) letter: Option<u64>,
    /// Most letters; the oldest are replayed.
    #[arg(long, value_name = "COUNT", conflicts_with = "dry_run")]
    limit: Option<u64>,
    /// Most letters in a time.
    #[arg(long, value_name = "RATE", conflicts_with = "dry_run")]
    rate: Option<Rate>,
    /// Letters are late where any other record of their time would be.
    #[arg(long, conflicts_with = "dry_run")]
    late: bool,
    /// Try those too that have been refused three times.
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
    /// Only tell what the letters would come to.
    #[arg(long)]
    dry_run: bool,
    /// Try this plugin in the place of the stage's: a path relative to the working folder, or `std/NAME`.
    #[arg(long, value_name = "PLUGIN", requires = "stage", requires = "dry_run")]
    pub(super) plugin: Option<String>,
}

impl Replay {
    pub(super) fn perform(self) -> Outcome {
        if self.dry_run {
            return dry::perform(&self);
        }
        let loaded = self.loaded()?;
        let (whole, order) = (loaded.pipeline.name.value.clone(), self.order());
        let pipeline = self.part.clone().unwrap_or(whole);
        let replayed = match Place::open(&self.at.state, &self.at.socket)? {
            Place::Nowhere => Replayed { pipeline, ..Replayed::default() },
            Place::Host(socket) => {
                let path = client::with_query(&format!("/api/v1/letters/{pipeline}/replay"), &query(&order));
                Ask::at(&socket).ask(Method::POST, &path)?
            }
            place @ Place::Folder(_) => {
                // The folder is taken once more by the pipeline.
                drop(place);
                let engine = settings::engine(Path::new(&Host::default().plugins.cache))?;
                offline::replay(&loaded, &engine, &self.at.state, order)?
            }
        };
        Ok(answer(&replayed))
    }

    /// The one pipeline of the file.
    pub(super) fn loaded(&self) -> Result<Loaded, Box<Answer>> {
        let mut read = files::read(&self.file);
        match (read.pop(), read.is_empty()) {
            (Some(loaded), true) => loaded.map_err(|faults| Box::new(Answer::refused(faults))),
            _ => {
                let trouble =
                    Trouble::of(format!("tell which pipeline of {} is meant: it holds several", self.file.display()));
                Err(Box::new(Answer::failed(Exit::Usage, trouble.cure("put it into a file of its own"))))
            }
        }
    }

    /// Which letters.
    pub(super) fn query(&self) -> crate::letter::Query {
        let one = self.letter.map(|letter| (letter, letter.saturating_add(1)));
        let (from, until) = one.unzip();
        crate::letter::Query { from, until, ..self.picks.query() }
    }

    fn order(&self) -> Order {
        Order {
            query: self.query(),
            lateness: if self.late { Lateness::Counts } else { Lateness::Excused },
            insistence: if self.force { Insistence::Insists } else { Insistence::Spares },
            rate: self.rate,
            most: self.limit,
        }
    }
}

fn answer(replayed: &Replayed) -> Answer {
    let Replayed { replayed: all, passed, came_back, spared, untaken, reasons, cut: ended, .. } = replayed;
    let [many, passed, back] = [*all, *passed, *came_back].map(figure::count);
    let summary = format!("replayed {many}: {passed} passed, {back} came back");
    let mut text = format!("{summary}\n");
    for Reason { by, kind, reason, letters, first } in reasons {
        let (letters, kind, reason) = (figure::count(*letters), kind.name(), cut(reason));
        text.push_str(&format!("  {letters} of `{by}`, {kind}, as letter {first}: {reason}\n"));
    }
    if *spared > 0 {
        let spared = figure::count(*spared);
        text.push_str(&format!("  {spared} stayed: they were refused {TRIES} times; `--force` tries them again\n"));
    }
    for Untaken { by, why, letters, first } in untaken {
        let letters = figure::count(*letters);
        text.push_str(&format!("  {letters} of `{by}` stayed, as letter {first}: {why}\n"));
    }
    if let Some(why) = ended {
        text.push_str(&format!("  it ended early: {why}\n"));
    }
    let is_fine = *came_back == 0 && *spared == 0 && untaken.is_empty() && ended.is_none();
    let exit = if is_fine { Exit::Fine } else { Exit::No };
    Answer { exit, ..Answer::fine(summary, replayed, text) }
}
