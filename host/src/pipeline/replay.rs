//! A replay of dead letters, from its order to what it came to.
//!
//! Owns what is told of it. It must not know who asks: the interface of a running host, or a verb that opened the pipeline
//! for that. Invariant: what is told has been committed.

use serde::{Deserialize, Serialize};

use super::board::Board;
use crate::{
    lent::Lent,
    letter::{self, Kind, Letter, Order, Progress, Query, Unreadable, Untaken},
    log::Readable,
};

/// Most kinds of reasons that are told.
const REASONS: usize = 20;

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Letters that were given back to who refused them.
    pub replayed: u64,
    /// Of these, passed.
    pub passed: u64,
    /// Of these, were refused once more, and are letters again.
    pub came_back: u64,
    /// Letters that stayed, for they have been refused too often.
    pub spared: u64,
    /// Letters that stayed, for nobody takes them.
    pub untaken: Vec<Untaken>,
    /// Why those came back that did, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Why it ended early, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// Letters that came back for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Who refused them.
    pub by: String,
    /// Why, in a word.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// How many.
    pub letters: u64,
    /// The first of them.
    pub first: u64,
}

/// Why letters are not replayed.
#[derive(Debug, thiserror::Error)]
pub enum Unreplayed {
    /// Somebody else has them replayed.
    #[error("replay letters of `{0}`: another replay is under way")]
    Busy(String),
    /// There is no place for letters.
    #[error("replay letters of `{0}`: none are kept of it")]
    None(String),
    /// They have been replayed, and cannot be looked at.
    #[error("see which letters came back: {0}")]
    Unread(String),
}

/// Has letters of the pipeline that `board` shows replayed, and waits until what they came to has been committed, or the
/// pipeline has ended. A future that is dropped before ends the replay where it is.
///
/// # Errors
/// Why that cannot be, or could not be seen.
pub async fn replay(board: &Board, order: Order) -> Result<Replayed, Unreplayed> {
    let pipeline = board.graph().name.clone();
    let (mut pulse, _) = board.pulse();
    if board.graph().state().is_none() {
        return Err(Unreplayed::None(pipeline));
    }
    let Some(mut told) = board.desk().ask(order) else { return Err(Unreplayed::Busy(pipeline)) };
    tokio::select! {
        // Whoever carries it out has told the last of it when it goes.
        _ = told.wait_for(|progress| progress.is_over) => {}
        _ = pulse.wait_for(|pulse| pulse.is_over) => {}
    }
    let Progress { replayed, spared, untaken, from, is_over, cut } = told.borrow().clone();
    let cut = cut.or_else(|| (!is_over).then(|| "the pipeline has ended".to_owned()));
    let (came_back, reasons) = match board.letters().readable().filter(|_| replayed > 0) {
        Some(letters) => {
            let unread = |why: String| Unreplayed::Unread(why);
            let mut looking = Lent::new((letters, Ok(Back::default())));
            let looked = looking.lend(move |(letters, found)| *found = back(letters, from)).await;
            let (_, found) = looked.map_err(|error| unread(format!("{error:#}")))?;
            std::mem::replace(found, Ok(Default::default())).map_err(|error| unread(error.to_string()))?
        }
        None => Default::default(),
    };
    let passed = replayed.saturating_sub(came_back);
    Ok(Replayed { pipeline, replayed, passed, came_back, spared, untaken, reasons, cut })
}

/// How many came back, and why.
type Back = (u64, Vec<Reason>);

/// Letters from the offset `from` on that had been letters before, and why they are again.
fn back(letters: &Readable, from: u64) -> Result<Back, Unreadable> {
    let (mut came_back, mut reasons) = (0, Vec::<Reason>::new());
    let mut next = Some(from);
    while let Some(from) = next {
        let page = letter::page(letters, &Query { from: Some(from), ..Query::default() })?;
        for Letter { offset, by, kind, reason, .. } in page.letters.into_iter().filter(|letter| letter.was.is_some()) {
            came_back += 1;
            let alike = |one: &Reason| one.by == by.name && one.kind == kind && one.reason == reason;
            if let Some(known) = reasons.iter_mut().find(|one| alike(one)) {
                known.letters += 1;
            } else if reasons.len() < REASONS {
                reasons.push(Reason { by: by.name, kind, reason, letters: 1, first: offset });
            }
        }
        next = page.next;
    }
    reasons.sort_by_key(|one| std::cmp::Reverse(one.letters));
    Ok((came_back, reasons))
}
