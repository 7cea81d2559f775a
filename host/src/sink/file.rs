//! Sink `file`: appends to files below one folder, which the path of each record may choose.
//!
//! Owns which file each record goes to, how many are open, and when what waits is written. It must not know epochs.
//! Invariant: what was taken in is written once, in order within each file, however often the disk was full between.
//!
//! `flush` waits until everything is on the disk. After a restart the one file is cut where the last commit says; what
//! was written to the files of a template may be written twice. A full file is renamed to `NAME.1`,
//! `NAME.2` and so on, the newest with the highest number, when the record comes that no longer fits, and nothing is
//! ever written over. Only this sink should rename its files.

mod choice;
mod outlet;
mod place;
mod settled;
mod template;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, io, path::Path, sync::Arc};

use anyhow::{Context as _, anyhow, ensure};
use futures::{FutureExt as _, future::BoxFuture};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::{
    choice::Choice,
    outlet::Outlet,
    place::{Place, is_confinement},
    settled::Settled,
    template::Parsed,
};
use super::{
    Refused, Sink, SinkError,
    backlog::{SPILL, refusals, verdict},
};
use crate::{
    batch::Batch,
    codec::Format,
    disk::{Outputs, output::above},
    lent::Lent,
    unit::{Size, Span},
};

/// What `file:` of a sink takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path relative to the pipeline's file. `{key}`, `{/json/pointer}` and `{time:%Y-%m-%d}` are filled from each
    /// record and cannot leave the folder in front of the first of them.
    pub path: String,
    /// When to begin another file; not at all when absent.
    pub rotate: Option<Rotate>,
}

impl Config {
    /// Whether all records go to one file, and not to the files of a template.
    pub fn is_one_file(&self) -> bool {
        matches!(template::parse(&self.path), Ok(Parsed::Fixed(_)))
    }
}

/// When a file is full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// At this size.
    pub bytes: Option<Size>,
    /// At this age.
    pub every: Option<Span>,
}

/// Descriptors that a sink holds, well below the usual limit of 1,024 for a process.
const MOST_OPEN: usize = 256;
/// What a file among many keeps of its buffer once it is written.
const KEPT: usize = 4 << 10;

/// A file, or the files of a template.
#[derive(Debug)]
pub struct FileSink {
    files: Lent<Files>,
    choice: Option<Choice>,
    /// How far the one file was written when it was flushed last.
    settled: Option<Settled>,
}

/// What a blocking call works on.
#[derive(Debug)]
struct Files {
    place: Place,
    format: Format,
    rotate: Rotate,
    outlets: HashMap<String, Outlet>,
    /// Counts uses, to know the file that was used least recently.
    uses: u64,
    /// What the last call that wrote came to.
    outcome: Option<SinkError>,
    /// Paths that could not be opened for good, with the reason.
    refused: Vec<(String, String)>,
    /// How far the one file is on the disk.
    settled: Option<Settled>,
    /// What going back came to.
    restored: anyhow::Result<()>,
}

/// Opens the sink called `name` on `disk`: the one file, or the folder that files are chosen in.
///
/// # Errors
/// When the path is no template, or the file or folder cannot be made or written to.
pub fn open(
    config: &Config,
    disk: Arc<dyn Outputs>,
    base: &Path,
    name: &str,
    encode: Format,
) -> anyhow::Result<FileSink> {
    let rotate = config.rotate.clone().unwrap_or_default();
    let what = || format!("open `{}` for sink `{name}`", config.path);
    let (place, choice) = match template::parse(&config.path).with_context(what)? {
        Parsed::Fixed(path) => (Place::Fixed(disk, base.join(path)), None),
        Parsed::Chosen(folder, template) => {
            ensure!(
                rotate == Rotate::default() || template.ends_literally(),
                "`{}` for sink `{name}` has to end with literal text such as `.log` to be told from rotated files",
                config.path
            );
            let folder = base.join(folder);
            disk.make_folder(&folder).with_context(what)?;
            (Place::Below(disk.below(&folder).with_context(what)?), Some(Choice::new(template)))
        }
    };
    let mut files = Files {
        place,
        format: encode,
        rotate,
        outlets: HashMap::new(),
        uses: 0,
        outcome: None,
        refused: Vec::new(),
        settled: None,
        restored: Ok(()),
    };
    if let Place::Fixed(disk, path) = &files.place {
        disk.make_folder(above(path)).with_context(what)?;
        let outlet = Outlet::open("", &files.place, encode).with_context(what)?;
        let about = disk.about(path).with_context(what)?;
        let plain = files.rotate == Rotate::default() || about.is_some_and(|about| about.is_regular);
        ensure!(plain, "`{}` for sink `{name}` is a device, which cannot be rotated", config.path);
        files.outlets.insert(String::new(), outlet);
        files.settle().with_context(what)?;
    }
    let settled = files.settled;
    Ok(FileSink { files: Lent::new(files), choice, settled })
}

impl FileSink {
    async fn take(&mut self, batch: &Batch, refused: &mut Vec<Refused>) -> Result<(), SinkError> {
        let files = self.files.back().await.map_err(SinkError::Never)?;
        match &mut self.choice {
            None => files.take_all(batch, refused),
            Some(choice) => {
                let groups = choice.groups(batch, refused);
                for some in groups.chunks(MOST_OPEN / 2) {
                    take_groups(&mut self.files, batch, some, refused).await?;
                }
                refused.sort_by_key(|refused| refused.at);
            }
        }
        let files = self.files.back().await.map_err(SinkError::Never)?;
        if files.outcome.take().is_none() && files.waiting() < SPILL { Ok(()) } else { self.write_out().await }
    }

    async fn write_out(&mut self) -> Result<(), SinkError> {
        let files = self.files.lend(Files::write_out).await.map_err(SinkError::Never)?;
        files.outcome.take().map_or(Ok(()), Err)
    }
}

/// Opens the files of `groups`, where they are not open, and takes in their records.
async fn take_groups(
    files: &mut Lent<Files>,
    batch: &Batch,
    groups: &[(String, Vec<u32>)],
    refused: &mut Vec<Refused>,
) -> Result<(), SinkError> {
    let here = files.back().await.map_err(SinkError::Never)?;
    let missing: Vec<String> =
        groups.iter().map(|(path, _)| path).filter(|path| !here.outlets.contains_key(*path)).cloned().collect();
    if !missing.is_empty() {
        let here = files.lend(move |files| files.open_all(missing)).await.map_err(SinkError::Never)?;
        if let Some(error @ SinkError::Never(_)) = here.outcome.take_if(|error| matches!(error, SinkError::Never(_))) {
            return Err(error);
        }
    }
    let here = files.back().await.map_err(SinkError::Never)?;
    let reasons = std::mem::take(&mut here.refused);
    for (path, at) in groups {
        match reasons.iter().find(|(refused, _)| refused == path) {
            Some((_, reason)) => refused.extend(at.iter().map(|&at| Refused { at: at.into(), reason: reason.clone() })),
            None => here.take(path, batch, at, refused),
        }
    }
    Ok(())
}

impl Sink for FileSink {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        self.take(batch, refused).boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async {
            self.write_out().await?;
            let files = self.files.lend(Files::flush).await.map_err(SinkError::Never)?;
            self.settled = files.settled;
            files.outcome.take().map_or(Ok(()), Err)
        }
        .boxed()
    }

    fn position(&self) -> Value {
        self.settled.map_or(Value::Null, |settled| json!(settled))
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            let to: Option<Settled> = serde_json::from_value(position.clone()).context("read where the file stood")?;
            let files = self.files.lend(move |files| files.restored = files.restore(to)).await?;
            self.settled = files.settled;
            std::mem::replace(&mut files.restored, Ok(()))
        }
        .boxed()
    }
}

impl Files {
    /// Waits until what has been written is on the disk. An error is never tried away: the system has forgotten by then
    /// what it could not write.
    fn flush(&mut self) {
        self.outcome =
            self.settle().err().map(|error| SinkError::Never(anyhow!(error).context("sync what was written")));
    }

    fn settle(&mut self) -> io::Result<()> {
        for outlet in self.outlets.values_mut() {
            match &self.place {
                Place::Fixed(disk, path) => {
                    if let Some(file) = outlet.regular(&self.place)? {
                        self.settled = Some(Settled::sync(&**disk, file, path, self.settled)?);
                    }
                }
                Place::Below(folder) => outlet.settle(&**folder)?,
            }
        }
        Ok(())
    }

    fn restore(&mut self, to: Option<Settled>) -> anyhow::Result<()> {
        self.outlets.clear();
        self.outcome = None;
        let Place::Fixed(disk, path) = &self.place else { return Ok(()) };
        if let Some(to) = to {
            to.restore(&**disk, path)?;
        }
        let outlet = Outlet::open("", &self.place, self.format)?;
        self.outlets.insert(String::new(), outlet);
        self.settled = to;
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.outlets.values().map(Outlet::waiting).sum()
    }

    /// Takes in a whole batch for the one file.
    fn take_all(&mut self, batch: &Batch, refused: &mut Vec<Refused>) {
        let mut unfit = Vec::new();
        if let Some(outlet) = self.outlets.get_mut("") {
            outlet.take(batch, 0..batch.len(), &self.rotate, &mut unfit);
        }
        refused.extend(refusals(unfit));
    }

    /// Takes in the records at `at` for one file among many, neighbours together.
    fn take(&mut self, path: &str, batch: &Batch, at: &[u32], refused: &mut Vec<Refused>) {
        let outlet = self.outlets.entry(path.to_owned()).or_insert_with(|| Outlet::closed(path, self.format));
        self.uses += 1;
        outlet.used = self.uses;
        let mut unfit = Vec::new();
        for run in at.chunk_by(|a, b| a + 1 == *b) {
            if let [first, ..] = run {
                let first = *first as usize;
                outlet.take(batch, first..first + run.len(), &self.rotate, &mut unfit);
            }
        }
        refused.extend(refusals(unfit));
    }

    fn open_all(&mut self, paths: Vec<String>) {
        self.refused.clear();
        for path in paths {
            match self.open(&path) {
                Ok(outlet) => {
                    self.outlets.insert(path, outlet);
                }
                Err(error) if is_confinement(&error) => {
                    self.refused.push((path, format!("confinement: something else stands there: {error}")));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.refused.push((path, error.to_string()))
                }
                // It stays closed, takes its records in all the same, and is opened when it is written.
                Err(error) => match verdict(error, format!("open `{path}`")) {
                    later @ SinkError::Later(_) => self.outcome = Some(later),
                    never @ SinkError::Never(_) => {
                        self.outcome = Some(never);
                        return;
                    }
                },
            }
        }
    }

    fn open(&mut self, path: &str) -> io::Result<Outlet> {
        let mut starved = false;
        loop {
            if starved || self.outlets.values().filter(|outlet| outlet.is_open()).count() >= MOST_OPEN {
                let open = self.outlets.values_mut().filter(|outlet| outlet.is_open());
                let Some(oldest) = open.min_by_key(|outlet| outlet.used) else {
                    return Outlet::open(path, &self.place, self.format);
                };
                oldest.write_out(&self.place)?;
                if let Place::Below(folder) = &self.place {
                    oldest.settle(&**folder)?;
                }
                let oldest = oldest.path().to_owned();
                self.outlets.remove(&oldest);
            }
            match Outlet::open(path, &self.place, self.format) {
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) => {
                    starved = true
                }
                Ok(mut outlet) => {
                    self.uses += 1;
                    outlet.used = self.uses;
                    return Ok(outlet);
                }
                failed => return failed,
            }
        }
    }

    fn write_out(&mut self) {
        self.outcome = None;
        for outlet in self.outlets.values_mut() {
            if let Err(error) = outlet.write_out(&self.place) {
                self.outcome = Some(verdict(error, format!("write to {}", self.place.name(outlet.path()))));
                return;
            }
            if matches!(self.place, Place::Below(_)) {
                outlet.shrink(KEPT);
            }
        }
        // What could not be opened before now has been, and counts among the open.
        let mut open: Vec<(u64, String)> =
            self.outlets.values().filter(|it| it.is_open()).map(|it| (it.used, it.path().to_owned())).collect();
        if open.len() > MOST_OPEN {
            open.sort_unstable();
            for (_, path) in open.iter().take(open.len() - MOST_OPEN) {
                let synced = match (&self.place, self.outlets.remove(path)) {
                    (Place::Below(folder), Some(mut outlet)) => outlet.settle(&**folder),
                    _ => Ok(()),
                };
                if let Err(error) = synced {
                    self.outcome = Some(SinkError::Never(anyhow!(error).context("sync what was written")));
                }
            }
        }
    }
}
