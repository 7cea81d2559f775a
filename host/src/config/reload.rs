//! How another plugin takes the place of a stage's in a running pipeline.
//!
//! Owns the fields. It must not know how a stage changes over.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Spanned;
use crate::unit::{Rate, Share, Span};

/// How another plugin takes the place of a stage's in a running pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Whether the plugin's file is watched: when it changes, it is reloaded.
    pub watch: bool,
    /// How long a new plugin is watched, unless it has processed 10,000 records before.
    pub probation: Spanned<Span>,
    /// The share of its records that it may refuse meanwhile; with more, and three times as many as the one before, that
    /// one comes back.
    pub rollback_at: Share,
    /// After how many times of that a changed file waits for a person, who says `tidegate plugin reload`.
    pub rollbacks: Rate,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: false,
            probation: Span(Duration::from_secs(30)).into(),
            rollback_at: Share(0.01),
            rollbacks: Rate { count: 3.0, per: Duration::from_secs(3600) },
        }
    }
}

impl Reload {
    /// Whether nothing is said that is not so anyway.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
