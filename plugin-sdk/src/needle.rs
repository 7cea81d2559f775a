//! Looking for one text in many values.
//!
//! Owns the search. It must not know records. Invariant: it finds what a naive search finds.
//!
//! The search compares two bytes of the text, the two that are least likely in text and data, at their distance, 64
//! places at a time, and looks closer where both are there: the "packed pair" of the `memchr` crate, after Muła's
//! "SIMD-friendly algorithms for substring searching" (<http://0x80.pl/notesen/2016-11-28-simd-strfind.html>). Plain loops
//! over arrays, which compilers turn into vectors on every target. In a metered plugin each turn of a loop pays for a
//! look at the fuel, hence few turns of much work; `memchr`'s own, of 16 places each, take twice as long there.

use memchr::arch::all::packedpair::Pair;
use schemars::JsonSchema;
use serde::Deserialize;

/// Places that one turn of the loop looks at.
const WIDE: usize = 64;

/// Places that make a vector.
const LANES: usize = 16;

/// A text to look for, prepared once: in a configuration, where it is a string, or in a `static`.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Config { text: Needle }
///
/// #[filter]
/// fn contains(config: &Config, record: &Record) -> Result<bool> {
///     Ok(config.text.is_in(record.value()))
/// }
/// # fn main() {
/// let given = testing::filter::<contains>(r#"{ "text": "hay" }"#, ["haystack", "needle"].map(testing::text));
/// assert_eq!(given.kept, [0]);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub struct Needle {
    text: Box<[u8]>,
    /// Places of the two bytes in the text, the lower first.
    pair: (usize, usize),
}

impl From<String> for Needle {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl Needle {
    /// `text`, prepared; every value contains an empty one.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        // A text of one byte has no pair: it is its own.
        let (a, b) = Pair::new(text).map_or((0, 0), |pair| (pair.index1().into(), pair.index2().into()));
        Self { text: text.into(), pair: (a.min(b), a.max(b)) }
    }

    /// Whether `value` contains the text.
    #[inline]
    pub fn is_in(&self, value: &[u8]) -> bool {
        self.find(value).is_some()
    }

    /// Where in `value` the text begins first.
    #[inline]
    pub fn find(&self, value: &[u8]) -> Option<usize> {
        // Each place where the text could begin: there and in front of it is room for it.
        let places = (value.len() + 1).checked_sub(self.text.len())?;
        let Ok((low, high)) = self.sides(value, places) else { return Some(0) };
        if places >= WIDE {
            self.scan::<WIDE>(value, low, high)
        } else if places >= LANES {
            self.scan::<LANES>(value, low, high)
        } else {
            (0..places).find(|&at| self.is_at(value, at))
        }
    }

    /// What stands at the two places of the pair, for every place where the text could begin; fails for an empty text.
    #[inline(always)]
    fn sides<'a>(&self, value: &'a [u8], places: usize) -> Result<(Side<'a>, Side<'a>), Empty> {
        let side = |at: usize| match (self.text.get(at), value.get(at..at + places)) {
            (Some(&byte), Some(there)) => Ok(Side { byte, there }),
            _ => Err(Empty),
        };
        Ok((side(self.pair.0)?, side(self.pair.1)?))
    }

    /// Looks at `N` places a turn; the last turn overlaps the one before. There are at least `N`.
    #[inline(always)]
    fn scan<const N: usize>(&self, value: &[u8], low: Side<'_>, high: Side<'_>) -> Option<usize> {
        let places = low.there.len();
        let mut at = 0;
        loop {
            let (a, b) = (low.block::<N>(at)?, high.block::<N>(at)?);
            if has_pair(a, b, low.byte, high.byte)
                && let Some(found) = self.look_closer(value, at, (a, low.byte), (b, high.byte))
            {
                return Some(found);
            }
            if at + N >= places {
                return None;
            }
            at = (at + N).min(places - N);
        }
    }

    /// The first of these places, of which `at` is the first, where not only the pair is found.
    #[inline]
    fn look_closer(&self, value: &[u8], at: usize, low: (&[u8], u8), high: (&[u8], u8)) -> Option<usize> {
        let vectors = low.0.as_chunks().0.iter().zip(high.0.as_chunks().0);
        let mut found = (at..).step_by(LANES).zip(vectors).flat_map(|(first, (a, b))| {
            let mut lanes = u128::from_le_bytes(pairs(a, b, low.1, high.1));
            std::iter::from_fn(move || {
                let lane = lanes.trailing_zeros() / 8;
                lanes &= !0xff_u128.checked_shl(8 * lane)?;
                Some(first + lane as usize)
            })
        });
        found.find(|&at| self.is_at(value, at))
    }

    #[inline]
    fn is_at(&self, value: &[u8], at: usize) -> bool {
        value.get(at..).is_some_and(|rest| rest.starts_with(&self.text))
    }
}

/// There is nothing to look for.
struct Empty;

/// One byte of the pair, and what stands in its place.
#[derive(Clone, Copy)]
struct Side<'a> {
    byte: u8,
    there: &'a [u8],
}

impl<'a> Side<'a> {
    #[inline(always)]
    fn block<const N: usize>(&self, at: usize) -> Option<&'a [u8; N]> {
        self.there.get(at..)?.first_chunk()
    }
}

/// 0xff where both bytes are.
#[inline(always)]
fn pairs(a: &[u8; LANES], b: &[u8; LANES], low: u8, high: u8) -> [u8; LANES] {
    std::array::from_fn(|lane| if (a[lane] == low) & (b[lane] == high) { 0xff } else { 0 })
}

/// Whether both bytes are anywhere.
#[inline(always)]
fn has_pair<const N: usize>(a: &[u8; N], b: &[u8; N], low: u8, high: u8) -> bool {
    let mut any = [0; LANES];
    for (a, b) in a.as_chunks().0.iter().zip(b.as_chunks().0) {
        let found = pairs(a, b, low, high);
        any = std::array::from_fn(|lane| any[lane] | found[lane]);
    }
    u128::from_le_bytes(any) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What it is held against.
    fn naive(text: &[u8], value: &[u8]) -> Option<usize> {
        (0..=value.len()).find(|&at| value[at..].starts_with(text))
    }

    #[test]
    fn a_text_is_found_wherever_it_stands_in_values_of_every_length() {
        for text in ["", "x", "xy", "xyz", "a text longer than a vector"] {
            let needle = Needle::new(text);
            for length in 0..200 {
                assert_eq!(needle.find(&vec![b'.'; length]), naive(text.as_bytes(), &vec![b'.'; length]));
                for at in 0..length {
                    let mut value = vec![b'.'; length];
                    let end = length.min(at + text.len());
                    value[at..end].copy_from_slice(&text.as_bytes()[..end - at]);
                    assert_eq!(needle.find(&value), naive(text.as_bytes(), &value), "{text:?} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        /// Of few letters, so that the pair is often there where the text is not.
        #[test]
        fn it_finds_what_a_naive_search_finds(text in "[ab]{0,6}", value in "[abc]{0,300}") {
            prop_assert_eq!(Needle::new(&text).find(value.as_bytes()), naive(text.as_bytes(), value.as_bytes()));
        }
    }
}
