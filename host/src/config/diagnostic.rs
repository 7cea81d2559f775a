//! Faults of a file: code, place and cure.
//!
//! Owns what a fault is. How it is shown is the business of `diagnostic::render`. It must not know what is wrong.

use std::{ops::Range, path::PathBuf, sync::Arc};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is refused.
    Warning,
    /// The file is refused.
    Error,
}

/// A file as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// As the user named it.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A place in a file, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Byte range in the file's text.
    pub span: Range<usize>,
    /// What is said there; may be empty.
    pub text: String,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Code, such as `TG203`; `explain` has a page on it.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file.
    pub file: Arc<Text>,
    /// Where; the first is the place of the fault, the others have to do with it.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub cure: Option<String>,
}
