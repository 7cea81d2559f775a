//! Headers as the contract lays them out: pairs of strings, each a little-endian u32 length and its bytes.
//!
//! Owns both directions. It must not know records. Invariant: reading never goes past the item, whatever it holds.

/// The headers of a record, in their order; names may repeat.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(needs = ["headers"])]
/// fn traced(record: &Record) -> Result<bool> {
///     Ok(record.headers()?.get("traceparent").is_some())
/// }
/// # fn main() {
/// let given = testing::filter::<traced>("", [testing::text("x").header("traceparent", "00-1"), testing::text("y")]);
/// assert_eq!(given.kept, [0]);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    pub(crate) fn new(item: &'a [u8]) -> Self {
        Self { rest: item }
    }

    /// The value of the first header called `name`.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.into_iter().find(|(called, _)| *called == name.as_bytes()).map(|(_, value)| value)
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split(self.rest)?;
        let (value, rest) = split(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Appends a header to an item.
pub(crate) fn push(item: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for text in [name, value] {
        item.extend_from_slice(&(text.len() as u32).to_le_bytes());
        item.extend_from_slice(text);
    }
}
