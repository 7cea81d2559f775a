//! Who waits for whom, and for whom in the end.
//!
//! A pure function over how the lanes stand. A sender waits for the receiver of a lane that is full; a receiver waits for
//! the sender of a lane that is empty, where the barrier has come on another one, or where neither has reported its epoch.
//! Invariant: whoever has a reason of their own and no full lane below is the end of every chain that comes to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{pipeline::coordinator::Participant, stage::lane::View};

/// Somebody who waits, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Who waits.
    pub who: String,
    /// For whom, for whom that one waits, and so on: the last is the one that all of them wait for.
    #[serde(rename = "for")]
    pub on: Vec<String>,
    /// What keeps the last one from going on; none where it is only busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Wait {
    /// For whom, without who.
    pub(super) fn told(&self) -> String {
        let names: Vec<String> = self.on.iter().map(|name| format!("`{name}`")).collect();
        let chain = names.join(", which waits for ");
        self.why.as_ref().map_or_else(|| chain.clone(), |why| format!("{chain}: {why}"))
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "`{}` waits for {}", self.who, self.told())
    }
}

/// An edge, and how its lane stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) from: Participant,
    pub(super) to: Participant,
    pub(super) view: View,
}

/// All that is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) links: Vec<Link>,
    /// What keeps somebody from going on, whoever else waits.
    pub(super) reasons: BTreeMap<Participant, String>,
    /// Who has not reported an epoch that is late.
    pub(super) late: BTreeSet<Participant>,
}

impl Scene {
    /// Senders that wait for room.
    pub(super) fn blocked(&self) -> BTreeSet<Participant> {
        self.links.iter().filter(|link| link.view.is_full).map(|link| link.from).collect()
    }

    /// For whom `who` waits, and so on to the end; empty where it waits for nobody. Of several chains, one whose end has a
    /// reason.
    pub(super) fn chain(&self, who: Participant) -> Vec<Participant> {
        self.follow(who, &mut BTreeSet::from([who]))
    }

    fn follow(&self, who: Participant, seen: &mut BTreeSet<Participant>) -> Vec<Participant> {
        let mut longest = Vec::new();
        for next in self.next(who) {
            if !seen.insert(next) {
                continue;
            }
            let mut chain = vec![next];
            chain.extend(self.follow(next, seen));
            if chain.last().is_some_and(|end| self.reasons.contains_key(end)) {
                return chain;
            }
            if longest.is_empty() {
                longest = chain;
            }
        }
        longest
    }

    /// For whom somebody waits, without what these wait for.
    fn next(&self, who: Participant) -> Vec<Participant> {
        let full: Vec<Participant> =
            self.links.iter().filter(|link| link.from == who && link.view.is_full).map(|link| link.to).collect();
        if !full.is_empty() || self.reasons.contains_key(&who) {
            return full;
        }
        let into = || self.links.iter().filter(|link| link.to == who);
        let is_aligning = into().any(|link| link.view.is_held);
        let is_dry = |link: &&Link| {
            let are_late = self.late.contains(&who) && self.late.contains(&link.from);
            link.view.fill.records == 0 && !link.view.is_held && (is_aligning || are_late)
        };
        into().filter(is_dry).map(|link| link.from).collect()
    }
}

#[cfg(test)]
mod tests;
