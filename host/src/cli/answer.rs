//! The answer of a verb, and how it is shown.
//!
//! Owns the two forms: for people, and one JSON object `{command, ok, summary, result, diagnostics, error}`. Invariant:
//! nothing leaves here with a secret in it.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::mpsc,
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Exit, screen};
use crate::config::{
    self, Diagnostic,
    diagnostic::{Colour, render},
};

/// Who reads an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// People.
    People,
    /// Programs.
    Json,
}

/// What a verb comes to; a boxed answer is one that cut it short.
pub(super) type Outcome = Result<Answer, Box<Answer>>;

/// Whether the one who is answered can be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until they have read everything.
    #[default]
    Endless,
    /// Only so long: somebody who does not read is why the process ends.
    Short,
}

/// How long an answer is tried to be given to somebody who may not read it.
const SHORT: Duration = Duration::from_millis(500);

/// What went wrong, where it is no fault of a file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trouble {
    /// Its code, where there is a page on it.
    pub(super) code: Option<&'static str>,
    /// A fragment that reads after "failed to", or a sentence of its own.
    pub(super) message: String,
    /// What to do about it.
    pub(super) cure: Option<String>,
}

impl Trouble {
    pub(super) fn of(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), cure: None }
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

/// What a verb answers.
#[derive(Debug)]
pub(super) struct Answer {
    /// Exit code of the process.
    pub(super) exit: Exit,
    /// For people, on standard output.
    pub(super) text: String,
    /// For people, on standard error.
    pub(super) notes: String,
    /// In one line, for programs.
    pub(super) summary: String,
    /// For programs.
    pub(super) result: Value,
    /// Faults of files.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What else went wrong.
    pub(super) error: Option<Trouble>,
    /// Whether people have been told of `error` already, when it happened.
    pub(super) is_told: bool,
    /// Whether whoever reads can be waited for.
    pub(super) patience: Patience,
}

impl Answer {
    /// An answer that says what was asked for.
    pub(super) fn fine(summary: impl Into<String>, result: impl Serialize, text: impl Into<String>) -> Self {
        let result = serde_json::to_value(result).unwrap_or_else(|error| json!(format!("not shown: {error}")));
        Self {
            exit: Exit::Fine,
            text: text.into(),
            notes: String::new(),
            summary: summary.into(),
            result,
            diagnostics: Vec::new(),
            error: None,
            is_told: false,
            patience: Patience::Endless,
        }
    }

    /// An answer that says why there is none.
    pub(super) fn failed(exit: Exit, trouble: Trouble) -> Self {
        let summary = trouble.message.lines().next().unwrap_or_default().to_owned();
        Self { exit, error: Some(trouble), ..Self::fine(summary, Value::Null, "") }
    }

    /// An answer that says what is wrong with files.
    pub(super) fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        let summary = match diagnostics.len() {
            1 => "1 fault".to_owned(),
            count => format!("{count} faults"),
        };
        Self { exit: Exit::Usage, diagnostics, ..Self::fine(summary, Value::Null, "") }
    }

    /// Shows it, and says what the process ends with.
    pub(super) fn show(self, command: &str, form: Form) -> ExitCode {
        let (exit, patience, command) = (self.exit, self.patience, command.to_owned());
        screen::clear();
        // Whoever closed their end has read as much as they wanted.
        let show = move || {
            let _ = match form {
                Form::People => self.show_to_people(),
                Form::Json => self.show_as_json(&command),
            };
        };
        match patience {
            Patience::Endless => show(),
            Patience::Short => {
                let (done, shown) = mpsc::channel();
                std::thread::spawn(move || {
                    show();
                    done.send(())
                });
                let _ = shown.recv_timeout(SHORT);
            }
        }
        exit.into()
    }

    fn show_to_people(&self) -> std::io::Result<()> {
        let mut said = String::new();
        if !self.diagnostics.is_empty() {
            said.push_str(&render(&self.diagnostics, colour()));
            said.push('\n');
        }
        if let Some(trouble) = self.error.as_ref().filter(|_| !self.is_told) {
            let code = trouble.code.map(|code| format!("[{code}]")).unwrap_or_default();
            said.push_str(&format!("error{code}: {}\n", trouble.message));
            if let Some(cure) = &trouble.cure {
                said.push_str(&format!("  = help: {cure}\n"));
            }
        }
        said.push_str(&self.notes);
        let mut errors = std::io::stderr().lock();
        errors.write_all(config::mask(&said).as_bytes())?;
        errors.flush()?;
        drop(errors);
        if self.text.is_empty() {
            // Standard output may be somebody else's, who holds it.
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(config::mask(&self.text).as_bytes())?;
        out.flush()
    }

    /// The one object that programs read, without an end of line.
    pub(super) fn as_json(&self, command: &str) -> String {
        let object = json!({
            "command": command,
            "ok": self.exit == Exit::Fine,
            "summary": self.summary,
            "result": self.result,
            "diagnostics": self.diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "error": self.error,
        });
        config::mask(&object.to_string()).into_owned()
    }

    fn show_as_json(&self, command: &str) -> std::io::Result<()> {
        let mut line = self.as_json(command);
        line.push('\n');
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()
    }
}

/// Whether standard error takes colours.
fn colour() -> Colour {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    if wanted && std::io::stderr().is_terminal() { Colour::On } else { Colour::Off }
}
