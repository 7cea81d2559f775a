//! Source `generate`: seeded records for trials and benchmarks.
//!
//! Owns the shape of these records. It must not know who reads them or how fast. Invariant: record `i` is a function
//! of the seed and `i` alone, whatever the batches, so that the source can go back to any `i`.

use std::sync::Arc;

use anyhow::{Context, bail};
use futures::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chunk, Position, Read, Source};
use crate::batch::{BatchBuilder, ColumnBuilder, FIELD, ID, Limit};
use crate::codec::{Stamp, id_of};

/// What `generate:` of a source takes.
///
/// Record `i` is `{"seq":i,"key":"k7","ts":i,"value":41.7,"text":"info …"}` in one line. One text in ten begins with
/// `error`, two with `warn`, the others with `info`; `ts` is in milliseconds, one a record, from 0 on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed: the same seed gives the same records.
    pub seed: u64,
    /// How many records; without it the source never ends.
    pub count: Option<u64>,
    /// Number of different keys.
    pub keys: u64,
    /// Size of a record, in bytes; one that is too small for the fields gives an empty text.
    pub size: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { seed: 0, count: None, keys: 100, size: 256 }
    }
}

/// One field of a generated record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Seq,
    Key,
    Ts,
    Value,
    Text,
}

/// The field that a JSON pointer names.
fn field(pointer: &str) -> Option<Field> {
    Some(match pointer {
        "/seq" => Field::Seq,
        "/key" => Field::Key,
        "/ts" => Field::Ts,
        "/value" => Field::Value,
        "/text" => Field::Text,
        _ => return None,
    })
}

/// Where the raw JSON of each field stands in a record's bytes.
struct Layout {
    seq: (usize, usize),
    key: (usize, usize),
    ts: (usize, usize),
    value: (usize, usize),
    text: (usize, usize),
}

impl Layout {
    fn of(&self, field: Field) -> (usize, usize) {
        match field {
            Field::Seq => self.seq,
            Field::Key => self.key,
            Field::Ts => self.ts,
            Field::Value => self.value,
            Field::Text => self.text,
        }
    }
}

/// The running source.
struct Generate {
    config: Config,
    /// The number of the next record.
    next: u64,
    stopped: bool,
    /// The field that the key is taken from.
    key: Option<Field>,
    /// Whether records carry their time.
    time: bool,
    /// The fields asked for as columns; what no record has stays an empty item.
    fields: Vec<Option<Field>>,
    names: Arc<[Arc<str>]>,
    /// What ids are made of beside the number of the record, where they are needed.
    ids: Option<u128>,
    /// Text that records cut theirs from.
    filler: Vec<u8>,
}

/// Bytes of a record beside its text, at most: 20 digits each for `seq`, `ts` and the key, 10 for the value.
const FRAME: usize = 128;
/// Bytes of any field but the text, at most.
const NARROW: usize = 24;
/// Texts begin at one of so many places in the filler.
const OFFSETS: u64 = 4096;

/// A source of generated records, key and time taken from them as `stamp` says.
///
/// # Errors
/// When there are no keys to choose from, or key or time are asked for where these records have none.
pub fn open(config: &Config, stamp: &Stamp) -> anyhow::Result<Box<dyn Source>> {
    if config.keys == 0 {
        bail!("generate records with `keys: 0`: at least one key is needed");
    }
    let known = "generated records have `/seq`, `/key`, `/ts`, `/value` and `/text`";
    let key = stamp
        .key
        .as_deref()
        .map(|pointer| field(pointer).with_context(|| format!("find the key at `{pointer}`: {known}")))
        .transpose()?;
    let time = match stamp.time.as_deref() {
        None => false,
        Some("/ts" | "/seq") => true,
        Some(pointer) => bail!("find the time at `{pointer}`: generated records have theirs at `/ts`"),
    };
    let names = stamp.fields.iter().map(|pointer| Arc::from(format!("{FIELD}{pointer}")));
    Ok(Box::new(Generate {
        next: 0,
        stopped: false,
        key,
        time,
        fields: stamp.fields.iter().map(|pointer| field(pointer)).collect(),
        names: names.chain(stamp.ids.map(|_| ID.into())).collect(),
        ids: stamp.ids,
        filler: filler(config.seed, config.size as usize + OFFSETS as usize),
        config: config.clone(),
    }))
}

impl Source for Generate {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move { Ok(self.chunk(most)) }.boxed()
    }

    fn position(&self) -> Position {
        Position(self.next.into())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        let place = match &position.0 {
            serde_json::Value::Null => Some(0),
            value => value.as_u64(),
        };
        let result = place.with_context(|| format!("go to record {}: no number", position.0)).map(|place| {
            self.next = place;
            true
        });
        std::future::ready(result).boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

impl Generate {
    fn chunk(&mut self, most: Limit) -> Read {
        let left = self.config.count.map_or(u64::MAX, |count| count.saturating_sub(self.next));
        if self.stopped || left == 0 {
            return Read::End;
        }
        // An upper bound for one record in all its columns, so that the limit holds without being looked at each time.
        let size = self.config.size as usize;
        let column = |field: &Field| 4 + if *field == Field::Text { size } else { NARROW };
        let columns: usize = self.key.iter().chain(self.fields.iter().flatten()).map(column).sum();
        let absent = self.fields.len() * 4 + self.ids.map_or(0, |_| 4 + size_of::<u128>());
        let fit = (most.bytes / (size.max(FRAME) + 12 + columns + absent)).clamp(1, most.records.max(1)) as u64;
        let count = left.min(fit);

        let mut batch = BatchBuilder::new(self.key.is_some(), self.time, false, self.names.clone());
        batch.values = ColumnBuilder::with_capacity(count as usize, count as usize * self.config.size as usize);
        for i in self.next..self.next + count {
            self.record(i, &mut batch);
        }
        self.next += count;
        Read::Chunk(Chunk { batch: batch.finish(), ..Chunk::default() })
    }

    fn record(&self, i: u64, batch: &mut BatchBuilder) {
        let start = batch.values.open().len();
        let out = batch.values.open();
        let layout = self.write(i, out);
        let bytes = out.get(start..).unwrap_or_default();
        if let (Some(field), Some(keys)) = (self.key, &mut batch.keys) {
            let (from, to) = layout.of(field);
            // A key is the string itself, not its JSON.
            let quotes = usize::from(matches!(field, Field::Key | Field::Text));
            keys.push(bytes.get(from + quotes..to - quotes).unwrap_or_default());
        }
        for (field, column) in self.fields.iter().zip(&mut batch.more) {
            let (from, to) = field.map_or((0, 0), |field| layout.of(field));
            column.push(bytes.get(from..to).unwrap_or_default());
        }
        if let (Some(root), Some(ids)) = (self.ids, batch.more.last_mut()) {
            ids.push(&id_of(root, self.config.seed.into(), i));
        }
        if let Some(times) = &mut batch.timestamps {
            times.push(i as i64);
        }
        batch.values.close();
    }

    /// Appends record `i` to `out` and says where its fields stand, counted from its first byte.
    fn write(&self, i: u64, out: &mut Vec<u8>) -> Layout {
        let start = out.len();
        let random = mix(self.config.seed, i);
        let mut put = |before: &str, write: &mut dyn FnMut(&mut Vec<u8>)| {
            out.extend_from_slice(before.as_bytes());
            let from = out.len() - start;
            write(out);
            (from, out.len() - start)
        };
        let seq = put("{\"seq\":", &mut |out| digits(out, i));
        let key = put(",\"key\":", &mut |out| {
            out.extend_from_slice(b"\"k");
            digits(out, random % self.config.keys);
            out.push(b'"');
        });
        let ts = put(",\"ts\":", &mut |out| digits(out, i));
        let tenths = (random >> 32) % 100_000;
        let value = put(",\"value\":", &mut |out| {
            digits(out, tenths / 10);
            out.extend_from_slice(&[b'.', b'0' + (tenths % 10) as u8]);
        });
        let room = (self.config.size as usize).saturating_sub(value.1 + ",\"text\":\"\"}".len());
        let level: &[u8] = match (random >> 16) % 10 {
            0 => b"error ",
            1 | 2 => b"warn ",
            _ => b"info ",
        };
        let offset = ((random >> 20) % OFFSETS) as usize;
        let text = put(",\"text\":", &mut |out| {
            out.push(b'"');
            out.extend_from_slice(level.get(..room.min(level.len())).unwrap_or_default());
            let rest = room.saturating_sub(level.len());
            out.extend_from_slice(self.filler.get(offset..offset + rest).unwrap_or_default());
            out.push(b'"');
        });
        out.push(b'}');
        Layout { seq, key, ts, value, text }
    }
}

/// The `i`th number of the stream that `seed` names (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
fn mix(seed: u64, i: u64) -> u64 {
    let mut z = seed.rotate_left(32).wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `len` bytes of lower-case words.
fn filler(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| match mix(!seed, i) % 32 {
            letter @ 0..26 => b'a' + letter as u8,
            _ => b' ',
        })
        .collect()
}

/// Appends `number` in decimal.
fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0_u8; 20];
    let mut at = text.len();
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        at -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests;
