//! Where one record ends and the next begins.
//!
//! Owns the cutting of input and where it goes on after what cannot be read. It must not know what is in a record.
//! Invariant: what it says depends on the bytes of the input, not on how many of them are in hand; a record over the
//! limit is never waited for.

mod csv;
mod document;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use csv::Quote;
pub(super) use csv::{Fields, NotClosed};
use document::{Nest, Stand};

/// What a decoder has to remember at an offset of its input, besides the offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which input it is: half a hash each, high one first. It stays with what is read, wherever that is copied to.
    #[serde(default)]
    pub(super) input: [u64; 2],
    /// Line breaks passed.
    pub(super) lines: u64,
    /// Records passed, those not decoded included.
    pub(super) records: u64,
    /// Names from a header line.
    pub(super) header: Header,
    /// Where it stands in a document.
    pub(super) stand: Stand,
    /// Whether a byte order mark can no longer come.
    begun: bool,
    skip: Option<Skip>,
}

impl Progress {
    /// The beginning of what follows in the same input.
    pub(super) fn anew(&self) -> Self {
        Self { input: self.input, ..Self::default() }
    }

    /// Which input it is in, as [`Decoder::begin`](super::Decoder::begin) was told.
    pub fn input(&self) -> u128 {
        u128::from(self.input[0]) << 64 | u128::from(self.input[1])
    }
}

/// What is known of a header line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Header {
    #[default]
    Awaited,
    Names(Vec<String>),
    /// It could not be read.
    Lost,
}

/// What is passed over without being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Skip {
    /// Up to the next line break.
    Line,
    /// Up to the end of an element of an array.
    Element(Nest),
    /// Everything.
    Rest,
}

/// Whether more bytes follow those in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Open,
    Last,
}

/// What the bytes in hand begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// It takes more bytes to tell.
    Wait,
    /// So many bytes that belong to no record.
    Pass(usize),
    /// A record, and how many bytes it takes up.
    Record(&'a [u8], usize),
    /// What cannot be a record, how many bytes it takes up, and why. What else belongs to it is passed later.
    Refused(&'a [u8], usize, String),
}

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Lines,
    Csv,
    Whole,
    Document,
}

/// Cuts one input into records of at most `max` bytes.
#[derive(Debug)]
pub(super) struct Framer {
    pub(super) shape: Shape,
    max: usize,
    seen: Seen,
}

/// How far an unfinished record has been looked through, so that its bytes are not looked at again when more come.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Offset of the record in the input.
    offset: u64,
    /// Bytes looked at.
    bytes: usize,
    quote: Quote,
    nest: Nest,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Framer {
    pub(super) fn new(shape: Shape, max: usize) -> Self {
        Self { shape, max, seen: Seen::default() }
    }

    /// Says what `rest`, which is not empty and begins at `offset` of the input, begins with.
    pub(super) fn cut<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], offset: u64, tail: Tail) -> Cut<'a> {
        if let Some(skip) = progress.skip {
            return skip_on(skip, progress, rest);
        }
        if !progress.begun && self.shape != Shape::Whole {
            if rest.starts_with(BYTE_ORDER_MARK) {
                progress.begun = true;
                return Cut::Pass(BYTE_ORDER_MARK.len());
            }
            if tail == Tail::Open && BYTE_ORDER_MARK.starts_with(rest) {
                return Cut::Wait;
            }
        }
        progress.begun = true;
        if self.seen.offset != offset {
            self.seen = Seen { offset, ..Seen::default() };
        }
        match self.shape {
            Shape::Lines => self.line(progress, rest, tail),
            Shape::Csv => self.row(progress, rest, tail),
            Shape::Whole => self.whole(progress, rest, tail),
            Shape::Document => self.document(progress, rest, tail),
        }
    }

    /// Forgets what it has seen of an unfinished record: the next bytes are from somewhere else.
    pub(super) fn forget(&mut self) {
        self.seen = Seen::default();
    }

    /// What is still wrong where the input has ended and every byte has been used up.
    pub(super) fn owed(&self, progress: &Progress) -> Option<&'static str> {
        (self.shape == Shape::Document && progress.skip.is_none() && progress.stand.is_inside())
            .then_some(document::CUT_OFF)
    }

    fn line<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], tail: Tail) -> Cut<'a> {
        let window = self.window(rest, 2);
        let from = self.seen.bytes.min(window.len());
        match memchr(b'\n', window.get(from..).unwrap_or_default()) {
            Some(at) => {
                let line = without_return(window.get(..from + at).unwrap_or_default());
                if line.len() > self.max {
                    self.over(progress, rest, Skip::Line)
                } else {
                    Cut::Record(line, from + at + 1)
                }
            }
            None if self.is_over(window, 2, tail) => self.over(progress, rest, Skip::Line),
            None if tail == Tail::Last => Cut::Record(rest, rest.len()),
            None => self.wait(window),
        }
    }

    fn whole<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], tail: Tail) -> Cut<'a> {
        match tail {
            _ if rest.len() > self.max => self.over(progress, rest, Skip::Rest),
            Tail::Last => Cut::Record(rest, rest.len()),
            Tail::Open => Cut::Wait,
        }
    }

    /// As much of `rest` as a record and the `end` bytes behind it may take.
    fn window<'a>(&self, rest: &'a [u8], end: usize) -> &'a [u8] {
        rest.get(..self.max.saturating_add(end)).unwrap_or(rest)
    }

    /// Whether a record without an end in `window` is over the limit.
    fn is_over(&self, window: &[u8], end: usize, tail: Tail) -> bool {
        window.len() >= self.max.saturating_add(end) || (tail == Tail::Last && window.len() > self.max)
    }

    fn over<'a>(&self, progress: &mut Progress, rest: &'a [u8], skip: Skip) -> Cut<'a> {
        progress.skip = Some(skip);
        Cut::Refused(rest.get(..self.max).unwrap_or(rest), 0, format!("over the limit of {} bytes", self.max))
    }

    fn wait<'a>(&mut self, window: &[u8]) -> Cut<'a> {
        self.seen.bytes = window.len();
        Cut::Wait
    }
}

fn skip_on<'a>(skip: Skip, progress: &mut Progress, rest: &[u8]) -> Cut<'a> {
    match skip {
        Skip::Line => match memchr(b'\n', rest) {
            Some(at) => {
                progress.skip = None;
                Cut::Pass(at + 1)
            }
            None => Cut::Pass(rest.len()),
        },
        Skip::Element(mut nest) => {
            let mut at = 0;
            if nest.run(rest, &mut at) {
                progress.skip = None;
                progress.stand = Stand::Between;
            } else {
                progress.skip = Some(Skip::Element(nest));
            }
            Cut::Pass(at)
        }
        Skip::Rest => Cut::Pass(rest.len()),
    }
}

/// Bytes at the beginning that JSON allows between values.
pub(super) fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// A line without the carriage return in front of its line feed.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
