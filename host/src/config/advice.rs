//! What a pipeline's file may say, and probably does not mean.
//!
//! Owns the warnings of a file that is right. Invariant: each says what will happen as the file stands, and what to write
//! instead; none refuses anything.

use std::collections::BTreeSet;

use super::{
    Diagnostic, Late, Loaded, codes,
    diagnostic::Flaw,
    graph::{Consumer, Graph, Input, Output, Port, Producer, Stage, Windowing},
};
use crate::{plugin::Kind, unit::Span};

/// Fuel that a plugin uses in a second at most; on a slower machine it takes longer, never less long.
const FUEL_PER_SECOND: u64 = 1_000_000_000;

/// Steps of a watermark in a `lag`.
const GRAINS: u32 = 8;

/// The warnings of a file, of which `graph` was made, in its order.
pub fn advice(loaded: &Loaded, graph: &Graph) -> Vec<Diagnostic> {
    let mut flaws = Vec::new();
    for (at, stage) in graph.stages.iter().enumerate() {
        let Some((name, written)) = loaded.pipeline.stages.iter().find(|(name, _)| name.value == stage.name) else {
            continue;
        };
        flaws.extend(limits(graph, stage, &name.span));
        let window = written.window.as_ref().map(|window| (&window.value, &window.span));
        if let (Some((window, span)), Windowing::Tumbling { size, .. }) = (window, stage.window) {
            flaws.extend(grain(graph, at, size, span));
            let is_read = graph.out_of(Producer::Stage(at)).any(|edge| edge.port == Port::Late);
            if window.late == Some(Late::Side) && !is_read {
                let message =
                    format!("late records go to `{}.late`, and nothing reads it: they are only counted", stage.name);
                let flaw = Flaw::at(codes::LATE_UNREAD, span, message);
                flaws.push(flaw.cure(format!("read `{}.late`, or write `late: drop`", stage.name)));
            }
            flaws.extend(timeless(loaded, graph, at, span));
        }
        let unkeyed = stage.key.is_none()
            && plain(graph, at).is_some_and(|sources| {
                sources.iter().filter_map(|source| graph.sources.get(*source)).all(|source| source.stamp.key.is_none())
            });
        if stage.kind == Kind::Aggregate && stage.workers > 1 && unkeyed {
            let message =
                format!("`{}` has {} workers and no key: one of them does everything", stage.name, stage.workers);
            let flaw = Flaw::at(codes::IDLE_WORKERS, &written.workers.span, message);
            flaws.push(flaw.cure("set `key` in the source or in the stage, or take one worker"));
        }
    }
    flaws.extend(sources(loaded, graph));
    super::in_order(flaws.into_iter().map(|flaw| flaw.warned(&loaded.text)).collect())
}

/// What a full batch needs of a plugin's limits.
fn limits(graph: &Graph, stage: &Stage, span: &std::ops::Range<usize>) -> Vec<Flaw> {
    let (limits, mut flaws) = (&stage.limits, Vec::new());
    let fuel = limits.fuel.of(graph.batch.records, graph.batch.bytes);
    if u128::from(fuel) * 1000 > limits.time.0.as_millis() * u128::from(FUEL_PER_SECOND) {
        let message = format!(
            "the fuel of `{}` for a full batch outlasts `limits.time` ({}): an endless loop ends by the clock, which \
             says less of what was wrong",
            stage.name, limits.time
        );
        flaws.push(Flaw::at(codes::FUEL_OUTLASTS, span, message).cure("lower `limits.fuel`, or raise `limits.time`"));
    }
    let batch = u64::try_from(graph.batch.bytes).unwrap_or(u64::MAX);
    if limits.memory.0 <= batch {
        let message = format!(
            "a full batch ({batch} bytes) does not fit into the memory of `{}` ({})",
            stage.name, limits.memory
        );
        flaws.push(
            Flaw::at(codes::MEMORY_BELOW_BATCH, span, message).cure("raise `limits.memory`, or lower `batch.bytes`"),
        );
    }
    flaws
}

/// Windows shorter than the steps of the watermark that closes them.
fn grain(graph: &Graph, stage: usize, size: Span, span: &std::ops::Range<usize>) -> Option<Flaw> {
    let above = above(graph, stage);
    let above = above.iter().filter_map(|source| graph.sources.get(*source));
    let source = above.max_by_key(|source| source.watermark.lag)?;
    let step = source.watermark.lag.0 / GRAINS;
    if size.0 >= step {
        return None;
    }
    let message = format!(
        "windows of {size} end in bunches: the watermark of `{}` goes on by {} at a time, an eighth of its `lag`",
        source.name,
        Span(step)
    );
    Some(Flaw::at(codes::WINDOW_BELOW_GRAIN, span, message).cure("lower the source's `lag`, or take longer windows"))
}

/// Windows of time over a file whose records have none of their own.
fn timeless(loaded: &Loaded, graph: &Graph, stage: usize, span: &std::ops::Range<usize>) -> Option<Flaw> {
    let sources = plain(graph, stage)?;
    let source = sources
        .iter()
        .filter_map(|source| graph.sources.get(*source))
        .find(|source| source.stamp.time.is_none() && matches!(source.input, Input::File(_)))?;
    let (name, _) = loaded.pipeline.sources.iter().find(|(name, _)| name.value == source.name)?;
    let message = format!(
        "windows of `{}` are over the times at which it was read, for it has no `time`: another run gives others",
        source.name
    );
    let flaw = Flaw::at(codes::NO_EVENT_TIME, span, message).label(&name.span, "this source");
    Some(flaw.cure(format!("set `time` of `{}` to the field that has it", source.name)))
}

/// Sources that hold nobody long enough, and files that are read while they are written.
fn sources(loaded: &Loaded, graph: &Graph) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let windowed: Vec<BTreeSet<usize>> = (graph.stages.iter().enumerate())
        .filter(|(_, stage)| matches!(stage.window, Windowing::Tumbling { .. }))
        .map(|(at, _)| above(graph, at))
        .collect();
    for (at, source) in graph.sources.iter().enumerate() {
        let Some((name, _)) = loaded.pipeline.sources.iter().find(|(name, _)| name.value == source.name) else {
            continue;
        };
        let mark = &source.watermark;
        let shares = windowed.iter().any(|above| above.len() > 1 && above.contains(&at));
        if shares && mark.idle < mark.lag {
            let message = format!(
                "`{}` is left behind after {} of silence, and its records may come {} late: they will be late for windows \
                 that the other sources have closed",
                source.name, mark.idle, mark.lag
            );
            flaws.push(Flaw::at(codes::IDLE_BELOW_LAG, &name.span, message).cure("raise `idle` above `lag`"));
        }
        let Input::File(read) = &source.input else { continue };
        for sink in &graph.sinks {
            let Output::File(written) = &sink.output else { continue };
            let span =
                loaded.pipeline.sinks.iter().find(|(name, _)| name.value == sink.name).map(|(name, _)| &name.span);
            if let (true, Some(span)) = (read.path == written.path, span) {
                let message = format!("`{}` reads what `{}` writes: {}", source.name, sink.name, read.path);
                let flaw = Flaw::at(codes::READS_ITSELF, &name.span, message).label(span, "written here");
                flaws.push(flaw.cure("write another file"));
            }
        }
    }
    flaws
}

/// The sources whose records reach a stage.
fn above(graph: &Graph, stage: usize) -> BTreeSet<usize> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![stage]);
    while let Some(stage) = todo.pop() {
        for edge in graph.into(Consumer::Stage(stage)) {
            match edge.from {
                Producer::Source(at) => drop(found.insert(at)),
                // Edges lead forward, so that this ends.
                Producer::Stage(at) => todo.push(at),
                // What a sink refuses reaches no stage.
                Producer::Sink(_) => {}
            }
        }
    }
    found
}

/// The sources whose records reach a stage as they are: past filters only. None where others come too.
fn plain(graph: &Graph, stage: usize) -> Option<BTreeSet<usize>> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![stage]);
    while let Some(stage) = todo.pop() {
        for edge in graph.into(Consumer::Stage(stage)) {
            match edge.from {
                Producer::Source(at) => drop(found.insert(at)),
                Producer::Stage(at) if graph.stages.get(at)?.kind == Kind::Filter => todo.push(at),
                Producer::Stage(_) | Producer::Sink(_) => return None,
            }
        }
    }
    Some(found)
}
