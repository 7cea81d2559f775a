//! What is said while pipelines run: rates, and what waits.
//!
//! Owns the line and how often it is said. It reads boards only.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::super::{figure, screen};
use crate::{
    config::graph::LETTERS,
    pipeline::{Board, Phase, Status, board::PartStatus},
};

/// Over which stretch rates are measured, and how often a line is said where it does not stay in place.
const STRETCH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// One line that stays in place.
    InPlace,
    /// A line each second.
    Lines,
    /// Nothing.
    Silent,
}

/// Records by pipeline and part.
type Counts = BTreeMap<(String, String), u64>;

/// The line of a run.
pub(super) struct Live {
    manner: Manner,
    /// When rates were measured last, and what had been counted by then.
    measured: Option<(Instant, Counts)>,
    rates: BTreeMap<(String, String), f64>,
}

impl Live {
    /// A line for a run; `records_on_stdout` says that a terminal may be busy with records.
    pub(super) fn new(is_asked_for: bool, records_on_stdout: bool) -> Self {
        use std::io::IsTerminal as _;
        let is_busy = records_on_stdout && std::io::stdout().is_terminal();
        let manner = match (screen::is_live() && !is_busy, is_asked_for || is_busy) {
            (true, _) => Manner::InPlace,
            (false, true) => Manner::Lines,
            (false, false) => Manner::Silent,
        };
        Self { manner, measured: None, rates: BTreeMap::new() }
    }

    /// Says how `boards` stand, if it is time to.
    pub(super) fn show<'b>(&mut self, boards: impl Iterator<Item = &'b Board>) {
        if self.manner == Manner::Silent {
            return;
        }
        let states: Vec<Status> = boards.filter(|board| board.phase() != Phase::Ended).map(Board::status).collect();
        let is_measured = self.measure(&states);
        let line = states.iter().map(|status| self.line(status)).collect::<Vec<_>>().join("  ‖  ");
        match self.manner {
            Manner::InPlace => screen::live(&line),
            Manner::Lines if is_measured => screen::say(&line),
            Manner::Lines | Manner::Silent => {}
        }
    }

    /// Measures rates if a stretch has passed.
    fn measure(&mut self, states: &[Status]) -> bool {
        let now = Instant::now();
        let elapsed = self.measured.as_ref().map(|(then, _)| now - *then);
        if elapsed.is_some_and(|elapsed| elapsed < STRETCH) {
            return false;
        }
        let counts: BTreeMap<_, _> = states
            .iter()
            .flat_map(|status| {
                let parts = status.sources.iter().chain(&status.stages).chain(&status.sinks);
                parts.map(|part| ((status.pipeline.clone(), part.name.clone()), part.reading.tally.received))
            })
            .collect();
        if let (Some((_, before)), Some(elapsed)) = (&self.measured, elapsed) {
            let seconds = elapsed.as_secs_f64();
            let since = |(key, count): (&(String, String), &u64)| {
                let before = before.get(key).copied().unwrap_or_default();
                (key.clone(), count.saturating_sub(before) as f64 / seconds)
            };
            self.rates = counts.iter().map(since).collect();
        }
        let is_first = self.measured.replace((now, counts)).is_none();
        !is_first
    }

    fn line(&self, status: &Status) -> String {
        let part = |part: &PartStatus| {
            let rate = self.rates.get(&(status.pipeline.clone(), part.name.clone())).copied().unwrap_or_default();
            format!("{} {}", part.name, figure::rate((rate * 1e3) as u64, 1e3))
        };
        // The sink of dead letters is there everywhere, and worth the room once something came.
        let is_shown = |part: &&PartStatus| part.name != LETTERS || part.reading.tally.received > 0;
        let parts = |parts: &[PartStatus]| parts.iter().filter(is_shown).map(part).collect::<Vec<_>>().join(", ");
        let waiting: usize = status.edges.iter().map(|edge| edge.waiting.records).sum();
        let flow: Vec<String> = [&status.sources, &status.stages, &status.sinks]
            .into_iter()
            .filter(|list| !list.is_empty())
            .map(|list| parts(list))
            .collect();
        let head = match status.phase {
            Phase::Draining => format!("{} drains", status.pipeline),
            _ => format!("{} {:.0} s, epoch {}", status.pipeline, status.seconds, status.epoch),
        };
        let mut line = format!("{head}: {}; {} in flight", flow.join(" → "), figure::count(waiting as u64));
        let is_draining = status.phase == Phase::Draining;
        // Who is not ready because of the drain itself is the pipeline.
        for not_ready in status.not_ready.iter().filter(|one| !is_draining || one.who != status.pipeline) {
            line.push_str(&format!("; `{}`: {}", not_ready.who, not_ready.why));
        }
        line
    }
}
