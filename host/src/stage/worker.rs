//! A worker: one instance of a plugin, and what it makes of a batch.
//!
//! Owns what a call's answer comes to, what becomes of records and groups that go no further, and, in an aggregate, its
//! groups; shares nothing. `work` is a pure step but for the plugin it calls: the same work on the same state comes to
//! the same outcome. Invariant: of a batch with records that fault, the others come to what they would without them.

mod answer;
mod ending;
mod groups;
mod without;

use std::{collections::BTreeMap, sync::Arc};

use answer::{Answer, answer};
use groups::Held;

pub use super::spec::{Maker, ReadPorts, Spec};
use super::{
    aggregate::{Aggregate, Migrated, RefusedGroups},
    cellar::Share,
    failure::{Failure, Report, Shown, Stop, reason},
    gate::Lever,
    generation::{Successor, Verdict},
    lane::Gone,
    live::{Live, Settled},
    outcome::{Outcome, Rank},
    outlet::Port,
    stepping::{Call, Step},
    table::{Changes, Saved},
    tally::Tally,
};
use crate::{
    batch::{Batch, Column},
    config::OnError,
    crash,
    epoch::Epoch,
    letter::{self, with_reasons},
    plugin::{Effects, Fault, FaultKind, Level, Refusals},
    time::{END, Window},
};

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
    /// Hand over what changed in this epoch.
    Barrier(Epoch),
    /// Get ready for another generation.
    Prepare(Box<Successor>),
    /// Exchange generations, or do not.
    Settle(Verdict),
}

/// What a piece of work came to.
#[derive(Debug)]
pub struct Done {
    /// Which worker did it.
    pub worker: usize,
    /// What came of it.
    pub result: Result<Worked, Failure>,
    /// What changed, for a barrier.
    pub changes: Changes,
}

/// What came of a piece of work.
#[derive(Debug, Default)]
pub struct Worked {
    /// What it came to, as far as it was done.
    pub outcome: Outcome,
    /// What the breaker has left of it, which is to be done before anything that follows.
    pub left: Option<Work>,
}

/// Groups of a commit, of one stage.
pub type SavedGroups = BTreeMap<(Vec<u8>, Window), Saved>;

/// One worker.
pub struct Worker {
    spec: Arc<Spec>,
    live: Live,
    aggregate: Option<Aggregate>,
    watermark: i64,
    /// The generation that it is ready for, and the states as that one has them.
    next: Option<(Box<Successor>, Migrated)>,
    /// What it may hold of its groups, and the version of their states, until it has taken them in.
    recovers: Option<(Share, u32)>,
    /// The round that it has left something of.
    left: Option<u64>,
    /// The plugin that has records while the breaker is open, and what it has done in the piece of work in hand.
    standby: Option<(Live, Tally)>,
    /// What others see of its groups.
    shown: Held,
}

impl Worker {
    /// A worker with a fresh instance and the groups of a commit that `is_mine` claims, whose states are of `version`. One
    /// with a `share` takes its groups from there, before it does anything.
    ///
    /// # Errors
    /// When no instance can be made, or the plugin cannot rewrite the states as its own version.
    pub fn new(
        spec: Arc<Spec>,
        version: u32,
        watermark: i64,
        groups: &SavedGroups,
        is_mine: impl Fn(&[u8]) -> bool,
        share: Option<Share>,
    ) -> Result<Self, Failure> {
        let mut live = Live::new(spec.clone()).map_err(|fault| report(&spec, *fault, None))?;
        let mut aggregate = spec
            .rules
            .clone()
            .map(|rules| Aggregate::new(rules, watermark, groups.iter().filter(|((key, _), _)| is_mine(key))));
        if let Some(aggregate) = aggregate.as_mut().filter(|_| version != spec.state_version) {
            let migrated = live.with(|instance| aggregate.migrated(version, spec.state_version, instance));
            let migrated = migrated.map_err(|fault| report(&spec, *fault, None))?;
            aggregate.rewrite(migrated);
        }
        let standby = spec.fallback.clone().map(|spec| (Live::idle(spec), Tally::default()));
        let (recovers, shown) = (share.map(|share| (share, version)), Held::default());
        let mut worker = Self { spec, live, aggregate, watermark, next: None, recovers, left: None, standby, shown };
        worker.note_groups();
        Ok(worker)
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// What ends the stage; what it made of the work before that is given up with everything since the last commit.
    pub fn work(&mut self, work: Work) -> Result<Worked, Failure> {
        self.recover()?;
        let worked = match work {
            Work::Batch(input, batch) => {
                crash::point("stage.before-call");
                let worked = self.batch(input, batch);
                crash::point("stage.after-call");
                worked
            }
            Work::Share(input, batch, rows) => self.batch(input, batch).map(|worked| worked.in_rows(&rows)),
            Work::Advance(time) => self.advance(time),
            Work::Close => self.close(),
            Work::Barrier(epoch) => {
                let worked = self.end_again();
                self.aggregate.iter_mut().for_each(|aggregate| aggregate.barrier(epoch));
                worked
            }
            Work::Prepare(successor) => {
                self.prepare(successor);
                Ok(Worked::default())
            }
            Work::Settle(verdict) => {
                // What it cost so far is the generation's that goes.
                self.note(&Tally::default());
                self.settle(verdict);
                Ok(Worked::default())
            }
        };
        self.chill(&worked);
        self.note(&worked.as_ref().map(|worked| worked.outcome.tally).unwrap_or_default());
        worked
    }

    /// Does one piece of work of a round, unless it has left something of that round: then it leaves whatever follows too,
    /// but for an exchange of generations that changes no state, which may be what the breaker waits for.
    ///
    /// # Errors
    /// As [`work`](Self::work).
    pub fn work_in(&mut self, round: u64, work: Work) -> Result<Worked, Failure> {
        let passes = match &work {
            Work::Prepare(successor) => successor.spec.state_version == self.spec.state_version,
            Work::Settle(_) => true,
            _ => false,
        };
        if self.left == Some(round) && !passes {
            return Ok(Worked { outcome: Outcome::default(), left: Some(work) });
        }
        let worked = self.work(work)?;
        if worked.left.is_some() {
            self.left = Some(round);
        }
        Ok(worked)
    }

    fn note_groups(&mut self) {
        if let Some(aggregate) = &mut self.aggregate {
            self.shown.note(aggregate, &self.spec);
        }
    }

    /// What changed since the last barrier.
    pub fn take_changes(&mut self) -> Changes {
        self.aggregate.as_mut().map(Aggregate::take_changes).unwrap_or_default()
    }

    /// Gets ready for another generation, or says why it cannot; what there is stays as it is.
    fn prepare(&mut self, mut successor: Box<Successor>) {
        let (from, to) = (self.spec.state_version, successor.spec.state_version);
        if from != to
            && let Some(Err(failure)) = self.aggregate.as_mut().map(Aggregate::recall_all)
        {
            let _ = successor.refusal.set(failure.to_string());
            return;
        }
        let migrated = match &self.aggregate {
            Some(aggregate) if from != to => aggregate.migrated(from, to, &mut *successor.instance),
            _ => Ok(Migrated::default()),
        };
        match migrated {
            Ok(migrated) => self.next = Some((successor, migrated)),
            Err(fault) => {
                let why = format!("its states cannot be rewritten as version {to}: {}", fault.message);
                // Whoever comes second has nothing to add.
                let _ = successor.refusal.set(why);
            }
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        let Some((successor, migrated)) = self.next.take().filter(|_| verdict == Verdict::Take) else { return };
        let Successor { spec, instance, .. } = *successor;
        self.live.exchange(spec.clone(), instance);
        if let (Some(aggregate), Some(rules)) = (&mut self.aggregate, &spec.rules) {
            aggregate.take_over(rules.clone(), migrated);
        }
        // Calls of the one before that came after it was closed may have opened it again; the last worker to change over has
        // the last word.
        spec.gate.pull(Lever::Reset);
        self.spec = spec;
    }

    fn batch(&mut self, input: usize, batch: Batch) -> Result<Worked, Failure> {
        let batch = self.spec.wants.prepare(input, batch);
        self.aggregate.as_mut().map_or(Ok(()), |aggregate| aggregate.fetch(self.watermark, &batch))?;
        let (mut parts, mut search) = (Vec::new(), self.live.search(batch.len()));
        loop {
            let (spec, watermark, aggregate) = (&*self.spec, self.watermark, &mut self.aggregate);
            let settled = self.live.settle(&mut search, |instance, rows| {
                let part = batch.slice(rows.start, rows.end);
                let _in_hand = stepped(spec, &part)?;
                answer(spec, watermark, aggregate.as_mut(), instance, part)
            });
            let Some(Settled { rows, came }) = settled.map_err(|fault| report(spec, *fault, Some(&batch)))? else {
                let left = search.left();
                if let Some(outcome) = self.do_without(input, batch.slice(left.start, left.end))? {
                    self.live.skip(&mut search, outcome.tally.received as usize);
                    parts.push(outcome.shifted(left.start));
                    continue;
                }
                let rows = (left.start as u32..left.end as u32).collect();
                let work = (!left.is_empty()).then(|| Work::Share(input, batch.slice(left.start, left.end), rows));
                return Ok(Worked { outcome: Outcome::merge(parts), left: work });
            };
            let outcome = match came {
                Ok(answer) => self.take_in(answer)?,
                Err(fault) => blame(&self.spec, &batch, rows.start, &fault)?,
            };
            parts.push(outcome.shifted(rows.start));
        }
    }

    /// What an answer comes to, with the count windows that it filled and what it refused.
    fn take_in(&mut self, Answer { part, mut outcome, refused, full }: Answer) -> Result<Outcome, Failure> {
        if let Some(aggregate) = &mut self.aggregate
            && !full.is_empty()
        {
            let groups = aggregate.finish_full(self.watermark, &part, &full, &mut self.live, &mut outcome);
            let groups = groups.map_err(|fault| report(&self.spec, *fault, Some(&part)))?;
            self.refuse_groups(groups, &mut outcome)?;
        }
        turn_down(&self.spec, &part, &refused, &mut outcome)?;
        Ok(outcome)
    }

    fn refuse_groups(&self, groups: Vec<RefusedGroups>, outcome: &mut Outcome) -> Result<(), Failure> {
        for RefusedGroups { groups, reasons, ranks, fault } in groups {
            let at: Vec<u32> = (0..groups.len() as u32).collect();
            let why = fault.as_ref().map_or(letter::Kind::Refused, |fault| fault.kind.into());
            let refused = Refused { from: &groups, at: &at, reasons: &reasons, why, fault: fault.as_deref() };
            refuse(&self.spec, refused, ranks, outcome)?;
        }
        Ok(())
    }

    /// Puts what calls cost and did where others can see it.
    fn note(&mut self, tally: &Tally) {
        self.note_groups();
        if self.watermark != END {
            self.spec.meter.watermark(self.watermark);
        }
        let mut own = *tally;
        if let Some((standby, done)) = &mut self.standby {
            let done = std::mem::take(done);
            own.received -= done.received.min(own.received);
            own.refused -= done.refused.min(own.refused);
            note(standby, &done);
        }
        note(&mut self.live, &own);
    }
}

/// Puts what calls cost and did where others can see it, and what became of their records.
fn note(live: &mut Live, tally: &Tally) {
    let (usage, Effects { logs, counts }) = live.take_spent();
    let spec = live.spec();
    spec.meter.calls(usage);
    spec.service.count(tally, usage.fuel);
    for (level, message) in logs {
        let (stage, plugin) = (spec.stage.as_str(), spec.plugin.as_str());
        match level {
            Level::Trace => tracing::trace!(stage, plugin, "{message}"),
            Level::Debug => tracing::debug!(stage, plugin, "{message}"),
            Level::Info => tracing::info!(stage, plugin, "{message}"),
            Level::Warn => tracing::warn!(stage, plugin, "{message}"),
            Level::Error => tracing::error!(stage, plugin, "{message}"),
        }
    }
    spec.meter.plugin_counts(&counts);
}

impl Worked {
    /// The same, ranked by the rows of the batch that a worker's share was taken from.
    fn in_rows(self, rows: &[u32]) -> Self {
        let left = self.left.map(|left| match left {
            Work::Share(input, batch, at) => {
                let at = at.iter().filter_map(|at| rows.get(*at as usize).copied()).collect();
                Work::Share(input, batch, at)
            }
            other => other,
        });
        Self { outcome: self.outcome.in_rows(rows), left }
    }
}

/// Records or groups that go no further.
struct Refused<'a> {
    from: &'a Batch,
    at: &'a [u32],
    reasons: &'a Column,
    why: letter::Kind,
    /// The fault that the only one is to blame for; none where the plugin refused them.
    fault: Option<&'a Fault>,
}

/// Notes that the records of a call are in hand, where there is to be only one at a time.
///
/// # Errors
/// A fault of the only one, where the host fell while it was in hand.
fn stepped<'s>(spec: &'s Spec, part: &Batch) -> Result<Option<Call<'s>>, Box<Fault>> {
    let step = spec.steps().map(|stepping| (stepping.take(&spec.stage, part), stepping.start()));
    match step {
        None => {
            crash::on(part.values().iter());
            Ok(None)
        }
        Some((Step::InHand(call), _)) => {
            crash::on(part.values().iter());
            Ok(Some(call))
        }
        Some((Step::Culprit, start)) => Err(Box::new(Fault {
            kind: FaultKind::HostCrash,
            message: format!("the host fell {} times, at last with this record in hand", start - 1),
            at: Some(0),
            place: None,
            backtrace: Vec::new(),
            stderr: String::new(),
            fuel: 0,
        })),
    }
}

/// Turns down what a call refused.
fn turn_down(spec: &Spec, part: &Batch, refused: &Refusals, outcome: &mut Outcome) -> Result<(), Failure> {
    let Refusals { at, reasons } = refused;
    outcome.tally.refused += at.len() as u64;
    let refused = Refused { from: part, at, reasons, why: letter::Kind::Refused, fault: None };
    refuse(spec, refused, rows(at), outcome)
}

/// What becomes of record `at` of a batch, which is to blame for a fault.
fn blame(spec: &Spec, batch: &Batch, at: usize, fault: &Fault) -> Result<Outcome, Failure> {
    if let Some(stepping) = spec.steps().filter(|_| fault.kind == FaultKind::HostCrash) {
        stepping.refused(&spec.stage, &batch.slice(at, at + 1));
    }
    let mut outcome = Outcome::default();
    (outcome.tally.received, outcome.tally.refused) = (1, 1);
    let (at, reasons) = ([at as u32], [reason(fault)].iter().collect());
    let refused = Refused { from: batch, at: &at, reasons: &reasons, why: fault.kind.into(), fault: Some(fault) };
    refuse(spec, refused, vec![Rank::Row(0)], &mut outcome)?;
    Ok(outcome)
}

/// Sends refused records to who reads them, or does what the stage's `on_error` says. `ranks` are theirs.
fn refuse(spec: &Spec, refused: Refused<'_>, ranks: Vec<Rank>, outcome: &mut Outcome) -> Result<(), Failure> {
    let Refused { from, at, reasons, why, fault } = refused;
    let Some(&first) = at.first() else { return Ok(()) };
    if spec.is_read.refused {
        let records = with_reasons(&from.gather(at), &spec.stage, reasons);
        outcome.put_ranked(Port::Refused, spec.about.beside(why.beside(records)), ranks);
        return Ok(());
    }
    let reason = || reasons.get(0).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    match (spec.on_error, fault) {
        // Letters that nobody takes stop the stage: nothing may vanish.
        (OnError::Stop | OnError::DeadLetter, Some(fault)) => {
            Err(report(spec, Fault { at: Some(first), ..fault.clone() }, Some(from)))
        }
        (OnError::Stop | OnError::DeadLetter, None) => Err(Failure::Stop(Box::new(Stop {
            stage: spec.stage.clone(),
            reason: reason(),
            record: Shown::of(from, first as usize).unwrap_or_default(),
        }))),
        (OnError::Drop, _) => {
            tracing::debug!(stage = spec.stage, dropped = at.len(), reason = reason(), "refused records dropped");
            Ok(())
        }
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
    Failure::Fault(Box::new(Report::new(&spec.stage, &spec.plugin, &spec.about.digest, fault, batch)))
}

#[cfg(test)]
mod tests;
