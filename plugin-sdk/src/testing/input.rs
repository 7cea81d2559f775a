//! Records for a test.
//!
//! Owns how a test writes one, and the batch made of some: only the columns that the plugin asked for. It must not know
//! what comes back.

use serde_json::Value;

use crate::contract::types::{Batch, Column, NamedColumn};
use crate::describe::Facts;
use crate::header;

/// A record for a test: made by [`text`], [`json`] or [`tombstone`].
///
/// ```
/// use tidegate_plugin::testing;
///
/// let record = testing::text("GET /").key("web-1").time(1_000).header("trace", "7").id(42).input(1);
/// assert_eq!(record, record.clone());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub(crate) value: Vec<u8>,
    pub(crate) null: bool,
    pub(crate) key: Vec<u8>,
    pub(crate) time: i64,
    pub(crate) headers: Vec<u8>,
    id: Option<u128>,
    input: u8,
}

/// A record with these bytes.
///
/// ```
/// let record = tidegate_plugin::testing::text("GET /");
/// ```
pub fn text(value: impl AsRef<[u8]>) -> Input {
    Input {
        value: value.as_ref().to_vec(),
        null: false,
        key: Vec::new(),
        time: 0,
        headers: Vec::new(),
        id: None,
        input: 0,
    }
}

/// A record with a JSON value, given as text or by `json!`.
///
/// ```
/// use tidegate_plugin::{prelude::json, testing};
///
/// assert_eq!(testing::json(json!({ "a": 1 })), testing::json(r#"{"a":1}"#));
/// ```
pub fn json(value: impl ToString) -> Input {
    text(value.to_string())
}

/// A record without a value.
///
/// ```
/// let deletion = tidegate_plugin::testing::tombstone().key("user-7");
/// ```
pub fn tombstone() -> Input {
    Input { null: true, ..text("") }
}

impl Input {
    /// With this key.
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: key.as_ref().to_vec(), ..self }
    }

    /// With this event time, in milliseconds since the Unix epoch; else 0.
    pub fn time(self, time: i64) -> Self {
        Self { time, ..self }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        header::push(&mut self.headers, name.as_bytes(), value.as_ref());
        self
    }

    /// With this id; else its position among the records of the call.
    pub fn id(self, id: u128) -> Self {
        Self { id: Some(id), ..self }
    }

    /// From the stage's input at this position; else the first.
    pub fn input(self, input: u8) -> Self {
        Self { input, ..self }
    }
}

/// The columns of `records` that `facts` asks for.
pub(super) fn batch(facts: &Facts, records: &[Input]) -> Batch {
    let asked = |need: &str| facts.needs.contains(&need);
    let mut more = Vec::new();
    let mut named = |name: &str, items: Column| more.push(NamedColumn { name: name.to_owned(), items });
    if asked("id") {
        let ids: Vec<[u8; 16]> =
            records.iter().enumerate().map(|(at, record)| record.id.unwrap_or(at as u128).to_le_bytes()).collect();
        named("id", column(ids.iter().map(<[u8; 16]>::as_slice)));
    }
    if asked("input") {
        named("input", column(records.iter().map(|record| std::slice::from_ref(&record.input))));
    }
    if asked("null") {
        named("null", column(records.iter().map(|record| if record.null { &[1][..] } else { &[0] })));
    }
    for pointer in facts.fields {
        let items: Vec<String> = records.iter().map(|record| field(&record.value, pointer)).collect();
        named(&format!("field:{pointer}"), column(items.iter().map(String::as_bytes)));
    }
    let values = |record: &Input| if facts.values { record.value.clone() } else { Vec::new() };
    let values: Vec<Vec<u8>> = records.iter().map(values).collect();
    Batch {
        values: column(values.iter().map(Vec::as_slice)),
        keys: asked("keys").then(|| column(records.iter().map(|record| record.key.as_slice()))),
        timestamps: asked("timestamps").then(|| records.iter().map(|record| record.time).collect()),
        headers: asked("headers").then(|| column(records.iter().map(|record| record.headers.as_slice()))),
        more,
    }
}

/// Raw JSON at `pointer`; empty where there is none, as for a value that is not JSON.
fn field(value: &[u8], pointer: &str) -> String {
    let document: Value = serde_json::from_slice(value).unwrap_or_default();
    document.pointer(pointer).map(ToString::to_string).unwrap_or_default()
}

pub(super) fn column<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Column {
    let mut column = Column { data: Vec::new(), ends: Vec::new() };
    for item in items {
        column.data.extend_from_slice(item);
        column.ends.push(column.data.len() as u32);
    }
    column
}
