//! What a stage's state depends on, beside the records, and whether a stage can go on with it.
//!
//! Owns the comparison. It must not know what a state holds or where it is kept.

use serde::{Deserialize, Serialize};

use super::committed::StagePoint;
use crate::{
    config::graph::{Stage, Windowing},
    plugin::Kind,
    stage::generation::Standing,
};

/// What a stage's state depends on, beside the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Name that the plugin gives itself.
    pub plugin: String,
    /// Version of the states that it writes.
    pub state_version: u32,
    /// JSON pointer to the key, where the stage sets one.
    pub key: Option<String>,
    /// How time is divided.
    pub window: String,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_deref().unwrap_or("that of the records");
        write!(to, "`{}` with states of version {}, key {key}, window {}", self.plugin, self.state_version, self.window)
    }
}

impl Signature {
    /// That of a stage whose plugin calls itself `plugin`.
    pub fn of(stage: &Stage, plugin: &str, state_version: u32) -> Self {
        // What becomes of late records is a rule, not part of what is kept.
        let window = match stage.window {
            Windowing::None => "none".to_owned(),
            Windowing::Tumbling { size, .. } => format!("tumbling {size}"),
            Windowing::Count(records) => format!("of {records} records"),
        };
        Self { plugin: plugin.to_owned(), state_version, key: stage.key.clone(), window }
    }

    /// The same for the states of `point`, which may be of the version of another generation.
    pub(super) fn of_point(&self, point: &StagePoint) -> Self {
        let standing = &point.standing;
        let state_version = if standing.digest.is_empty() { self.state_version } else { standing.state_version };
        Self { state_version, ..self.clone() }
    }

    /// Whether a stage of `kind` and this signature can go on with states of `before`: of another version are those that a noted
    /// generation wrote, which can serve again; and what keeps no state is not asked what it calls itself.
    pub(super) fn may_go_on_with(&self, kind: Kind, before: &Self, standing: &Standing) -> bool {
        let is_noted = !standing.digest.is_empty();
        let state_version = if is_noted { before.state_version } else { self.state_version };
        let plugin = if kind == Kind::Aggregate { &self.plugin } else { &before.plugin };
        *before == Self { state_version, plugin: plugin.clone(), ..self.clone() }
    }
}
