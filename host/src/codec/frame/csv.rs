//! Rows and fields of comma-separated values (RFC 4180).
//!
//! Owns where a row ends, where a field ends, and what a broken quote is. It must not know what becomes of the
//! fields. A quote inside a field that does not begin with one is an ordinary character.

use memchr::{memchr, memchr2};

use super::{Cut, Framer, Progress, Skip, Tail, without_return};

/// Where a look through a row stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Quote {
    /// At the beginning of a field.
    #[default]
    Field,
    /// In a field without quotes.
    Bare,
    /// Behind an opening quote.
    Open,
    /// Behind a quote that closes the field, or is the first of two.
    Closing,
    /// Behind the carriage return after a quoted field.
    Return,
    /// In a row that something at this position has broken.
    Broken(usize),
}

impl Quote {
    /// Goes on at `at`, and says where the line feed is that ends the row.
    fn row_end(&mut self, bytes: &[u8], at: &mut usize) -> Option<usize> {
        while let Some(&byte) = bytes.get(*at) {
            let jump = |to: Option<usize>, from: usize| to.map_or(bytes.len(), |to| from + to);
            let rest = bytes.get(*at..).unwrap_or_default();
            match (*self, byte) {
                (Self::Open, b'"') => *self = Self::Closing,
                (Self::Open, _) => {
                    *at = jump(memchr(b'"', rest), *at);
                    continue;
                }
                (_, b'\n') => return Some(*at),
                (Self::Broken(_), _) => {
                    *at = jump(memchr(b'\n', rest), *at);
                    continue;
                }
                (Self::Field | Self::Closing, b'"') => *self = Self::Open,
                (Self::Field | Self::Bare | Self::Closing, b',') => *self = Self::Field,
                (Self::Field | Self::Bare, _) => {
                    *self = Self::Bare;
                    *at = jump(memchr2(b',', b'\n', rest), *at);
                    continue;
                }
                (Self::Closing, b'\r') => *self = Self::Return,
                (Self::Closing | Self::Return, _) => *self = Self::Broken(*at),
            }
            *at += 1;
        }
        None
    }
}

impl Framer {
    pub(super) fn row<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], tail: Tail) -> Cut<'a> {
        let window = self.window(rest, 2);
        let mut at = self.seen.bytes;
        let mut quote = self.seen.quote;
        let end = quote.row_end(window, &mut at);
        let row = without_return(window.get(..end.unwrap_or(window.len())).unwrap_or_default());
        if if end.is_some() { row.len() > self.max } else { self.is_over(window, 2, tail) } {
            return match (quote, self.over(progress, rest, Skip::Line)) {
                (Quote::Open, Cut::Refused(row, eaten, over)) => {
                    Cut::Refused(row, eaten, format!("an open quote, and {over}"))
                }
                (_, over) => over,
            };
        }
        let eaten = end.map_or(window.len(), |end| end + 1);
        match quote {
            _ if end.is_none() && tail == Tail::Open => {
                self.seen.quote = quote;
                self.wait(window)
            }
            Quote::Broken(at) => {
                Cut::Refused(row, eaten, format!("expected `,` or a line break after the quote before byte {at}"))
            }
            // What a lost quote has swallowed are rows of their own: only the first line is refused.
            Quote::Open => {
                progress.skip = Some(Skip::Line);
                let line = memchr(b'\n', rest).and_then(|at| rest.get(..at)).map_or(rest, without_return);
                Cut::Refused(line, 0, "a quote that is never closed".to_owned())
            }
            // A carriage return at the very end is not half of a line break.
            _ if end.is_none() => Cut::Record(rest, eaten),
            _ => Cut::Record(row, eaten),
        }
    }
}

/// The fields of a row; of a quoted one what is between its quotes, where two quotes stand for one.
#[derive(Debug)]
pub(in crate::codec) struct Fields<'a>(pub(in crate::codec) Option<&'a str>);

/// A field whose quote is not closed, in text that no [`Framer`] has cut.
#[derive(Debug)]
pub(in crate::codec) struct NotClosed;

impl<'a> Iterator for Fields<'a> {
    /// The field, and whether it was quoted.
    type Item = Result<(&'a str, bool), NotClosed>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0?;
        let Some(quoted) = row.strip_prefix('"') else {
            let (field, rest) = row.split_once(',').map_or((row, None), |(field, rest)| (field, Some(rest)));
            self.0 = rest;
            return Some(Ok((field, false)));
        };
        let mut from = 0;
        while let Some(at) = quoted.get(from..).and_then(|rest| memchr(b'"', rest.as_bytes())) {
            let end = from + at;
            let behind = quoted.get(end + 1..).unwrap_or_default();
            if behind.starts_with('"') {
                from = end + 2;
                continue;
            }
            self.0 = behind.strip_prefix(',');
            return Some(Ok((quoted.get(..end).unwrap_or_default(), true)));
        }
        self.0 = None;
        Some(Err(NotClosed))
    }
}
