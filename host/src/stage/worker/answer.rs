//! What one call answers, as far as it is known without a further one.
//!
//! Owns the way from a checked reply to outputs and counts. It must not know which calls there are.

use super::{Spec, rows};
use crate::{
    batch::Batch,
    plugin::{Fault, Instance, Kind, Refusals, Selection},
    stage::{
        aggregate::{Aggregate, Folded, Full},
        assemble::{assemble, others},
        outcome::Outcome,
        outlet::Port,
    },
};

/// What a call answered, as far as it is known without a further call.
pub(super) struct Answer {
    pub(super) part: Batch,
    pub(super) outcome: Outcome,
    pub(super) refused: Refusals,
    pub(super) full: Vec<Full>,
}

/// Makes one call with a part of a batch.
pub(super) fn answer(
    spec: &Spec,
    watermark: i64,
    aggregate: Option<&mut Aggregate>,
    instance: &mut dyn Instance,
    part: Batch,
) -> Result<Answer, Box<Fault>> {
    let mut outcome = Outcome::default();
    let received = part.len() as u64;
    outcome.tally.received = received;
    let (refused, full) = match (spec.kind, aggregate) {
        (Kind::Filter, _) => {
            let selection = instance.filter(watermark, &part)?;
            filtered(spec, &part, &selection, &mut outcome);
            (selection.refused, Vec::new())
        }
        (Kind::Map, _) => {
            let mapped = instance.map(watermark, &part)?;
            let origins = assemble(&spec.stage, &part, mapped.produced, None, &mut outcome);
            outcome.tally.passed += origins;
            outcome.tally.filtered += received - origins - mapped.refused.at.len() as u64;
            (mapped.refused, Vec::new())
        }
        (Kind::Aggregate, Some(aggregate)) => {
            let Folded { late, refused, full } = aggregate.fold(watermark, &part, instance, &mut outcome)?;
            outcome.tally.late += late.len() as u64;
            if spec.is_read.late && !late.is_empty() {
                outcome.put_ranked(Port::Late, part.gather(&late), rows(&late));
            }
            (refused, full)
        }
        (Kind::Aggregate, None) => Default::default(),
    };
    Ok(Answer { part, outcome, refused, full })
}

fn filtered(spec: &Spec, part: &Batch, Selection { keep, refused }: &Selection, outcome: &mut Outcome) {
    let kept = if keep.len() == part.len() { part.clone() } else { part.gather(keep) };
    outcome.tally.passed += keep.len() as u64;
    outcome.tally.produced += keep.len() as u64;
    outcome.tally.filtered += (part.len() - keep.len() - refused.at.len()) as u64;
    outcome.put(Port::Main, kept);
    if spec.is_read.rest {
        outcome.put(Port::Rest, part.gather(&others(part.len(), [keep, &refused.at])));
    }
}
