//! Path templates: which file each record goes to, and why it may not.
//!
//! Owns parsing and rendering, as pure functions of the record. It must not touch the file system: what a path leads
//! to is the business of `disk`. Invariant: a rendered path consists of as many components as the template has, each
//! of them 1 to 128 of `A-Z a-z 0-9 . _ = -`, not beginning with a dot, after Unicode NFC.

use std::{borrow::Cow, fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

/// Longest component of a path that data may choose, in bytes.
const LONGEST: usize = 128;
/// Longest text that is worth normalising: no character of more than three bytes becomes one that is allowed.
const LONGEST_RAW: usize = 3 * LONGEST;

/// What a record offers to a template.
pub(super) trait Filling {
    /// Its key; empty where it has none.
    fn key(&self) -> &[u8];
    /// Its event time, in milliseconds since the Unix epoch.
    fn time(&self) -> Option<i64>;
    /// The raw JSON at a pointer.
    fn field(&self, pointer: &str) -> Option<Cow<'_, [u8]>>;
}

/// A path whose components may be filled from each record.
#[derive(Debug)]
pub(super) struct Template {
    components: Vec<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Key,
    Field(String),
    Time(Clock),
}

/// A time format and its last result: neighbouring records mostly fall into the same second.
#[derive(Debug)]
struct Clock {
    format: String,
    second: Option<i64>,
    text: String,
}

/// What a path of the configuration is.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The same for every record.
    Fixed(PathBuf),
    /// The literal folder in front of the first component with a placeholder, and the rest.
    Chosen(PathBuf, Template),
}

/// Reads a path of the configuration.
///
/// # Errors
/// When a placeholder is unknown or not closed, or what follows the first one is no plain name.
pub(super) fn parse(path: &str) -> anyhow::Result<Parsed> {
    let parts = split(path)?;
    let Some(first) = parts.iter().position(|parts| parts.iter().any(|part| !matches!(part, Part::Literal(_)))) else {
        ensure!(!path.is_empty() && !path.ends_with('/'), "`{path}` names no file");
        return Ok(Parsed::Fixed(PathBuf::from(path)));
    };
    let mut folder = String::new();
    let mut components = Vec::new();
    for (at, parts) in parts.into_iter().enumerate() {
        let literal = match parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text.as_str()),
            _ => None,
        };
        if at < first {
            folder.push_str(literal.unwrap_or_default());
            folder.push('/');
            continue;
        }
        if let Some(text) = literal {
            ensure!(!matches!(text, "" | "." | ".."), "`{path}`: `{text}` cannot follow a placeholder");
        }
        components.push(parts);
    }
    Ok(Parsed::Chosen(PathBuf::from(folder), Template { components }))
}

fn split(path: &str) -> anyhow::Result<Vec<Vec<Part>>> {
    let mut components = vec![Vec::new()];
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        if c == '/' {
            components.push(Vec::new());
            rest = &rest[1..];
            continue;
        }
        let (part, after) = if c == '{' {
            let end = rest.find('}').with_context(|| format!("`{path}`: a `{{` is not closed"))?;
            (placeholder(&rest[1..end])?, &rest[end + 1..])
        } else {
            let end = rest.find(['/', '{']).unwrap_or(rest.len());
            ensure!(!rest[..end].contains('}'), "`{path}`: a `}}` has no `{{`");
            (Part::Literal(rest[..end].to_owned()), &rest[end..])
        };
        if let Some(component) = components.last_mut() {
            component.push(part);
        }
        rest = after;
    }
    Ok(components)
}

fn placeholder(text: &str) -> anyhow::Result<Part> {
    if text == "key" {
        return Ok(Part::Key);
    }
    if text.starts_with('/') {
        return Ok(Part::Field(text.to_owned()));
    }
    let Some(format) = text.strip_prefix("time:") else {
        bail!("`{{{text}}}` is none of `{{key}}`, `{{/json/pointer}}` and `{{time:%Y-%m-%d}}`");
    };
    let sample =
        |millis| anyhow::Ok(strtime::format(format, &Timestamp::from_millisecond(millis)?.to_zoned(TimeZone::UTC))?);
    let first = sample(0).with_context(|| format!("`{format}` is no time format"))?;
    ensure!(!format.contains('/'), "`{format}`: write `{{time:%Y}}/{{time:%m}}` for folders");
    ensure!(first == sample(123)?, "`{format}` is finer than a second, which would make a file of every record");
    Ok(Part::Time(Clock { format: format.to_owned(), second: None, text: String::new() }))
}

impl Clock {
    fn at(&mut self, millis: i64) -> Option<&str> {
        let second = millis.div_euclid(1000);
        if self.second != Some(second) {
            let time = Timestamp::from_second(second).ok()?.to_zoned(TimeZone::UTC);
            self.text = strtime::format(&self.format, &time).ok()?;
            self.second = Some(second);
        }
        Some(&self.text)
    }
}

impl Template {
    /// The JSON pointers that rendering asks for, each once.
    pub(super) fn pointers(&self) -> Vec<String> {
        let mut pointers: Vec<String> = Vec::new();
        for part in self.components.iter().flatten() {
            if let Part::Field(pointer) = part
                && !pointers.contains(pointer)
            {
                pointers.push(pointer.clone());
            }
        }
        pointers
    }

    /// Whether every rendered path ends with the same text, and that text is not one that rotation appends.
    pub(super) fn ends_literally(&self) -> bool {
        matches!(self.components.last().and_then(|parts| parts.last()),
            Some(Part::Literal(text)) if !text.ends_with(|c: char| c.is_ascii_digit()))
    }

    /// Writes the path of one record to `out`, which is emptied first.
    ///
    /// # Errors
    /// Why the record has no path, to be read after `confinement: `.
    pub(super) fn render(&mut self, record: &impl Filling, out: &mut String) -> Result<(), String> {
        out.clear();
        for parts in &mut self.components {
            if !out.is_empty() {
                out.push('/');
            }
            let from = out.len();
            let mut plain = true;
            for part in parts {
                match part {
                    Part::Literal(text) => out.push_str(text),
                    Part::Key => {
                        plain = false;
                        push(out, std::str::from_utf8(record.key()).map_err(|_| "the key is no text".to_owned())?);
                    }
                    Part::Field(pointer) => {
                        plain = false;
                        let raw = record.field(pointer).filter(|raw| !raw.is_empty());
                        let raw = raw.ok_or_else(|| format!("the record has nothing at `{pointer}`"))?;
                        push(out, &scalar(&raw).ok_or_else(|| format!("`{pointer}` is neither text nor a number"))?);
                    }
                    Part::Time(clock) => {
                        plain = false;
                        let time = record.time().ok_or_else(|| "the record has no event time".to_owned())?;
                        let text = clock.at(time).ok_or_else(|| format!("the event time {time} is in no year"))?;
                        out.push_str(text);
                    }
                }
            }
            if !plain {
                confine(out, from)?;
            }
        }
        Ok(())
    }
}

/// Appends no more of `text` than it takes to see that it is too long.
fn push(out: &mut String, text: &str) {
    let mut end = text.len().min(LONGEST_RAW + 4);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push_str(&text[..end]);
}

/// The text that a JSON string, number or truth value stands for.
fn scalar(raw: &[u8]) -> Option<Cow<'_, str>> {
    match raw.first()? {
        b'"' => match serde_json::from_slice::<&str>(raw) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(_) => serde_json::from_slice::<String>(raw).ok().map(Cow::Owned),
        },
        b'{' | b'[' | b'n' => None,
        _ => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
    }
}

/// Normalises the component that begins at `from` and checks it.
fn confine(out: &mut String, from: usize) -> Result<(), String> {
    let component = &out[from..];
    if !component.is_ascii() && component.len() <= LONGEST_RAW && is_nfc_quick(component.chars()) != IsNormalized::Yes {
        let normal: String = component.nfc().collect();
        out.truncate(from);
        out.push_str(&normal);
    }
    let component = &out[from..];
    if is_plain(component) {
        return Ok(());
    }
    let mut shown = String::new();
    for c in component.chars().take(64) {
        let _ = write!(shown, "{}", c.escape_debug());
    }
    Err(format!("`{shown}` is no name of 1 to {LONGEST} of A-Z a-z 0-9 . _ = - that does not begin with a dot"))
}

/// Whether `component` may be a file's or folder's name chosen by data.
pub(super) fn is_plain(component: &str) -> bool {
    (1..=LONGEST).contains(&component.len())
        && !component.starts_with('.')
        && component.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'=' | b'-'))
}
