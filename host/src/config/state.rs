//! How much a stage may remember.
//!
//! Owns the figures, their defaults and the words for what becomes of more. It must not know how groups are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Spanned;
use crate::unit::Size;

/// How much the groups of an aggregate may take, all of its workers together, each of which has an equal part.
///
/// A group with a short key and a short state takes about 140 bytes, so that the default is room for some 950,000. One that is
/// not in memory counts as much for `max`, and takes 12 to 24 bytes there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Most bytes, looked at before each batch: the last batch may go beyond.
    pub max: Spanned<Size>,
    /// Most bytes that stay in memory. Groups above that which were touched longest ago lie in the host's state alone, until a
    /// record comes to them or their time has come; what has changed since the last commit stays, however much it is.
    /// Without it, all of them are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Spanned<Size>>,
    /// What becomes of more.
    pub when_full: Spanned<WhenFull>,
}

impl Default for State {
    fn default() -> Self {
        Self { max: Size(128 << 20).into(), memory: None, when_full: WhenFull::Pause.into() }
    }
}

/// What a stage does whose groups take all that they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It takes no further batch until windows have closed or groups have expired, as far as what is in front of the
    /// batch lets them, or somebody has raised `max`. Nothing is lost.
    Pause,
    /// It gives up the groups that were seen longest ago, an eighth of them at a time, and counts them.
    Evict,
    /// It refuses records that would begin a group, for the reason `state_full`; groups that are there go on.
    Refuse,
}
