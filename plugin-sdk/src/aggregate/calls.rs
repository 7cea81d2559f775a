//! The calls of the contract that an aggregate answers.
//!
//! Owns states on their way in and out, and that a refused record leaves no trace in one. It must not know what a state
//! means. Invariant: states go back in the order in which their groups came.

use anyhow::{Context, Result};

use super::{Aggregate, Fold, Group, Occasion, Window};
use crate::batch::{Batch, item};
use crate::configure::Configured;
use crate::contract::types::{self, Column, Produced};
use crate::in_hand;
use crate::outputs::Outputs;
use crate::refused::Refused;

/// The groups of a call.
#[doc(hidden)]
#[derive(Debug)]
pub struct Groups {
    pub states: Column,
    pub keys: Option<Column>,
    pub windows: Option<Vec<Window>>,
}

/// The reply to `accumulate`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Accumulated {
    pub states: Column,
    pub produced: Option<Produced>,
    pub refused: types::Refusals,
}

/// The state of a group during a call.
struct Held<'a, P: Aggregate> {
    /// What cannot be read is refused record by record, and goes back as it came.
    state: Result<P::State>,
    /// The state before record `since`, to go back to.
    base: std::borrow::Cow<'a, [u8]>,
    since: usize,
}

/// Answers `aggregation.accumulate`.
pub(crate) fn accumulate<P: Fold>(
    configured: &Configured<P>,
    groups: Groups,
    group_of: &[u32],
    input: types::Batch,
) -> Accumulated {
    let config = &configured.config;
    let input = Batch::new(input, &P::FACTS);
    let mut out = Outputs::new(&configured.outputs, group_of.len(), 0);
    let mut held: Vec<Held<'_, P>> = (0..groups.states.ends.len())
        .map(|at| {
            let base = item(&groups.states, at);
            Held { state: decode::<P>(base), base: base.into(), since: 0 }
        })
        .collect();
    for (at, group) in group_of.iter().enumerate() {
        in_hand::take(at as u32);
        let Some(held) = held.get_mut(*group as usize) else {
            out.refused.push(at as u32, &anyhow::anyhow!("the host named group {group}, which it did not send"));
            continue;
        };
        let before = out.begin(at as u32);
        let added = match &mut held.state {
            Ok(state) => P::add(config, state, &input.record(at), &mut out),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        if let Err(error) = added {
            out.cut(before);
            out.refused.push(at as u32, &error);
            if held.state.is_ok() {
                restore(config, held, *group, at, group_of, &input, &mut out);
            }
        }
    }
    in_hand::put_down();
    let mut states =
        Column { data: Vec::with_capacity(groups.states.data.len()), ends: Vec::with_capacity(held.len()) };
    for held in held {
        match &held.state {
            Ok(state) if P::is_over(config, state) => {}
            Ok(state) => encode::<P>(state, &mut states.data),
            Err(_) => states.data.extend_from_slice(&held.base),
        }
        states.ends.push(states.data.len() as u32);
    }
    let some = out.len() > 0;
    let (produced, refused) = out.into_contract();
    Accumulated { states, produced: some.then_some(produced), refused: refused.into_contract() }
}

/// Puts the state back to what it was before the record at `refused` was added, which may have changed it half-way, by
/// adding those before it again. Each is added again once at most, since what they come to is kept.
fn restore<P: Fold>(
    config: &<P as Aggregate>::Config,
    held: &mut Held<'_, P>,
    group: u32,
    refused: usize,
    group_of: &[u32],
    input: &Batch,
    out: &mut Outputs<'_>,
) {
    let before = out.len();
    let again = decode::<P>(&held.base).and_then(|mut state| {
        for (at, of) in group_of.iter().enumerate().take(refused).skip(held.since) {
            if *of == group && !out.refused.contains(at as u32) {
                P::add(config, &mut state, &input.record(at), out)
                    .context("the plugin's `add` refuses a record that it took before")?;
            }
        }
        Ok(state)
    });
    out.cut(before);
    if let Ok(state) = &again {
        let mut base = Vec::new();
        encode::<P>(state, &mut base);
        held.base = base.into();
        held.since = refused + 1;
    }
    held.state = again;
}

/// Answers `aggregation.merge`.
///
/// # Panics
/// Where a state cannot be read, for the contract has no way to refuse one here.
pub(crate) fn merge<P: Fold>(configured: &Configured<P>, states: &Column, parts: &[u32], ends: &[u32]) -> Column {
    let mut merged = Column { data: Vec::with_capacity(states.data.len()), ends: Vec::with_capacity(ends.len()) };
    let mut start = 0;
    for (at, end) in ends.iter().enumerate() {
        in_hand::take(at as u32);
        let mut parts = parts
            .get(start..*end as usize)
            .unwrap_or_default()
            .iter()
            .map(|part| decode::<P>(item(states, *part as usize)).unwrap_or_else(|error| panic!("{error:#}")));
        if let Some(mut state) = parts.next() {
            parts.for_each(|later| P::merge(&configured.config, &mut state, later));
            encode::<P>(&state, &mut merged.data);
        }
        merged.ends.push(merged.data.len() as u32);
        start = *end as usize;
    }
    in_hand::put_down();
    merged
}

/// Answers `aggregation.finish`.
pub(crate) fn finish<P: Fold>(configured: &Configured<P>, groups: Groups, why: Occasion) -> (Produced, Refused) {
    let len = groups.states.ends.len();
    let mut out = Outputs::new(&configured.outputs, len, 0);
    for at in 0..len {
        in_hand::take(at as u32);
        let before = out.begin(at as u32);
        let group = Group { keys: groups.keys.as_ref(), windows: groups.windows.as_deref(), at, why };
        let finished = decode::<P>(item(&groups.states, at))
            .and_then(|state| P::finish(&configured.config, &group, &state, &mut out));
        if let Err(error) = finished {
            out.cut(before);
            out.refused.push(at as u32, &error);
        }
    }
    in_hand::put_down();
    out.into_contract()
}

/// Answers `aggregation.migrate`. A state that is refused goes back empty.
pub(crate) fn migrate<P: Fold>(from: u32, to: u32, states: &Column) -> (Column, Refused) {
    let mut migrated = Column { data: Vec::with_capacity(states.data.len()), ends: Vec::new() };
    let mut refused = Refused::default();
    for at in 0..states.ends.len() {
        in_hand::take(at as u32);
        match P::migrate(from, to, item(states, at)) {
            Ok(state) => migrated.data.extend_from_slice(&state),
            Err(error) => refused.push(at as u32, &error),
        }
        migrated.ends.push(migrated.data.len() as u32);
    }
    in_hand::put_down();
    (migrated, refused)
}

/// A state as the host keeps it; nothing stands for the default.
fn decode<P: Aggregate>(bytes: &[u8]) -> Result<P::State> {
    if bytes.is_empty() {
        return Ok(P::State::default());
    }
    crate::state::decode(bytes)
}

/// Appends a state in the form that the host keeps.
///
/// # Panics
/// Where the author's type does not serialise, which its first test shows.
fn encode<P: Aggregate>(state: &P::State, data: &mut Vec<u8>) {
    crate::state::encode_into(state, data).unwrap_or_else(|error| panic!("{error:#}"));
}
