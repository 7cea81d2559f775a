//! One record of a batch, as a plugin reads it.
//!
//! Owns the author's way to read. It must not know what becomes of the record. Invariant: it borrows from the batch, so
//! making one costs nothing and what is read from it outlives it.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::batch::Batch;
use crate::header::Headers;
use crate::pointer::Pointer;
use crate::random::Random;

/// One record.
///
/// Its value crosses into the plugin unless the attribute says `values = false` or asks for `fields`; everything else
/// only if asked for with `needs = [..]`. Reading what was not asked for is an error that names the cure, so that a
/// forgotten word refuses every record in the first unit test rather than passing for an empty column.
///
/// | word | read by |
/// |---|---|
/// | `keys` | [`key`](Self::key) |
/// | `timestamps` | [`time`](Self::time) |
/// | `headers` | [`headers`](Self::headers) |
/// | `id` | [`id`](Self::id), [`random`](Self::random) |
/// | `input` | [`input`](Self::input) |
/// | `null` | [`is_null`](Self::is_null) |
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(needs = ["keys", "timestamps"])]
/// fn early_birds(record: &Record) -> Result<bool> {
///     Ok(record.key()? == b"bird" && record.time()? < 6 * 3_600_000)
/// }
/// # fn main() {
/// let given = testing::filter::<early_birds>("", [
///     testing::text("tweet").key("bird").time(1_000),
///     testing::text("snore").key("owl").time(1_000),
/// ]);
/// assert_eq!(given.kept, [0]);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    batch: &'a Batch,
    at: usize,
}

impl<'a> Record<'a> {
    #[inline(always)]
    pub(crate) fn new(batch: &'a Batch, at: usize) -> Self {
        Self { batch, at }
    }

    /// The payload; empty if the plugin does not take values, or for a tombstone.
    #[inline(always)]
    pub fn value(&self) -> &'a [u8] {
        self.batch.values().get(self.at)
    }

    /// The payload as text.
    ///
    /// # Errors
    /// Where it is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.value()).context("value is not UTF-8")
    }

    /// The payload, parsed. `T` may borrow from it.
    ///
    /// # Errors
    /// Where it is not JSON of that form.
    #[inline]
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_slice(self.value()).map_err(|error| self.not_json(&error))
    }

    /// Raw JSON at `pointer` in the payload, found without building the document; `None` where there is none.
    ///
    /// For pointers that come from the configuration; those known beforehand are cheaper as `fields`.
    ///
    /// # Errors
    /// Where the payload is not JSON.
    pub fn pick(&self, pointer: &Pointer) -> Result<Option<&'a str>> {
        pointer.find(self.value()).map_err(|error| self.not_json(&error))
    }

    /// What [`pick`](Self::pick) finds, parsed; what is absent parses like `null`.
    ///
    /// # Errors
    /// Where the payload is not JSON, or the field not of that form.
    pub fn pick_as<T: Deserialize<'a>>(&self, pointer: &Pointer) -> Result<T> {
        let raw = self.pick(pointer)?.unwrap_or("null");
        serde_json::from_str(raw).with_context(|| format!("field {pointer}"))
    }

    /// Raw JSON of the field that is `index`-th in the attribute's `fields`; empty where the record has none.
    ///
    /// # Errors
    /// Where the plugin did not ask for so many fields.
    #[inline]
    pub fn field(&self, index: usize) -> Result<&'a [u8]> {
        Ok(self.batch.field(index)?.get(self.at))
    }

    /// The field that is `index`-th in the attribute's `fields`, parsed; one that is absent parses like `null`.
    ///
    /// # Errors
    /// Where it is not of that form, or the plugin did not ask for so many fields.
    #[inline]
    pub fn field_as<T: Deserialize<'a>>(&self, index: usize) -> Result<T> {
        let raw = match self.field(index)? {
            [] => b"null",
            raw => raw,
        };
        serde_json::from_slice(raw)
            .with_context(|| format!("field {}", self.batch.facts().fields.get(index).unwrap_or(&"")))
    }

    /// The key; empty where the record has none. Needs `keys`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    #[inline]
    pub fn key(&self) -> Result<&'a [u8]> {
        Ok(self.batch.keys()?.get(self.at))
    }

    /// Event time, in milliseconds since the Unix epoch. Needs `timestamps`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    #[inline]
    pub fn time(&self) -> Result<i64> {
        Ok(self.batch.times()?.get(self.at).copied().unwrap_or_default())
    }

    /// The headers. Needs `headers`.
    ///
    /// # Errors
    /// Where the plugin did not ask for them.
    pub fn headers(&self) -> Result<Headers<'a>> {
        Ok(Headers::new(self.batch.headers()?.get(self.at)))
    }

    /// The id, the same in every replay. Needs `id`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    pub fn id(&self) -> Result<[u8; 16]> {
        self.batch.ids()?.get(self.at).try_into().context("the host sent an id that is not 16 bytes long")
    }

    /// Random numbers seeded by the id, so that a replay draws the same; each call begins anew. Needs `id`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    pub fn random(&self) -> Result<Random> {
        Ok(Random::of(self.id()?))
    }

    /// Position in the stage's `from` of where the record came from. Needs `input`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    pub fn input(&self) -> Result<usize> {
        Ok(self.batch.inputs()?.get(self.at).first().copied().unwrap_or_default().into())
    }

    /// Whether there is no value at all: a tombstone. Needs `null`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    pub fn is_null(&self) -> Result<bool> {
        Ok(self.batch.nulls()?.get(self.at) == [1])
    }

    #[cold]
    fn not_json(&self, error: &serde_json::Error) -> anyhow::Error {
        if !self.batch.facts().values {
            return anyhow::anyhow!("the plugin does not take values: add `values = true` to its attribute");
        }
        anyhow::anyhow!("value is not the JSON expected: {error}")
    }
}
