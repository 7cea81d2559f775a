//! The log of a journal, on a thread that may wait for the disk.
//!
//! Owns what is written, synced, read again and removed. It must not know who is answered. Invariant: a chunk that was
//! taken is appended once, however often the disk was full between, and given back only when it is durable.

use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::{Terms, form};
use crate::{
    batch::Limit,
    log::{self, Error, From, Keep, Log, Mark, Reader, Settings},
    source::{Chunk, Kept},
    time::now,
};

/// Length of a segment: little, for whole ones are what is removed behind the commits.
const SEGMENT: u32 = 8 << 20;

/// What a call came to.
#[derive(Debug)]
pub(super) enum Found {
    /// The log is open.
    Opened,
    /// Records that were in the log; behind them is `offset`.
    Again { chunk: Chunk, facts: Vec<Kept>, offset: u64, mark: Mark },
    /// Records that are durable now, before `mark`.
    Journaled { chunk: Chunk, mark: Mark },
}

/// The log and what is to be done with it.
#[derive(Debug)]
pub(super) struct Work {
    terms: Terms,
    log: Option<Arc<Log>>,
    /// Where it stood at the last commit.
    committed: Mark,
    /// Offset of the next record to be handed out, as long as there are any to be read again.
    again: Option<u64>,
    reader: Option<Reader>,
    /// What is left of a block that was read again.
    rest: Option<Chunk>,
    /// Taken, and not yet durable.
    chunk: Option<(Chunk, Vec<Kept>)>,
    /// Whether it has been appended.
    is_appended: bool,
    is_full: bool,
    /// What the last call came to, until somebody takes it.
    pub(super) outcome: Option<anyhow::Result<Found>>,
}

impl Work {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            log: None,
            committed: Mark::default(),
            again: Some(0),
            reader: None,
            rest: None,
            chunk: None,
            is_appended: false,
            is_full: false,
            outcome: None,
        }
    }

    /// Goes back to the record at `offset`; everything before `committed` is known to be durable.
    pub(super) fn seek(&mut self, offset: u64, committed: Mark) {
        (self.again, self.committed) = (Some(offset), committed);
        // A chunk that is not durable yet stands behind the log's end, and comes when that has been read again.
        (self.reader, self.rest) = (None, None);
    }

    /// Takes a chunk to be written, with the facts of the source; one without records comes back.
    pub(super) fn take(&mut self, chunk: Chunk, facts: Vec<Kept>) -> Option<Chunk> {
        if form::records(&chunk) == 0 {
            return Some(chunk);
        }
        self.chunk = Some((chunk, facts));
        None
    }

    pub(super) fn has_something_to_do(&self) -> bool {
        self.again.is_some() || self.chunk.is_some()
    }

    /// Whether the disk had no room the last time.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Does what is next: reads again, or writes what was taken.
    pub(super) fn go_on(&mut self, most: Limit) {
        let found = match self.again {
            Some(offset) => self.again(offset, most).map(Some),
            None => self.write(),
        };
        self.outcome = found.transpose();
    }

    /// Removes what every commit has passed, where the log is open.
    pub(super) fn forget(&mut self, offset: u64) {
        let Some(log) = &self.log else { return };
        let keep = Keep { bytes: Some(0), needed: Some(offset), ..Keep::default() };
        if let Err(error) = log.retain(now(), keep) {
            // It is still there, and goes with the next commit; a log that is of no use any more says so when it is written.
            tracing::warn!(error = error.to_string(), "what was committed could not be removed from a journal");
        }
    }

    fn open(&mut self) -> anyhow::Result<Arc<Log>> {
        if let Some(log) = &self.log {
            return Ok(log.clone());
        }
        let Terms { disk, state, folder, .. } = &self.terms;
        log::make_folders(&**disk, state, folder)?;
        // A record may be as large as its source allows.
        let settings = Settings { segment: SEGMENT, block: u32::MAX };
        let (log, torn) = Log::open_whole(disk.clone(), &state.join(folder), self.committed, settings)?;
        if torn > 0 {
            tracing::warn!(journal = %folder.display(), bytes = torn, "the torn end of a journal is cut: nobody was answered for it");
        }
        self.log = Some(log.clone());
        Ok(log)
    }

    /// The next records from `offset` on; at the end of the log, there are no more to be read again.
    fn again(&mut self, offset: u64, most: Limit) -> anyhow::Result<Found> {
        let log = self.open().with_context(|| format!("open the journal {}", self.terms.folder.display()))?;
        ensure!(
            offset <= log.end(),
            "go on at record {offset} of the journal {}, which ends at {}",
            self.terms.folder.display(),
            log.end()
        );
        let (mut chunk, facts) = match self.rest.take() {
            Some(rest) => (rest, Vec::new()),
            None => {
                let reader = match &mut self.reader {
                    Some(reader) => reader,
                    None => self.reader.insert(log.reader(From::Offset(offset))?),
                };
                match reader.next()? {
                    None => {
                        (self.again, self.reader) = (None, None);
                        return Ok(Found::Opened);
                    }
                    Some((first, block)) => {
                        let (chunk, facts) = form::chunk(&block.payload)?;
                        (skipped(chunk, offset.saturating_sub(first)), facts)
                    }
                }
            }
        };
        if chunk.batch.len() > most.records.max(1) {
            let rest = chunk.batch.slice(most.records.max(1), chunk.batch.len());
            chunk.batch = chunk.batch.slice(0, most.records.max(1));
            self.rest =
                Some(Chunk { batch: rest, undecoded: std::mem::take(&mut chunk.undecoded), ..Chunk::default() });
        }
        let offset = offset + form::records(&chunk) as u64;
        self.again = Some(offset);
        Ok(Found::Again { chunk, facts, offset, mark: log.committed_end() })
    }

    /// Makes the chunk in hand durable; nothing while the disk is full.
    fn write(&mut self) -> anyhow::Result<Option<Found>> {
        let Some((chunk, facts)) = &self.chunk else { return Ok(None) };
        let log = self.log.clone().context("write to a journal that has not been opened")?;
        let written = match form::block(chunk, facts, now()).filter(|_| !self.is_appended) {
            Some(block) => log.append(&block).map(|_| ()),
            None => Ok(()),
        };
        self.is_appended |= written.is_ok();
        match written.and_then(|()| log.sync()) {
            Ok(mark) => {
                log.committed(mark);
                if std::mem::take(&mut self.is_full) {
                    tracing::info!(journal = %self.terms.folder.display(), "there is room again, the source goes on");
                }
                self.is_appended = false;
                Ok(self.chunk.take().map(|(chunk, _)| Found::Journaled { chunk, mark }))
            }
            Err(Error::Io { error, .. }) if error.kind() == std::io::ErrorKind::StorageFull => {
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::error!(journal = %self.terms.folder.display(), %error, "the source pauses");
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A chunk without its first `count` records.
fn skipped(chunk: Chunk, count: u64) -> Chunk {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let of_batch = count.min(chunk.batch.len());
    let batch = chunk.batch.slice(of_batch, chunk.batch.len());
    let undecoded = chunk.undecoded.into_iter().skip(count - of_batch).collect();
    Chunk { batch, undecoded, ..Chunk::default() }
}
