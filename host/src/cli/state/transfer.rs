//! `state export` and `state import`: groups as a file.
//!
//! Owns the file. Invariant: a file that is there is a whole export.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Answer, Exit, Folder, Kept, Outcome, Trouble, groups::lines, unkept};
use crate::{
    cli::figure,
    config::codes,
    pipeline::kept::{self, Asked, Line, Misfit},
};

#[derive(Args, Debug)]
#[command(
    after_help = "The file has a line of JSON for each group, between a head, which says how states were made, and an end.
Positions and counts are not in it: `state backup` copies everything.

Examples:
  tidegate state export groups.ndjson
  tidegate state export sums.ndjson --pipeline access-log --stage per_path"
)]
pub(in crate::cli) struct Export {
    /// The file, which must not be there yet.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The stage; all, where none is named.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// The pipeline; needed where the state holds several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
#[command(
    after_help = "A group of the file takes the place of the one that is there; others stay, so that `state reset` before it makes
the state that of the file. Nothing is taken in unless all of it fits.

Examples:
  tidegate state import groups.ndjson
  tidegate state import groups.ndjson --pipeline access-log-2"
)]
pub(in crate::cli) struct Import {
    /// The file that `state export` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The pipeline, where it is another than that of the export.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    folder: Folder,
}

impl Export {
    pub(super) fn perform(self) -> Outcome {
        let failed = |error: io::Error| {
            let trouble = Trouble::of(format!("write {}: {error}", self.file.display()));
            let exit = if error.kind() == io::ErrorKind::AlreadyExists { Exit::Usage } else { Exit::Environment };
            Box::new(Answer::failed(exit, trouble))
        };
        let way = self.kept.way()?;
        let draft = beside(&self.file);
        let mut out = BufWriter::new(create(&self.file, &draft).map_err(failed)?);
        let asked = Asked { pipeline: self.pipeline.clone(), stage: self.stage.clone(), ..Asked::default() };
        let (mut wrong, mut end) = (None, None);
        let written = lines(&way, &asked, &mut |text, line| {
            if let Line::End(last) = line {
                end = Some(last.clone());
            }
            match writeln!(out, "{text}") {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    wrong = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        let placed = written.and_then(|()| match wrong {
            Some(error) => Err(failed(error)),
            None => finish(out, &draft, &self.file).map_err(failed),
        });
        let (Ok(()), Some(end)) = (&placed, end) else {
            // What is left over is removed if it can be; the fault that is told is the first.
            let _ = std::fs::remove_file(&draft);
            return Err(placed.err().unwrap_or_else(|| crate::cli::ask::unread("it has no end")));
        };
        let groups = figure::several(usize::try_from(end.groups).unwrap_or(usize::MAX), "group");
        let summary = format!("{groups} as of epoch {} in {}", end.epoch, self.file.display());
        Ok(Answer::fine(&summary, end, format!("{summary}\n")))
    }
}

/// The file under the name that it has until it is whole.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

fn create(file: &Path, draft: &Path) -> io::Result<File> {
    if file.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)
}

fn finish(mut out: BufWriter<File>, draft: &Path, file: &Path) -> io::Result<()> {
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(draft, file)
}

impl Import {
    pub(super) fn perform(self) -> Outcome {
        let file = File::open(&self.file).map_err(|error| {
            Box::new(Answer::failed(Exit::Usage, Trouble::of(format!("read {}: {error}", self.file.display()))))
        })?;
        let store = self.folder.open(self.folder.lock()?)?;
        let imported = kept::import(&store, self.pipeline.as_deref(), BufReader::new(file).lines())
            .map_err(|misfit| refused(misfit, &self.file))?;
        let several = |count: u64| figure::several(usize::try_from(count).unwrap_or(usize::MAX), "group");
        let mut text: String =
            imported.groups.iter().map(|(stage, count)| format!("{stage}: {}\n", several(*count))).collect();
        let summary = format!("{} taken into `{}`", several(imported.groups.values().sum()), imported.pipeline);
        text.push_str(&format!("{summary}\n"));
        Ok(Answer::fine(summary, imported, text))
    }
}

fn refused(misfit: Misfit, file: &Path) -> Box<Answer> {
    let message = format!("{}: {misfit}", file.display());
    match misfit {
        Misfit::Unkept(error) => unkept(error),
        Misfit::Unread(_) => Box::new(Answer::failed(Exit::Environment, Trouble::of(message))),
        Misfit::Changed { ref stage, .. } => {
            let cure = format!("give up what is kept with `tidegate state reset PIPELINE/{stage}`, then import again");
            Box::new(Answer::failed(Exit::Usage, Trouble::of(message).code(codes::IMPORT_UNFIT).cure(cure)))
        }
        Misfit::Line { .. } => Box::new(Answer::failed(Exit::Usage, Trouble::of(message).code(codes::IMPORT_UNFIT))),
    }
}
