//! A batch in bytes, as logs keep it: every column whole, so that what is read back is what was written.
//!
//! Owns the form, whose numbers are little-endian. It must not know where the bytes are kept. Invariant: what is unpacked
//! equals what was packed, and bytes that are no packed batch are refused, whatever they say about their own length.
//!
//! | bytes | hold |
//! |---|---|
//! | 0 | version of the form, 1 |
//! | 1–5 | records |
//! | 5–7 | columns |
//!
//! Each column follows: one byte for what it is (0 values, 1 keys, 2 times, 3 headers, 4 named), of a named one 2 bytes of
//! length and the name; of times 8 bytes for each record, of the others the end of each item in 4 bytes and then the items.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, Column};

/// The version that is written.
const VERSION: u8 = 1;

const VALUES: u8 = 0;
const KEYS: u8 = 1;
const TIMES: u8 = 2;
const HEADERS: u8 = 3;
const NAMED: u8 = 4;

/// Why bytes are not taken for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpacked {
    /// A newer version of the host wrote them.
    #[error("records in form {0}, and this version knows form {VERSION}; use the newer one")]
    Newer(u8),
    /// They are something else, or damaged.
    #[error("records that do not keep their own form")]
    Torn,
}

/// Appends `batch` to `to`.
pub fn pack(batch: &Batch, to: &mut Vec<u8>) {
    let plain = [(VALUES, Some(batch.values())), (KEYS, batch.keys()), (HEADERS, batch.headers())];
    let columns = plain.iter().filter(|(_, column)| column.is_some()).count()
        + usize::from(batch.timestamps().is_some())
        + batch.more().len();
    to.push(VERSION);
    to.extend_from_slice(&(batch.len() as u32).to_le_bytes());
    to.extend_from_slice(&(columns as u16).to_le_bytes());
    for (kind, column) in plain {
        if let Some(column) = column {
            to.push(kind);
            push(column, to);
        }
    }
    if let Some(times) = batch.timestamps() {
        to.push(TIMES);
        times.iter().for_each(|time| to.extend_from_slice(&time.to_le_bytes()));
    }
    for column in batch.more() {
        to.push(NAMED);
        // Names are `id` and the like, and pointers, which a configuration bounds far below this.
        let name = column.name.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(column.name.as_bytes());
        to.extend_from_slice(&(name.len() as u16).to_le_bytes());
        to.extend_from_slice(name);
        push(&column.items, to);
    }
}

fn push(column: &Column, to: &mut Vec<u8>) {
    column.ends().iter().for_each(|end| to.extend_from_slice(&end.to_le_bytes()));
    to.extend_from_slice(column.data());
}

/// The batch in `packed`, sharing its bytes.
///
/// # Errors
/// [`Unpacked`].
pub fn unpack(packed: &Bytes) -> Result<Batch, Unpacked> {
    let mut rest = Rest { all: packed, at: 0 };
    let [version] = rest.array()?;
    if version > VERSION {
        return Err(Unpacked::Newer(version));
    }
    let records = u32::from_le_bytes(rest.array()?) as usize;
    let columns = u16::from_le_bytes(rest.array()?);
    let mut batch = Batch::of_values(Column::default());
    for nth in 0..columns {
        let [kind] = rest.array()?;
        batch = match kind {
            // Values come first, and say how many records there are.
            VALUES if nth == 0 => Ok(Batch::of_values(rest.column(records)?)),
            _ if nth == 0 => return Err(Unpacked::Torn),
            KEYS => batch.with_keys(rest.column(records)?),
            HEADERS => batch.with_headers(rest.column(records)?),
            TIMES => batch.with_timestamps(rest.times(records)?),
            NAMED => {
                let length = usize::from(u16::from_le_bytes(rest.array()?));
                let name = std::str::from_utf8(rest.take(length)?).map_err(|_| Unpacked::Torn)?;
                let name = Arc::from(name);
                batch.with_named(name, rest.column(records)?)
            }
            _ => return Err(Unpacked::Torn),
        }
        .map_err(|_| Unpacked::Torn)?;
    }
    if rest.at != packed.len() || batch.len() != records { Err(Unpacked::Torn) } else { Ok(batch) }
}

/// What has not been unpacked yet.
struct Rest<'a> {
    all: &'a Bytes,
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unpacked> {
        let end = self.at.checked_add(length).ok_or(Unpacked::Torn)?;
        let taken = self.all.get(self.at..end).ok_or(Unpacked::Torn)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unpacked> {
        self.take(N)?.try_into().map_err(|_| Unpacked::Torn)
    }

    fn times(&mut self, records: usize) -> Result<Vec<i64>, Unpacked> {
        let (eights, _) = self.take(records.checked_mul(8).ok_or(Unpacked::Torn)?)?.as_chunks();
        Ok(eights.iter().map(|eight| i64::from_le_bytes(*eight)).collect())
    }

    fn column(&mut self, records: usize) -> Result<Column, Unpacked> {
        let (fours, _) = self.take(records.checked_mul(4).ok_or(Unpacked::Torn)?)?.as_chunks();
        let ends: Vec<u32> = fours.iter().map(|four| u32::from_le_bytes(*four)).collect();
        let items = self.take(ends.last().map_or(0, |end| *end as usize))?;
        Column::from_parts(self.all.slice_ref(items), ends).map_err(|_| Unpacked::Torn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..12)
    }

    /// Any batch: each column there or not.
    fn batch() -> impl Strategy<Value = Batch> {
        (0usize..9).prop_flat_map(|len| {
            let column = || prop::collection::vec(item(), len).prop_map(|items| items.iter().collect::<Column>());
            let times = prop::collection::vec(any::<i64>(), len);
            let named = prop::collection::btree_map("[a-z:/]{1,9}", column(), 0..3);
            (column(), prop::option::of(column()), prop::option::of(column()), prop::option::of(times), named).prop_map(
                |(values, keys, headers, times, named)| {
                    let mut batch = Batch::of_values(values);
                    batch = keys.map_or(batch.clone(), |keys| batch.with_keys(keys).unwrap());
                    batch = headers.map_or(batch.clone(), |headers| batch.with_headers(headers).unwrap());
                    batch = times.map_or(batch.clone(), |times| batch.with_timestamps(times).unwrap());
                    named
                        .into_iter()
                        .fold(batch, |batch, (name, items)| batch.with_named(name.as_str().into(), items).unwrap())
                },
            )
        })
    }

    fn packed(batch: &Batch) -> Bytes {
        let mut bytes = Vec::new();
        pack(batch, &mut bytes);
        bytes.into()
    }

    proptest! {
        #[test]
        fn what_is_unpacked_equals_what_was_packed(batch in batch()) {
            prop_assert_eq!(unpack(&packed(&batch)), Ok(batch));
        }

        #[test]
        fn no_part_of_a_packed_batch_is_taken_for_a_whole_one(batch in batch()) {
            let whole = packed(&batch);
            for end in 0..whole.len() {
                prop_assert_eq!(unpack(&whole.slice(..end)), Err(Unpacked::Torn));
            }
            let longer: Bytes = [&whole[..], b"x"].concat().into();
            prop_assert_eq!(unpack(&longer), Err(Unpacked::Torn));
        }

        #[test]
        fn arbitrary_bytes_come_to_a_batch_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpack(&[&[1][..], &bytes].concat().into());
            let _ = unpack(&bytes.into());
        }
    }

    /// Logs outlive the host that wrote them: this is what the first version writes.
    #[test]
    fn the_form_is_the_one_that_is_described() {
        let batch = Batch::of_values(["ab", ""].iter().collect())
            .with_timestamps(vec![7, -1])
            .and_then(|batch| batch.with_named("id".into(), ["x", "y"].iter().collect()))
            .unwrap();
        let expected: &[u8] = b"\x01\x02\0\0\0\x03\0\x00\x02\0\0\0\x02\0\0\0ab\
            \x02\x07\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\
            \x04\x02\0id\x01\0\0\0\x02\0\0\0xy";
        assert_eq!(&packed(&batch)[..], expected);
        assert_eq!(unpack(&Bytes::from_static(b"\x02")), Err(Unpacked::Newer(2)));
    }
}
