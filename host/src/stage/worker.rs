//! A worker: one instance of a plugin, and what it makes of a batch.
//!
//! Owns the instance and, in an aggregate, its groups; shares nothing. `work` is a pure step but for the plugin it
//! calls: the same work on the same state comes to the same outcome. Invariant: an instance that committed a fault is
//! dropped before anything else happens.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    aggregate::{Aggregate, RefusedGroups, Rules},
    assemble::{assemble, others},
    failure::{Failure, Report, Shown, Stop},
    lane::Gone,
    meter::Meter,
    outcome::{Outcome, Rank},
    outlet::Port,
    prepare::Wants,
    table::{Changes, Saved},
};
use crate::{
    batch::Batch,
    config::OnError,
    letter::with_reasons,
    plugin::{Effects, Fault, FaultKind, Instance, Interrupt, Kind, Level, Refusals, Usage},
    time::{END, Window},
};

/// Makes instances of a stage's plugin.
pub trait Maker: Send + Sync {
    /// A fresh, configured instance whose calls end once `interrupt` is raised.
    ///
    /// # Errors
    /// A fault of kind `InstantiateFailed`.
    fn make(&self, interrupt: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>>;
}

/// What all workers of a stage know.
pub struct Spec {
    /// Name of the stage.
    pub stage: String,
    /// The plugin, as the configuration names it.
    pub plugin: String,
    /// SHA-256 of the plugin, in hexadecimal.
    pub digest: String,
    /// What it does.
    pub kind: Kind,
    /// Columns that it needs.
    pub wants: Wants,
    /// What becomes of refused records that nobody reads.
    pub on_error: OnError,
    /// Side outputs that somebody reads.
    pub is_read: ReadPorts,
    /// Rules of an aggregate.
    pub rules: Option<Rules>,
    /// Where instances come from.
    pub maker: Arc<dyn Maker>,
    /// What ends their calls when the pipeline is taken down.
    pub interrupt: Interrupt,
    /// What the stage shows of itself.
    pub meter: Arc<Meter>,
}

/// Which of the host's own side outputs have readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPorts {
    /// What a filter did not keep.
    pub rest: bool,
    /// Late records.
    pub late: bool,
    /// Refused records.
    pub refused: bool,
}

/// Something to do.
#[derive(Debug)]
pub enum Work {
    /// Records of the input at this position.
    Batch(usize, Batch),
    /// A worker's share of a batch, and the row of the whole batch that each of its records stood in.
    Share(usize, Batch, Vec<u32>),
    /// Event time has come this far.
    Advance(i64),
    /// Put out what is open, marked incomplete.
    Close,
    /// Hand over what changed.
    Barrier,
}

/// What a piece of work came to.
#[derive(Debug)]
pub struct Done {
    /// Which worker did it.
    pub worker: usize,
    /// What came of it.
    pub result: Result<Outcome, Failure>,
    /// What changed, for a barrier.
    pub changes: Changes,
}

/// Groups of a commit, of one stage.
pub type SavedGroups = BTreeMap<(Vec<u8>, Window), Saved>;

/// One worker.
pub struct Worker {
    spec: Arc<Spec>,
    instance: Box<dyn Instance>,
    aggregate: Option<Aggregate>,
    watermark: i64,
    used: Usage,
}

impl Worker {
    /// A worker with a fresh instance and the groups of a commit that `is_mine` claims.
    ///
    /// # Errors
    /// When no instance can be made.
    pub fn new(
        spec: Arc<Spec>,
        watermark: i64,
        groups: &SavedGroups,
        is_mine: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, Failure> {
        let instance = spec.maker.make(&spec.interrupt).map_err(|fault| report(&spec, *fault, None))?;
        let aggregate = spec
            .rules
            .clone()
            .map(|rules| Aggregate::new(rules, watermark, groups.iter().filter(|((key, _), _)| is_mine(key))));
        spec.meter.groups(aggregate.as_ref().map_or(0, |aggregate| aggregate.len() as i64));
        Ok(Self { spec, instance, aggregate, watermark, used: Usage::default() })
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// What ends the stage; nothing of the work has had an effect.
    pub fn work(&mut self, work: Work) -> Result<Outcome, Failure> {
        let groups = self.aggregate.as_ref().map_or(0, Aggregate::len);
        let outcome = match work {
            Work::Batch(input, batch) => self.batch(input, batch),
            Work::Share(input, batch, rows) => self.batch(input, batch).map(|outcome| outcome.in_rows(&rows)),
            Work::Advance(time) => self.advance(time),
            Work::Close => self.close(),
            Work::Barrier => Ok(Outcome::default()),
        };
        self.note(groups);
        outcome
    }

    /// What changed since the last barrier.
    pub fn take_changes(&mut self) -> Changes {
        self.aggregate.as_mut().map(Aggregate::take_changes).unwrap_or_default()
    }

    fn batch(&mut self, input: usize, batch: Batch) -> Result<Outcome, Failure> {
        let spec = self.spec.clone();
        let batch = spec.wants.prepare(input, batch);
        let mut outcome = Outcome::default();
        outcome.tally.received = batch.len() as u64;
        let failed = |fault: Box<Fault>| report(&spec, *fault, Some(&batch));
        let refused = match spec.kind {
            Kind::Filter => {
                let selection = self.instance.filter(self.watermark, &batch).map_err(failed)?;
                self.filtered(&batch, &selection.keep, &selection.refused, &mut outcome);
                selection.refused
            }
            Kind::Map => {
                let mapped = self.instance.map(self.watermark, &batch).map_err(failed)?;
                let origins = assemble(&spec.stage, &batch, mapped.produced, None, &mut outcome);
                outcome.tally.passed += origins;
                outcome.tally.filtered += batch.len() as u64 - origins - mapped.refused.at.len() as u64;
                mapped.refused
            }
            Kind::Aggregate => {
                let Some(aggregate) = &mut self.aggregate else { return Ok(outcome) };
                let folded =
                    aggregate.fold(self.watermark, &batch, &mut *self.instance, &mut outcome).map_err(failed)?;
                outcome.tally.late += folded.late.len() as u64;
                if spec.is_read.late && !folded.late.is_empty() {
                    outcome.put_ranked(Port::Late, batch.gather(&folded.late), rows(&folded.late));
                }
                for groups in folded.refused_groups {
                    self.refuse(&groups.groups, &groups.refused, &mut outcome)?;
                }
                folded.refused
            }
        };
        outcome.tally.refused += refused.at.len() as u64;
        self.refuse(&batch, &refused, &mut outcome)?;
        Ok(outcome)
    }

    fn filtered(&self, batch: &Batch, keep: &[u32], refused: &Refusals, outcome: &mut Outcome) {
        let kept = if keep.len() == batch.len() { batch.clone() } else { batch.gather(keep) };
        outcome.tally.passed += keep.len() as u64;
        outcome.tally.produced += keep.len() as u64;
        outcome.tally.filtered += (batch.len() - keep.len() - refused.at.len()) as u64;
        outcome.put(Port::Main, kept);
        if self.spec.is_read.rest {
            let rest = others(batch.len(), [keep, &refused.at]);
            outcome.put(Port::Rest, batch.gather(&rest));
        }
    }

    /// Sends refused records to who reads them, or does what the stage's `on_error` says.
    fn refuse(&self, batch: &Batch, refused: &Refusals, outcome: &mut Outcome) -> Result<(), Failure> {
        let (Some(&first), spec) = (refused.at.first(), &self.spec) else { return Ok(()) };
        if spec.is_read.refused {
            let refusals = with_reasons(&batch.gather(&refused.at), &spec.stage, &refused.reasons);
            outcome.put_ranked(Port::Refused, refusals, rows(&refused.at));
            return Ok(());
        }
        let reason =
            || refused.reasons.get(0).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        match spec.on_error {
            // Letters that nobody takes stop the stage: nothing may vanish.
            OnError::Stop | OnError::DeadLetter => Err(Failure::Stop(Box::new(Stop {
                stage: spec.stage.clone(),
                reason: reason(),
                record: Shown::of(batch, first as usize).unwrap_or_default(),
            }))),
            OnError::Drop => {
                tracing::debug!(
                    stage = spec.stage,
                    dropped = refused.at.len(),
                    reason = reason(),
                    "refused records dropped"
                );
                Ok(())
            }
        }
    }

    fn advance(&mut self, time: i64) -> Result<Outcome, Failure> {
        self.watermark = time;
        self.finish(|aggregate, instance, outcome| aggregate.advance(time, instance, outcome))
    }

    fn close(&mut self) -> Result<Outcome, Failure> {
        let watermark = self.watermark;
        self.finish(|aggregate, instance, outcome| aggregate.close(watermark, instance, outcome))
    }

    fn finish(
        &mut self,
        step: impl FnOnce(&mut Aggregate, &mut dyn Instance, &mut Outcome) -> Result<Vec<RefusedGroups>, Box<Fault>>,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        if let Some(aggregate) = &mut self.aggregate {
            let refused =
                step(aggregate, &mut *self.instance, &mut outcome).map_err(|fault| report(&self.spec, *fault, None))?;
            for groups in refused {
                self.refuse(&groups.groups, &groups.refused, &mut outcome)?;
            }
        }
        Ok(outcome)
    }

    /// Puts what the call cost and did where others can see it.
    fn note(&mut self, groups_before: usize) {
        let meter = &self.spec.meter;
        let used = self.instance.usage();
        meter.calls(Usage {
            fuel: used.fuel - self.used.fuel,
            fuel_budget: used.fuel_budget - self.used.fuel_budget,
            nanos: used.nanos - self.used.nanos,
            memory: used.memory,
        });
        self.used = used;
        let groups = self.aggregate.as_ref().map_or(0, Aggregate::len);
        meter.groups(groups as i64 - groups_before as i64);
        if self.watermark != END {
            meter.watermark(self.watermark);
        }
        let Effects { logs, counts } = self.instance.take_effects();
        for (level, message) in logs {
            let (stage, plugin) = (self.spec.stage.as_str(), self.spec.plugin.as_str());
            match level {
                Level::Trace => tracing::trace!(stage, plugin, "{message}"),
                Level::Debug => tracing::debug!(stage, plugin, "{message}"),
                Level::Info => tracing::info!(stage, plugin, "{message}"),
                Level::Warn => tracing::warn!(stage, plugin, "{message}"),
                Level::Error => tracing::error!(stage, plugin, "{message}"),
            }
        }
        meter.plugin_counts(&counts);
    }
}

fn rows(at: &[u32]) -> Vec<Rank> {
    at.iter().map(|&at| Rank::Row(at)).collect()
}

fn report(spec: &Spec, fault: Fault, batch: Option<&Batch>) -> Failure {
    if fault.kind == FaultKind::Interrupted {
        // Whoever takes the pipeline down tells why.
        return Gone.into();
    }
    Failure::Fault(Box::new(Report::new(&spec.stage, &spec.plugin, &spec.digest, fault, batch)))
}
