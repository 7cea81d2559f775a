//! What does not fit the shape of a file.
//!
//! Owns the error of the deserializer, with the way to the place. It must not know how it is shown.

use std::{fmt, ops::Range};

/// Something of a tree that does not fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Misfit {
    /// What is wrong.
    pub(crate) wrong: Wrong,
    /// Where in the text.
    pub(crate) span: Range<usize>,
    /// The way to it: positions in mappings and lists, from the root.
    pub(crate) path: Vec<usize>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wrong {
    /// A field that is not there.
    Unknown { field: String, expected: &'static [&'static str] },
    /// A field that has to be there.
    Missing(&'static str),
    /// A word that is none of those allowed.
    Choice { found: String, expected: &'static [&'static str] },
    /// Something else than what belongs there.
    Kind { found: String, expected: String },
    /// A secret where the value could be shown.
    Secret,
    /// A value that says itself what is wrong with it.
    Value(String),
}

impl Misfit {
    /// What is wrong, at a place that its caller adds.
    pub(crate) fn new(wrong: Wrong, span: Range<usize>) -> Box<Self> {
        Box::new(Self { wrong, span, path: Vec::new() })
    }

    /// The word that was probably meant.
    pub(crate) fn meant(&self) -> Option<&'static str> {
        match &self.wrong {
            Wrong::Unknown { field: word, expected } | Wrong::Choice { found: word, expected } => {
                closest(word, expected.iter().copied())
            }
            _ => None,
        }
    }
}

/// The one of `words` that looks most like `word`, if any does.
pub(crate) fn closest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::jaro_winkler(word, &other.to_ascii_lowercase());
    words
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// The error of the deserializer. It is boxed: every result carries its size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Error(pub(crate) Box<Misfit>, pub(crate) Placed);

/// Whether an error's place is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It was made by a value that does not know where it stands.
    No,
    /// Its span is that of the fault.
    Yes,
}

impl Error {
    pub(crate) fn at(wrong: Wrong, span: Range<usize>) -> Self {
        Self(Misfit::new(wrong, span), Placed::Yes)
    }

    /// Adds the place, if it is not known yet.
    pub(crate) fn within(mut self, span: &Range<usize>) -> Self {
        if self.1 == Placed::No {
            self.0.span = span.clone();
            self.1 = Placed::Yes;
        }
        self
    }

    /// Adds a step of the way, seen from above.
    pub(crate) fn below(mut self, step: usize) -> Self {
        self.0.path.insert(0, step);
        self
    }

    fn nowhere(wrong: Wrong) -> Self {
        Self(Misfit::new(wrong, 0..0), Placed::No)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?}", self.0.wrong)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::nowhere(Wrong::Value(message.to_string()))
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::nowhere(Wrong::Kind { found: found.to_string(), expected: plainly(&expected.to_string()) })
    }

    fn invalid_value(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::nowhere(Wrong::Kind { found: found.to_string(), expected: plainly(&expected.to_string()) })
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::nowhere(Wrong::Choice { found: found.to_owned(), expected })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::nowhere(Wrong::Unknown { field: field.to_owned(), expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::nowhere(Wrong::Missing(field))
    }
}

/// Rust's names for what is expected, in the words of a file.
pub(crate) fn plainly(expected: &str) -> String {
    let plain = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below zero",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a string" => "a text",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a mapping",
        other => other,
    };
    plain.to_owned()
}
