//! What changed in an epoch: groups end to end in one buffer.
//!
//! Owns the buffer that a worker hands over at a barrier, so that a barrier costs a copy for each group and no
//! allocation. Invariant: applied in order, the changes of all epochs are the groups there are.

use super::entry::Facts;
use crate::time::Window;

/// Changes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The key of each change and, behind it, the state.
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    key: u32,
    state: u32,
    window: Window,
    facts: Option<Facts>,
}

/// What became of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its window.
    pub window: Window,
    /// Its state and facts; `None` when it was forgotten.
    pub kept: Option<(&'a [u8], Facts)>,
}

/// A group as a commit holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// State.
    pub state: Vec<u8>,
    /// What the host knows beside it.
    pub facts: Facts,
}

impl Change<'_> {
    /// The group, and what a commit holds of it from now on; nothing when it was forgotten.
    pub fn to_owned(self) -> ((Vec<u8>, Window), Option<Saved>) {
        let saved = self.kept.map(|(state, facts)| Saved { state: state.to_vec(), facts });
        ((self.key.to_vec(), self.window), saved)
    }
}

impl Changes {
    /// Number of changes.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.heads.capacity() * size_of::<Head>()
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change<'_>) {
        let state = change.kept.map_or(&[][..], |(state, _)| state);
        self.bytes.extend_from_slice(change.key);
        self.bytes.extend_from_slice(state);
        self.heads.push(Head {
            key: change.key.len() as u32,
            state: state.len() as u32,
            window: change.window,
            facts: change.kept.map(|(_, facts)| facts),
        });
    }

    /// Moves the changes of `other` behind these.
    pub fn append(&mut self, other: &mut Self) {
        self.bytes.append(&mut other.bytes);
        self.heads.append(&mut other.heads);
    }

    /// Every change, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Change<'_>> {
        let mut rest = self.bytes.as_slice();
        let mut next = move |len: u32| {
            let (item, behind) = rest.split_at_checked(len as usize).unwrap_or_default();
            rest = behind;
            item
        };
        self.heads.iter().map(move |head| {
            let (key, state) = (next(head.key), next(head.state));
            Change { key, window: head.window, kept: head.facts.map(|facts| (state, facts)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_out_as_they_went_in_and_one_list_behind_the_other() {
        let window = Window { start: 1, end: 2 };
        let change = |key, kept| Change { key, window, kept };
        let all = [
            change(&b"a"[..], Some((&b"state"[..], Facts { count: 1, ..Facts::default() }))),
            change(b"", None),
            change(b"bc", Some((b"", Facts::default()))),
            change(b"a", None),
        ];
        for split in 0..=all.len() {
            let (mut changes, mut behind) = (Changes::default(), Changes::default());
            all[..split].iter().for_each(|change| changes.push(*change));
            all[split..].iter().for_each(|change| behind.push(*change));
            changes.append(&mut behind);
            assert_eq!(changes.iter().collect::<Vec<_>>(), all);
            assert!(behind.is_empty() && changes.len() == all.len());
        }
    }
}
