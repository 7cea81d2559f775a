//! Headers of one record: (name, value) pairs, every string a little-endian u32 length and its bytes.
//!
//! Owns that encoding, in both directions.

/// Appends one pair to the encoded headers of a record.
pub fn push_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// Iterates over the pairs of one record's headers; ends at the first pair that does not fit.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads an item of the headers column.
    pub fn new(encoded: &'a [u8]) -> Self {
        Self { rest: encoded }
    }

    /// Whether `encoded` is a whole number of pairs.
    pub fn is_well_formed(encoded: &[u8]) -> bool {
        let mut headers = Headers::new(encoded);
        while headers.next().is_some() {}
        headers.rest.is_empty()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(part)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.rest;
        let pair = self.part().and_then(|name| self.part().map(|value| (name, value)));
        if pair.is_none() {
            self.rest = before;
        }
        pair
    }
}
