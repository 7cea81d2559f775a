//! `graph`: a picture of a pipeline.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Answer, Outcome, files, settings};
use crate::{
    config::{
        LoadedHost,
        graph::{Picture, render},
    },
    unit::Size,
};

#[derive(Args, Debug)]
pub(super) struct Draw {
    /// The pipeline.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is drawn.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Lines of text.
    #[default]
    Ascii,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown shows it.
    Mermaid,
}

impl From<Format> for Picture {
    fn from(format: Format) -> Self {
        match format {
            Format::Ascii => Self::Ascii,
            Format::Dot => Self::Dot,
            Format::Mermaid => Self::Mermaid,
        }
    }
}

impl Draw {
    pub(super) fn perform(self) -> Outcome {
        let mut host = LoadedHost::default();
        let engine = settings::engine_if_cached(Path::new(&host.host.plugins.cache))?;
        // Whether it fits this host is no question of its shape.
        host.host.memory = Size(u64::MAX).into();
        host.host.threads.max = u32::MAX.into();
        let checked = files::check(&[self.file], &host, &engine).map_err(|faults| Box::new(Answer::refused(faults)))?;
        let picture = |one: &files::Checked| render(&one.prepared.graph, self.format.into());
        let pictures: Vec<String> = checked.iter().map(picture).collect();
        let names: Vec<&str> = checked.iter().map(|one| one.prepared.graph.name.as_str()).collect();
        let result = json!({ "pipelines": names, "pictures": pictures });
        Ok(Answer::fine(names.join(", "), result, pictures.join("\n")))
    }
}
