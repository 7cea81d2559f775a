//! `completions`: what a shell needs to complete our verbs and flags.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::{Answer, Outcome};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn perform(self, mut command: clap::Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "tidegate", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let result = json!({ "shell": self.shell.to_string(), "script": script });
        Ok(Answer::fine(format!("completions for {}", self.shell), result, script))
    }
}
