//! `dlq`: dead letters, looked at, replayed and given up.
//!
//! Owns the verbs and how letters are shown. It must not know where they come from: `place` does. Invariant: nothing but
//! `purge`, which asks, and `replay` changes anything.

mod dry;
mod offline;
mod place;
mod replay;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    str::FromStr,
};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use serde_json::json;

use self::place::Place;
use super::{
    Answer, Exit, Outcome, Trouble, figure,
    table::{self, Align},
};
use crate::{
    api::socket,
    letter::{Kind, Letter, Query},
    unit::Span,
};

/// Most of a reason or a value that a line shows, in characters.
const SHOWN: usize = 60;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List dead letters, the newest last.
    Ls(Ls),
    /// Show one dead letter whole.
    Show(Show),
    /// Count dead letters by who refused them and why.
    Stats(Stats),
    /// Print dead letters whole, one JSON object a line.
    Export(Export),
    /// Give dead letters back to who refused them, or try whether they would pass now.
    Replay(replay::Replay),
    /// Give dead letters up, for good.
    Purge(Purge),
}

/// Where letters are.
#[derive(Args, Debug)]
struct Where {
    /// Folder of the host's state.
    #[arg(long, value_name = "FOLDER", default_value = ".tidegate")]
    state: PathBuf,
    /// The control socket of the host that runs on that folder, if one does.
    #[arg(long, value_name = "PATH", default_value = socket::PATH)]
    socket: PathBuf,
}

/// Which letters.
#[derive(Args, Debug)]
struct Filter {
    /// Those of this pipeline; of all, where none is named.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    picks: Picks,
}

/// Which letters of a pipeline.
#[derive(Args, Debug)]
struct Picks {
    /// Those that this source, stage or sink refused.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Those that this plugin refused: its name, or the beginning of its digest.
    #[arg(long, value_name = "NAME|DIGEST")]
    by: Option<String>,
    /// Those of this kind.
    #[arg(long, value_parser = kinds(), value_name = "KIND")]
    kind: Option<Kind>,
    /// Those that were refused within this time.
    #[arg(long, value_name = "TIME")]
    since: Option<Span>,
    /// Those with this text in their reason, key or value.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// The kinds of letters by their names.
fn kinds() -> impl TypedValueParser<Value = Kind> {
    let named = |name: String| Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or("there is no such kind");
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(named)
}

#[derive(Args, Debug)]
pub(super) struct Ls {
    #[command(flatten)]
    filter: Filter,
    /// Most letters; the newest are shown.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// The letter, as `ls` names it.
    #[arg(value_name = "LETTER")]
    offset: u64,
    #[command(flatten)]
    at: Where,
}

#[derive(Args, Debug)]
pub(super) struct Stats {
    #[command(flatten)]
    filter: Filter,
}

#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    filter: Filter,
    /// Most letters; the oldest are printed.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(super) struct Purge {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Only those older than this time, such as `7d`, or in front of this letter, as `ls` names it.
    #[arg(long, value_name = "TIME|LETTER")]
    before: Option<Before>,
    #[command(flatten)]
    picks: Picks,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Folder of the host's state, which no host may use meanwhile.
    #[arg(long, value_name = "FOLDER", default_value = ".tidegate")]
    state: PathBuf,
}

/// Up to where letters are given up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Age(Span),
    Letter(u64),
}

impl FromStr for Before {
    type Err = <Span as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Letter).or_else(|_| text.parse().map(Self::Age))
    }
}

/// A letter and whose it is.
#[derive(Serialize)]
struct Listed {
    pipeline: String,
    #[serde(flatten)]
    letter: Letter,
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ls(_) => "dlq ls",
            Self::Show(_) => "dlq show",
            Self::Stats(_) => "dlq stats",
            Self::Export(_) => "dlq export",
            Self::Replay(_) => "dlq replay",
            Self::Purge(_) => "dlq purge",
        }
    }

    pub(super) fn perform(self) -> Outcome {
        match self {
            Self::Ls(verb) => verb.perform(),
            Self::Show(verb) => verb.perform(),
            Self::Stats(verb) => verb.perform(),
            Self::Export(verb) => verb.perform(),
            Self::Replay(verb) => verb.perform(),
            Self::Purge(verb) => verb.perform(),
        }
    }
}

impl Picks {
    fn query(&self) -> Query {
        Query {
            stage: self.stage.clone(),
            kind: self.kind,
            plugin: self.by.clone(),
            since: self.since.map(ago),
            text: self.text.clone(),
            from: None,
            until: None,
        }
    }
}

impl Filter {
    /// Shows every letter that fits to `visit` until it wants no more.
    fn each(&self, mut visit: impl FnMut(Listed) -> bool) -> Result<(), Box<Answer>> {
        let place = Place::open(&self.at.state, &self.at.socket)?;
        let pipelines = match &self.pipeline {
            Some(pipeline) => vec![pipeline.clone()],
            None => place.boxes()?.into_iter().map(|letters| letters.pipeline).collect(),
        };
        let query = self.picks.query();
        for pipeline in pipelines {
            let listed = |letter| Listed { pipeline: pipeline.clone(), letter };
            if !place.each(&pipeline, &query, &mut |letter| visit(listed(letter)))? {
                break;
            }
        }
        Ok(())
    }
}

impl Ls {
    fn perform(self) -> Outcome {
        let (mut newest, mut all) = (VecDeque::new(), 0);
        self.filter.each(|listed| {
            all += 1;
            newest.push_back(listed);
            if newest.len() > self.limit {
                newest.pop_front();
            }
            true
        })?;
        let head = ["", "letter", "refused at", "by", "", "reason", "record"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(newest.iter().map(row)).collect();
        let aligns =
            [Align::Left, Align::Right, Align::Left, Align::Left, Align::Left, Align::Left, Align::Left].as_slice();
        let mut text = if newest.is_empty() { String::new() } else { table::lay_out("", aligns, &rows) };
        if newest.len() < all {
            text.push_str(&format!("the newest {} of {all}; `--limit` shows more\n", newest.len()));
        }
        let result = json!({ "letters": newest, "all": all });
        Ok(Answer::fine(figure::several(all, "dead letter"), result, text))
    }
}

fn row(Listed { pipeline, letter }: &Listed) -> Vec<String> {
    let kind = letter.kind.name();
    vec![
        pipeline.clone(),
        letter.offset.to_string(),
        time(letter.refused.1),
        letter.by.name.clone(),
        kind.to_owned(),
        cut(&letter.reason),
        cut(&letter.value.shown()),
    ]
}

/// The first line of a text, as much of it as a line holds.
fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    // Nothing in a letter may do anything to the terminal.
    let mut shown: String = line.chars().take(SHOWN).map(|c| if c.is_control() { '·' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

fn ago(span: Span) -> i64 {
    jiff::Timestamp::now().as_millisecond().saturating_sub(span.millis())
}

impl Show {
    fn perform(self) -> Outcome {
        let place = Place::open(&self.at.state, &self.at.socket)?;
        let query = Query { from: Some(self.offset), ..Query::default() };
        let mut found = None;
        place.each(&self.pipeline, &query, &mut |letter| {
            found = Some(letter);
            false
        })?;
        match found.filter(|letter| letter.offset == self.offset) {
            Some(letter) => {
                let listed = Listed { pipeline: self.pipeline, letter };
                let text = serde_json::to_string_pretty(&listed).unwrap_or_default() + "\n";
                Ok(Answer::fine(format!("letter {}", self.offset), listed, text))
            }
            None => {
                let trouble = Trouble::of(format!("find the letter {} of `{}`", self.offset, self.pipeline));
                let cure = format!("see which there are with `tidegate dlq ls {}`", self.pipeline);
                Err(Box::new(Answer::failed(Exit::No, trouble.cure(cure))))
            }
        }
    }
}

/// Letters that are alike.
#[derive(Serialize)]
struct Group {
    pipeline: String,
    by: String,
    kind: Kind,
    reason: String,
    letters: u64,
    /// When the first and the last of them were refused, in milliseconds since the Unix epoch.
    refused: (i64, i64),
}

impl Stats {
    fn perform(self) -> Outcome {
        let mut groups: BTreeMap<(String, String, Kind, String), Group> = BTreeMap::new();
        self.filter.each(|Listed { pipeline, letter }| {
            let (by, kind, reason, (first, last)) = (letter.by.name, letter.kind, cut(&letter.reason), letter.refused);
            let key = (pipeline.clone(), by.clone(), kind, reason.clone());
            let group =
                groups.entry(key).or_insert(Group { pipeline, by, kind, reason, letters: 0, refused: (first, last) });
            group.letters += 1;
            group.refused = (group.refused.0.min(first), group.refused.1.max(last));
            true
        })?;
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
        let rows: Vec<Vec<String>> = groups
            .iter()
            .map(|group| {
                let (letters, last) = (figure::count(group.letters), time(group.refused.1));
                vec![group.pipeline.clone(), group.by.clone(), letters, last, group.reason.clone()]
            })
            .collect();
        let text = table::lay_out("", &[Align::Left, Align::Left, Align::Right, Align::Left, Align::Left], &rows);
        let all: u64 = groups.iter().map(|group| group.letters).sum();
        let all = figure::several(usize::try_from(all).unwrap_or(usize::MAX), "dead letter");
        Ok(Answer::fine(all, json!({ "groups": groups }), text))
    }
}

impl Export {
    fn perform(self) -> Outcome {
        let mut letters = Vec::new();
        self.filter.each(|listed| {
            let is_wanted = self.limit.is_none_or(|limit| letters.len() < limit);
            if is_wanted {
                letters.push(listed);
            }
            is_wanted
        })?;
        let lines = letters.iter().filter_map(|listed| serde_json::to_string(listed).ok());
        let text: String = lines.map(|line| line + "\n").collect();
        Ok(Answer::fine(figure::several(letters.len(), "dead letter"), json!({ "letters": letters }), text))
    }
}

impl Purge {
    fn perform(self) -> Outcome {
        let place = Place::closed(&self.state)?;
        let pipeline = self.pipeline.as_str();
        let before = match self.before {
            None => None,
            Some(Before::Letter(offset)) => Some(offset),
            Some(Before::Age(age)) => Some(place.first_since(pipeline, ago(age))?),
        };
        let query = self.picks.query();
        let picked = if query == Query::default() {
            None
        } else {
            Some(place.offsets(pipeline, &Query { until: before, ..query })?)
        };
        let count = match &picked {
            Some(offsets) => Some(offsets.len() as u64),
            None => place.before(pipeline, before)?,
        };
        let many = match count {
            Some(count) => figure::several(usize::try_from(count).unwrap_or(usize::MAX), "dead letter"),
            None => "dead letters that the store knows nothing of".to_owned(),
        };
        if !self.yes && !agrees(&format!("give up {many} of `{pipeline}`, for good? [y/N] "))? {
            return Err(Box::new(Answer::failed(Exit::No, Trouble::of("purge: nobody agreed; everything is kept"))));
        }
        match &picked {
            Some(offsets) => place.strike(pipeline, offsets)?,
            None => place.purge(pipeline, before)?,
        }
        Ok(Answer::fine(format!("{many} given up"), json!({ "given_up": count }), format!("{many} given up\n")))
    }
}

/// What a person says to `question`.
fn agrees(question: &str) -> Result<bool, Box<Answer>> {
    if !std::io::stdin().is_terminal() {
        let trouble = Trouble::of("ask whether to give letters up: standard input is no terminal");
        return Err(Box::new(Answer::failed(Exit::Usage, trouble.cure("say so with `--yes`"))));
    }
    let mut said = String::new();
    let asked = write!(std::io::stderr(), "{question}").and_then(|()| std::io::stdin().read_line(&mut said));
    Ok(asked.is_ok() && matches!(said.trim(), "y" | "Y" | "yes"))
}
