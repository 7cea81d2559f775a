//! What a plugin answered, checked before anybody uses it.
//!
//! Owns the promises of the contract: positions ascend and are in range; ends never fall and finish at the length of the
//! data; what is kept or put out and what is refused are disjoint. It must not know wasm. Invariant: it never panics,
//! and allocates nothing of its own in proportion to the answer.

use bytes::Bytes;

use super::abi::{
    AccumulatedOut, BatchOut, ColumnOut, MigratedOut, ProducedAndRefused, ProducedOut, RefusalsOut, SelectionOut,
};
use super::fault::Misdeed;
use super::{
    Accumulated, FaultKind, Finished, INHERITS_HEADERS, INHERITS_KEY, INHERITS_TIME, INHERITS_VALUE, Mapped, Produced,
    Refusals, Selection,
};
use crate::{
    batch::{Column, Headers, NULL},
    bug,
};

/// Name of the column that says what single outputs inherit.
const INHERIT: &str = "inherit";

/// What an answer is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Records, or groups, that the call carried.
    pub(super) inputs: usize,
    /// Side outputs that the plugin has.
    pub(super) outputs: usize,
}

/// A filter's answer.
pub(super) fn selection(expected: Expected, answer: SelectionOut) -> Result<Selection, Misdeed> {
    rising("keep", &answer.keep, expected.inputs, Step::Strict)?;
    let refused = refusals(expected.inputs, answer.refused)?;
    disjoint("keeps", &answer.keep, &refused.at)?;
    Ok(Selection { keep: answer.keep, refused })
}

/// A map's answer.
pub(super) fn mapped(expected: Expected, answer: ProducedAndRefused) -> Result<Mapped, Misdeed> {
    let (produced, refused) = produced_and_refused(expected, answer)?;
    Ok(Mapped { produced, refused })
}

/// An aggregate's answer to groups that end.
pub(super) fn finished(expected: Expected, answer: ProducedAndRefused) -> Result<Finished, Misdeed> {
    let (produced, refused) = produced_and_refused(expected, answer)?;
    Ok(Finished { produced, refused })
}

/// An aggregate's answer to the records of `groups` groups, whose states may have `limit` bytes each.
pub(super) fn accumulated(
    expected: Expected,
    groups: usize,
    limit: u64,
    answer: AccumulatedOut,
) -> Result<Accumulated, Misdeed> {
    let states = states(groups, limit, answer.states)?;
    let refused = refusals(expected.inputs, answer.refused)?;
    let produced = match answer.produced {
        Some(answer) => Some(produced(expected, answer, &refused)?),
        None => None,
    };
    Ok(Accumulated { states, produced, refused })
}

/// States of `count` groups, of at most `limit` bytes each.
pub(super) fn states(count: usize, limit: u64, answer: ColumnOut) -> Result<Column, Misdeed> {
    let states = column("states", count, answer)?;
    if let Some((at, state)) = states.iter().enumerate().find(|(_, state)| state.len() as u64 > limit) {
        return Err(Misdeed::output(format!("state {at} has {} bytes, the limit is {limit}", state.len())));
    }
    Ok(states)
}

/// States that were rewritten, of which the plugin may not have refused any.
pub(super) fn migrated(count: usize, limit: u64, answer: MigratedOut) -> Result<Column, Misdeed> {
    let refused = refusals(count, answer.refused)?;
    if let Some(at) = refused.at.first() {
        let why = refused.reasons.get(0).map(String::from_utf8_lossy).unwrap_or_default();
        return Err(Misdeed { kind: FaultKind::InstantiateFailed, message: format!("state {at}: {why}") });
    }
    states(count, limit, answer.states)
}

fn produced_and_refused(expected: Expected, answer: ProducedAndRefused) -> Result<(Produced, Refusals), Misdeed> {
    let refused = refusals(expected.inputs, answer.refused)?;
    Ok((produced(expected, answer.produced, &refused)?, refused))
}

fn produced(expected: Expected, answer: ProducedOut, refused: &Refusals) -> Result<Produced, Misdeed> {
    let len = match &answer.origins {
        Some(origins) => {
            rising("origins", origins, expected.inputs, Step::Level)?;
            disjoint("puts out", origins, &refused.at)?;
            origins.len()
        }
        None if refused.at.is_empty() => expected.inputs,
        None => return Err(Misdeed::reply("refuses inputs and leaves origins out, which says that all are put out")),
    };
    if let Some(ports) = &answer.ports {
        count("ports", len, ports.len())?;
        if let Some(port) = ports.iter().find(|&&port| port as usize > expected.outputs) {
            return Err(Misdeed::reply(format!("output {port} of {}", expected.outputs)));
        }
    }
    let BatchOut { values, keys, timestamps, headers, more } = answer.records;
    // A column of the contract's batch cannot be absent; where there are outputs, no values at all means inherited.
    let inherited = values.ends.is_empty() && values.data.is_empty() && len > 0;
    let values = if inherited { None } else { Some(column("values", len, values)?) };
    let keys = keys.map(|keys| column("keys", len, keys)).transpose()?;
    if let Some(times) = &timestamps {
        count("timestamps", len, times.len())?;
    }
    let headers = headers.map(|headers| column("headers", len, headers)).transpose()?;
    if let Some(at) = headers.iter().flat_map(Column::iter).position(|item| !Headers::is_well_formed(item)) {
        return Err(Misdeed::reply(format!("the headers of output {at} are not pairs of strings")));
    }
    let (mut nulls, mut inherit) = (None, None);
    for named in more {
        let (place, most) = match named.name.as_str() {
            NULL => (&mut nulls, 1),
            INHERIT => (&mut inherit, INHERITS_VALUE | INHERITS_KEY | INHERITS_TIME | INHERITS_HEADERS),
            _ => {
                let name: String = named.name.chars().take(64).collect();
                return Err(Misdeed::reply(format!("a column {name:?}, of which the host knows nothing")));
            }
        };
        let bytes = column(&named.name, len, named.items)?;
        if let Some(at) = bytes.iter().position(|item| !matches!(item, [byte] if *byte <= most)) {
            return Err(Misdeed::reply(format!(
                "item {at} of the column {:?} is not one byte up to {most}",
                named.name
            )));
        }
        if place.replace(bytes).is_some() {
            return Err(Misdeed::reply(format!("two columns {:?}", named.name)));
        }
    }
    let ProducedOut { origins, ports, .. } = answer;
    Ok(Produced { len, values, keys, timestamps, headers, nulls, inherit, origins, ports })
}

fn refusals(inputs: usize, answer: RefusalsOut) -> Result<Refusals, Misdeed> {
    rising("refused", &answer.at, inputs, Step::Strict)?;
    let reasons = column("reasons", answer.at.len(), answer.reasons)?;
    Ok(Refusals { at: answer.at, reasons })
}

fn column(what: &str, len: usize, answer: ColumnOut) -> Result<Column, Misdeed> {
    count(what, len, answer.ends.len())?;
    Column::from_parts(Bytes::from(answer.data), answer.ends)
        .map_err(|misfit| Misdeed::reply(format!("in the column {what:?} {misfit}")))
}

fn count(what: &str, expected: usize, found: usize) -> Result<(), Misdeed> {
    if found == expected { Ok(()) } else { Err(Misdeed::reply(format!("{found} {what} where {expected} belong"))) }
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// Every position is above the one before.
    Strict,
    /// No position is below the one before.
    Level,
}

fn rising(what: &str, at: &[u32], inputs: usize, step: Step) -> Result<(), Misdeed> {
    let falls = |&(before, here): &(&u32, &u32)| if step == Step::Strict { here <= before } else { here < before };
    if let Some((before, here)) = at.iter().zip(at.iter().skip(1)).find(falls) {
        return Err(Misdeed::reply(format!("{what}: position {here} comes after {before}")));
    }
    match at.last() {
        Some(&last) if last as usize >= inputs => {
            Err(Misdeed::reply(format!("{what}: position {last} of {inputs} inputs")))
        }
        _ => Ok(()),
    }
}

/// Both lists are in order already.
fn disjoint(does: &str, at: &[u32], refused: &[u32]) -> Result<(), Misdeed> {
    if bug::is_seeded("unchecked-reply") {
        return Ok(());
    }
    let mut rest = refused.iter().peekable();
    for here in at {
        while rest.next_if(|&refused| refused < here).is_some() {}
        if rest.peek() == Some(&here) {
            return Err(Misdeed::reply(format!("it {does} input {here} and refuses it")));
        }
    }
    Ok(())
}
