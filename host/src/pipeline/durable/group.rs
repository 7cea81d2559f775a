//! A group's value in the store.
//!
//! Owns its form: count, time and seen in 8 bytes each, panes in 4, big-endian; one byte for late; the state. It must not
//! know what the state means.

use super::{ALL, Unfit};
use crate::{
    stage::table::{Facts, Saved},
    store::Place,
    time::Window,
};

/// Bytes of a value in front of its state.
const HEAD: usize = 29;

/// The value of a group.
pub(in crate::pipeline) fn value_of(state: &[u8], facts: Facts) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + state.len());
    value.extend_from_slice(&facts.count.to_be_bytes());
    value.extend_from_slice(&facts.time.to_be_bytes());
    value.extend_from_slice(&facts.seen.to_be_bytes());
    value.extend_from_slice(&facts.panes.to_be_bytes());
    value.push(u8::from(facts.is_late));
    value.extend_from_slice(state);
    value
}

pub(in crate::pipeline) fn group(place: &Place<'_>, value: &[u8]) -> Result<((Vec<u8>, Window), Saved), Unfit> {
    let window = place.window.map_or(ALL, |(start, end)| Window { start, end });
    let split = || {
        let (count, rest) = value.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (seen, rest) = rest.split_first_chunk()?;
        let (panes, rest) = rest.split_first_chunk()?;
        let (late, state) = rest.split_first()?;
        let facts = Facts {
            count: u64::from_be_bytes(*count),
            time: i64::from_be_bytes(*time),
            seen: i64::from_be_bytes(*seen),
            panes: u32::from_be_bytes(*panes),
            is_late: *late != 0,
        };
        Some(Saved { state: state.to_vec(), facts })
    };
    let saved = split().ok_or_else(|| Unfit::Unread {
        name: place.participant.to_string(),
        why: format!("a group has {} bytes where {HEAD} belong in front of its state", value.len()),
    })?;
    Ok(((place.key.to_vec(), window), saved))
}
