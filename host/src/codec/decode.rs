//! Bytes to columns.
//!
//! Owns the way from a stretch of input to stamped records. It must not know what a stretch is: a read of a file, a
//! body, a frame. Invariant: records, refusals and places do not depend on how the input was cut.

use bytes::Bytes;
use memchr::memchr_iter;
use xxhash_rust::xxh3::xxh3_128;

use super::frame::{Cut, Framer, Header, Progress, Shape, Tail, blanks};
use super::scan::{Pointers, Span, push_text};
use super::{Format, MAX_UNDECODED, Stamp, Undecoded, milliseconds, row};
use crate::batch::{BatchBuilder, FIELD, ID, Limit};

/// Where the bytes in hand stand.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Name of the input, such as a path.
    pub name: &'a str,
    /// Offset of the first byte in hand within the input.
    pub offset: u64,
}

/// Turns the bytes of one input after the other into records.
///
/// ```text
/// loop {
///     used += decoder.feed(&buffer[used..], origin, &mut out, &mut undecoded, most);
///     if is_full(&out, &undecoded, most) { hand out what there is } else { read more behind what is not used up }
/// }
/// ```
///
/// The buffer has to hold `max_record` bytes and two more, for a line break.
#[derive(Debug)]
pub struct Decoder {
    reading: Reading,
    framer: Framer,
    progress: Progress,
    pointers: Pointers,
    stamp: Stamp,
    /// Where the pointers led to in the record in hand: key, event time, fields, those that are wanted.
    spans: Vec<Span>,
    /// Names of a header, as they begin the members of an object.
    names: Vec<Vec<u8>>,
    /// The row in hand, as JSON.
    object: Vec<u8>,
}

/// What a record has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Anything.
    Bytes,
    /// JSON, in lines of which some may be blank.
    Lines,
    /// JSON.
    Elements,
    /// A row.
    Rows,
}

/// What has become of a record.
enum Fate {
    Kept,
    /// It is none.
    Nothing,
    Refused(String),
}

impl Decoder {
    /// A decoder at the beginning of an input. A record of more than `max_record` bytes is refused.
    pub fn new(format: Format, stamp: &Stamp, max_record: usize) -> Self {
        let (shape, reading) = match format {
            Format::Lines => (Shape::Lines, Reading::Bytes),
            Format::Json => (Shape::Lines, Reading::Lines),
            Format::Csv => (Shape::Csv, Reading::Rows),
            Format::Raw => (Shape::Whole, Reading::Bytes),
        };
        Self::of(shape, reading, stamp, max_record)
    }

    /// A decoder for JSON documents: each element of a top-level array is a record, any other value is one.
    pub fn of_document(stamp: &Stamp, max_record: usize) -> Self {
        Self::of(Shape::Document, Reading::Elements, stamp, max_record)
    }

    fn of(shape: Shape, reading: Reading, stamp: &Stamp, max_record: usize) -> Self {
        let fields = stamp.fields.iter().map(|field| &**field);
        let pointers: Vec<&str> = stamp.key.as_deref().into_iter().chain(stamp.time.as_deref()).chain(fields).collect();
        Self {
            reading,
            framer: Framer::new(shape, max_record),
            progress: Progress::default(),
            spans: vec![(0, 0); pointers.len()],
            pointers: Pointers::new(&pointers),
            stamp: stamp.clone(),
            names: Vec::new(),
            object: Vec::new(),
        }
    }

    /// A builder with the columns that this decoder fills: keys and event times where they are stamped,
    /// `field:` columns, and ids where they are needed. Its headers may be added.
    pub fn builder(&self) -> BatchBuilder {
        let fields = self.stamp.fields.iter().map(|field| format!("{FIELD}{field}").into());
        let names = fields.chain(self.stamp.ids.map(|_| ID.into())).collect();
        BatchBuilder::new(self.stamp.key.is_some(), self.stamp.time.is_some(), false, names)
    }

    /// Says which input the next bytes begin, so that its records get ids of their own: the same whenever it is read again,
    /// however it is cut.
    pub fn begin(&mut self, input: u128) {
        self.progress.input = [(input >> 64) as u64, input as u64];
    }

    /// Which input the bytes in hand belong to.
    pub fn input(&self) -> u128 {
        self.progress.input()
    }

    /// What has to be kept to go on at the offset reached.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Goes on where another decoder of the same format stood; `Progress::default()` is the beginning of an input.
    pub fn restore(&mut self, progress: Progress) {
        self.names = match &progress.header {
            Header::Names(names) => row::member_names(names),
            Header::Awaited | Header::Lost => Vec::new(),
        };
        self.progress = progress;
        self.framer.forget();
    }

    /// Decodes whole records into `out` until [`is_full`], and says how many bytes were used up. The caller passes
    /// the rest again, with more behind it: an unfinished record is used up only once it is over the limit.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        out: &mut BatchBuilder,
        undecoded: &mut Vec<Undecoded>,
        most: Limit,
    ) -> usize {
        self.run(bytes, origin, out, undecoded, most, Tail::Open)
    }

    /// Like [`feed`](Self::feed) where nothing comes after `bytes`: an unfinished record is a record. To be called
    /// until everything is used up; then the decoder stands at the beginning of the next input.
    pub fn end(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        out: &mut BatchBuilder,
        undecoded: &mut Vec<Undecoded>,
        most: Limit,
    ) -> usize {
        let used = self.run(bytes, origin, out, undecoded, most, Tail::Last);
        if used == bytes.len() {
            // Beyond the limit if need be: nobody would ask again.
            if let Some(reason) = self.framer.owed(&self.progress) {
                self.refuse(undecoded, origin, used, &[], reason.to_owned());
            }
            self.restore(self.progress.anew());
        }
        used
    }

    fn run(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        out: &mut BatchBuilder,
        undecoded: &mut Vec<Undecoded>,
        most: Limit,
        tail: Tail,
    ) -> usize {
        let mut used = 0;
        while used < bytes.len() && !is_full(out, undecoded, most) {
            let rest = bytes.get(used..).unwrap_or_default();
            let stand = self.progress.stand;
            let eaten = match self.framer.cut(&mut self.progress, rest, origin.offset + used as u64, tail) {
                Cut::Wait => break,
                Cut::Pass(eaten) => eaten,
                Cut::Refused(content, eaten, reason) => {
                    self.lose_header();
                    self.refuse(undecoded, origin, used, content, reason);
                    eaten
                }
                Cut::Record(content, eaten) => {
                    let fate = self.record(content, out);
                    if let (Fate::Kept, Some(root), Some(ids)) = (&fate, self.stamp.ids, out.more.last_mut()) {
                        ids.push(&id_of(root, self.input(), self.progress.records));
                    }
                    match fate {
                        // A batch keeps to its limit; only a record that is larger by itself is over it.
                        Fate::Kept if out.len() > 1 && out.bytes() > most.bytes => {
                            take_back(out);
                            self.progress.stand = stand;
                            break;
                        }
                        Fate::Kept => self.progress.records += 1,
                        Fate::Nothing => {}
                        Fate::Refused(reason) => self.refuse(undecoded, origin, used, content, reason),
                    }
                    eaten
                }
            };
            let passed = rest.get(..eaten).unwrap_or_default();
            self.progress.lines += match self.framer.shape {
                Shape::Lines => u64::from(passed.last() == Some(&b'\n')),
                _ => memchr_iter(b'\n', passed).count() as u64,
            };
            used += eaten;
        }
        used
    }

    fn refuse(&mut self, undecoded: &mut Vec<Undecoded>, origin: Origin<'_>, at: usize, raw: &[u8], reason: String) {
        let place = format!("{}:{} (byte {})", origin.name, self.progress.lines + 1, origin.offset + at as u64);
        let raw = Bytes::copy_from_slice(raw.get(..MAX_UNDECODED).unwrap_or(raw));
        undecoded.push(Undecoded { place, index: self.progress.records, reason, raw });
        self.progress.records += 1;
    }

    /// Without its header no row has a meaning.
    fn lose_header(&mut self) {
        if self.reading == Reading::Rows && self.progress.header == Header::Awaited {
            self.progress.header = Header::Lost;
        }
    }

    fn record(&mut self, content: &[u8], out: &mut BatchBuilder) -> Fate {
        match self.reading {
            Reading::Bytes => {
                // JSON is not asked for; where there is none, there are no fields.
                if !self.spans.is_empty() && self.pointers.locate(content, &mut self.spans).is_err() {
                    self.spans.fill((0, 0));
                }
                stamp(&self.stamp, &self.spans, content, out)
            }
            Reading::Lines if blanks(content) == content.len() => Fate::Nothing,
            Reading::Lines | Reading::Elements => match self.pointers.locate(content, &mut self.spans) {
                Ok(()) => stamp(&self.stamp, &self.spans, content, out),
                Err(error) => Fate::Refused(format!("not JSON: {error}")),
            },
            Reading::Rows if content.is_empty() => Fate::Nothing,
            Reading::Rows => self.row(content, out),
        }
    }

    fn row(&mut self, content: &[u8], out: &mut BatchBuilder) -> Fate {
        let done = match self.progress.header {
            Header::Awaited => {
                let header = row::header(content);
                return match header {
                    Ok(names) => {
                        self.names = row::member_names(&names);
                        self.progress.header = Header::Names(names);
                        Fate::Nothing
                    }
                    Err(reason) => {
                        self.lose_header();
                        Fate::Refused(format!("no header: {reason}"))
                    }
                };
            }
            Header::Names(_) => row::object(content, &self.names, &mut self.object),
            Header::Lost => Err("the header of this input could not be read".to_owned()),
        };
        if let Err(reason) = done {
            return Fate::Refused(reason);
        }
        if !self.spans.is_empty()
            && let Err(error) = self.pointers.locate(&self.object, &mut self.spans)
        {
            return Fate::Refused(format!("not JSON: {error}"));
        }
        stamp(&self.stamp, &self.spans, &self.object, out)
    }
}

/// The id of the record number `at` of an input of the source that `root` is a hash of.
pub fn id_of(root: u128, input: u128, at: u64) -> [u8; 16] {
    let mut seed = [0; 40];
    seed[..16].copy_from_slice(&root.to_le_bytes());
    seed[16..32].copy_from_slice(&input.to_le_bytes());
    seed[32..].copy_from_slice(&at.to_le_bytes());
    xxh3_128(&seed).to_le_bytes()
}

/// Adds the record `content` with its key, event time and fields, which are at `spans`.
fn stamp(stamp: &Stamp, spans: &[Span], content: &[u8], out: &mut BatchBuilder) -> Fate {
    let mut raws = spans.iter().map(|&(start, end)| content.get(start..end).unwrap_or_default());
    let key = stamp.key.as_ref().and_then(|_| raws.next());
    if let Some(pointer) = &stamp.time {
        let raw = raws.next().unwrap_or_default();
        let Some(time) = milliseconds(raw) else {
            let found =
                if raw.is_empty() { "nothing".into() } else { String::from_utf8_lossy(raw.get(..64).unwrap_or(raw)) };
            return Fate::Refused(format!(
                "no event time at {pointer}: neither RFC 3339 nor milliseconds, but {found}"
            ));
        };
        if let Some(times) = &mut out.timestamps {
            times.push(time);
        }
    }
    out.values.push(content);
    if let (Some(keys), Some(key)) = (&mut out.keys, key) {
        push_text(key, keys.open());
        keys.close();
    }
    for (column, raw) in out.more.iter_mut().zip(raws) {
        column.push(raw);
    }
    Fate::Kept
}

fn take_back(out: &mut BatchBuilder) {
    let len = out.len().saturating_sub(1);
    out.values.truncate(len);
    if let Some(times) = &mut out.timestamps {
        times.truncate(len);
    }
    for column in out.keys.iter_mut().chain(&mut out.more) {
        column.truncate(len);
    }
}

/// Whether a decoder adds nothing to these before they are taken away.
pub fn is_full(out: &BatchBuilder, undecoded: &[Undecoded], most: Limit) -> bool {
    out.is_full(most) || out.len() + undecoded.len() >= most.records
}
