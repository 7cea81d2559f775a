//! Requests that came with an `Idempotency-Key`, and what became of them.
//!
//! Owns the decision what a further request under the same key comes to, and the form in which keys outlive the process. It
//! must not know connections, bodies or epochs. Invariants: what was settled is answered alike until it has been
//! remembered long enough; nothing is forgotten before, where there is no room a new key is turned away; of a request
//! of which a part was committed when the process ended, the rest is taken, and nothing twice.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::answer::{Answer, Outcome};
use crate::source::Kept;

/// Bytes that a key costs beside its own and those of its answer: the entry, its place in the table and in the queue.
const COST: usize = 256;

/// The key of a request, and what its body was: a key means one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) key: Arc<str>,
    /// A hash of the body and of how it is to be read.
    pub(super) digest: u128,
}

/// What a request under a key comes to.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It is taken; so much became of it before, none of which is to be taken again.
    New(Outcome),
    /// It is answered as it was before.
    Known(Outcome),
    /// The same request is under way, and gets the same answer.
    UnderWay(oneshot::Receiver<Answer>),
    /// The key came with another body.
    Other,
    /// There is no room to remember it.
    Full,
}

/// All keys that are remembered.
#[derive(Debug)]
pub(super) struct Remembered {
    /// How long, in milliseconds.
    keep: i64,
    /// Bytes that they may take.
    most: usize,
    entries: HashMap<Arc<str>, Entry>,
    /// When entries that nothing is done about were left, oldest first.
    left: VecDeque<(i64, Arc<str>)>,
    bytes: usize,
    /// Changed since they were reported last.
    changed: BTreeSet<Arc<str>>,
    /// Reported and not committed.
    reported: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    digest: u128,
    /// What became of the records that have been handed out.
    outcome: Outcome,
    stage: Stage,
    /// Whether the store may hold something of it.
    is_kept: bool,
    /// Who posted the same meanwhile.
    waiting: Vec<oneshot::Sender<Answer>>,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has taken it; where it had been broken off, when.
    Offered(Option<i64>),
    /// Its records are being handed out, or all of them have been and are not committed.
    Taken { is_whole: bool },
    /// A part of it was committed when the process ended, at that time.
    Broken(i64),
    /// All of it is committed, since that time.
    Settled(i64),
}

/// What is kept of a key.
#[derive(Serialize, Deserialize)]
struct Row {
    /// The digest of its body: high half, low half.
    digest: [u64; 2],
    /// When it was written, in milliseconds since the Unix epoch.
    at: i64,
    /// Whether all its records are in the commit.
    is_whole: bool,
    outcome: Outcome,
}

impl Remembered {
    /// Nothing yet; keys are remembered for `keep`, and take up to `most` bytes.
    pub(super) fn new(keep: Duration, most: usize) -> Self {
        Self {
            keep: i64::try_from(keep.as_millis()).unwrap_or(i64::MAX),
            most,
            entries: HashMap::new(),
            left: VecDeque::new(),
            bytes: 0,
            changed: BTreeSet::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Takes in that a request has come, at `now` in milliseconds since the Unix epoch.
    pub(super) fn arrive(&mut self, marked: &Marked, now: i64) -> Arrival {
        self.expire(now);
        let Some(entry) = self.entries.get_mut(&marked.key) else {
            let cost = COST + 2 * marked.key.len();
            if self.bytes + cost > self.most {
                return Arrival::Full;
            }
            self.bytes += cost;
            let (outcome, stage) = (Outcome::default(), Stage::Offered(None));
            let entry = Entry { digest: marked.digest, outcome, stage, is_kept: false, waiting: Vec::new() };
            self.entries.insert(marked.key.clone(), entry);
            return Arrival::New(Outcome::default());
        };
        if entry.digest != marked.digest {
            return Arrival::Other;
        }
        match entry.stage {
            Stage::Settled(_) => Arrival::Known(entry.outcome.clone()),
            Stage::Broken(at) => {
                entry.stage = Stage::Offered(Some(at));
                Arrival::New(entry.outcome.clone())
            }
            Stage::Offered(_) | Stage::Taken { .. } => {
                let (sender, receiver) = oneshot::channel();
                entry.waiting.push(sender);
                Arrival::UnderWay(receiver)
            }
        }
    }

    /// What is known of a request that is to be taken, where it has been recalled since it came.
    pub(super) fn recalled(&mut self, key: &Arc<str>) -> Option<Arrival> {
        let entry = self.entries.get_mut(key)?;
        match entry.stage {
            Stage::Settled(_) => Some(Arrival::Known(entry.outcome.clone())),
            Stage::Broken(at) => {
                entry.stage = Stage::Offered(Some(at));
                Some(Arrival::New(entry.outcome.clone()))
            }
            Stage::Offered(_) | Stage::Taken { .. } => None,
        }
    }

    /// Takes in that a request has not been taken, and was answered so: who posts it again is welcome.
    pub(super) fn withdrawn(&mut self, key: &Arc<str>, answer: &Answer) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Stage::Offered(broken) = entry.stage else { return };
        tell(&mut entry.waiting, answer);
        match broken {
            Some(at) => entry.stage = Stage::Broken(at),
            None => self.forget(key),
        }
    }

    /// Takes in what has become of the records handed out so far; `is_whole` says whether these are all.
    pub(super) fn handed(&mut self, key: &Arc<str>, outcome: &Outcome, is_whole: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.bytes = self.bytes + outcome.bytes() - entry.outcome.bytes();
        entry.outcome = outcome.clone();
        entry.stage = Stage::Taken { is_whole };
        self.changed.insert(key.clone());
    }

    /// Takes in that nothing could be taken of a request: it has written nothing and need not be remembered.
    pub(super) fn unusable(&mut self, key: &Arc<str>, answer: &Answer) {
        if let Some(entry) = self.entries.get_mut(key) {
            tell(&mut entry.waiting, answer);
            self.forget(key);
        }
    }

    /// Takes in that all records of a request are committed, and answers those who wait for it.
    pub(super) fn settled(&mut self, key: &Arc<str>, now: i64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        tell(&mut entry.waiting, &Answer::Decided(entry.outcome.clone()));
        entry.stage = Stage::Settled(now);
        self.left.push_back((now, key.clone()));
    }

    /// What has changed since the last commit, to be committed with what has been handed out by now.
    pub(super) fn changes(&mut self, now: i64) -> Vec<Kept> {
        self.expire(now);
        self.reported.append(&mut self.changed);
        let kept = self.reported.iter().map(|key| {
            let value = self.entries.get_mut(key).and_then(|entry| {
                entry.is_kept = true;
                let is_whole = match entry.stage {
                    Stage::Taken { is_whole } => is_whole,
                    Stage::Settled(_) => true,
                    Stage::Offered(None) => return None,
                    Stage::Offered(Some(_)) | Stage::Broken(_) => false,
                };
                let digest = [(entry.digest >> 64) as u64, entry.digest as u64];
                let row = Row { digest, at: now, is_whole, outcome: entry.outcome.clone() };
                // Numbers and texts always are JSON.
                serde_json::to_vec(&row).ok()
            });
            Kept { key: key.as_bytes().to_vec(), value }
        });
        kept.collect()
    }

    /// Takes in that what was reported last is committed.
    pub(super) fn committed(&mut self) {
        self.reported.clear();
    }

    /// Takes back what earlier processes have kept.
    ///
    /// # Errors
    /// When it was not written by a source like this.
    pub(super) fn recall(&mut self, facts: Vec<Kept>) -> anyhow::Result<()> {
        let mut left = Vec::new();
        for Kept { key, value } in facts {
            let Some(value) = value else { continue };
            let key: Arc<str> = String::from_utf8(key).context("read a remembered key")?.into();
            let row: Row = serde_json::from_slice(&value).with_context(|| format!("read what became of `{key}`"))?;
            let stage = if row.is_whole { Stage::Settled(row.at) } else { Stage::Broken(row.at) };
            let digest = u128::from(row.digest[0]) << 64 | u128::from(row.digest[1]);
            self.bytes += COST + 2 * key.len() + row.outcome.bytes();
            left.push((row.at, key.clone()));
            let mut entry = Entry { digest, outcome: row.outcome, stage, is_kept: true, waiting: Vec::new() };
            // A journal tells again what a commit may have told, and somebody may have come before either was read.
            if let Some(before) = self.entries.remove(&key) {
                self.bytes -= COST + 2 * key.len() + before.outcome.bytes();
                entry.waiting = before.waiting;
                if row.is_whole {
                    tell(&mut entry.waiting, &Answer::Decided(entry.outcome.clone()));
                }
            }
            self.entries.insert(key, entry);
        }
        left.sort();
        self.left.extend(left);
        Ok(())
    }

    /// Forgets what has been remembered long enough.
    fn expire(&mut self, now: i64) {
        let mut offered = Vec::new();
        while let Some((at, key)) = self.left.pop_front_if(|(at, _)| at.saturating_add(self.keep) <= now) {
            let Some(entry) = self.entries.get(&key) else { continue };
            if [Stage::Settled(at), Stage::Broken(at)].contains(&entry.stage) {
                self.forget(&key);
            } else if entry.stage == Stage::Offered(Some(at)) {
                // It has been posted again in time.
                offered.push((at, key));
            }
        }
        offered.into_iter().rev().for_each(|offered| self.left.push_front(offered));
    }

    fn forget(&mut self, key: &Arc<str>) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= COST + 2 * key.len() + entry.outcome.bytes();
            if entry.is_kept {
                self.changed.insert(key.clone());
            } else {
                self.changed.remove(key);
            }
        }
    }
}

/// Answers all who wait; who has gone has nobody to tell.
fn tell(waiting: &mut Vec<oneshot::Sender<Answer>>, answer: &Answer) {
    waiting.drain(..).for_each(|waiting| drop(waiting.send(answer.clone())));
}

#[cfg(test)]
mod tests;
