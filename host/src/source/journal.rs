//! A journal in front of a source that cannot be asked again: what it gives is written down before anybody is answered.
//!
//! Owns the order: take, append, sync, answer, hand out; and reading again what was handed out and not committed. It must
//! not know what the source is. Invariants: what was handed out or answered as journaled is in the log; after any fall
//! each record that was is handed out once, in its order; what every commit has passed is removed.

mod form;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::work::{Found, Work};
use super::{Chunk, Kept, Position, Read, Source};
use crate::{batch::Limit, disk::Disk, lent::Lent, log::Mark};

/// How long to wait before a full disk is asked again.
const FULL: Duration = Duration::from_secs(1);

/// When whoever sent records is told that they have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Once they are in the journal: they outlast a fall.
    Journaled,
    /// Once they have been committed, with everything that came of them.
    Committed,
    /// At once: a fall loses them.
    Accepted,
}

/// Where a journal lies.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Folder of the host's state.
    pub state: PathBuf,
    /// Folder of the log, relative to that.
    pub folder: PathBuf,
    /// When the source is told that what it gave has been taken.
    pub answer: Answer,
}

/// What a commit holds of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    /// Offset of the next record to be handed out.
    offset: u64,
    /// An end of the log before which everything is durable.
    mark: Mark,
}

/// A source behind its journal.
pub struct Journal {
    source: Box<dyn Source>,
    answer: Answer,
    work: Lent<Work>,
    /// Nothing until it has been told where it stood, or has handed something out.
    at: Option<Held>,
    /// In the journal, or of no interest to it, and to be handed out.
    ready: Option<Chunk>,
    /// Positions of the source to be acknowledged when the journal's offset has been committed.
    unanswered: VecDeque<(u64, Position)>,
    /// Facts of the source that are in the journal and in no commit.
    facts: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Those of them that have been reported.
    reported: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    has_ended: bool,
}

/// The folder of a source's journal, relative to that of the state.
pub fn folder(pipeline: &str, source: &str) -> PathBuf {
    ["logs", "journals", pipeline, source].iter().collect()
}

/// The end of the journal of a source that stood at `position`; none where it has no journal.
pub fn mark(position: &Position) -> Option<Mark> {
    Held::deserialize(&position.0).ok().map(|held| held.mark)
}

/// Puts a journal in front of `source`; it is opened when it is first read.
pub fn open(source: Box<dyn Source>, terms: Terms) -> Journal {
    let answer = terms.answer;
    let work = Lent::new(Work::new(terms));
    let (facts, reported) = Default::default();
    let unanswered = VecDeque::new();
    Journal { source, answer, work, at: None, ready: None, unanswered, facts, reported, has_ended: false }
}

impl Source for Journal {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            loop {
                if let Some(chunk) = self.ready.take() {
                    return Ok(Read::Chunk(chunk));
                }
                let work = self.work.back().await?;
                if let Some(found) = work.outcome.take() {
                    self.take(found?).await?;
                    continue;
                }
                if work.is_full() {
                    tokio::time::sleep(FULL).await;
                }
                let work = self.work.back().await?;
                if work.has_something_to_do() {
                    self.work.lend(move |work| work.go_on(most)).await?;
                    continue;
                }
                if self.has_ended {
                    return Ok(Read::End);
                }
                match self.source.read(most).await? {
                    Read::Chunk(chunk) => {
                        // They are written with the records, for whoever is answered may come again.
                        let facts = self.source.changes();
                        self.facts.extend(facts.iter().map(|Kept { key, value }| (key.clone(), value.clone())));
                        self.ready = work.take(chunk, facts);
                    }
                    // No letters come from what a journal stands in front of.
                    Read::Again(_) => anyhow::bail!("keep letters in a journal"),
                    Read::End => self.has_ended = true,
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        // Numbers always are JSON.
        Position(serde_json::to_value(self.at).unwrap_or_default())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        async move {
            let held: Option<Held> =
                serde_json::from_value(position.0.clone()).context("read where the journal stood")?;
            self.at = held;
            // What is in the log comes again from there.
            self.ready = None;
            let work = self.work.back().await?;
            let held = held.unwrap_or_default();
            let found = work.outcome.take();
            work.seek(held.offset, held.mark);
            if let Some(Ok(Found::Journaled { mark, .. })) = found {
                self.answer(mark.offset).await?;
            }
            Ok(true)
        }
        .boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let held: Option<Held> =
                serde_json::from_value(position.0.clone()).context("read where the journal stood")?;
            let offset = held.unwrap_or_default().offset;
            let mut last = None;
            while let Some((_, position)) = self.unanswered.pop_front_if(|(of, _)| *of <= offset) {
                last = Some(position);
            }
            if let Some(position) = last {
                self.source.commit(&position).await?;
            }
            if self.has_ended && self.unanswered.is_empty() {
                let position = self.source.position();
                self.source.commit(&position).await?;
            }
            self.reported.clear();
            self.work.lend(move |work| work.forget(offset)).await?;
            Ok(())
        }
        .boxed()
    }

    fn changes(&mut self) -> Vec<Kept> {
        let facts = self.source.changes().into_iter().map(|Kept { key, value }| (key, value));
        self.reported.extend(std::mem::take(&mut self.facts).into_iter().chain(facts));
        self.reported.iter().map(|(key, value)| Kept { key: key.clone(), value: value.clone() }).collect()
    }

    fn recall(&mut self, facts: Vec<Kept>) -> anyhow::Result<()> {
        self.source.recall(facts)
    }

    fn is_awaited(&self) -> bool {
        self.answer == Answer::Committed && self.source.is_awaited()
    }

    fn stop(&mut self) {
        self.source.stop();
    }
}

impl Journal {
    /// Takes what a call has found to be handed out next, and answers for it.
    async fn take(&mut self, found: Found) -> anyhow::Result<()> {
        match found {
            Found::Opened => Ok(()),
            Found::Again { chunk, facts, offset, mark } => {
                (self.at, self.ready) = (Some(Held { offset, mark }), Some(chunk));
                self.facts.extend(facts.iter().map(|Kept { key, value }| (key.clone(), value.clone())));
                self.source.recall(facts)
            }
            Found::Journaled { chunk, mark } => {
                (self.at, self.ready) = (Some(Held { offset: mark.offset, mark }), Some(chunk));
                self.answer(mark.offset).await
            }
        }
    }

    /// Answers for all that the source has given, which stands before `offset` in the journal.
    async fn answer(&mut self, offset: u64) -> anyhow::Result<()> {
        let position = self.source.position();
        match self.answer {
            Answer::Journaled => self.source.commit(&position).await?,
            Answer::Committed => self.unanswered.push_back((offset, position)),
            Answer::Accepted => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
