//! In which order stages come, and whether they go round in circles.
//!
//! Owns the topological order: as in the file where the edges allow it.

use std::collections::BTreeSet;

use super::{
    super::{codes, diagnostic::Flaw},
    Consumer, Edge, Producer,
    outputs::Settled,
};

/// The stages in topological order; those in circles are told and left out.
pub(super) fn sort(stages: &[Settled<'_>], edges: &[Edge], flaws: &mut Vec<Flaw>) -> Vec<usize> {
    let feeders: Vec<BTreeSet<usize>> = (0..stages.len())
        .map(|stage| {
            let into = edges.iter().filter(|edge| edge.to == Consumer::Stage(stage));
            into.filter_map(|edge| match edge.from {
                Producer::Stage(from) => Some(from),
                Producer::Source(_) | Producer::Sink(_) => None,
            })
            .collect()
        })
        .collect();
    let mut order = Vec::with_capacity(stages.len());
    let mut left: BTreeSet<usize> = (0..stages.len()).collect();
    while !left.is_empty() {
        let ready = left.iter().copied().find(|stage| {
            feeders.get(*stage).is_none_or(|feeders| feeders.iter().all(|feeder| !left.contains(feeder)))
        });
        if let Some(ready) = ready {
            left.remove(&ready);
            order.push(ready);
            continue;
        }
        let circle = circle(&feeders, &left);
        flaws.extend(told(stages, &circle));
        for stage in circle {
            left.remove(&stage);
        }
    }
    order
}

/// Every stage that is left is fed by one that is left, so that going upstream comes round.
pub(super) fn circle(feeders: &[BTreeSet<usize>], left: &BTreeSet<usize>) -> Vec<usize> {
    let mut way: Vec<usize> = left.first().copied().into_iter().collect();
    while let Some(at) = way.last() {
        let feeder = feeders.get(*at).and_then(|feeders| feeders.iter().find(|feeder| left.contains(feeder)));
        let Some(feeder) = feeder else { break };
        if let Some(first) = way.iter().position(|seen| seen == feeder) {
            let mut circle = way.split_off(first);
            circle.reverse();
            return circle;
        }
        way.push(*feeder);
    }
    way
}

fn told(stages: &[Settled<'_>], circle: &[usize]) -> Option<Flaw> {
    let first = circle.iter().min()?;
    let start = circle.iter().position(|stage| stage == first)?;
    let (before, from) = circle.split_at(start);
    let round: Vec<_> = from.iter().chain(before).filter_map(|stage| stages.get(*stage)).collect();
    let head = round.first()?;
    let names: Vec<_> = round.iter().chain([head]).map(|stage| format!("`{}`", stage.name.value)).collect();
    let message = format!("stages feed each other in a circle: {}", names.join(" → "));
    Some(Flaw::at(codes::CYCLE, &head.name.span, message).cure("take one of these edges out"))
}
