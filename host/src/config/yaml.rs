//! YAML text as a tree.
//!
//! Owns the parser's budgets and the translation of what it refuses. It must not know which fields there are.
//! Invariant: no text, however it is made, costs more than its own size allows.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{
    Location, Options,
    granit_parser::{Event, Parser},
    options::{AliasLimits, DuplicateKeyPolicy},
};

use super::{
    codes,
    diagnostic::Flaw,
    place::Spanned,
    tree::{Origin, Tree, Value},
};

/// The largest file; a pipeline written by hand stays far below a hundredth of it.
pub(crate) const MOST_BYTES: usize = 1 << 20;

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_reader_input_bytes: Some(MOST_BYTES),
        max_depth: 32,
        max_nodes: 20_000,
        max_events: 60_000,
        max_aliases: 64,
        max_anchors: 64,
        max_merge_keys: 64,
        max_documents: 1,
        max_total_scalar_bytes: 1 << 20,
        max_total_comment_bytes: 1 << 20,
        max_recorded_anchor_events: 20_000,
        max_recorded_anchor_bytes: 1 << 20,
        flow_nesting_limit: 32,
    };
    let mut alias_limits = AliasLimits::default();
    alias_limits.max_total_replayed_events = 20_000;
    alias_limits.max_replay_stack_depth = 8;
    alias_limits.max_alias_expansions_per_anchor = 64;
    serde_saphyr::options! {
        budget: budget,
        alias_limits: alias_limits,
        strict_booleans: true,
        with_snippet: false,
        // Found all at once by `duplicates`; the parser would stop at the first.
        duplicate_keys: DuplicateKeyPolicy::FirstWins,
    }
}

/// Reads `text`; a tree may come with faults that the rest of it survives.
pub(crate) fn parse(text: &str) -> (Option<Tree>, Vec<Flaw>) {
    if text.len() > MOST_BYTES {
        let message = format!("the file has {} bytes, more than {MOST_BYTES}", text.len());
        return (None, vec![Flaw { code: codes::TOO_LARGE, message, labels: Vec::new(), cure: None }]);
    }
    match serde_saphyr::from_str_with_options::<serde_saphyr::Spanned<Raw>>(text, options()) {
        Ok(raw) => (Some(tree(raw, 0..0, text)), duplicates(text)),
        Err(error) => (None, vec![unread(&error, text)]),
    }
}

fn unread(error: &serde_saphyr::Error, text: &str) -> Flaw {
    use serde_saphyr::Error;
    let span = error.location().map(|at| range(&at, text));
    let mut inner = error.without_snippet();
    while let Error::AliasError { error, .. } = inner {
        inner = error.without_snippet();
    }
    let (code, message, cure) = match inner {
        Error::Budget { breach, .. } => (codes::TOO_LARGE, too_many(&format!("{breach:?}")), Some(LESS)),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (codes::TOO_LARGE, too_many("Aliases"), Some(LESS)),
        Error::MultipleDocuments { .. } => (codes::TOO_LARGE, too_many("Documents"), Some("write a file for each")),
        other => {
            let said = other.render_with_formatter(&serde_saphyr::DefaultMessageFormatter);
            let said = said.lines().next().unwrap_or_default();
            let said = said.rsplit_once(" at line ").map_or(said, |(said, _)| said);
            // What the parser calls nesting is a budget of ours.
            let code = if said.contains("recursion limit") || said.contains("nesting") {
                codes::TOO_LARGE
            } else {
                codes::SYNTAX
            };
            (code, format!("this is not YAML: {said}"), None)
        }
    };
    Flaw {
        code,
        message,
        labels: span.map(|span| (span, String::new())).into_iter().collect(),
        cure: cure.map(str::to_owned),
    }
}

/// What to do about a file that is too large.
const LESS: &str = "write it with fewer values, less nesting or fewer aliases";

/// `MergeKeys { … }` in words.
fn too_many(breach: &str) -> String {
    let name = breach.split([' ', '{', '(']).next().unwrap_or_default();
    let words: String = name
        .chars()
        .flat_map(|c| c.is_ascii_uppercase().then_some(' ').into_iter().chain([c.to_ascii_lowercase()]))
        .collect();
    format!("the file has more{words} than allowed")
}

/// The bytes that `at` covers; empty for mappings and lists, which begin somewhere and have no text of their own.
fn range(at: &Location, text: &str) -> Range<usize> {
    let offset = at.span().byte_offset().or_else(|| {
        let line = usize::try_from(at.line()).ok()?.checked_sub(1)?;
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        let column = usize::try_from(at.column()).ok()?.checked_sub(1)?;
        let rest = text.get(start..)?;
        let within = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
        u64::try_from(start + within).ok()
    });
    let start = offset.and_then(|at| usize::try_from(at).ok()).unwrap_or(0).min(text.len());
    let len = at.span().byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    let end = start.saturating_add(len).min(text.len());
    let snap = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    snap(start)..snap(end)
}

/// A value as the parser gives it.
enum Raw {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<serde_saphyr::Spanned<Raw>>),
    Map(Vec<(serde_saphyr::Spanned<String>, serde_saphyr::Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(truth))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Raw, E> {
        serde_json::Number::from_f64(number).map(Raw::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }
    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn tree(raw: serde_saphyr::Spanned<Raw>, owner: Range<usize>, text: &str) -> Tree {
    let own = range(&raw.referenced, text);
    let (value, span) = match raw.value {
        Raw::Null => (Value::Null, if own.is_empty() { owner } else { own }),
        Raw::Bool(truth) => (Value::Bool(truth), own),
        Raw::Number(number) => (Value::Number(number), own),
        Raw::Text(words) => (Value::Text(words), own),
        Raw::List(items) => {
            // A list that is itself an item begins where its first item does.
            let span = if owner.is_empty() { own } else { owner };
            (Value::List(items.into_iter().map(|item| tree(item, 0..0, text)).collect()), span)
        }
        Raw::Map(entries) => {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| {
                    let span = range(&key.referenced, text);
                    (Spanned::new(key.value, span.clone()), tree(value, span, text))
                })
                .collect();
            let first = entries.first().map_or(own, |(key, _)| key.span.clone());
            (Value::Map(entries), if owner.is_empty() { first } else { owner })
        }
    };
    Tree { value, span, origin: Origin::File }
}

/// What the events of a mapping say: keys seen, and whether a value comes next.
enum Level {
    Map { seen: BTreeMap<String, Range<usize>>, value_next: bool },
    List,
}

/// All keys that stand twice in their mapping.
fn duplicates(text: &str) -> Vec<Flaw> {
    let mut levels: Vec<Level> = Vec::new();
    let mut found = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, at)) = event else { break };
        match event {
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                continue;
            }
            Event::Scalar(..) | Event::Alias(..) | Event::MappingStart(..) | Event::SequenceStart(..) => {}
            _ => continue,
        }
        if let Some(Level::Map { seen, value_next }) = levels.last_mut() {
            *value_next = !*value_next;
            if *value_next
                && let Event::Scalar(name, ..) = &event
                && name.as_ref() != "<<"
            {
                let start = at.start.byte_offset().unwrap_or(0).min(text.len());
                let span = start..at.end.byte_offset().unwrap_or(start).clamp(start, text.len());
                if let Some(first) = seen.get(name.as_ref()) {
                    let message = format!("`{name}` stands twice in the same mapping");
                    let flaw = Flaw::at(codes::DUPLICATE_KEY, &span, message).label(first, "first here");
                    found.push(flaw.cure("keep one of the two"));
                } else {
                    seen.insert(name.to_string(), span);
                }
            }
        }
        match event {
            Event::MappingStart(..) => levels.push(Level::Map { seen: BTreeMap::new(), value_next: false }),
            Event::SequenceStart(..) => levels.push(Level::List),
            _ => {}
        }
    }
    found
}
