//! The outputs of one call, written straight into the columns that go back to the host.
//!
//! Owns which column of which output was set. It must not know what calls for outputs. Invariant: whatever was not set
//! is inherited from the output's origin, whether or not other outputs of the call set it, so that cutting the input
//! into other batches changes nothing.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

use crate::contract::types::{Batch, Column, NamedColumn, Produced};
use crate::output::Output;
use crate::refused::Refused;
use crate::{Error, header};

/// Bits of the `inherit` column, and of what was set.
const VALUE: u8 = 1;
const KEY: u8 = 2;
const TIME: u8 = 4;
const HEADERS: u8 = 8;

/// Where a plugin puts its outputs: key, event time, headers and value of the origin, unless set.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Trip<'a> { city: &'a str, km: f64 }
///
/// #[map(outputs = ["far"])]
/// fn by_city(record: &Record, out: &mut Outputs) -> Result<()> {
///     let trip: Trip = record.json()?;
///     let put = out.json(&json!({ "m": trip.km * 1000.0 }))?.key(trip.city);
///     if trip.km > 100.0 { put.to("far")?; }
///     Ok(())
/// }
/// # fn main() {
/// let given = testing::map::<by_city>("", [testing::json(r#"{ "city": "Oslo", "km": 120 }"#).time(7)]);
/// let out = &given.outputs[0];
/// assert_eq!((out.key.as_slice(), out.time, out.to.as_deref()), (&b"Oslo"[..], 7, Some("far")));
/// # }
/// ```
#[derive(Debug)]
pub struct Outputs<'n> {
    /// Names of the side outputs, in the order of their ports.
    names: &'n [String],
    /// Number of records (or groups) of the call.
    inputs: usize,
    /// How many bytes of values to expect.
    expected: usize,
    /// Origin of the next output.
    at: u32,
    origins: Vec<u32>,
    /// What of each output was set, a bit for each column.
    set: Vec<u8>,
    values: Sparse,
    keys: Sparse,
    headers: Sparse,
    times: Vec<i64>,
    nulls: Vec<u8>,
    ports: Vec<u32>,
    pub(crate) refused: Refused,
}

impl<'n> Outputs<'n> {
    pub(crate) fn new(names: &'n [String], inputs: usize, expected: usize) -> Self {
        Self {
            names,
            inputs,
            expected,
            at: 0,
            origins: Vec::with_capacity(inputs),
            set: Vec::with_capacity(inputs),
            values: Sparse::default(),
            keys: Sparse::default(),
            headers: Sparse::default(),
            times: Vec::new(),
            nulls: Vec::new(),
            ports: Vec::new(),
            refused: Refused::default(),
        }
    }

    /// Puts out `value` as JSON, written straight into the column.
    ///
    /// # Errors
    /// Where it does not serialise; then nothing is put out.
    #[inline]
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Put<'_, 'n>> {
        let put = self.push(VALUE);
        let values = &mut put.out.values;
        if let Err(error) = serde_json::to_writer(&mut values.data, value) {
            let before = put.out.set.len() - 1;
            put.out.cut(before);
            return Err(error).context("output does not serialise");
        }
        values.ends.push(values.data.len() as u32);
        Ok(put)
    }

    /// Puts out `value`.
    #[inline]
    pub fn value(&mut self, value: impl AsRef<[u8]>) -> Put<'_, 'n> {
        let put = self.push(VALUE);
        let values = &mut put.out.values;
        values.data.extend_from_slice(value.as_ref());
        values.ends.push(values.data.len() as u32);
        put
    }

    /// Puts out the origin's value. A group has none, so there it is empty.
    pub fn same(&mut self) -> Put<'_, 'n> {
        self.push(0)
    }

    /// Puts out a record without a value, which deletes its key where that means something.
    pub fn tombstone(&mut self) -> Put<'_, 'n> {
        let put = self.push(VALUE);
        let last = put.out.last();
        put.out.values.ends.push(put.out.values.data.len() as u32);
        put.out.nulls.resize(last, 0);
        put.out.nulls.push(1);
        put
    }

    /// Puts out `output`.
    ///
    /// # Errors
    /// Where it goes to an output that the plugin has not; then nothing is put out.
    pub fn put(&mut self, output: Output) -> Result<()> {
        output.write(self)
    }

    /// The next outputs come from the record at position `at`; for a plugin that maps whole batches.
    ///
    /// # Errors
    /// Where `at` is no record, or before that of an output put out already.
    pub fn from(&mut self, at: usize) -> Result<&mut Self> {
        ensure!(at < self.inputs, "there is no record {at} among {}", self.inputs);
        let last = self.origins.last().copied().unwrap_or_default();
        ensure!(at >= last as usize, "outputs have to come in the order of their origins: {at} after {last}");
        self.at = at as u32;
        Ok(self)
    }

    /// Refuses the record at position `at`, in ascending order, and takes back what it put out last; for a plugin that
    /// maps whole batches.
    pub fn refuse(&mut self, at: usize, reason: impl Into<Error>) {
        let theirs = self.origins.iter().rev().take_while(|origin| **origin as usize == at).count();
        self.cut(self.origins.len() - theirs);
        self.refused.push(at as u32, &reason.into());
    }

    /// The next outputs come from `at`. Gives back how many there are, for [`cut`](Self::cut).
    #[inline(always)]
    pub(crate) fn begin(&mut self, at: u32) -> usize {
        self.at = at;
        self.set.len()
    }

    /// Takes back all outputs but the first `len`.
    pub(crate) fn cut(&mut self, len: usize) {
        self.origins.truncate(len);
        self.set.truncate(len);
        self.values.truncate(len);
        self.keys.truncate(len);
        self.headers.truncate(len);
        self.times.truncate(len);
        self.nulls.truncate(len);
        self.ports.truncate(len);
    }

    /// Number of outputs put out.
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Position of the output put out last.
    fn last(&self) -> usize {
        self.set.len().saturating_sub(1)
    }

    /// Begins an output; where it sets its value, what remains is to write that.
    #[inline]
    fn push(&mut self, set: u8) -> Put<'_, 'n> {
        if set == VALUE {
            if self.values.data.capacity() == 0 {
                self.values.data.reserve(self.expected);
                self.values.ends.reserve(self.inputs);
            }
            self.values.pad(self.set.len());
        }
        self.origins.push(self.at);
        self.set.push(set);
        Put { out: self }
    }

    /// The reply. A column that no output set is left away; where some did and some did not, `inherit` says which.
    pub(crate) fn into_contract(mut self) -> (Produced, Refused) {
        let len = self.set.len();
        let any = self.set.iter().fold(0, |any, set| any | set);
        let all = self.set.iter().fold(u8::MAX, |all, set| all & set);
        let mut more = Vec::new();
        if !self.nulls.is_empty() {
            self.nulls.resize(len, 0);
            more.push(bytes("null", self.nulls));
        }
        if any & !all != 0 {
            self.set.iter_mut().for_each(|set| *set = any & !*set);
            more.push(bytes("inherit", self.set));
        }
        let in_step = len == self.inputs && self.origins.iter().enumerate().all(|(at, origin)| at == *origin as usize);
        if !self.ports.is_empty() {
            self.ports.resize(len, 0);
        }
        if any & TIME != 0 {
            self.times.resize(len, 0);
        }
        let records = Batch {
            values: self.values.full(any & VALUE, len).unwrap_or_else(|| Column { data: Vec::new(), ends: Vec::new() }),
            keys: self.keys.full(any & KEY, len),
            timestamps: (any & TIME != 0).then_some(self.times),
            headers: self.headers.full(any & HEADERS, len),
            more,
        };
        let origins = (!in_step).then_some(self.origins);
        let ports = (!self.ports.is_empty()).then_some(self.ports);
        (Produced { records, origins, ports }, self.refused)
    }
}

/// The output put out last, for what it does not inherit.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map(needs = ["headers"])]
/// fn tagged(record: &Record, out: &mut Outputs) -> Result<()> {
///     out.same().headers(record.headers()?).header("seen-by", "me").time(5);
///     Ok(())
/// }
/// # fn main() {
/// let given = testing::map::<tagged>("", [testing::text("x").header("a", "b")]);
/// assert_eq!(given.outputs[0].headers, [("a".into(), b"b".to_vec()), ("seen-by".into(), b"me".to_vec())]);
/// # }
/// ```
#[derive(Debug)]
pub struct Put<'o, 'n> {
    out: &'o mut Outputs<'n>,
}

impl Put<'_, '_> {
    /// Sets its key; an empty one is none.
    #[inline]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        let at = self.set(KEY);
        self.out.keys.write(at).extend_from_slice(key.as_ref());
        self.out.keys.close();
        self
    }

    /// Sets its event time, in milliseconds since the Unix epoch.
    #[inline]
    pub fn time(mut self, time: i64) -> Self {
        let at = self.set(TIME);
        self.out.times.resize(at, 0);
        self.out.times.push(time);
        self
    }

    /// Sets its headers to those of another record.
    pub fn headers(self, headers: crate::Headers<'_>) -> Self {
        self.raw_headers(headers.as_bytes())
    }

    /// Adds a header to those set before; the first one set means that none is inherited.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let at = self.set(HEADERS);
        header::push(self.out.headers.append(at), name.as_ref(), value.as_ref());
        self.out.headers.close();
        self
    }

    /// Sends it to the side output `name` rather than to the main one.
    ///
    /// # Errors
    /// Where the plugin has no such output; a literal name is checked by the compiler already.
    pub fn to(self, name: &str) -> Result<Self> {
        let Some(at) = self.out.names.iter().position(|known| known == name) else {
            return Err(anyhow!("the plugin has no output `{name}`, only {:?}", self.out.names));
        };
        let last = self.out.last();
        self.out.ports.resize(last, 0);
        self.out.ports.push(at as u32 + 1);
        Ok(self)
    }

    pub(crate) fn raw_headers(mut self, item: &[u8]) -> Self {
        let at = self.set(HEADERS);
        self.out.headers.write(at).extend_from_slice(item);
        self.out.headers.close();
        self
    }

    /// Notes that `column` is set, and gives back the position of the output.
    #[inline]
    fn set(&mut self, column: u8) -> usize {
        if let Some(set) = self.out.set.last_mut() {
            *set |= column;
        }
        self.out.last()
    }
}

/// A column of which only some items are written, the last one always being the one in hand.
#[derive(Debug, Default)]
struct Sparse {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Sparse {
    /// Makes items up to `len` empty, unless written.
    #[inline]
    fn pad(&mut self, len: usize) {
        if self.ends.len() < len {
            self.ends.resize(len, self.data.len() as u32);
        }
    }

    fn truncate(&mut self, len: usize) {
        if self.ends.len() <= len {
            return;
        }
        self.ends.truncate(len);
        self.data.truncate(self.ends.last().copied().unwrap_or_default() as usize);
    }

    /// The data, for the item at `at` to be written; what it held is forgotten.
    #[inline]
    fn write(&mut self, at: usize) -> &mut Vec<u8> {
        if self.ends.len() > at {
            self.truncate(at);
        }
        self.pad(at);
        &mut self.data
    }

    /// The data, for the item at `at` to be written on.
    fn append(&mut self, at: usize) -> &mut Vec<u8> {
        self.pad(at);
        self.ends.truncate(at);
        &mut self.data
    }

    #[inline]
    fn close(&mut self) {
        self.ends.push(self.data.len() as u32);
    }

    /// The column, if `wanted` has any bit.
    fn full(mut self, wanted: u8, len: usize) -> Option<Column> {
        self.pad(len);
        (wanted != 0).then_some(Column { data: self.data, ends: self.ends })
    }
}

/// A named column of one byte for each output.
fn bytes(name: &str, data: Vec<u8>) -> NamedColumn {
    let ends = (1..=data.len() as u32).collect();
    NamedColumn { name: name.to_owned(), items: Column { data, ends } }
}
