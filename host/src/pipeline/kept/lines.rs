//! Groups as lines of JSON: a file of an export, and what the interface answers.
//!
//! Owns the format: a head, a line for each group ([`Group`]), and an end that says how many there were, so that what was
//! cut off is found. Invariant: what is read is of the one version that there is.
//!
//! ```text
//! {"tidegate_state":1,"pipeline":"p","stages":{"sums":{"signature":{…},"watermark":4000}}}
//! {"stage":"sums","key":"a","window":{"start":0,"end":1000},"counted":0,…,"state":{"n":2}}
//! {"groups":1,"epoch":7}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{super::durable::Signature, Group};

/// Version of the lines.
const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Version of the lines: 1.
    tidegate_state: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The stages whose groups follow.
    pub stages: BTreeMap<String, StageHead>,
}

/// What a stage's groups depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageHead {
    /// How their states were made.
    pub signature: Signature,
    /// The stage's watermark, in milliseconds since 1970.
    pub watermark: i64,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many groups there were.
    pub groups: u64,
    /// The last epoch in them.
    pub epoch: u64,
    /// Why there are no more, where there should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// The first.
    Head(Head),
    /// Of a group.
    Group(Group),
    /// The last.
    End(End),
}

impl Head {
    /// The head of these stages' groups.
    pub(super) fn of(pipeline: &str, stages: BTreeMap<String, StageHead>) -> Self {
        Self { tidegate_state: VERSION, pipeline: pipeline.to_owned(), stages }
    }
}

impl Line {
    /// The line as it is written, without its end.
    pub fn written(&self) -> String {
        // Numbers, texts and JSON that was read are always JSON.
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"unwritten\":\"{error}\"}}"))
    }
}

/// Reads a line; the one after none is a head.
///
/// # Errors
/// It is none of this version, in words.
pub fn read(text: &str, is_first: bool) -> Result<Line, String> {
    if is_first {
        let head: Head = serde_json::from_str(text).map_err(|error| format!("it is no head of an export: {error}"))?;
        return if head.tidegate_state == VERSION {
            Ok(Line::Head(head))
        } else {
            Err(format!("it has version {}, and this is version {VERSION}", head.tidegate_state))
        };
    }
    match serde_json::from_str(text) {
        Ok(end) => Ok(Line::End(end)),
        Err(_) => serde_json::from_str(text).map(Line::Group).map_err(|error| format!("it is no group: {error}")),
    }
}
