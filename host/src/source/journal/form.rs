//! What a source has given, as a block of its journal.
//!
//! Owns the form, whose numbers are little-endian: one byte for the version, 1; the lengths of the first two parts, 4 bytes
//! each; the records, packed; what could not be decoded, packed, its places, reasons and positions as columns; facts of the
//! source, packed, by key, and whether each is there. Invariant: what is read back is what was written.

use bytes::Bytes;

use crate::{
    batch::{Batch, Column},
    codec::{
        Undecoded,
        pack::{Unpacked, pack, unpack},
    },
    epoch::Epoch,
    log::Block,
    source::{Chunk, Kept},
};

/// The version that is written.
const VERSION: u8 = 1;

const PLACE: &str = "place";
const REASON: &str = "reason";
const INDEX: &str = "index";
const IS_THERE: &str = "is_there";

/// Bytes in front of the parts.
const HEAD: usize = 9;

/// The block that `chunk` becomes at the time `now`, in milliseconds since the Unix epoch; none where it holds nothing.
pub(super) fn block(chunk: &Chunk, facts: &[Kept], now: i64) -> Option<Block> {
    let records = u32::try_from(records(chunk)).ok().filter(|records| *records > 0)?;
    let (mut decoded, mut refused) = (Vec::new(), Vec::new());
    pack(&chunk.batch, &mut decoded);
    pack(&packed(&chunk.undecoded)?, &mut refused);
    let mut payload = Vec::with_capacity(HEAD + decoded.len() + refused.len());
    payload.push(VERSION);
    payload.extend_from_slice(&u32::try_from(decoded.len()).ok()?.to_le_bytes());
    payload.extend_from_slice(&u32::try_from(refused.len()).ok()?.to_le_bytes());
    payload.extend([decoded, refused].iter().flatten());
    pack(&packed_facts(facts)?, &mut payload);
    Some(Block { payload: payload.into(), records, times: (now, now), epoch: Epoch::default() })
}

/// How many offsets a chunk takes.
pub(super) fn records(chunk: &Chunk) -> usize {
    chunk.batch.len() + chunk.undecoded.len()
}

fn packed(undecoded: &[Undecoded]) -> Option<Batch> {
    let column = |of: &dyn Fn(&Undecoded) -> Vec<u8>| undecoded.iter().map(of).collect::<Column>();
    Batch::of_values(undecoded.iter().map(|one| &one.raw).collect())
        .with_named(PLACE.into(), column(&|one| one.place.clone().into_bytes()))
        .and_then(|batch| batch.with_named(REASON.into(), column(&|one| one.reason.clone().into_bytes())))
        .and_then(|batch| batch.with_named(INDEX.into(), column(&|one| one.index.to_le_bytes().to_vec())))
        .ok()
}

fn packed_facts(facts: &[Kept]) -> Option<Batch> {
    let is_there = |fact: &Kept| [u8::from(fact.value.is_some())];
    Batch::of_values(facts.iter().map(|fact| fact.value.clone().unwrap_or_default()).collect())
        .with_keys(facts.iter().map(|fact| &fact.key).collect())
        .and_then(|batch| batch.with_named(IS_THERE.into(), facts.iter().map(is_there).collect()))
        .ok()
}

/// The chunk in a block's payload, and the facts that came with it.
///
/// # Errors
/// It is none, or of a newer version.
pub(super) fn chunk(payload: &Bytes) -> Result<(Chunk, Vec<Kept>), Unpacked> {
    let [version, lengths @ ..] = payload.first_chunk::<HEAD>().ok_or(Unpacked::Torn)?;
    if *version > VERSION {
        return Err(Unpacked::Newer(*version));
    }
    let lengths = lengths.as_chunks::<4>().0;
    let [first, second] = lengths else { return Err(Unpacked::Torn) };
    let end = |from: usize, length: &[u8; 4]| {
        let end = from.checked_add(u32::from_le_bytes(*length) as usize).filter(|end| *end <= payload.len());
        end.ok_or(Unpacked::Torn)
    };
    let middle = end(HEAD, first)?;
    let last = end(middle, second)?;
    let (batch, refused) = (unpack(&payload.slice(HEAD..middle))?, unpack(&payload.slice(middle..last))?);
    let facts = unpack(&payload.slice(last..))?;
    let text = |name: &str, at: usize| {
        let item = refused.named(name).and_then(|column| column.get(at)).unwrap_or_default();
        String::from_utf8_lossy(item).into_owned()
    };
    let one = |at: usize| Undecoded {
        place: text(PLACE, at),
        reason: text(REASON, at),
        index: refused.named(INDEX).and_then(|column| column.get(at)?.try_into().ok()).map_or(0, u64::from_le_bytes),
        raw: refused.values().get_shared(at).unwrap_or_default(),
    };
    let fact = |at: usize| {
        let is_there = facts.named(IS_THERE).and_then(|column| column.get(at)) == Some(&[1]);
        let value = facts.values().get(at).filter(|_| is_there).map(<[u8]>::to_vec);
        Kept { key: facts.keys().and_then(|keys| keys.get(at)).unwrap_or_default().to_vec(), value }
    };
    let undecoded = (0..refused.len()).map(one).collect();
    Ok((Chunk { batch, undecoded, ..Chunk::default() }, (0..facts.len()).map(fact).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_is_what_was_written_and_anything_cut_short_is_refused() {
        let undecoded = |at: u64| Undecoded {
            place: format!("in:{at}"),
            reason: "not JSON".to_owned(),
            index: at,
            raw: Bytes::from(vec![at as u8; at as usize]),
        };
        for (records, refused) in [(0, 1), (3, 0), (2, 5)] {
            let values: Column = (0..records).map(|at| at.to_string()).collect();
            let batch = Batch::of_values(values).with_named("field:/a".into(), Column::blank(records)).unwrap();
            let written = Chunk { batch, undecoded: (0..refused).map(undecoded).collect(), ..Chunk::default() };
            let fact = |key: &str, value: Option<&str>| Kept { key: key.into(), value: value.map(Into::into) };
            let facts = [fact("a", Some("1")), fact("b", None)];
            let block = block(&written, &facts[..records.min(2)], 7).unwrap();
            assert_eq!(block.records as usize, self::records(&written));
            assert_eq!(chunk(&block.payload).unwrap(), (written, facts[..records.min(2)].to_vec()));
            for end in 0..block.payload.len() {
                assert_eq!(chunk(&block.payload.slice(..end)), Err(Unpacked::Torn), "{end}");
            }
        }
        assert_eq!(block(&Chunk { answered: 3, ..Chunk::default() }, &[], 7), None);
        assert_eq!(chunk(&Bytes::from_static(&[9; HEAD])), Err(Unpacked::Newer(9)));
    }
}
