//! What a refused group was, in headers, so that it can be put back.
//!
//! Owns their names and forms: start and end of the window in milliseconds, decimal; the state as it was; its version, decimal.
//! It must not know who refused the group. Invariant: what is written is read back.

use crate::{
    batch::{Batch, Column, Headers, push_header},
    letter::{Again, GROUP},
    plugin::{Refusals, Window},
};

const START: &[u8] = b"tidegate-window-start";
const END: &[u8] = b"tidegate-window-end";
const STATE: &[u8] = GROUP.as_bytes();
const VERSION: &[u8] = b"tidegate-state-version";

/// All there is of a group beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Putback {
    /// Its window; an empty one where the stage has none.
    pub window: Window,
    /// Its state.
    pub state: Vec<u8>,
    /// Version of the state.
    pub version: u32,
}

/// Writes a group's headers behind those in `item`.
pub(super) fn write(item: &mut Vec<u8>, window: Option<Window>, state: &[u8], version: u32) {
    if let Some(Window { start, end }) = window {
        push_header(item, START, start.to_string().as_bytes());
        push_header(item, END, end.to_string().as_bytes());
    }
    push_header(item, STATE, state);
    push_header(item, VERSION, version.to_string().as_bytes());
}

/// Refusals of groups by a stage that keeps none.
pub fn misplaced(groups: &Batch) -> Refusals {
    let at = (0..groups.len() as u32).collect();
    Refusals {
        at,
        reasons: Column::repeat(b"it is a group with its state, and the stage is no aggregate", groups.len()),
    }
}

impl Putback {
    /// Whether a batch is of groups that are put back.
    pub fn is_in(batch: &Batch) -> bool {
        Again::is_in(batch) && Self::of(batch).is_some()
    }

    /// The group that the first record of `batch` stands for; none where it is a record like any other.
    pub fn of(batch: &Batch) -> Option<Self> {
        Self::at(batch, 0)
    }

    /// The group that record `at` of `batch` stands for; none where it is a record like any other.
    pub fn at(batch: &Batch, at: usize) -> Option<Self> {
        let headers = batch.headers()?.get(at)?;
        let find = |wanted: &[u8]| Headers::new(headers).find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let number = |name: &[u8]| std::str::from_utf8(find(name)?).ok()?.parse::<i64>().ok();
        let window = Window { start: number(START).unwrap_or_default(), end: number(END).unwrap_or_default() };
        let version = u32::try_from(number(VERSION)?).ok()?;
        Some(Self { window, state: find(STATE)?.to_vec(), version })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_a_group_was_is_read_back(
            window in any::<Option<(i64, i64)>>(),
            state in prop::collection::vec(any::<u8>(), 0..40),
            version in any::<u32>(),
        ) {
            let window = window.map(|(start, end)| Window { start, end });
            let mut item = Vec::new();
            push_header(&mut item, b"other", b"header");
            write(&mut item, window, &state, version);
            let batch = Batch::of_values([""].iter().collect()).with_headers([item].iter().collect()).unwrap();
            let window = window.unwrap_or(Window { start: 0, end: 0 });
            prop_assert_eq!(Putback::of(&batch), Some(Putback { window, state, version }));
        }
    }

    #[test]
    fn a_record_is_no_group() {
        let plain = Batch::of_values(["v"].iter().collect());
        assert_eq!(Putback::of(&plain), None);
        let mut item = Vec::new();
        push_header(&mut item, STATE, b"x");
        assert_eq!(Putback::of(&plain.with_headers([item].iter().collect()).unwrap()), None);
    }
}
