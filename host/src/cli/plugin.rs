//! `plugin`: what an author does with plugins.
//!
//! Owns the verbs and how a plugin is found. What plugins do is another module's.

mod bench;
mod call;
mod inspect;
mod propose;
mod records;
mod reload;
mod verify;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Answer, Exit, Outcome, Trouble, author, figure, settings};
use crate::{
    config::{Host, codes},
    pipeline::open,
    plugin::{Kind, Plugin},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Write a crate that builds, tests and runs as it is.
    New(New),
    /// Build the plugins of a crate.
    Build(Build),
    /// Show what a plugin says about itself.
    Inspect(inspect::Inspect),
    /// Run records through one instance of a plugin.
    Call(call::Call),
    /// Try whether a plugin gives the same however its records come, and keeps its vectors.
    Verify(verify::Verify),
    /// Measure what a record costs in a plugin, and propose limits.
    Bench(bench::Bench),
    /// Build a stage's plugin again and let it serve in the running pipeline.
    Reload(reload::Reload),
    /// Let the generation before serve again.
    Rollback(reload::Rollback),
    /// Show the generations of stages, and what became of reloads.
    History(reload::Told),
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::New(_) => "plugin new",
            Self::Build(_) => "plugin build",
            Self::Inspect(_) => "plugin inspect",
            Self::Call(_) => "plugin call",
            Self::Verify(_) => "plugin verify",
            Self::Bench(_) => "plugin bench",
            Self::Reload(_) => "plugin reload",
            Self::Rollback(_) => "plugin rollback",
            Self::History(_) => "plugin history",
        }
    }

    pub(super) fn perform(self) -> Outcome {
        match self {
            Self::New(verb) => verb.perform(),
            Self::Build(verb) => verb.perform(),
            Self::Inspect(verb) => verb.perform(),
            Self::Call(verb) => verb.perform(),
            Self::Verify(verb) => verb.perform(),
            Self::Bench(verb) => verb.perform(),
            Self::Reload(verb) => verb.perform(),
            Self::Rollback(verb) => verb.perform(),
            Self::History(verb) => verb.perform(),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct New {
    /// Folder of the crate; its last part is the crate's name.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// What the plugin does with records.
    #[arg(long, value_enum, default_value_t)]
    kind: KindWord,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum KindWord {
    /// Keeps some records.
    #[default]
    Filter,
    /// Turns each record into none, one or many.
    Map,
    /// Folds the records of each group into a state.
    Aggregate,
}

impl From<KindWord> for Kind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Filter => Self::Filter,
            KindWord::Map => Self::Map,
            KindWord::Aggregate => Self::Aggregate,
        }
    }
}

impl New {
    fn perform(self) -> Outcome {
        let created = author::create(&self.folder, self.kind.into()).map_err(failed)?;
        let next: String = created.next.iter().map(|step| format!("  {step}\n")).collect();
        let text = format!("wrote {}; next:\n{next}", created.folder.display());
        Ok(Answer::fine(format!("wrote {}", created.folder.display()), &created, text))
    }
}

#[derive(Args, Debug)]
pub(super) struct Build {
    /// Folder of the crate or workspace.
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Further arguments for cargo.
    #[arg(last = true, value_name = "ARGUMENT")]
    extra: Vec<OsString>,
}

impl Build {
    fn perform(self) -> Outcome {
        let built = author::build(&self.folder, &self.extra).map_err(failed)?;
        let line = |one: &author::Built| {
            format!("{}  {} bytes  sha256:{}\n", one.path.display(), figure::count(one.size), one.digest)
        };
        let text: String = built.iter().map(line).collect();
        Ok(Answer::fine(format!("built {}", figure::several(built.len(), "plugin")), &built, text))
    }
}

fn failed(error: author::Error) -> Box<Answer> {
    let trouble = Trouble::of(error.to_string());
    let trouble = match &error {
        author::Error::Toolchain(missing) => trouble.code(codes::NO_TOOLCHAIN).cure(missing.cure()),
        _ => trouble,
    };
    Box::new(Answer::failed(Exit::from_code(error.exit_code()), trouble))
}

/// Which plugin, and what it is told.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// A component or a wasm32-wasip1 module, or `std/NAME`.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// What the plugin is configured with, as JSON, or `@` and the file that holds it.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}", value_parser = json)]
    config: Value,
}

fn json(text: &str) -> Result<Value, String> {
    let text = match text.strip_prefix('@') {
        Some(path) => &std::fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))?,
        None => text,
    };
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Loads the plugin that is called `name`, a path relative to the working folder, or `std/NAME`.
pub(super) fn load(name: &str) -> Result<Plugin, Box<Answer>> {
    let engine = settings::engine_if_cached(Path::new(&Host::default().plugins.cache))?;
    open::load(Path::new(""), name, &engine).map_err(|wrong| {
        let (code, message, cure) = *wrong;
        let exit = if code == codes::PLUGIN_MISSING { Exit::Usage } else { Exit::No };
        Box::new(Answer::failed(exit, Trouble { code: Some(code), message, cure }))
    })
}
