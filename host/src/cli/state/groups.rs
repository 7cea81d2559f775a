//! `state get` and `state scan`: groups as they are committed.
//!
//! Owns how a group is shown, and the way its lines come here. It must not know where they lie.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;

use super::{Answer, Exit, Form, Kept, Outcome, Trouble, Way, unkept};
use crate::{
    api::{self, client},
    cli::{ask::unread, figure},
    codec,
    config::{self, codes},
    pipeline::kept::{self, Asked, Group, Line},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tidegate state get per_path --key /checkout
  tidegate state get per_path --key /checkout --window 2026-01-31T12:00:00Z --json")]
pub(in crate::cli) struct Get {
    /// The stage.
    #[arg(value_name = "STAGE")]
    stage: String,
    /// The group's key.
    #[arg(long, value_name = "KEY", required_unless_present = "key_base64")]
    key: Option<String>,
    /// The group's key in base64, where it is no text.
    #[arg(long, value_name = "BASE64", conflicts_with = "key", value_parser = base64)]
    key_base64: Option<Bytes>,
    /// Beginning of the group's window: RFC 3339, or milliseconds since 1970; all windows, where none is given.
    #[arg(long, value_name = "START", value_parser = time, allow_negative_numbers = true)]
    window: Option<i64>,
    /// The pipeline; needed where the state holds several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
#[command(after_help = "With --json, each group is an object in a line of its own, and the last line is the answer.

Examples:
  tidegate state scan
  tidegate state scan per_path --limit 10 --json")]
pub(in crate::cli) struct Scan {
    /// The stage; all, where none is named.
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    /// Show at most so many groups.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// The pipeline; needed where the state holds several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn base64(text: &str) -> Result<Bytes, base64::DecodeError> {
    STANDARD.decode(text).map(Bytes)
}

fn time(text: &str) -> Result<i64, String> {
    let read = text.parse().ok().or_else(|| codec::milliseconds(format!("\"{text}\"").as_bytes()));
    read.ok_or_else(|| "expected a time such as `2026-01-31T12:00:00Z`, or milliseconds since 1970".to_owned())
}

/// Shows the lines of what is asked for, each as it is written and as it is read, until `visit` breaks.
///
/// # Errors
/// There is no such thing; damage; the host has gone; the lines end without their last one.
pub(super) fn lines(
    way: &Way,
    asked: &Asked,
    visit: &mut dyn FnMut(&str, &Line) -> ControlFlow<()>,
) -> Result<(), Box<Answer>> {
    let ask = match way {
        Way::Store(store) => {
            return kept::lines(store, asked, &mut |line| visit(&line.written(), line)).map_err(unkept);
        }
        Way::Host(ask) => ask,
    };
    let (mut is_first, mut is_over, mut failed) = (true, false, None);
    let path = client::with_query("/api/v1/state/groups", &api::kept::query(asked));
    ask.lines(&path, &mut |text| match kept::read(text, std::mem::take(&mut is_first)) {
        Ok(Line::End(end)) if end.error.is_some() => {
            failed = end.error;
            ControlFlow::Break(())
        }
        Ok(line) => {
            let next = visit(text, &line);
            is_over = matches!(line, Line::End(_)) || next.is_break();
            next
        }
        Err(why) => {
            failed = Some(why);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        Some(why) => Err(unread(&why)),
        None if is_over => Ok(()),
        None => Err(unread("it ends in the middle")),
    }
}

impl Get {
    pub(super) fn perform(self) -> Outcome {
        let key = self.key_base64.map_or_else(|| self.key.unwrap_or_default().into_bytes(), |bytes| bytes.0);
        let (stage, pipeline) = (Some(self.stage.clone()), self.pipeline);
        let asked = Asked { pipeline, stage, key: Some(key), window: self.window, limit: None };
        let mut groups = Vec::new();
        lines(&self.kept.way()?, &asked, &mut |_, line| {
            if let Line::Group(group) = line {
                groups.push(group.clone());
            }
            ControlFlow::Continue(())
        })?;
        if groups.is_empty() {
            let trouble = Trouble::of(format!("find that group in stage `{}`: it is not there", self.stage));
            let cure = format!("`tidegate state scan {}` shows what is", self.stage);
            return Err(Box::new(Answer::failed(Exit::No, trouble.code(codes::NOT_KEPT).cure(cure))));
        }
        let text: String = groups.iter().map(|group| format!("{}\n{}\n", line(group), state(group))).collect();
        Ok(Answer::fine(figure::several(groups.len(), "group"), groups, text))
    }
}

impl Scan {
    pub(super) fn perform(self, form: Form) -> Outcome {
        let asked = Asked { pipeline: self.pipeline, stage: self.stage, limit: self.limit, ..Asked::default() };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let (mut shown, mut epoch) = (0, 0);
        lines(&self.kept.way()?, &asked, &mut |text, read| {
            let written = match (read, form) {
                (Line::Head(_), _) => return ControlFlow::Continue(()),
                (Line::End(end), _) => {
                    epoch = end.epoch;
                    return ControlFlow::Continue(());
                }
                (Line::Group(_), Form::Json) => writeln!(out, "{}", config::mask(text)),
                (Line::Group(group), Form::People) => writeln!(out, "{}", config::mask(&line(group))),
            };
            shown += 1;
            // Whoever closed their end has read as much as they wanted.
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let _ = out.flush();
        let summary = format!("{} as of epoch {epoch}", figure::several(shown, "group"));
        let mut answer = Answer::fine(&summary, serde_json::json!({ "groups": shown, "epoch": epoch }), "");
        answer.notes = summary + "\n";
        Ok(answer)
    }
}

/// A group in a line.
fn line(group: &Group) -> String {
    let key = match (&group.key, &group.key_base64) {
        (Some(key), _) => format!("{key:?}"),
        (None, base64) => format!("base64:{}", base64.as_deref().unwrap_or_default()),
    };
    let window = group
        .window
        .map_or(String::new(), |window| format!("  {} to {}", figure::time(window.start), figure::time(window.end)));
    let mut facts = String::new();
    for (count, word) in [(group.counted, "record"), (group.panes.into(), "pane")] {
        if count > 0 {
            facts.push_str(&format!("  {}", figure::several(usize::try_from(count).unwrap_or(usize::MAX), word)));
        }
    }
    let late = if group.late { "  late" } else { "" };
    format!("{}  {key}{window}{facts}{late}", group.stage)
}

/// A group's state, and what is known beside it.
fn state(group: &Group) -> String {
    let state = match (&group.state, &group.state_base64) {
        (Some(json), _) => format!("state {}", json.get()),
        (None, base64) => format!("state base64:{}", base64.as_deref().unwrap_or_default()),
    };
    format!("  latest event time {}, last seen at {}\n  {state}", figure::time(group.time), figure::time(group.seen))
}
