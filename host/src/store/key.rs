//! Where a value lies in a pipeline's part of the store, and how that place is written as a key.
//!
//! Owns the key's layout. It must not know what a kind or a value means. Invariant: the encoding is ordered as places
//! are, no key is the beginning of another, and what is encoded decodes to the same.

use std::{borrow::Cow, fmt};

/// A place in a pipeline's part of the store; places are ordered by their fields from the first on.
///
/// Encoded as `kind · participant · 00 00 · slot · key · 00 00 · window`, where a zero byte inside of the participant or
/// the key is written `00 FF`, and the window is `00` where there is none, else `01` and both ends as big-endian numbers
/// with the sign bit turned over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'a> {
    /// What sort of value lies here: a number that the owner of the values gives. The store only keeps kinds apart.
    pub kind: u8,
    /// The source, stage or sink the value belongs to, by its id in the pipeline; empty where it is the pipeline's own.
    pub participant: Cow<'a, str>,
    /// The slot that the key hashes to; 0 where there are none.
    pub slot: u8,
    /// The group's key, a partition's name, or what else tells values apart; may be empty.
    pub key: Cow<'a, [u8]>,
    /// The window's beginning and end, where the value belongs to one.
    pub window: Option<(i64, i64)>,
}

impl<'a> Place<'a> {
    /// The place of the one value of its kind that a participant has.
    pub fn of(kind: u8, participant: &'a str) -> Self {
        Self { kind, participant: participant.into(), slot: 0, key: Cow::Borrowed(&[]), window: None }
    }

    /// The place of a group: a key, in a window where it has one.
    pub fn group(kind: u8, participant: &'a str, slot: u8, key: &'a [u8], window: Option<(i64, i64)>) -> Self {
        Self { kind, participant: participant.into(), slot, key: key.into(), window }
    }

    /// Appends the key of this place.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        to.push(self.kind);
        push_escaped(self.participant.as_bytes(), to);
        to.push(self.slot);
        push_escaped(&self.key, to);
        match self.window {
            None => to.push(0),
            Some((begin, end)) => {
                to.push(1);
                to.extend_from_slice(&ordered(begin));
                to.extend_from_slice(&ordered(end));
            }
        }
    }

    /// The place that a key names; nothing where it is no key.
    pub(super) fn decode(key: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = key.split_first()?;
        let (participant, rest) = take_escaped(rest)?;
        let participant = match participant {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
        };
        let (&slot, rest) = rest.split_first()?;
        let (key, rest) = take_escaped(rest)?;
        let window = match rest.split_first()? {
            (0, []) => None,
            (1, ends) => {
                let (begin, end) = ends.split_at_checked(8)?;
                Some((from_ordered(begin)?, from_ordered(end)?))
            }
            _ => return None,
        };
        Some(Self { kind, participant, slot, key, window })
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "kind {} of `{}`, slot {}", self.kind, self.participant, self.slot)?;
        write!(to, ", key `{}`", self.key.escape_ascii())?;
        self.window.map_or(Ok(()), |(begin, end)| write!(to, ", window {begin} to {end}"))
    }
}

/// The places that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places<'a> {
    /// Every place of the pipeline.
    All,
    /// Every place of a kind.
    Kind(u8),
    /// Every place of a kind that belongs to a participant.
    Of(u8, &'a str),
    /// Every place of a kind that belongs to a participant, in one slot.
    Slot(u8, &'a str, u8),
    /// Every place of a kind that belongs to a participant, in one slot, under one key: all windows of a group.
    Key(u8, &'a str, u8, &'a [u8]),
}

impl Places<'_> {
    /// Appends what the keys of these places, and no others, begin with.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match *self {
            Self::All => {}
            Self::Kind(kind) => to.push(kind),
            Self::Of(kind, participant) => {
                to.push(kind);
                push_escaped(participant.as_bytes(), to);
            }
            Self::Slot(kind, participant, slot) => {
                Self::Of(kind, participant).encode(to);
                to.push(slot);
            }
            Self::Key(kind, participant, slot, key) => {
                Self::Slot(kind, participant, slot).encode(to);
                push_escaped(key, to);
            }
        }
    }
}

/// The first key after all that begin with `prefix`; nothing where no key comes after them.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

fn push_escaped(bytes: &[u8], to: &mut Vec<u8>) {
    let mut parts = bytes.split(|&byte| byte == 0);
    to.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        to.extend_from_slice(&[0, u8::MAX]);
        to.extend_from_slice(part);
    }
    to.extend_from_slice(&[0, 0]);
}

fn take_escaped(from: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut unescaped = Vec::new();
    let mut rest = from;
    loop {
        let zero = rest.iter().position(|&byte| byte == 0)?;
        let (part, mark) = rest.split_at_checked(zero)?;
        match mark {
            [0, 0, rest @ ..] if unescaped.is_empty() => return Some((Cow::Borrowed(part), rest)),
            [0, 0, rest @ ..] => {
                unescaped.extend_from_slice(part);
                return Some((Cow::Owned(unescaped), rest));
            }
            [0, u8::MAX, after @ ..] => {
                unescaped.extend_from_slice(part);
                unescaped.push(0);
                rest = after;
            }
            _ => return None,
        }
    }
}

/// The bytes of a number, ordered as the numbers are.
fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn from_ordered(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?) ^ i64::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Place<'static>> {
        // Few different bytes, so that zeros, equal beginnings and the bytes of the encoding itself meet often.
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xFF), any::<u8>()];
        let name = prop::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), any::<char>()], 0..4);
        let number = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX), any::<i64>()];
        let window = prop::option::of((number.clone(), number));
        (0u8..3, name, byte.clone(), prop::collection::vec(byte, 0..5), window).prop_map(
            |(kind, name, slot, key, window)| Place {
                kind,
                participant: name.into_iter().collect::<String>().into(),
                slot,
                key: key.into(),
                window,
            },
        )
    }

    fn encoded(place: &Place<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        place.encode(&mut key);
        key
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn keys_are_ordered_as_places_are_and_none_begins_another((a, b) in (places(), places())) {
            let (left, right) = (encoded(&a), encoded(&b));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(left.starts_with(&right), a == b);
            prop_assert_eq!(Place::decode(&left), Some(a));
        }

        #[test]
        fn a_prefix_bounds_exactly_the_places_it_names(a in places(), kind in 0u8..3, like in places()) {
            let key = encoded(&a);
            for (of, belongs) in [
                (Places::All, true),
                (Places::Kind(kind), a.kind == kind),
                (Places::Of(kind, &like.participant), a.kind == kind && a.participant == like.participant),
                (
                    Places::Slot(kind, &like.participant, like.slot),
                    a.kind == kind && a.participant == like.participant && a.slot == like.slot,
                ),
                (
                    Places::Key(kind, &like.participant, like.slot, &like.key),
                    (a.kind, &a.participant, a.slot, &a.key) == (kind, &like.participant, like.slot, &like.key),
                ),
            ] {
                let mut prefix = Vec::new();
                of.encode(&mut prefix);
                let inside = key >= prefix && after(&prefix).is_none_or(|end| key < end);
                prop_assert_eq!(inside, belongs, "{:?}", of);
            }
        }

        #[test]
        fn bytes_that_are_no_key_decode_to_nothing_or_to_what_encodes_to_them(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xFF), any::<u8>()], 0..40)
        ) {
            if let Some(place) = Place::decode(&bytes) {
                prop_assert_eq!(encoded(&place), bytes);
            }
        }
    }

    #[test]
    fn a_place_reads_as_a_person_would_say_it() {
        let place = Place::group(2, "by-status", 17, b"a\0b", Some((-5, 10)));
        assert_eq!(place.to_string(), r"kind 2 of `by-status`, slot 17, key `a\x00b`, window -5 to 10");
    }
}
