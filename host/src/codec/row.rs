//! Rows of comma-separated values as JSON objects, and back.
//!
//! Owns which JSON a row is: an object of strings, in the order of the header. A number stays a string, because
//! `007`, `1e5` and `2026` do not say whether they are numbers. It must not know where a row ends.

use std::collections::HashSet;

use memchr::{memchr, memchr3};

use super::frame::{Fields, NotClosed};
use super::scan::{self, Span, is_named, push_escaped, text};

/// The names in a header line.
pub(super) fn header(content: &[u8]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for field in fields(content)? {
        let (field, quoted) = field.map_err(not_closed)?;
        names.push(if quoted { field.replace("\"\"", "\"") } else { field.to_owned() });
    }
    let mut known = HashSet::new();
    match names.iter().find(|name| !known.insert(name.as_str())) {
        Some(name) => Err(format!("two columns are called `{name}`")),
        None => Ok(names),
    }
}

/// What each member of a row's object begins with: the name and the colon.
pub(super) fn member_names(names: &[String]) -> Vec<Vec<u8>> {
    names
        .iter()
        .map(|name| {
            let mut member = vec![b'"'];
            push_escaped(name, &mut member);
            member.extend_from_slice(b"\":");
            member
        })
        .collect()
}

/// Writes a row as an object with these names.
pub(super) fn object(content: &[u8], names: &[Vec<u8>], object: &mut Vec<u8>) -> Result<(), String> {
    object.clear();
    let mut found = 0;
    for field in fields(content)? {
        let (field, quoted) = field.map_err(not_closed)?;
        if let Some(name) = names.get(found) {
            object.push(if found == 0 { b'{' } else { b',' });
            object.extend_from_slice(name);
            object.push(b'"');
            if quoted {
                push_quoted(field, object);
            } else {
                push_escaped(field, object);
            }
            object.push(b'"');
        }
        found += 1;
    }
    object.push(b'}');
    if found == names.len() { Ok(()) } else { Err(format!("{found} fields where the header has {}", names.len())) }
}

fn push_quoted(field: &str, object: &mut Vec<u8>) {
    for (i, part) in field.split("\"\"").enumerate() {
        if i > 0 {
            object.extend_from_slice(b"\\\"");
        }
        push_escaped(part, object);
    }
}

fn fields(content: &[u8]) -> Result<Fields<'_>, String> {
    let text = std::str::from_utf8(content).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
    Ok(Fields(Some(text)))
}

fn not_closed(NotClosed: NotClosed) -> String {
    "a quote that is never closed".to_owned()
}

/// The names of the members of an object, which become a header.
pub(super) fn names_of(value: &[u8]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    scan::members(value, |name, _| {
        if !names.iter().any(|known| is_named(name, known)) {
            names.push(scan::unescape(name));
        }
    })
    .map_err(|error| error.to_string())?;
    if names.is_empty() { Err("no member that could name a column".to_owned()) } else { Ok(names) }
}

/// Writes a header line.
pub(super) fn push_header(names: &[String], out: &mut Vec<u8>) {
    push_cells(names.iter().map(|name| name.as_bytes().into()), names.len(), out);
}

/// Writes an object as a row with columns of these names; what it lacks is left empty, `null` too. `spans` is
/// scratch. When it is refused, nothing is written.
pub(super) fn push_row(value: &[u8], names: &[String], spans: &mut Vec<Span>, out: &mut Vec<u8>) -> Result<(), String> {
    spans.clear();
    spans.resize(names.len(), (0, 0));
    let mut unknown = None;
    let mut next = 0;
    scan::members(value, |name, span| {
        // Records of one kind have their members in one order.
        let here = names.get(next).is_some_and(|known| is_named(name, known));
        let column = if here { Some(next) } else { names.iter().position(|known| is_named(name, known)) };
        match column.and_then(|column| spans.get_mut(column)) {
            Some(place) => *place = span,
            None => unknown = Some(name),
        }
        next = column.unwrap_or(next) + 1;
    })
    .map_err(|error| error.to_string())?;
    if let Some(name) = unknown {
        return Err(format!("the header has no column `{}`", scan::unescape(name)));
    }
    let cells = spans.iter().map(|&(start, end)| match value.get(start..end).unwrap_or_default() {
        b"null" => (&b""[..]).into(),
        raw => text(raw),
    });
    push_cells(cells, names.len(), out);
    Ok(())
}

fn push_cells<'a>(cells: impl Iterator<Item = std::borrow::Cow<'a, [u8]>>, columns: usize, out: &mut Vec<u8>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        // A row that is one empty field would be a blank line.
        let quoted = memchr3(b',', b'"', b'\n', &cell).or_else(|| memchr(b'\r', &cell)).is_some()
            || (columns == 1 && cell.is_empty());
        if !quoted {
            out.extend_from_slice(&cell);
            continue;
        }
        out.push(b'"');
        for (i, part) in cell.split(|&byte| byte == b'"').enumerate() {
            if i > 0 {
                out.extend_from_slice(b"\"\"");
            }
            out.extend_from_slice(part);
        }
        out.push(b'"');
    }
    out.push(b'\n');
}
