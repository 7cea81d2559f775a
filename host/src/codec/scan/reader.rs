//! The grammar of JSON, byte by byte where it must be and eight bytes at a time where it may be.
//!
//! Owns what is valid (RFC 8259, in UTF-8, nested at most [`MAX_DEPTH`] deep). It must not know what anybody looks
//! for. Invariant: `at` never passes a byte that has not been checked.

use super::JsonError;

/// Arrays and objects within each other, at most: as many as `serde_json` reads, and a bit of a `u128` for each.
const MAX_DEPTH: u32 = 127;

/// A place in a JSON text.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the next byte.
    pub(super) at: usize,
}

/// The name of a member.
pub(super) struct Name<'a> {
    /// What stands between the quotes.
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, expected })
    }

    #[inline]
    pub(super) fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes over blanks, then over `byte` if it is there.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Passes over the bracket of an array or object that `depth` others are around.
    pub(super) fn enter(&mut self, depth: u32) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return self.expected("no deeper nesting");
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over a name and its colon.
    pub(super) fn name(&mut self) -> Result<Name<'a>, JsonError> {
        if !self.take(b'"') {
            return self.expected("a name in quotes");
        }
        let start = self.at;
        let escaped = self.string()?;
        let raw = self.bytes.get(start..self.at - 1).unwrap_or_default();
        if !self.take(b':') {
            return self.expected("`:`");
        }
        Ok(Name { raw, escaped })
    }

    /// Passes over a comma and says that there is more, or over `close` and says that there is not.
    #[inline]
    pub(super) fn comma(&mut self, close: u8) -> Result<bool, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => self.expected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" }),
        }
    }

    /// Passes over the blanks at the end.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.blanks();
        if self.peek().is_some() { self.expected("the end of the value") } else { Ok(()) }
    }

    /// Passes over one value that `depth` arrays and objects are around.
    pub(super) fn skip(&mut self, depth: u32) -> Result<(), JsonError> {
        // A bit for each array (0) and object (1) that is open here, the innermost lowest.
        let mut open = 0u128;
        let mut inside = 0;
        loop {
            self.blanks();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.string()?;
                }
                Some(b'{') => {
                    self.enter(depth + inside)?;
                    if !self.take(b'}') {
                        open = open << 1 | 1;
                        inside += 1;
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.enter(depth + inside)?;
                    if !self.take(b']') {
                        open <<= 1;
                        inside += 1;
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true", "`true`")?,
                Some(b'f') => self.word(b"false", "`false`")?,
                Some(b'n') => self.word(b"null", "`null`")?,
                _ => return self.expected("a JSON value"),
            }
            loop {
                if inside == 0 {
                    return Ok(());
                }
                let object = open & 1 == 1;
                if self.comma(if object { b'}' } else { b']' })? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                open >>= 1;
                inside -= 1;
            }
        }
    }

    fn word(&mut self, word: &[u8], expected: &'static str) -> Result<(), JsonError> {
        if self.bytes.get(self.at..self.at + word.len()) != Some(word) {
            return self.expected(expected);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.expected("a digit");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// Passes over a string whose opening quote is behind, and says whether there was an escape in it.
    fn string(&mut self) -> Result<bool, JsonError> {
        let mut escaped = false;
        loop {
            while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
                let special = special(u64::from_le_bytes(*eight));
                if special != 0 {
                    self.at += (special.trailing_zeros() / 8) as usize;
                    break;
                }
                self.at += 8;
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x80..) => self.not_ascii()?,
                Some(0x20..) => self.at += 1,
                Some(_) => return self.expected("control characters to be escaped"),
                None => return self.expected("a closing quote"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let start = self.at - 1;
                match self.unit()? {
                    0xd800..=0xdbff if self.peek() == Some(b'\\') => {
                        self.at += 1;
                        match self.peek() {
                            Some(b'u') if matches!(self.unit()?, 0xdc00..=0xdfff) => Ok(()),
                            _ => Err(JsonError { at: start, expected: "both halves of a surrogate pair" }),
                        }
                    }
                    0xd800..=0xdfff => Err(JsonError { at: start, expected: "both halves of a surrogate pair" }),
                    _ => Ok(()),
                }
            }
            _ => self.expected("a known escape"),
        }
    }

    /// Passes over `uXXXX`.
    fn unit(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| (byte as char).to_digit(16)) else {
                return self.expected("four hexadecimal digits");
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Passes over characters of several bytes each.
    fn not_ascii(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            // The table of well-formed sequences is table 3-7 of the Unicode standard.
            let length = match *rest {
                [0xc2..=0xdf, 0x80..=0xbf, ..] => 2,
                [0xe0, 0xa0..=0xbf, 0x80..=0xbf, ..]
                | [0xe1..=0xec | 0xee..=0xef, 0x80..=0xbf, 0x80..=0xbf, ..]
                | [0xed, 0x80..=0x9f, 0x80..=0xbf, ..] => 3,
                [0xf0, 0x90..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
                | [0xf1..=0xf3, 0x80..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
                | [0xf4, 0x80..=0x8f, 0x80..=0xbf, 0x80..=0xbf, ..] => 4,
                [0x80..=0xff, ..] => return self.expected("UTF-8"),
                _ => return Ok(()),
            };
            self.at += length;
        }
    }
}

/// The highest bit of the lowest byte that ends a plain stretch of a string (a quote, a backslash, a control
/// character, the beginning of a longer character); bits above it mean nothing. 0 where there is none.
/// The tests for zero and for less are those of "Bit Twiddling Hacks" (Anderson).
#[inline]
pub(super) fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zero_or_high = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let quote = zero_or_high(eight ^ (ONES * b'"' as u64));
    let backslash = zero_or_high(eight ^ (ONES * b'\\' as u64));
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    (quote | backslash | control | eight) & (ONES * 0x80)
}
