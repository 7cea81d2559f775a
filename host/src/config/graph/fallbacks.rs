//! Which sink stands in for which while its breaker is open.
//!
//! Owns the edges from the one to the other, behind all that the other reads itself. Invariant: following them comes to an
//! end.

use super::{
    super::{Loaded, codes, diagnostic::Flaw, pipeline::Capacity, place::Spanned},
    Consumer, Edge, Port, Producer, WhenFull, wiring,
};

/// Adds an edge for each sink that names another.
pub(super) fn draw(loaded: &Loaded, edges: &mut Vec<Edge>, flaws: &mut Vec<Flaw>) {
    let sinks = &loaded.pipeline.sinks;
    let find = |name: &Spanned<String>| sinks.iter().position(|(other, _)| other.value == name.value);
    let next: Vec<Option<usize>> = sinks.iter().map(|(_, sink)| sink.breaker.stands_in().and_then(find)).collect();
    for (at, (name, sink)) in sinks.iter().enumerate() {
        let Some(written) = sink.breaker.stands_in() else { continue };
        let Some(to) = find(written) else {
            if !loaded.broken.is(&["sinks", &written.value]) {
                let message = format!("no sink is called `{}`", written.value);
                let flaw = Flaw::at(codes::NO_STAND_IN, &written.span, message);
                flaws.push(flaw.cure("name a sink of this pipeline"));
            }
            continue;
        };
        if is_circle(&next, at) {
            let message = format!("what stands in for `{}` comes back to it", name.value);
            let flaw = Flaw::at(codes::NO_STAND_IN, &written.span, message);
            flaws.push(flaw.cure("name a sink for which this one does not stand in"));
            continue;
        }
        let (to, capacity) = (Consumer::Sink(to), wiring::limit(&Capacity::default()));
        let input = edges.iter().filter(|edge| edge.to == to).map(|edge| edge.input + 1).max().unwrap_or_default();
        let (from, port, when_full) = (Producer::Sink(at), Port::Fallback, WhenFull::Block);
        edges.push(Edge { from, port, to, input, capacity, when_full });
    }
}

/// Whether whoever stands in for `start`, and so on, comes back to it.
fn is_circle(next: &[Option<usize>], start: usize) -> bool {
    let mut way = std::iter::successors(next.get(start).copied().flatten(), |at| next.get(*at).copied().flatten());
    way.by_ref().take(next.len()).any(|at| at == start)
}
