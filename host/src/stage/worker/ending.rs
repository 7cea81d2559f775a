//! How a worker takes its groups in, and brings them to their end.
//!
//! Owns the order of that: groups that are not in memory come back before anything is done about them, as many at a time as
//! there is room for. It must not know which they are. Invariant: what comes out is what would if all were in memory.

use super::{Work, Worked, Worker, report};
use crate::plugin::Fault;
use crate::stage::{
    aggregate::{Aggregate, Ended, Upto},
    failure::Failure,
    live::Live,
    outcome::Outcome,
};

impl Worker {
    /// Takes the groups in that a commit holds and that need not all be in memory, on the thread that may wait for them.
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        let (Some((share, version)), Some(aggregate)) = (self.recovers.take(), &mut self.aggregate) else {
            return Ok(());
        };
        aggregate.recover(share, self.watermark)?;
        if version != self.spec.state_version {
            aggregate.recall_all()?;
            let to = self.spec.state_version;
            let migrated = self.live.with(|instance| aggregate.migrated(version, to, instance));
            aggregate.rewrite(migrated.map_err(|fault| report(&self.spec, *fault, None))?);
        }
        Ok(())
    }

    /// Lets groups leave memory, unless somebody has noted where they are.
    pub(super) fn chill(&mut self, worked: &Result<Worked, Failure>) {
        if let (Ok(Worked { left: None, .. }), None, Some(aggregate)) = (worked, &self.next, &mut self.aggregate) {
            aggregate.chill();
        }
    }

    pub(super) fn advance(&mut self, time: i64) -> Result<Worked, Failure> {
        self.watermark = time;
        let mut outcome = Outcome::default();
        loop {
            let upto = self.aggregate.as_mut().map_or(Ok(Upto::All), |aggregate| aggregate.recall(time))?;
            let step = |aggregate: &mut Aggregate, live: &mut Live, outcome: &mut Outcome| {
                aggregate.advance(time, &upto, live, outcome)
            };
            let is_left = self.finish(&mut outcome, step)?;
            if is_left || upto == Upto::All {
                return Ok(Worked { outcome, left: is_left.then_some(Work::Advance(time)) });
            }
        }
    }

    /// Lets event time come to where it stands once more for windows that replayed letters have opened again: nothing else
    /// may come that closes them. What the breaker leaves is done at a later barrier.
    pub(super) fn end_again(&mut self) -> Result<Worked, Failure> {
        let has_any = self.aggregate.as_ref().is_some_and(Aggregate::is_reopened);
        if !has_any || !self.spec.gate.lets_through() {
            return Ok(Worked::default());
        }
        let Worked { outcome, left } = self.advance(self.watermark)?;
        if let Some(aggregate) = self.aggregate.as_mut().filter(|_| left.is_none()) {
            aggregate.settled();
        }
        Ok(Worked { outcome, left: None })
    }

    pub(super) fn close(&mut self) -> Result<Worked, Failure> {
        let (watermark, mut outcome) = (self.watermark, Outcome::default());
        let step = |aggregate: &mut Aggregate, live: &mut Live, outcome: &mut Outcome| {
            aggregate.close(watermark, live, outcome)
        };
        let is_left = self.finish(&mut outcome, step)?;
        Ok(Worked { outcome, left: is_left.then_some(Work::Close) })
    }

    /// Brings groups to their end, and says whether the breaker has left some over.
    fn finish(
        &mut self,
        outcome: &mut Outcome,
        step: impl FnOnce(&mut Aggregate, &mut Live, &mut Outcome) -> Result<Ended, Box<Fault>>,
    ) -> Result<bool, Failure> {
        let Some(aggregate) = &mut self.aggregate else { return Ok(false) };
        let ended = step(aggregate, &mut self.live, outcome);
        let Ended { refused, is_left } = ended.map_err(|fault| report(&self.spec, *fault, None))?;
        self.refuse_groups(refused, outcome)?;
        Ok(is_left)
    }
}
