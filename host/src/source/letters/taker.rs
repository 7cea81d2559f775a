//! Letters on their way back to who refused them.
//!
//! Owns what a letter is for its taker: the record as it was, or what a source makes of the bytes that it could not decode.
//! It must not know which letters are meant. Invariant: a batch holds letters of one taker, and either records or groups.

use xxhash_rust::xxh3::xxh3_128;

use super::super::{Replayed, To};
use crate::{
    batch::{Batch, Column, ID, Limit},
    codec::{Decoder, Format, MAX_UNDECODED, Origin, Stamp, id_of},
    letter::{Again, Kind, Lateness, Letter, PLACE, Part, with_header, with_reasons},
};

/// Who takes letters back.
#[derive(Clone, Debug, Default)]
pub struct Taker {
    /// The readers that get its letters: itself, or those behind it where it is a source.
    pub readers: Vec<usize>,
    /// How a source reads what it could not decode.
    pub decode: Option<Decode>,
}

/// How bytes become records.
#[derive(Clone, Debug)]
pub struct Decode {
    /// What they are.
    pub format: Format,
    /// What is read from them.
    pub stamp: Stamp,
    /// The largest record.
    pub max_record: usize,
    /// Whether somebody below needs ids.
    pub has_ids: bool,
}

/// Letters that go the same way.
#[derive(Debug)]
pub(super) struct Gathered {
    lateness: Lateness,
    most: Limit,
    /// Who refused them, and whether they are groups.
    whose: Option<(String, bool)>,
    readers: Vec<usize>,
    bytes: usize,
    records: Vec<Batch>,
    been: Vec<Again>,
    /// What a source could not decode this time either.
    refused: Vec<Batch>,
    offsets: Vec<u64>,
}

impl Gathered {
    pub(super) fn new(lateness: Lateness, most: Limit) -> Self {
        Self {
            lateness,
            most,
            whose: None,
            readers: Vec::new(),
            bytes: 0,
            records: Vec::new(),
            been: Vec::new(),
            refused: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// Takes a letter in; `false` where it goes another way than the others, or there are enough.
    ///
    /// # Errors
    /// Why nobody can take it.
    pub(super) fn take(&mut self, taker: &Taker, letter: &Letter) -> Result<bool, &'static str> {
        let whose = (letter.by.name.clone(), letter.is_group());
        let is_full = self.offsets.len() >= self.most.records || self.bytes >= self.most.bytes;
        if is_full || self.whose.as_ref().is_some_and(|others| *others != whose) {
            return Ok(false);
        }
        let Letter { offset, attempts, refused: (first, _), .. } = *letter;
        let again = Again { offset, attempts, first, lateness: self.lateness };
        let record = letter.record().ok_or("what the letter holds cannot be read")?;
        self.bytes += record.bytes();
        match &taker.decode {
            Some(decode) if letter.by.part == Part::Source && letter.kind == Kind::Decode => {
                match decode.one(letter, &record)? {
                    Ok(decoded) => {
                        self.records.push(decoded);
                        self.been.push(again);
                    }
                    Err(reason) => {
                        let place = letter.place.as_deref().unwrap_or_default();
                        let placed = with_header(&record, PLACE, &[place].iter().collect());
                        let refused = with_reasons(&placed, &letter.by.name, &[reason].iter().collect());
                        self.refused.push(Again::beside(&[again], refused));
                    }
                }
            }
            _ => {
                self.records.push(record);
                self.been.push(again);
            }
        }
        self.readers.clone_from(&taker.readers);
        self.whose = Some(whose);
        self.offsets.push(offset);
        Ok(true)
    }

    /// What is handed out, and which letters it is.
    pub(super) fn into_parts(self) -> (Replayed, Vec<u64>) {
        let mut outputs = Vec::new();
        if !self.records.is_empty() {
            let batch = Again::beside(&self.been, Batch::concat(&self.records));
            outputs.extend(self.readers.iter().map(|reader| (To::Reader(*reader), batch.clone())));
        }
        if !self.refused.is_empty() {
            outputs.push((To::Refused, Batch::concat(&self.refused)));
        }
        (Replayed { letters: self.offsets.len() as u64, outputs }, self.offsets)
    }
}

impl Decode {
    /// The one record that the bytes of a letter are, or why they are none; the outer error says that they can never be one.
    fn one(&self, letter: &Letter, raw: &Batch) -> Result<Result<Batch, String>, &'static str> {
        if self.format == Format::Csv {
            return Err("a row of CSV means nothing without its header");
        }
        let bytes = raw.values().get(0).unwrap_or_default();
        if bytes.len() >= MAX_UNDECODED {
            return Err("only its beginning has been kept");
        }
        let mut decoder = Decoder::new(self.format, &self.stamp, self.max_record);
        let root = xxh3_128(letter.by.name.as_bytes());
        decoder.begin(xxh3_128(&letter.offset.to_le_bytes()) ^ root);
        let (mut out, mut undecoded) = (decoder.builder(), Vec::new());
        let origin = Origin { name: &letter.by.name, offset: 0 };
        let most = Limit { records: 2, bytes: usize::MAX };
        decoder.end(bytes, origin, &mut out, &mut undecoded, most);
        let mut batch = out.finish();
        Ok(match (batch.len(), undecoded.pop()) {
            (_, Some(undecoded)) => Err(undecoded.reason),
            (1, None) => {
                if batch.timestamps().is_none() {
                    let times = vec![letter.time.unwrap_or_default()];
                    batch = batch.clone().with_timestamps(times).unwrap_or(batch);
                }
                if self.has_ids && batch.named(ID).is_none() {
                    let ids: Column = [id_of(root, u128::MAX, letter.offset)].iter().collect();
                    batch = batch.clone().with_named(ID.into(), ids).unwrap_or(batch);
                }
                Ok(batch)
            }
            (_, None) => Err("it is not one record".to_owned()),
        })
    }
}
