//! Dead letters of pipelines that do not run.
//!
//! Owns how letters are found and given up where nobody has them open. It must not know who asks. Invariants: what is read
//! is what was committed; giving letters up is itself a commit, and a fall between that and the files that go leaves a log
//! that is the one or the other.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};

use super::{
    committed::SinkPoint,
    durable::{FACT, SINK, now},
};
use crate::{
    config::graph::{LETTERS, Letters},
    disk::Disk,
    log::{self, Keep, Log, Mark, Readable, Skipped, Struck},
    sink::log::{Position, settings},
    store::{Commit, Place, Places, Store},
};

/// The letters of one pipeline, as the store has them.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The pipeline.
    pub pipeline: String,
    /// Its log; none where the store knows nothing of it.
    pub letters: Option<Readable>,
}

/// Where a host's letters lie, its store open and its pipelines not.
#[derive(Clone, Debug)]
pub struct Resting {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// The host's store.
    pub store: Arc<Store>,
    /// The folder of its state.
    pub state: PathBuf,
}

impl Resting {
    fn folder(&self, pipeline: &str) -> PathBuf {
        self.state.join(Letters::folder(pipeline))
    }

    /// The letters of `pipeline`.
    ///
    /// # Errors
    /// Damage, and what the disk says.
    pub fn of(&self, pipeline: &str) -> anyhow::Result<Kept> {
        let letters = match self.position(pipeline)? {
            Some((_, Position { mark, from, born })) => {
                let struck = Arc::new(self.struck(pipeline)?);
                Some(Readable { log: self.open(pipeline, Some(mark))?, from, born, struck })
            }
            None => None,
        };
        Ok(Kept { pipeline: pipeline.to_owned(), letters })
    }

    /// Names of the pipelines that letters are kept of.
    ///
    /// # Errors
    /// What the store says.
    pub fn pipelines(&self) -> anyhow::Result<Vec<String>> {
        let mut kept = BTreeSet::new();
        for pipeline in self.store.pipelines()? {
            if self.position(&pipeline)?.is_some() || self.is_unknown(&pipeline)? {
                kept.insert(pipeline);
            }
        }
        Ok(kept.into_iter().collect())
    }

    /// Reads and checks the letters of all pipelines; how many there are.
    ///
    /// # Errors
    /// The first damage, and what the disk says.
    pub fn verify(&self) -> anyhow::Result<u64> {
        let mut letters = 0;
        for pipeline in self.pipelines()? {
            if let Some(Readable { log, .. }) = self.of(&pipeline)?.letters {
                letters += log.verify()?.records;
            }
        }
        Ok(letters)
    }

    /// Skips what is damaged of the letters, for good, and tells each stretch.
    ///
    /// # Errors
    /// What the store and the disk say.
    pub fn repair(&self, mut skipped: impl FnMut(Skipped)) -> anyhow::Result<()> {
        for pipeline in self.pipelines()? {
            if let Some((_, Position { mark, .. })) = self.position(&pipeline)? {
                log::repair(&*self.disk, &self.folder(&pipeline), mark)?.into_iter().for_each(&mut skipped);
            }
        }
        Ok(())
    }

    /// Whether there are letters that the store knows nothing of.
    fn is_unknown(&self, pipeline: &str) -> anyhow::Result<bool> {
        Ok(Log::is_in(&*self.disk, &self.folder(pipeline))?)
    }

    fn open(&self, pipeline: &str, committed: Option<Mark>) -> anyhow::Result<Arc<Log>> {
        // The sizes matter to who writes.
        Ok(Log::open(self.disk.clone(), &self.folder(pipeline), committed, settings(u64::MAX))?)
    }

    fn position(&self, pipeline: &str) -> anyhow::Result<Option<(SinkPoint, Position)>> {
        let Some(value) = self.store.get(pipeline, &Place::of(SINK, LETTERS))? else { return Ok(None) };
        let what = || format!("read what the store holds of the letters of `{pipeline}`");
        let point: SinkPoint = serde_json::from_slice(&value).with_context(what)?;
        let position: Option<Position> = serde_json::from_value(point.position.clone()).with_context(what)?;
        Ok(position.map(|position| (point, position)))
    }

    /// The letters of `pipeline` that are gone one by one.
    fn struck(&self, pipeline: &str) -> anyhow::Result<Struck> {
        let (mut struck, mut read) = (Struck::default(), Ok(()));
        self.store.scan(pipeline, Places::Of(FACT, LETTERS), |place, value| match struck.read(&place.key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                read = Err(error);
                ControlFlow::Break(())
            }
        })?;
        read.with_context(|| format!("read which letters of `{pipeline}` are gone"))?;
        Ok(struck)
    }

    /// Gives up single letters of `pipeline`; files go once all that is in them is gone.
    ///
    /// # Errors
    /// What the store and the disk say.
    pub async fn strike(&self, pipeline: &str, offsets: &[u64]) -> anyhow::Result<()> {
        let Some((_, Position { mark, .. })) = self.position(pipeline)? else { return Ok(()) };
        let mut struck = self.struck(pipeline)?;
        offsets.iter().for_each(|offset| struck.insert(*offset));
        let mut commit = Commit::of_facts(pipeline.into(), now());
        for (key, value) in struck.rows(offsets.iter().copied()) {
            commit.put(&Place::group(FACT, LETTERS, 0, &key, None), &value);
        }
        self.store.commit(commit).await?;
        let log = self.open(pipeline, Some(mark))?;
        log.retain(now(), Keep { struck: Some(&struck), ..Keep::default() })?;
        Ok(())
    }

    /// Gives up the letters of `pipeline` in front of the one with the offset `before`, or all of them; of the first, files
    /// go only as a whole.
    ///
    /// # Errors
    /// What the store and the disk say.
    pub async fn purge(&self, pipeline: &str, before: Option<u64>) -> anyhow::Result<()> {
        let Some((point, Position { mark, born, .. })) = self.position(pipeline)? else {
            ensure!(
                before.is_none(),
                "give up a part of letters that the store knows nothing of: only all of them can go"
            );
            discard(&self.disk, &self.folder(pipeline))?;
            return Ok(());
        };
        let now_at = match before {
            None => Position::default(),
            Some(from) => Position { mark, from: from.min(mark.offset), born },
        };
        let point = SinkPoint { position: serde_json::to_value(now_at)?, ..point };
        let mut commit = Commit::of_facts(pipeline.into(), now());
        commit.put(&Place::of(SINK, LETTERS), &serde_json::to_vec(&point)?);
        if before.is_none() {
            // Offsets begin anew.
            commit.delete_all(Places::Of(FACT, LETTERS));
        }
        self.store.commit(commit).await?;
        // What is behind the new end goes when the log is opened there.
        let log = self.open(pipeline, Some(now_at.mark))?;
        log.retain(now(), Keep { bytes: Some(0), needed: Some(now_at.from), ..Keep::default() })?;
        Ok(())
    }
}

/// Removes the letters in `folder`, of which the store holds nothing any more; whether there were any.
///
/// # Errors
/// What the disk says.
pub fn discard(disk: &Arc<dyn Disk>, folder: &Path) -> anyhow::Result<bool> {
    let are_there = Log::is_in(&**disk, folder)?;
    if are_there {
        Log::open(disk.clone(), folder, None, settings(u64::MAX))?;
    }
    Ok(are_there)
}
