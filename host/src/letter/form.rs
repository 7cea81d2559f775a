//! Letters in the blocks of a log.
//!
//! Owns how refused records become letters and how letters are read back. The payload of a block: one byte for the version,
//! 1; the length of its head, 4 bytes, little-endian; the head, JSON; the records, packed, without the headers that said
//! why, which are columns of their own.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Again, BY, Data, Kind, Letter, Origin, Origins, PLACE, Part, Plugin, REASON, REFUSED_BY, WHY, again::AGAIN, hex,
};
use crate::{
    batch::{Batch, Column, ColumnBuilder, Headers, ID, INPUT, Limit},
    codec::pack::{Unpacked, pack, unpack},
    epoch::Epoch,
    log::{self, Block},
};

/// The version that is written.
const VERSION: u8 = 1;

/// Most that stands in one block: who looks for one letter reads a block.
const BLOCK: Limit = Limit { records: 1024, bytes: 256 << 10 };

/// What all letters of a block share.
#[derive(Serialize, Deserialize)]
struct Head {
    by: Origin,
    attempts: u32,
}

/// Why letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A block that is whole and holds no letters.
    #[error("read the letters from offset {offset} on: {why}")]
    Form {
        /// Of its first letter.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// What the headers of a refused record say of the refusal.
#[derive(Clone, Copy, Default)]
struct Refusal<'a> {
    /// Length of the headers that are the record's own.
    own: usize,
    by: &'a [u8],
    reason: &'a [u8],
    place: Option<&'a [u8]>,
}

impl<'a> Refusal<'a> {
    /// The last refusal counts: a record that was refused before carries that with it.
    fn read(headers: &'a [u8]) -> Self {
        let (mut found, mut at) = (Self { own: headers.len(), ..Self::default() }, 0);
        let mut before: Option<(&[u8], &[u8], usize)> = None;
        for (name, value) in Headers::new(headers) {
            if name == REFUSED_BY.as_bytes() {
                let place = before.filter(|(name, ..)| *name == PLACE.as_bytes());
                let own = place.map_or(at, |(_, _, start)| start);
                found = Self { own, by: value, reason: b"", place: place.map(|(_, place, _)| place) };
            } else if name == REASON.as_bytes() && at > found.own {
                found.reason = value;
            }
            before = Some((name, value, at));
            at += 8 + name.len() + value.len();
        }
        found
    }
}

/// The blocks of letters that the refused records of `batch` become, which `epoch` appends at the time `now`, in
/// milliseconds since the Unix epoch.
pub fn blocks(batch: &Batch, origins: &Origins, epoch: Epoch, now: i64) -> Vec<Block> {
    let blank = Column::blank(batch.len());
    let refusals: Vec<Refusal<'_>> = batch.headers().unwrap_or(&blank).iter().map(Refusal::read).collect();
    let plugin = |at: usize| batch.named(BY).and_then(|column| column.get(at));
    let size = |at: usize| batch.values().get(at).map_or(0, <[u8]>::len);
    let (mut blocks, mut start) = (Vec::new(), 0);
    while let Some(first) = refusals.get(start) {
        let (mut end, mut bytes) = (start + 1, size(start));
        while refusals.get(end).is_some_and(|next| next.by == first.by)
            && plugin(end) == plugin(start)
            && end - start < BLOCK.records
            && bytes + size(end) <= BLOCK.bytes
        {
            bytes += size(end);
            end += 1;
        }
        let part = batch.slice(start, end);
        let payload = payload(&part, refusals.get(start..end).unwrap_or_default(), origins);
        blocks.push(Block { payload, records: (end - start) as u32, times: (now, now), epoch });
        start = end;
    }
    blocks
}

fn payload(part: &Batch, refusals: &[Refusal<'_>], origins: &Origins) -> Bytes {
    let by = refusals.first().map(|first| String::from_utf8_lossy(first.by).into_owned()).unwrap_or_default();
    let by = origins.get(&by).cloned().unwrap_or(Origin { name: by, part: Part::Stage, plugin: None });
    let by = Origin { plugin: Plugin::of(part, 0).or(by.plugin), ..by };
    let (mut own, mut reasons, mut places) = <(ColumnBuilder, ColumnBuilder, ColumnBuilder)>::default();
    for (at, refusal) in refusals.iter().enumerate() {
        let headers = part.headers().and_then(|headers| headers.get(at)).unwrap_or_default();
        own.push(headers.get(..refusal.own).unwrap_or_default());
        reasons.push(refusal.reason);
        places.push(refusal.place.unwrap_or_default());
    }
    let mut record = part.clone().retain_named(|name| [ID, INPUT, WHY, AGAIN].contains(&name));
    let columns = [(Some(REASON), reasons), (refusals.iter().any(|one| one.place.is_some()).then_some(PLACE), places)];
    for (name, mut column) in columns {
        if let Some(name) = name {
            // The column has an item for each record.
            record = record.clone().with_named(name.into(), column.finish()).unwrap_or(record);
        }
    }
    record = record.clone().with_headers(own.finish()).unwrap_or(record);
    // Names and numbers always are JSON.
    let head = serde_json::to_vec(&Head { by, attempts: 1 }).unwrap_or_default();
    let mut payload = vec![VERSION];
    payload.extend_from_slice(&(head.len() as u32).to_le_bytes());
    payload.extend_from_slice(&head);
    pack(&record, &mut payload);
    payload.into()
}

/// The letters of a block whose first one has this offset.
pub(super) fn letters(offset: u64, block: &Block) -> Result<Vec<Letter>, Unreadable> {
    let unread = |why: String| Unreadable::Form { offset, why };
    let (head, packed) = split(&block.payload).map_err(|error| unread(error.to_string()))?;
    let head: Head = serde_json::from_slice(&head).map_err(|error| unread(error.to_string()))?;
    let batch = unpack(&packed).map_err(|error| unread(error.to_string()))?;
    let items = |column: Option<&Column>, at: usize| column.and_then(|column| column.get(at)).map(<[u8]>::to_vec);
    let letter = |at: usize| {
        let place = items(batch.named(PLACE), at).filter(|place| !place.is_empty());
        let headers = items(batch.headers(), at).unwrap_or_default();
        let again = Again::of(&batch, at);
        Letter {
            offset: offset + at as u64,
            by: head.by.clone(),
            kind: match Kind::of(&batch, at) {
                Some(kind) => kind,
                None if head.by.part == Part::Source && place.is_some() => Kind::Decode,
                None => Kind::Refused,
            },
            reason: String::from_utf8_lossy(&items(batch.named(REASON), at).unwrap_or_default()).into_owned(),
            place: place.map(|place| String::from_utf8_lossy(&place).into_owned()),
            epoch: block.epoch.0,
            refused: (again.map_or(block.times.0, |again| again.first), block.times.1),
            attempts: again.map_or(head.attempts, |again| again.attempts.saturating_add(1)),
            was: again.map(|again| again.offset),
            value: Data::of(batch.values().get(at).unwrap_or_default()),
            key: items(batch.keys(), at).filter(|key| !key.is_empty()).map(|key| Data::of(&key)),
            time: batch.timestamps().and_then(|times| times.get(at).copied()),
            headers: Headers::new(&headers).map(|(name, value)| (Data::of(name), Data::of(value))).collect(),
            id: items(batch.named(ID), at).map(|id| hex(&id)),
            input: items(batch.named(INPUT), at).and_then(|input| input.first().copied()),
        }
    };
    Ok((0..batch.len()).map(letter).collect())
}

/// Head and records of a payload.
fn split(payload: &Bytes) -> Result<(Bytes, Bytes), Unpacked> {
    let (&version, rest) = payload.split_first().ok_or(Unpacked::Torn)?;
    if version > VERSION {
        return Err(Unpacked::Newer(version));
    }
    let (length, rest) = rest.split_first_chunk().ok_or(Unpacked::Torn)?;
    let (head, packed) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(Unpacked::Torn)?;
    Ok((payload.slice_ref(head), payload.slice_ref(packed)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::{super::*, *};

    pub(in super::super) fn origins() -> Origins {
        let plugin = Plugin { name: "p".to_owned(), version: "1.2.3".to_owned(), digest: "d1g".to_owned() };
        let one = |name: &str, part, plugin| (name.to_owned(), Origin { name: name.to_owned(), part, plugin });
        Arc::new(BTreeMap::from([one("in", Part::Source, None), one("stage", Part::Stage, Some(plugin))]))
    }

    fn read(blocks: &[Block]) -> Vec<Letter> {
        let mut offset = 0;
        let mut all = Vec::new();
        for block in blocks {
            all.extend(letters(offset, block).unwrap());
            offset += u64::from(block.records);
        }
        all
    }

    #[test]
    fn a_letter_holds_the_record_as_it_was_and_who_refused_it_why() {
        let mut header = Vec::new();
        push_header(&mut header, b"h", b"\xff");
        let batch = Batch::of_values(["v"].iter().collect())
            .with_keys(["k"].iter().collect())
            .and_then(|batch| batch.with_timestamps(vec![-5]))
            .and_then(|batch| batch.with_headers([header].iter().collect()))
            .and_then(|batch| batch.with_named("field:/x".into(), ["gone"].iter().collect()))
            .and_then(|batch| batch.with_named(ID.into(), [[1u8; 16]].iter().collect()))
            .unwrap();
        let refused = with_reasons(&batch, "stage", &["because"].iter().collect());
        let blocks = blocks(&refused, &origins(), Epoch(7), 99);
        assert_eq!(blocks.iter().map(|block| (block.records, block.epoch)).collect::<Vec<_>>(), [(1, Epoch(7))]);
        let expected = Letter {
            offset: 0,
            by: origins()["stage"].clone(),
            kind: Kind::Refused,
            reason: "because".to_owned(),
            place: None,
            epoch: 7,
            refused: (99, 99),
            attempts: 1,
            was: None,
            value: Data::Text("v".to_owned()),
            key: Some(Data::Text("k".to_owned())),
            time: Some(-5),
            headers: vec![(Data::Text("h".to_owned()), Data::Bytes { hex: "ff".to_owned() })],
            id: Some("01".repeat(16)),
            input: None,
        };
        assert_eq!(read(&blocks), std::slice::from_ref(&expected));
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<Letter>(&json).unwrap(), expected, "{json}");
    }

    #[test]
    fn what_could_not_be_decoded_keeps_its_place_and_a_second_refusal_keeps_the_first() {
        let raw = Batch::of_values([&b"\xfe{"[..]].iter().collect());
        let placed = with_header(&raw, PLACE, &["f:3"].iter().collect());
        let first = with_reasons(&placed, "in", &["no JSON"].iter().collect());
        let [letter] = &read(&blocks(&first, &origins(), Epoch(1), 0))[..] else { panic!() };
        assert_eq!((letter.kind, letter.place.as_deref(), &*letter.reason), (Kind::Decode, Some("f:3"), "no JSON"));
        assert_eq!((&letter.value, &letter.headers[..]), (&Data::Bytes { hex: "fe7b".to_owned() }, &[][..]));

        let second = with_reasons(&first, "stage", &["still none"].iter().collect());
        let [letter] = &read(&blocks(&second, &origins(), Epoch(1), 0))[..] else { panic!() };
        assert_eq!((letter.kind, &letter.place, &*letter.reason), (Kind::Refused, &None, "still none"));
        let headers: Vec<_> = letter.headers.iter().map(|(name, _)| name.shown()).collect();
        assert_eq!(headers, [PLACE, REFUSED_BY, REASON]);
    }

    proptest! {
        /// However large records are, a block is small unless one record is not, and no letter is lost.
        #[test]
        fn letters_keep_their_order_over_blocks_of_bounded_size(
            sizes in prop::collection::vec(prop_oneof![0usize..50, Just(200 << 10), Just(300 << 10)], 0..20),
        ) {
            let values: Vec<Vec<u8>> = sizes.iter().zip(b'a'..).map(|(size, fill)| vec![fill; *size]).collect();
            let batch = Batch::of_values(values.iter().collect());
            let refused = with_reasons(&batch, "stage", &Column::repeat(b"r", values.len()));
            let blocks = blocks(&refused, &origins(), Epoch(1), 0);
            for block in &blocks {
                prop_assert!(block.records == 1 || block.payload.len() <= BLOCK.bytes + (4 << 10));
            }
            let read: Vec<String> = read(&blocks).iter().map(|letter| letter.value.shown().into_owned()).collect();
            let expected: Vec<String> = values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn arbitrary_headers_and_payloads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let batch = Batch::of_values(["v"].iter().collect());
            let batch = batch.with_headers([bytes.clone()].iter().collect()).unwrap();
            prop_assert_eq!(read(&blocks(&batch, &origins(), Epoch(1), 0)).len(), 1);
            let _ = letters(0, &Block { payload: bytes.into(), records: 1, times: (0, 0), epoch: Epoch(1) });
        }
    }
}
