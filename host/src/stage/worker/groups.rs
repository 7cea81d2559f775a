//! What others see of the groups of a worker.
//!
//! Owns the difference between two looks, which is what several workers of a stage can add up. It must not change a group.

use super::Spec;
use crate::{config::WhenFull, stage::aggregate::Aggregate};

/// What the groups of a worker came to at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    groups: usize,
    bytes: usize,
    /// Groups that are not in memory.
    cold: usize,
    /// Whether it may take no further batch.
    is_full: bool,
}

impl Held {
    fn of(aggregate: &Aggregate) -> Self {
        let is_full = aggregate.when_full() == WhenFull::Pause && aggregate.is_full();
        Self { groups: aggregate.len(), bytes: aggregate.bytes(), cold: aggregate.cold().0, is_full }
    }

    /// Puts what groups have come to since the last look where others can see it.
    pub(super) fn note(&mut self, aggregate: &mut Aggregate, spec: &Spec) {
        let (meter, evicted) = (&spec.meter, aggregate.take_evicted());
        let (before, now) = (*self, Self::of(aggregate));
        meter.groups(now.groups as i64 - before.groups as i64, now.bytes as i64 - before.bytes as i64);
        meter.cold(now.cold as i64 - before.cold as i64, aggregate.take_reads());
        meter.full(i64::from(now.is_full) - i64::from(before.is_full));
        meter.evicted(evicted);
        let (stage, groups, bytes) = (spec.stage.as_str(), now.groups, now.bytes);
        if evicted > 0 {
            tracing::debug!(stage, evicted, groups, bytes, "groups given up: they take all of `state.max`");
        }
        if now.is_full && !before.is_full {
            tracing::info!(stage, groups, bytes, "its groups take all of `state.max`: it waits for room");
        }
        *self = now;
    }
}
