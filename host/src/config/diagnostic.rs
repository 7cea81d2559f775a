//! Faults of a file: code, place and cure.
//!
//! Owns what a fault is and how it is shown. It must not know what is wrong.

use std::{ops::Range, path::PathBuf, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
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

impl Text {
    /// Line and column of a byte, both from 1 on, columns in characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// A place in a file, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Byte range in the file's text.
    pub span: Range<usize>,
    /// What is said there; may be empty.
    pub text: String,
}

/// The longest message; what is beyond is cut off.
const MOST_CHARS: usize = 400;

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Code, such as [`super::codes::NO_SUCH_OUTPUT`]; `explain` has a page on it.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file.
    pub file: Arc<Text>,
    /// Where; the first is the place of the fault, the others have to do with it.
    pub labels: Vec<Label>,
    /// What to do about it; shown at the place if nothing else is said there.
    pub cure: Option<String>,
}

/// A fault whose file its finder does not know.
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The first is the place of the fault.
    pub(crate) labels: Vec<(Range<usize>, String)>,
    pub(crate) cure: Option<String>,
}

impl Flaw {
    /// A fault at a place.
    pub(crate) fn at(code: &'static str, span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: vec![(span.clone(), String::new())], cure: None }
    }

    /// Says what to do about it.
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Names a further place that has to do with it.
    pub(crate) fn label(mut self, span: &Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span.clone(), text.into()));
        self
    }

    /// The fault in its file.
    pub(crate) fn told(self, file: &Arc<Text>) -> Diagnostic {
        let mut fault = Diagnostic::error(self.code, file, self.message);
        fault.labels = self.labels.into_iter().map(|(span, text)| Label { span, text }).collect();
        fault.cure = self.cure;
        fault
    }

    /// The same as a warning, which refuses nothing.
    pub(crate) fn warned(self, file: &Arc<Text>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.told(file) }
    }
}

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal.
    On,
    /// Everywhere else.
    Off,
}

impl Diagnostic {
    /// A fault that refuses `file`.
    pub fn error(code: &'static str, file: &Arc<Text>, message: impl Into<String>) -> Self {
        let (mut message, file) = (message.into(), Arc::clone(file));
        // What a variable put in may be of any size.
        if let Some((end, _)) = message.char_indices().nth(MOST_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self { code, severity: Severity::Error, message, file, labels: Vec::new(), cure: None }
    }

    /// Adds a place; the first one is that of the fault.
    #[must_use]
    pub fn at(self, span: Range<usize>) -> Self {
        self.label(span, "")
    }

    /// Adds a place with something to say about it.
    #[must_use]
    pub fn label(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// The fault as people read it, several lines, without an end of line.
    pub fn render(&self, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.file.path.display().to_string();
        let mut group = level.primary_title(self.message.as_str()).id(self.code).elements(None::<Origin<'_>>);
        let mut cure = self.cure.as_deref();
        if self.labels.is_empty() {
            group = group.element(Origin::path(path));
        } else {
            let mut snippet = Snippet::source(self.file.text.as_str()).path(path);
            for (i, label) in self.labels.iter().enumerate() {
                let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let text = if i == 0 && label.text.is_empty() { cure.take() } else { Some(label.text.as_str()) };
                let text = text.filter(|text| !text.is_empty()).map(str::to_owned);
                snippet = snippet.annotation(kind.span(label.span.clone()).label(text));
            }
            group = group.element(snippet);
        }
        if let Some(cure) = cure {
            group = group.element(Level::HELP.message(cure));
        }
        let renderer = match colour {
            Colour::On => Renderer::styled(),
            Colour::Off => Renderer::plain(),
        };
        renderer.render(&[group])
    }

    /// The fault as programs read it: `{code, severity, message, file, line, column, labels[], cure}`.
    pub fn to_json(&self) -> serde_json::Value {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|label| {
                let ((line, column), (end_line, end_column)) =
                    (self.file.position(label.span.start), self.file.position(label.span.end));
                serde_json::json!({
                    "line": line, "column": column, "end_line": end_line, "end_column": end_column, "text": label.text,
                })
            })
            .collect();
        let place = self.labels.first().map(|label| self.file.position(label.span.start));
        serde_json::json!({
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.file.path.display().to_string(),
            "line": place.map(|at| at.0),
            "column": place.map(|at| at.1),
            "labels": labels,
            "cure": self.cure,
        })
    }
}

/// Faults as people read them, an empty line between each two.
pub fn render(faults: &[Diagnostic], colour: Colour) -> String {
    faults.iter().map(|fault| fault.render(colour) + "\n").collect::<Vec<_>>().join("\n")
}
