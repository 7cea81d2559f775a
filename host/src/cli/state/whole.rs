//! `state reset|backup|restore|verify|repair`: a state as a whole, or what is given up of it.
//!
//! Owns what a person has to say before something is lost, and what they are told of it.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use futures::executor::block_on;
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Answer, Exit, Folder, Kept, Outcome, Trouble, Way, Word, unkept, unusable};
use crate::{
    api::client,
    cli::figure,
    config::codes,
    disk::{Disk, RealDisk},
    log::Skipped,
    pipeline::{durable, kept, letters::Resting, logs, topics},
    store::{self, Lock, StoreError, Verified},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tidegate state reset access-log
  tidegate state reset access-log/per_path --yes")]
pub(in crate::cli) struct Reset {
    /// A pipeline, or a source, stage or sink of one.
    #[arg(value_name = "PIPELINE[/NAME]")]
    what: String,
    #[command(flatten)]
    word: Word,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:
  tidegate state backup /backups/monday.state")]
pub(in crate::cli) struct Backup {
    /// The file, which must not be there yet.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Sources read again from where they stood then, and the `file` sink cuts its files there. The state as it was is
kept beside, as `store.before`.

Example:
  tidegate state restore /backups/monday.state"
)]
pub(in crate::cli) struct Restore {
    /// The file that `state backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    word: Word,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:
  tidegate state verify --state /var/lib/tidegate")]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    folder: Folder,
}

#[derive(Args, Debug)]
#[command(
    after_help = "What is skipped is lost. The state as it was is kept beside, as `store.before`. A state that is whole is left as
it is.

Example:
  tidegate state repair --yes"
)]
pub(in crate::cli) struct Repair {
    #[command(flatten)]
    word: Word,
    #[command(flatten)]
    folder: Folder,
}

/// What a repair came to.
#[derive(Serialize)]
struct Repaired {
    pipelines: usize,
    values: u64,
    skipped: Vec<String>,
}

impl Reset {
    pub(super) fn perform(self) -> Outcome {
        let (pipeline, name) = match self.what.split_once('/') {
            Some((pipeline, name)) => (pipeline, Some(name)),
            None => (self.what.as_str(), None),
        };
        let store = self.folder.open(self.folder.lock()?)?;
        kept::pipeline(&store, Some(pipeline)).map_err(unkept)?;
        if let Some(name) = name {
            kept::part(&store, pipeline, name).map_err(unkept)?;
        }
        self.word.given(&format!("forget what was committed of `{}`", self.what))?;
        let names = [name.unwrap_or("all").to_owned()];
        let written = topics::logs(&store, pipeline).map_err(|error| damaged(&error))?;
        block_on(durable::reset(&store, Arc::from(pipeline), &names)).map_err(unusable)?;
        if name.is_none() {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            topics::discard(&disk, &self.folder.path, &written).map_err(|error| damaged(&error))?;
        }
        let summary = format!("`{}` begins anew", self.what);
        Ok(Answer::fine(&summary, json!({ "pipeline": pipeline, "name": name }), format!("{summary}\n")))
    }
}

impl Backup {
    pub(super) fn perform(self) -> Outcome {
        // The host that writes it may stand in another folder.
        let file = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        match self.kept.way()? {
            Way::Store(store) => store.backup(&file).map_err(unusable)?,
            Way::Host(ask) => {
                let to = file.to_str().ok_or_else(|| {
                    let trouble = Trouble::of(format!("name {} to the host: it is no text", file.display()));
                    Box::new(Answer::failed(Exit::Usage, trouble))
                })?;
                let path = client::with_query("/api/v1/state/backup", &[("to", to.to_owned())]);
                ask.ask::<Value>(Method::POST, &path)?;
            }
        }
        let summary = format!("the state is copied to {}", file.display());
        Ok(Answer::fine(&summary, json!({ "file": file }), format!("{summary}\n")))
    }
}

impl Restore {
    pub(super) fn perform(self) -> Outcome {
        // A machine that has lost everything has no folder yet.
        let lock = Lock::take(&self.folder.path).map_err(unusable)?;
        let from = self.file.display();
        self.word.given(&format!("go back to {from} and lose what was committed since"))?;
        let verified = store::restore_from(&RealDisk, &self.folder.path, &lock, &self.file).map_err(unusable)?;
        let summary = format!("the state is that of {from}: {}", counted(verified, None));
        Ok(Answer::fine(&summary, told(verified, None), format!("{summary}\n")))
    }
}

impl Verify {
    pub(super) fn perform(self) -> Outcome {
        let lock = self.folder.lock()?;
        let verified = store::verify(&RealDisk, &self.folder.path, &lock).map_err(|error| match error {
            StoreError::Damaged { .. } | StoreError::Format { .. } | StoreError::Missing { .. } => {
                Box::new(Answer { exit: Exit::No, ..*damaged(&error) })
            }
            error => unusable(error),
        })?;
        let logs = read_logs(&resting(&self.folder, lock)?);
        let logs = logs.map_err(|error| Box::new(Answer { exit: Exit::No, ..*damaged(&error) }))?;
        let summary = format!("the state is whole: {}", counted(verified, Some(logs)));
        Ok(Answer::fine(&summary, told(verified, Some(logs)), format!("{summary}\n")))
    }
}

impl Repair {
    pub(super) fn perform(self) -> Outcome {
        let lock = self.folder.lock()?;
        let folder = &self.folder.path;
        let (whole, mut skipped) = (store::verify(&RealDisk, folder, &lock), Vec::new());
        let leave_out = || self.word.given(&format!("leave out what is damaged in {}", folder.display()));
        let (kept, resting) = match whole {
            Ok(verified) => {
                let resting = resting(&self.folder, lock)?;
                if let Ok(logs) = read_logs(&resting) {
                    let summary = format!("the state is whole, and left as it is: {}", counted(verified, Some(logs)));
                    return Ok(Answer::fine(&summary, told(verified, Some(logs)), format!("{summary}\n")));
                }
                leave_out()?;
                (verified, resting)
            }
            Err(_) => {
                leave_out()?;
                let kept = store::repair(&RealDisk, folder, &lock, |what| skipped.push(what.to_owned()));
                (kept.map_err(|error| damaged(&error))?, resting(&self.folder, lock)?)
            }
        };
        let mut skip = |Skipped { file, at, bytes, records }: Skipped, what: &str, of: &str| {
            let what = figure::several(usize::try_from(records).unwrap_or(usize::MAX), what);
            skipped.push(format!("{}: {bytes} bytes from {at} on, {what}{of}", file.display()));
        };
        let Resting { store, disk, state } = &resting;
        let repaired = resting
            .repair(|skipped| skip(skipped, "dead letter", ""))
            .and_then(|()| topics::repair(store, &**disk, state, |skipped| skip(skipped, "record", " of a topic")))
            .and_then(|()| {
                logs::repair(store, &**disk, state, |skipped| skip(skipped, "record", " of an outbox or a journal"))
            });
        let logs = repaired.and_then(|()| read_logs(&resting)).map_err(|error| damaged(&error))?;
        let summary = format!("{} kept, {} skipped", counted(kept, Some(logs)), figure::count(skipped.len() as u64));
        let text: String = skipped.iter().map(|what| format!("skipped: {what}\n")).collect();
        let result = Repaired { pipelines: kept.pipelines, values: kept.values, skipped };
        Ok(Answer::fine(&summary, result, format!("{text}{summary}\n")))
    }
}

/// The letters of the folder's pipelines, which no host has open.
fn resting(folder: &Folder, lock: Lock) -> Result<Resting, Box<Answer>> {
    let store = Arc::new(folder.open(lock)?);
    Ok(Resting { disk: Arc::new(RealDisk), store, state: folder.path.clone() })
}

/// What the logs of a state hold.
#[derive(Clone, Copy)]
struct Logs {
    letters: u64,
    /// Records of topics.
    records: u64,
    /// Records of outboxes and journals.
    on_the_way: u64,
}

/// Reads and checks the letters, the topics, the outboxes and the journals of a state.
fn read_logs(resting: &Resting) -> anyhow::Result<Logs> {
    let topics = topics::load(&resting.store, resting.disk.clone(), &resting.state)?;
    let on_the_way = logs::verify(&resting.store, &resting.disk, &resting.state)?;
    Ok(Logs { letters: resting.verify()?, records: topics::verify(&topics)?, on_the_way })
}

fn counted(verified: Verified, logs: Option<Logs>) -> String {
    let several = |count: u64, what| figure::several(usize::try_from(count).unwrap_or(usize::MAX), what);
    let logs = logs.map_or_else(String::new, |Logs { letters, records, on_the_way }| {
        let mut text = format!(", {}", several(letters, "dead letter"));
        for (count, of) in [(records, "topics"), (on_the_way, "outboxes and journals")] {
            if count > 0 {
                text = format!("{text}, {} of {of}", several(count, "record"));
            }
        }
        text
    });
    format!("{}, {}{logs}", figure::several(verified.pipelines, "pipeline"), several(verified.values, "value"))
}

fn told(verified: Verified, logs: Option<Logs>) -> Value {
    let (letters, records) = (logs.map(|logs| logs.letters), logs.map(|logs| logs.records));
    let on_the_way = logs.map(|logs| logs.on_the_way);
    json!({
        "pipelines": verified.pipelines,
        "values": verified.values,
        "letters": letters,
        "records": records,
        "on_the_way": on_the_way,
        "skipped": [],
    })
}

fn damaged(error: &impl std::fmt::Display) -> Box<Answer> {
    Box::new(Answer::failed(Exit::Environment, Trouble::of(error.to_string()).code(codes::STATE_DAMAGED)))
}
