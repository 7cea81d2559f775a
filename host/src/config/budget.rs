//! Whether all limits together fit the host.
//!
//! Owns the two sums, of bytes and of threads. Invariant: whatever holds records, states of instances or bodies has a
//! limit in bytes, and is a summand here.

use super::{
    Diagnostic, codes,
    graph::{Graph, Input, Medium, Output, Passage, Stage},
    host::LoadedHost,
};
use crate::{plugin::Kind, unit::Size};

/// Threads for everything that is not a worker: files, compilation, sinks that block.
pub const REST: usize = 64;

/// What each source and sink reads or writes at a time, beside the record in hand.
const BUFFER: u64 = 64 << 10;

/// A part of what the host may use.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summand {
    /// What it is for, in words.
    pub what: String,
    /// Most bytes.
    pub bytes: u64,
}

/// What `graph` may use, largest first.
pub fn summands(graph: &Graph) -> Vec<Summand> {
    let mut all: Vec<Summand> = graph.domains().iter().flat_map(|part| of_part(&part.graph)).collect();
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.what.cmp(&b.what)));
    all
}

fn of_part(graph: &Graph) -> Vec<Summand> {
    let mut all = Vec::new();
    let mut add = |what: String, bytes: u64| all.push(Summand { what, bytes });
    let name = &graph.name;
    let batch = bytes(graph.batch.bytes);
    let channels = graph.edges.iter().map(|edge| bytes(edge.capacity.bytes));
    add(format!("{} channels of `{name}`", graph.edges.len()), channels.fold(0, u64::saturating_add));
    for source in &graph.sources {
        let in_hand = batch.saturating_add(source.max_record.0).saturating_add(BUFFER);
        add(format!("buffers of the source `{}`", source.name), in_hand);
        if let Input::Http(config) = &source.input {
            add(format!("bodies in hand of the source `{}`", source.name), config.bodies.0);
            add(format!("keys that the source `{}` remembers", source.name), config.keys.0);
        }
    }
    let seeks = |input: &Input| match input {
        Input::File(_) | Input::Topic(..) | Input::Generate(_) | Input::Passage(_) | Input::Letters => true,
        Input::Http(config) => config.journal,
        Input::Stdin(config) => config.journal,
        Input::HostMetrics(_) => false,
    };
    if graph.sources.iter().any(|source| !seeks(&source.input)) {
        add(format!("what `{name}` keeps to send it again (`uncommitted`)"), graph.uncommitted.0);
    }
    for stage in &graph.stages {
        let workers = u64::try_from(stage.workers).unwrap_or(u64::MAX);
        let limits = &stage.limits;
        // What stands in has instances of its own, under the same limits.
        let workers = if stage.fallback.is_some() { workers.saturating_mul(2) } else { workers };
        add(
            format!("instances of the stage `{}`: {workers} of {}", stage.name, limits.memory),
            limits.memory.0.saturating_mul(workers),
        );
        let call = batch.saturating_add(limits.output.0).saturating_add(limits.logs.0);
        add(format!("calls of the stage `{}`", stage.name), call.saturating_mul(workers));
        if stage.kind == Kind::Aggregate {
            let max = stage.state.max.0;
            let (what, state) = match &stage.state.memory {
                None => ("(`state.max`)", max.saturating_mul(2)),
                // What is known of each group that is not in memory is at most a fifth of what it takes there.
                Some(memory) => {
                    let known = max.saturating_sub(memory.0) / 5;
                    (
                        "in memory (`state.memory`) and what is known of the others",
                        memory.0.saturating_mul(2).saturating_add(known),
                    )
                }
            };
            add(
                format!("groups of the stage `{}` {what}, and as much for what a commit holds of them", stage.name),
                state,
            );
        }
    }
    for sink in &graph.sinks {
        let encoded = if matches!(sink.output, Output::Discard(_)) { 0 } else { batch.saturating_add(BUFFER) };
        add(format!("buffers of the sink `{}`", sink.name), batch.saturating_add(encoded));
        if let Output::Passage(Passage { medium: Medium::Queue(capacity, _), .. }) = &sink.output {
            add(format!("what waits on the edge `{}`", sink.name), bytes(capacity.bytes));
        }
        if let Output::Http(_, requests) = &sink.output {
            add(format!("requests in hand of the sink `{}`", sink.name), bytes(requests.bytes()));
        }
    }
    all
}

/// Threads that `graphs` need, the rest included.
pub fn threads(graphs: &[&Graph]) -> usize {
    // A stage of several workers has a conductor beside them.
    let of = |stage: &Stage| stage.workers + usize::from(stage.workers > 1);
    let workers = graphs.iter().flat_map(|graph| &graph.stages).map(of);
    workers.fold(REST, usize::saturating_add)
}

/// Checks all pipelines of a host together.
///
/// # Errors
/// Limits over the budget, with the summands; more threads than allowed; two pipelines of one name.
pub fn fit(graphs: &[&Graph], host: &LoadedHost) -> Result<(), Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut fault = |code, message, span: &std::ops::Range<usize>, cure: String| {
        let fault = Diagnostic::error(code, &host.text, message).cure(cure);
        faults.push(if host.text.text.is_empty() { fault } else { fault.at(span.clone()) });
    };
    for (i, graph) in graphs.iter().enumerate() {
        if graphs.iter().take(i).any(|other| other.name == graph.name) {
            let message = format!("two pipelines are called `{}`", graph.name);
            fault(codes::TAKEN_PIPELINE, message, &(0..0), "rename one of the two".to_owned());
        }
    }
    let mut all: Vec<_> = graphs.iter().flat_map(|graph| summands(graph)).collect();
    all.sort_by_key(|summand| std::cmp::Reverse(summand.bytes));
    let sum = all.iter().fold(0, |sum: u64, summand| sum.saturating_add(summand.bytes));
    let budget = &host.host.memory;
    if sum > budget.0 {
        let listed: Vec<_> = all.iter().map(|part| format!("{:>10}  {}", rounded(part.bytes), part.what)).collect();
        let message = format!("the limits add up to {}, more than `memory: {}`", rounded(sum), budget.value);
        let cure = format!("lower the largest of these, or raise `memory`:\n{}", listed.join("\n"));
        fault(codes::OVER_MEMORY, message, &budget.span, cure);
    }
    let (threads, max) = (threads(graphs), &host.host.threads.max);
    if u32::try_from(threads).map_or(true, |threads| threads > max.value) {
        let message = format!("{threads} threads are needed, more than `threads.max: {}`", max.value);
        let cure = format!("lower `workers`, or raise `threads.max`; {REST} threads are for the host itself");
        fault(codes::OVER_THREADS, message, &max.span, cure);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// In whole KiB, upwards, so that figures stay short.
fn rounded(bytes: u64) -> Size {
    Size(bytes.div_ceil(1 << 10).saturating_mul(1 << 10))
}
