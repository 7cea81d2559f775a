//! When a stage's plugin, or a sink, is left alone for a while.
//!
//! Owns the fields. It must not know how a breaker works.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Spanned;
use crate::unit::{Share, Span};

/// When a stage's plugin, or a sink, is left alone for a while, and what becomes of records meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// The breaker opens where so many of the records are refused or fault, or so many of the calls fail.
    pub failures: Spanned<Share>,
    /// Fewest records, or calls, that say anything.
    #[schemars(range(min = 1, max = 100_000))]
    pub samples: Spanned<u32>,
    /// How far back they count.
    pub window: Spanned<Span>,
    /// How long it stays open first; twice as long after each probe that fails, up to 5 minutes.
    pub open: Spanned<Span>,
    /// How long a call of a sink takes that is slow: where four of five are, the breaker opens too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Spanned<Span>>,
    /// What becomes of records while it is open.
    pub then: Spanned<Then>,
    /// What has them with `then: fallback`: of a stage another plugin of the same kind, which gets the same `config`, of a
    /// sink another sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Spanned<String>>,
}

impl Default for Breaker {
    fn default() -> Self {
        let seconds = |count| Span(Duration::from_secs(count)).into();
        Self {
            failures: Share(0.5).into(),
            samples: 20.into(),
            window: seconds(10),
            open: seconds(5),
            slow: None,
            then: Then::default().into(),
            fallback: None,
        }
    }
}

impl Breaker {
    /// Whether nothing is said that is not so anyway.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What has the records while it is open, where something is named and asked for.
    pub(crate) fn stands_in(&self) -> Option<&Spanned<String>> {
        self.fallback.as_ref().filter(|_| self.then.value == Then::Fallback)
    }
}

/// What becomes of records while a breaker is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// They wait, in order, and what sends them waits with them.
    #[default]
    Pause,
    /// They become dead letters, at most 1,000 a second; the rest waits.
    DeadLetter,
    /// They go on as they are, past the plugin of a filter or map.
    Bypass,
    /// They are dropped and counted.
    Drop,
    /// Another plugin, or another sink, has them.
    Fallback,
}
