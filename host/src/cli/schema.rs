//! `schema`: what may stand in a file, as JSON Schema.

use clap::{Args, ValueEnum};

use super::{Answer, Outcome};
use crate::config::schema;

#[derive(Args, Debug)]
pub(super) struct Schema {
    /// Whose schema.
    #[arg(value_enum, default_value_t)]
    file: File,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum File {
    /// A pipeline's.
    #[default]
    Pipeline,
    /// The host's settings'.
    Host,
}

impl Schema {
    pub(super) fn perform(self) -> Outcome {
        let (name, schema) = match self.file {
            File::Pipeline => ("schema of a pipeline's file", schema::pipeline()),
            File::Host => ("schema of the host's file", schema::host()),
        };
        let text = format!("{schema:#}\n");
        Ok(Answer::fine(name, schema, text))
    }
}
