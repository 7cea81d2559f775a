//! What the benchmarks compute: each a function of bytes, called natively by `tests/bench` and, unchanged, by the plugins
//! in `examples`.
//!
//! Owns the records' form. It must not know who calls. Invariant: whatever a plugin here does with a value is in this
//! file, so that both sides of a comparison run the same code.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What [`contains`] looks for: in one record of ten.
pub const NEEDLE: &str = r#""status":503"#;

/// Whether a value contains [`NEEDLE`].
#[inline]
pub fn contains(value: &[u8]) -> bool {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NEEDLE));
    FINDER.find(value).is_some()
}

/// What of an access goes on. What the client says it is (`ua`) stays behind.
#[derive(Deserialize)]
pub struct Access<'a> {
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Who asked.
    #[serde(borrow)]
    pub client: Cow<'a, str>,
    /// HTTP status.
    pub status: u16,
    /// How long the answer took, in milliseconds.
    pub ms: u32,
    /// What was asked for; the shortest records leave it out.
    #[serde(borrow, default)]
    pub path: Cow<'a, str>,
}

/// An access as it goes on.
#[derive(Serialize)]
pub struct Slim<'a> {
    ts: i64,
    client: &'a str,
    status: u16,
    path: &'a str,
    us: u64,
    is_slow: bool,
}

impl Access<'_> {
    /// The same in other units, and judged.
    #[inline]
    pub fn slim(&self) -> Slim<'_> {
        let us = u64::from(self.ms) * 1000;
        Slim { ts: self.ts, client: &self.client, status: self.status, path: &self.path, us, is_slow: self.ms > 80 }
    }
}

/// An access of fields that nobody has parsed.
#[derive(Serialize)]
pub struct SlimFields<'a> {
    ts: &'a RawValue,
    client: &'a RawValue,
    status: &'a RawValue,
    path: &'a RawValue,
    us: u64,
    is_slow: bool,
}

impl<'a> SlimFields<'a> {
    /// Of `/ts`, `/client`, `/status` and `/path`, raw, and the milliseconds.
    #[inline]
    pub fn new([ts, client, status, path]: [&'a RawValue; 4], ms: u32) -> Self {
        Self { ts, client, status, path, us: u64::from(ms) * 1000, is_slow: ms > 80 }
    }
}

/// The one field that decides whether an access goes on.
#[derive(Deserialize)]
pub struct Status {
    status: u16,
}

impl Status {
    /// Whether the access was served.
    #[inline]
    pub fn is_served(&self) -> bool {
        is_served(self.status)
    }
}

/// Whether an access of this status was served.
#[inline]
pub fn is_served(status: u16) -> bool {
    status < 500
}

/// The one field that is summed.
#[derive(Deserialize)]
pub struct Took {
    /// Microseconds.
    pub us: u64,
}

/// What the accesses of a client come to.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sum {
    count: u64,
    us: u64,
}

impl Sum {
    /// One more.
    #[inline]
    pub fn add(&mut self, us: u64) {
        self.count += 1;
        self.us += us;
    }

    /// Both.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.us += other.us;
    }

    /// The result for a client and the beginning of a window.
    pub fn result<'a>(&self, client: &'a str, start: i64) -> Total<'a> {
        Total { client, start, count: self.count, us: self.us }
    }
}

/// What a window puts out for a client.
#[derive(Serialize)]
pub struct Total<'a> {
    client: &'a str,
    start: i64,
    count: u64,
    us: u64,
}

/// What a poisoned record begins with that is refused.
pub const REFUSED: u8 = b'E';

/// What a poisoned record begins with that traps.
pub const TRAPS: u8 = b'T';

/// Why a record is refused.
#[derive(Clone, Copy, Debug)]
pub struct Poisoned;

impl std::fmt::Display for Poisoned {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("the record is poisoned")
    }
}

impl std::error::Error for Poisoned {}

/// Does what a poisoned record is there for.
///
/// # Errors
/// For one that begins with [`REFUSED`].
///
/// # Panics
/// For one that begins with [`TRAPS`].
#[inline]
pub fn taste(value: &[u8]) -> Result<(), Poisoned> {
    match value.first() {
        Some(&REFUSED) => Err(Poisoned),
        Some(&TRAPS) => panic!("the record traps"),
        _ => Ok(()),
    }
}

/// Whether a sum over the value, taken again and again for some 5 µs, is even.
#[inline]
pub fn toil(value: &[u8]) -> bool {
    let once = |sum: u32| value.iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    (0..36).fold(0, |sum, _| once(std::hint::black_box(sum))).is_multiple_of(2)
}
