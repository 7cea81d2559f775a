//! Source `host_metrics`: what this machine measures about itself.
//!
//! Owns when to measure and the shape of a measurement's record. It must not know what becomes of them. Invariant: a
//! tick that was missed, because measuring or the pipeline took longer, is skipped and reported, never made up for.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::sampler::Sampler;
use super::{Chunk, Position, Read, Source};
use crate::batch::Limit;
use crate::codec::{Decoder, Format, Origin, Stamp};
use crate::unit::Span;

mod mounts;
mod sampler;

/// What `host_metrics:` of a source takes.
///
/// Each record is one measurement in one line of JSON:
/// `{"ts":1700000000000,"host":"web-1","metric":"cpu.usage","value":12.5,"unit":"percent","labels":{"cpu":"0"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often to measure.
    pub every: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { every: Span(Duration::from_secs(1)) }
    }
}

/// What a look at the machine comes to: the sampler for the next one, and the lines of this one.
type Look = anyhow::Result<(Sampler, Vec<u8>)>;

/// The running source.
struct HostMetrics {
    name: String,
    every: Duration,
    ticks: Interval,
    /// When the last look was due.
    due: Instant,
    /// The sampler, while it does not look.
    sampler: Option<Sampler>,
    /// A look that goes on in a thread that may block; it outlives a `read` that is dropped.
    looking: Option<JoinHandle<Look>>,
    /// Lines that have not been handed out yet, from `start` on.
    lines: Vec<u8>,
    start: usize,
    decoder: Decoder,
    /// Records handed out.
    handed: u64,
    stopped: bool,
}

/// A source that measures this machine. `name` is the source's; records of more than `max_record` bytes are refused.
///
/// # Errors
/// When `every` is no time at all.
pub fn open(config: &Config, name: &str, stamp: &Stamp, max_record: usize) -> anyhow::Result<Box<dyn Source>> {
    let every = config.every.0;
    if every.is_zero() {
        bail!("measure `every: 0s`: a longer time is needed");
    }
    // A first look without records: usage and rates are differences, and need something to differ from.
    let looking = spawn_blocking(|| Ok((Sampler::open()?, Vec::new())));
    let due = Instant::now();
    let mut ticks = interval_at(due + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    Ok(Box::new(HostMetrics {
        name: name.to_owned(),
        every,
        ticks,
        due,
        sampler: None,
        looking: Some(looking),
        lines: Vec::new(),
        start: 0,
        decoder: Decoder::new(Format::Json, stamp, max_record),
        handed: 0,
        stopped: false,
    }))
}

impl Source for HostMetrics {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            loop {
                if self.start < self.lines.len() {
                    return self.hand_out(most).map(Read::Chunk);
                }
                if self.stopped {
                    return Ok(Read::End);
                }
                // Each arm leaves the source whole, so that this future may be dropped at either await.
                if let Some(looking) = &mut self.looking {
                    let looked = looking.await;
                    self.looking = None;
                    let (sampler, lines) = looked.context("look at this machine")??;
                    self.sampler = Some(sampler);
                    (self.lines, self.start) = (lines, 0);
                } else {
                    let due = self.ticks.tick().await;
                    let missed = missed(self.due, due, self.every);
                    self.due = due;
                    let sampler = self.sampler.take();
                    self.looking = Some(spawn_blocking(move || {
                        let mut sampler = sampler.map_or_else(Sampler::open, Ok)?;
                        let lines = sampler.look(missed)?;
                        Ok((sampler, lines))
                    }));
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        Position(self.handed.into())
    }

    fn seek<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

impl HostMetrics {
    fn hand_out(&mut self, most: Limit) -> anyhow::Result<Chunk> {
        let mut batch = self.decoder.builder();
        let mut undecoded = Vec::new();
        let rest = self.lines.get(self.start..).unwrap_or_default();
        let origin = Origin { name: &self.name, offset: self.start as u64 };
        let used = self.decoder.end(rest, origin, &mut batch, &mut undecoded, most);
        ensure!(used > 0, "decode a measurement: no progress at byte {}", self.start);
        self.start += used;
        self.handed += batch.len() as u64;
        Ok(Chunk { batch: batch.finish(), undecoded, ..Chunk::default() })
    }
}

/// How many ticks went by between two that were kept.
fn missed(before: Instant, due: Instant, every: Duration) -> u64 {
    let periods = (due - before).as_nanos() / every.as_nanos().max(1);
    u64::try_from(periods).unwrap_or(u64::MAX).saturating_sub(1)
}

#[cfg(test)]
mod tests;
