//! `status` and `drain`: asking a running host over its control socket.
//!
//! Owns how its answers are shown. It must not know how they come about.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::{Answer, Exit, Form, Outcome, Trouble, ask::Ask, figure, run::part_rows, table};
use crate::{
    api::{Drained, HostStatus},
    config,
    pipeline::{Status, board::GenerationStatus, generations::Fate},
    unit::Span,
};

/// How often a watched status is shown.
const EVERY: Duration = Duration::from_secs(1);

/// Back to the first line, and everything behind it away.
const ANEW: &str = "\x1b[H\x1b[J";

#[derive(Args, Debug)]
#[command(
    after_help = "With --watch and --json, each status is an object in a line of its own; the last line says that the host has ended.

Examples:
  tidegate status
  tidegate status --watch"
)]
pub(super) struct Show {
    /// Show it again every second until the host has ended, on a terminal in place.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
pub(super) struct Drain {
    #[command(flatten)]
    ask: Ask,
    /// How long the host may take; what is not finished then is given up [default: what the host was started with].
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
    /// Close the windows that are open, marked incomplete, instead of keeping them for the next run.
    #[arg(long)]
    close_windows: bool,
}

impl Show {
    pub(super) fn perform(self, form: Form) -> Outcome {
        let mut answer = self.answer()?;
        if !self.watch {
            return Ok(answer);
        }
        let anew = if std::io::stdout().is_terminal() { ANEW } else { "" };
        loop {
            let text = match form {
                Form::People => format!("{anew}{}", config::mask(&answer.text)),
                Form::Json => answer.as_json("status"),
            };
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                // Whoever closed their end has read as much as they wanted.
                return Ok(Answer::fine("nobody reads any more", Value::Null, ""));
            }
            drop(out);
            std::thread::sleep(EVERY);
            match self.answer() {
                Ok(next) => answer = next,
                Err(_) => {
                    let notes = "the host has ended\n".to_owned();
                    return Ok(Answer { notes, ..Answer::fine("the host has ended", Value::Null, "") });
                }
            }
        }
    }

    /// The host as it stands.
    fn answer(&self) -> Outcome {
        let status: HostStatus = self.ask.ask(Method::GET, "/api/v1/status")?;
        let mut text = format!(
            "tidegate {}, process {}, up {}\n",
            status.version,
            status.pid,
            figure::nanos(status.seconds * 1e9)
        );
        for pipeline in &status.pipelines {
            text.push_str(&shown(pipeline));
        }
        let ready = status.pipelines.iter().filter(|pipeline| pipeline.not_ready.is_empty()).count();
        let summary = format!("{ready} of {} ready", figure::several(status.pipelines.len(), "pipeline"));
        Ok(Answer::fine(summary, &status, text))
    }
}

impl Drain {
    pub(super) fn perform(self) -> Outcome {
        let deadline = self.deadline.map(|deadline| format!("&deadline={deadline}")).unwrap_or_default();
        let query = format!("?close_windows={}{deadline}", self.close_windows);
        let drained: Drained = self.ask.ask(Method::POST, &format!("/api/v1/drain{query}"))?;
        let text: String = drained.ended.iter().map(|end| format!("{}: {}\n", end.pipeline, end.ending)).collect();
        let worst = drained.ended.iter().max_by_key(|end| end.exit);
        let mut answer = Answer::fine(figure::several(drained.ended.len(), "pipeline") + " ended", &drained, text);
        if let Some(end) = worst.filter(|end| end.exit != 0) {
            answer.exit = Exit::from_code(end.exit);
            answer.error = Some(Trouble::of(format!("end `{}` well: {}", end.pipeline, end.ending)));
        }
        Ok(answer)
    }
}

fn shown(status: &Status) -> String {
    let mut out = format!("\n{}: {:?}, epoch {}", status.pipeline, status.phase, status.epoch).to_lowercase();
    if status.restarts > 0 {
        out.push_str(&format!(", {}", figure::several(status.restarts as usize, "restart")));
    }
    out.push('\n');
    let (aligns, rows) = part_rows(status);
    out.push_str(&table::lay_out("  ", aligns, &rows));
    if let Some(letters) = status.dead_letters.filter(|letters| *letters > 0) {
        out.push_str(&format!("  {} dead letters: `tidegate dlq ls {}`\n", figure::count(letters), status.pipeline));
    }
    for stage in &status.stages {
        if let Some(GenerationStatus { generation: Some(number), fate: Fate::Probation, .. }) = &stage.generation {
            out.push_str(&format!("  generation {number} of {} is on probation\n", stage.name));
        }
    }
    for edge in status.edges.iter().filter(|edge| edge.waiting.records > 0) {
        let waiting = figure::count(edge.waiting.records as u64);
        out.push_str(&format!("  {waiting} wait in {}\n", edge.name));
    }
    for wait in &status.waits {
        out.push_str(&format!("  {wait}\n"));
    }
    for not_ready in &status.not_ready {
        out.push_str(&format!("  not ready: {}: {}\n", not_ready.who, not_ready.why));
    }
    out
}
