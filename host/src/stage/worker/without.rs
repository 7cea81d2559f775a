//! What becomes of records that the breaker does not let through to the stage's own plugin.
//!
//! Owns the policies but for waiting, which the conductor does. Invariant: whatever the plugin that stands in has not done
//! is left, in order.

use super::{Answer, Refused, Settled, Worker, answer, blame, refuse, report, rows, stepped, turn_down};
use crate::{
    batch::{Batch, Column},
    config::Then,
    letter,
    plugin::{Kind, Produced},
    stage::{assemble::assemble, failure::Failure, outcome::Outcome, outlet::Port},
};

impl Worker {
    /// What becomes of the first of the records that the breaker does not let through; none where they wait.
    pub(super) fn do_without(&mut self, input: usize, records: Batch) -> Result<Option<Outcome>, Failure> {
        let (spec, mut outcome, len) = (&self.spec, Outcome::default(), records.len() as u64);
        if records.is_empty() {
            return Ok(None);
        }
        if spec.then == Then::Fallback {
            return self.stand_in(input, records);
        }
        outcome.tally.received = len;
        match (spec.then, spec.kind) {
            (Then::Pause | Then::Fallback, _) | (Then::Bypass, Kind::Aggregate) => return Ok(None),
            (Then::Drop, _) => outcome.tally.dropped = len,
            (Then::Bypass, Kind::Filter) => {
                (outcome.tally.passed, outcome.tally.produced) = (len, len);
                outcome.put(Port::Main, records);
            }
            (Then::Bypass, Kind::Map) => {
                let same = Produced { len: records.len(), ..Produced::default() };
                outcome.tally.passed = assemble(&spec.stage, &records, same, None, &mut outcome);
            }
            (Then::DeadLetter, _) => {
                let some = spec.gate.letters(records.len());
                if some == 0 {
                    return Ok(None);
                }
                let reason = spec.gate.opened().map_or_else(String::new, |opened| opened.reason);
                let at: Vec<u32> = (0..some as u32).collect();
                let reasons = Column::repeat(format!("the breaker is open: {reason}").as_bytes(), some);
                (outcome.tally.received, outcome.tally.refused) = (some as u64, some as u64);
                let why = letter::Kind::BreakerOpen;
                let refused = Refused { from: &records, at: &at, reasons: &reasons, why, fault: None };
                refuse(spec, refused, rows(&at), &mut outcome)?;
            }
        }
        Ok(Some(outcome))
    }

    /// Has the plugin that stands in do the first of `records`, as many as its own breaker lets through.
    fn stand_in(&mut self, input: usize, records: Batch) -> Result<Option<Outcome>, Failure> {
        let Some((live, done)) = &mut self.standby else { return Ok(None) };
        let (spec, watermark) = (live.spec().clone(), self.watermark);
        let records = spec.wants.prepare(input, records);
        let (mut parts, mut search) = (Vec::new(), live.search(records.len()));
        loop {
            let settled = live.settle(&mut search, |instance, rows| {
                let part = records.slice(rows.start, rows.end);
                let _in_hand = stepped(&spec, &part)?;
                answer(&spec, watermark, None, instance, part)
            });
            let settled = settled.map_err(|fault| report(&spec, *fault, Some(&records)))?;
            let Some(Settled { rows, came }) = settled else { break };
            let outcome = match came {
                Ok(Answer { part, mut outcome, refused, .. }) => {
                    turn_down(&spec, &part, &refused, &mut outcome)?;
                    outcome
                }
                Err(fault) => blame(&spec, &records, rows.start, &fault)?,
            };
            parts.push(outcome.shifted(rows.start));
        }
        let mut outcome = Outcome::merge(parts);
        outcome.tally.stood_in = outcome.tally.received;
        done.add(&outcome.tally);
        Ok((outcome.tally.received > 0).then_some(outcome))
    }
}
