//! An output as a value of its own, for a map that returns what it puts out.
//!
//! Owns what such a map may return. It must not know columns. Invariant: it says no more than [`Put`](crate::Put) can.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::header;
use crate::outputs::Outputs;

/// One output of a map: key, event time, headers and value of its origin, unless set.
///
/// A map that writes to `out: &mut Outputs` instead spares the allocation of each value.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map(outputs = ["empty"])]
/// fn sorted(record: &Record) -> Result<Output> {
///     let mut words: Vec<&str> = record.text()?.split_whitespace().collect();
///     if words.is_empty() { return Ok(Output::same().to("empty")); }
///     words.sort_unstable();
///     Ok(Output::value(words.join(" ")).key(words[0]))
/// }
/// # fn main() {
/// let given = testing::map::<sorted>("", [testing::text("b a"), testing::text("")]);
/// assert_eq!(given.outputs[0].value, b"a b");
/// assert_eq!(given.outputs[1].to.as_deref(), Some("empty"));
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    value: Payload,
    key: Option<Vec<u8>>,
    time: Option<i64>,
    headers: Option<Vec<u8>>,
    to: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Payload {
    #[default]
    Same,
    Tombstone,
    Bytes(Vec<u8>),
}

impl Output {
    /// `value` as JSON.
    ///
    /// # Errors
    /// Where it does not serialise.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::value(serde_json::to_vec(value).context("output does not serialise")?))
    }

    /// These bytes.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Payload::Bytes(value.into()), ..Self::default() }
    }

    /// The origin's value.
    pub fn same() -> Self {
        Self::default()
    }

    /// No value, which deletes the key where that means something.
    pub fn tombstone() -> Self {
        Self { value: Payload::Tombstone, ..Self::default() }
    }

    /// Sets its key; an empty one is none.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sets its event time, in milliseconds since the Unix epoch.
    pub fn time(self, time: i64) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Adds a header to those set before; the first one set means that none is inherited.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        header::push(self.headers.get_or_insert_default(), name.as_ref(), value.as_ref());
        self
    }

    /// Sends it to the side output `name`; one that the plugin has not refuses the record.
    pub fn to(self, name: impl Into<String>) -> Self {
        Self { to: Some(name.into()), ..self }
    }

    pub(crate) fn write(self, out: &mut Outputs<'_>) -> Result<()> {
        let before = out.len();
        let mut put = match &self.value {
            Payload::Same => out.same(),
            Payload::Tombstone => out.tombstone(),
            Payload::Bytes(value) => out.value(value),
        };
        if let Some(key) = &self.key {
            put = put.key(key);
        }
        if let Some(time) = self.time {
            put = put.time(time);
        }
        if let Some(headers) = &self.headers {
            put = put.raw_headers(headers);
        }
        let Some(name) = &self.to else { return Ok(()) };
        let sent = put.to(name).map(drop);
        if sent.is_err() {
            out.cut(before);
        }
        sent
    }
}

/// What the function under `#[map]` may return: an [`Output`], an `Option`, a `Vec`, an array or any iterator of them.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map]
/// fn twice(record: &Record) -> Result<[Output; 2]> {
///     Ok([Output::same(), Output::value(record.value())])
/// }
/// # fn main() {
/// assert_eq!(testing::map::<twice>("", [testing::text("x")]).outputs.len(), 2);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a map cannot put out `{Self}`",
    label = "expected `Output`, or an `Option`, a `Vec` or an iterator of them"
)]
pub trait IntoOutputs {
    /// Puts them out, in order.
    ///
    /// # Errors
    /// Where one goes to an output that the plugin has not.
    fn put_into(self, out: &mut Outputs<'_>) -> Result<()>;
}

impl IntoOutputs for Output {
    fn put_into(self, out: &mut Outputs<'_>) -> Result<()> {
        self.write(out)
    }
}

impl<I: IntoIterator<Item = Output>> IntoOutputs for I {
    fn put_into(self, out: &mut Outputs<'_>) -> Result<()> {
        self.into_iter().try_for_each(|output| output.write(out))
    }
}
