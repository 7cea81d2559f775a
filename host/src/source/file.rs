//! Source `file`: the files that a pattern names, read once or followed as they grow.
//!
//! Owns the way from their bytes to batches and back to a position. It must not know channels or epochs.
//!
//! Files are read in the order of their paths, each to its end before the next. Read once, an unfinished last line is
//! a record; followed, it waits until it is finished, or until the file has been rotated away and been still for five
//! seconds. A followed file is known by device, inode, and its first and last bytes before the offset, so it may be
//! renamed, truncated, or copied and truncated: what was written before is read first, and nothing twice. A file
//! that begins like one in hand is taken for a copy in the making and waits for five seconds to prove otherwise. Lost is
//! what a truncation removed, where no copy stands in the same folder, and a file that was created, rotated to a name that the
//! pattern does not have and removed or compressed between two looks.
//!
//! A pattern does not follow links out of the folder in front of its first wildcard; a plain path may be a link to
//! anywhere. Devices and pipes are not read.

mod follow;
mod pattern;
mod resume;
mod round;
mod tail;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, ensure};
use futures::{FutureExt as _, future::BoxFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use self::{
    pattern::Pattern,
    round::{Recipe, Round},
    tail::Mark,
};
use super::{Position, Read, Source};
use crate::{
    batch::Limit,
    codec::{Format, Stamp},
    lent::Lent,
};

/// What `file:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A path or a glob pattern, relative to the pipeline's file.
    pub path: String,
    /// Whether to wait for more at the end, across rotation and truncation.
    #[serde(default)]
    pub follow: bool,
}

/// Files being read.
#[derive(Debug)]
pub struct FileSource {
    round: Lent<Round>,
    /// How far each file has been handed out, so that it is known while a blocking call has the files.
    marks: Vec<Mark>,
    stopping: bool,
}

/// What a position consists of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Marks {
    files: Vec<Mark>,
}

/// Opens the source called `name`. Records of more than `max_record` bytes are refused.
///
/// # Errors
/// When the path is no pattern or leads to something that is no file, when no file matches and none is waited for, and
/// when a format without an end of its own is to be followed.
pub fn open(
    config: &Config,
    base: &Path,
    name: &str,
    decode: Format,
    stamp: &Stamp,
    max_record: usize,
) -> anyhow::Result<FileSource> {
    ensure!(
        !(config.follow && decode == Format::Raw),
        "source `{name}` makes one record of a whole file, and a file that is followed is never whole"
    );
    let what = || format!("open `{}` for source `{name}`", config.path);
    let mut pattern = Pattern::parse(base, &config.path).with_context(what)?;
    let found = pattern.list().with_context(what)?;
    ensure!(
        config.follow || !found.is_empty(),
        "source `{name}` finds no file `{}` in {}",
        pattern.written(),
        pattern.root().display()
    );
    let recipe = Recipe { format: decode, stamp: stamp.clone(), max_record };
    let round = Round::new(pattern, found, config.follow, recipe, Instant::now());
    Ok(FileSource { marks: round.marks(), round: Lent::new(round), stopping: false })
}

impl FileSource {
    async fn next(&mut self, most: Limit) -> anyhow::Result<Read> {
        while !self.stopping {
            let round = self.round.back().await?;
            if let Some(error) = round.error.take() {
                return Err(error);
            }
            let over = std::mem::take(&mut round.over);
            if std::mem::take(&mut round.changed) {
                self.marks = round.marks();
            } else {
                over.into_iter().for_each(|at| note(&mut self.marks, round, at));
            }
            if let Some(chunk) = round.decode(most) {
                note(&mut self.marks, round, round.at);
                return Ok(Read::Chunk(chunk));
            }
            if round.ended {
                return Ok(Read::End);
            }
            if let Some(due) = round.due {
                sleep_until(due).await;
            }
            let now = Instant::now();
            self.round.lend(move |round| round.fetch(now)).await?;
        }
        Ok(Read::End)
    }

    async fn go_back(&mut self, position: &Position) -> anyhow::Result<bool> {
        let marks: Marks = match &position.0 {
            serde_json::Value::Null => Marks::default(),
            value => serde_json::from_value(value.clone()).context("read the position of a file source")?,
        };
        let now = Instant::now();
        let round = self.round.lend(move |round| round.resume(marks.files, now)).await?;
        if let Some(error) = round.error.take() {
            return Err(error);
        }
        round.changed = false;
        round.over.clear();
        self.marks = round.marks();
        Ok(true)
    }
}

/// Writes down how far the file at position `at` has been handed out.
fn note(marks: &mut [Mark], round: &Round, at: usize) {
    if let (Some(mark), Some(now)) = (marks.get_mut(at), round.mark(at)) {
        *mark = now;
    }
}

impl Source for FileSource {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        self.next(most).boxed()
    }

    fn position(&self) -> Position {
        Position(serde_json::json!({ "files": self.marks }))
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        self.go_back(position).boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}
