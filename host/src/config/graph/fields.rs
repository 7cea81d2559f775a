//! Which JSON fields, and which ids, each producer has to provide.
//!
//! Owns the walk upstream: what a filter passes on, or what is refused or late, is still what its producer made.

use std::{collections::BTreeSet, ops::Range};

use super::{
    super::{Loaded, codes, diagnostic::Flaw},
    Consumer, Edge, Port, Producer,
    outputs::Settled,
};
use crate::{codec::Format, plugin::Kind};

/// What the producers have to provide, by their positions in the file.
pub(super) struct Wanted {
    pub(super) of_sources: Vec<BTreeSet<String>>,
    pub(super) of_stages: Vec<BTreeSet<String>>,
    pub(super) ids: BTreeSet<Producer>,
}

/// Finds out what is wanted of whom, and what nobody can provide.
pub(super) fn want(
    loaded: &Loaded,
    formats: &[Option<Format>],
    stages: &[Settled<'_>],
    edges: &[Edge],
    flaws: &mut Vec<Flaw>,
) -> Wanted {
    let sources = loaded.pipeline.sources.len();
    let mut wanted = Wanted {
        of_sources: vec![BTreeSet::new(); sources],
        of_stages: vec![BTreeSet::new(); stages.len()],
        ids: BTreeSet::new(),
    };
    for (at, stage) in stages.iter().enumerate() {
        let makers = makers(at, stages, edges);
        let without = |maker: &Producer| match maker {
            Producer::Source(i) => matches!(formats.get(*i), Some(Some(Format::Lines | Format::Raw))),
            Producer::Stage(_) | Producer::Sink(_) => false,
        };
        let none = !makers.is_empty() && makers.iter().all(without);
        for pointer in stage.fields() {
            for maker in &makers {
                let of = match maker {
                    Producer::Source(i) => wanted.of_sources.get_mut(*i),
                    Producer::Stage(i) => wanted.of_stages.get_mut(*i),
                    Producer::Sink(_) => None,
                };
                of.map(|fields| fields.insert(pointer.to_owned()));
            }
            if none {
                flaws.push(no_fields(pointer, &place(stage, pointer), &format!("`{}`", stage.name.value)));
            }
        }
        if stage.all_needs().any(|need| need == "id") {
            wanted.ids.extend(upstream(Consumer::Stage(at), edges));
        }
    }
    for (at, (_, sink)) in loaded.pipeline.sinks.iter().enumerate() {
        let above = upstream(Consumer::Sink(at), edges);
        // What it posts is known again by the ids of its records.
        if sink.http.is_some() {
            wanted.ids.extend(above);
        }
    }
    for ((name, source), format) in loaded.pipeline.sources.iter().zip(formats) {
        if !matches!(format, Some(Format::Lines | Format::Raw)) {
            continue;
        }
        for pointer in [&source.key, &source.time].into_iter().flatten() {
            flaws.push(no_fields(&pointer.value, &pointer.span, &format!("the source `{}`", name.value)));
        }
    }
    wanted
}

fn place(stage: &Settled<'_>, pointer: &str) -> Range<usize> {
    match (&stage.stage.key, stage.plugin) {
        (Some(key), _) if key.value == pointer => key.span.clone(),
        (_, Some(plugin)) => plugin.span.clone(),
        _ => stage.name.span.clone(),
    }
}

fn no_fields(pointer: &str, span: &Range<usize>, who: &str) -> Flaw {
    let message = format!("{who} reads `{pointer}`, but no JSON is decoded there");
    Flaw::at(codes::NO_FIELDS, span, message).cure("write `decode: json` at the source")
}

/// Who made the values that flow into a stage. Circles end here, too: each stage is looked at once.
fn makers(stage: usize, stages: &[Settled<'_>], edges: &[Edge]) -> BTreeSet<Producer> {
    let (mut makers, mut seen, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![stage]);
    while let Some(at) = todo.pop() {
        if !seen.insert(at) {
            continue;
        }
        for edge in edges.iter().filter(|edge| edge.to == Consumer::Stage(at)) {
            match edge.from {
                // What could not be decoded has no fields.
                Producer::Source(_) if edge.port == Port::Refused => {}
                // What a sink refuses only goes to the dead letters.
                Producer::Sink(_) => {}
                Producer::Source(_) => {
                    makers.insert(edge.from);
                }
                Producer::Stage(from) => {
                    let filter = stages.get(from).is_some_and(|stage| stage.kind == Some(Kind::Filter));
                    if filter || matches!(edge.port, Port::Refused | Port::Late) {
                        todo.push(from);
                    } else {
                        makers.insert(edge.from);
                    }
                }
            }
        }
    }
    makers
}

/// Everybody whose records come to `consumer`.
fn upstream(consumer: Consumer, edges: &[Edge]) -> BTreeSet<Producer> {
    let (mut all, mut todo) = (BTreeSet::new(), vec![consumer]);
    while let Some(at) = todo.pop() {
        for edge in edges.iter().filter(|edge| edge.to == at) {
            if !all.insert(edge.from) {
                continue;
            }
            match edge.from {
                Producer::Stage(from) => todo.push(Consumer::Stage(from)),
                Producer::Sink(from) if edge.port == Port::Fallback => todo.push(Consumer::Sink(from)),
                Producer::Sink(_) | Producer::Source(_) => {}
            }
        }
    }
    all
}
