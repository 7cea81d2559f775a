//! Topics as several pipelines have them together.
//!
//! Owns what can only be seen across files: circles of topics that wait for each other, groups with two readers, topics
//! that nobody writes. It must not know how a topic is kept. Invariant: pipelines that pass cannot stand still because
//! each waits for room in a topic that another one would have to read.

use std::{collections::BTreeSet, ops::Range};

use super::{Diagnostic, Loaded, codes, diagnostic::Flaw, graph::Graph};

/// What a pipeline's file says, and the graph it came to.
pub type Pipeline<'a> = (&'a Loaded, &'a Graph);

/// One topic that waits for another.
struct Wait<'a> {
    read: &'a str,
    written: &'a str,
    sink: &'a str,
    of: &'a Pipeline<'a>,
}

/// The faults that pipelines of one host have together.
pub fn faults(all: &[Pipeline<'_>]) -> Vec<Diagnostic> {
    let mut faults = circles(all);
    let mut readers: Vec<(&str, &str, String)> = Vec::new();
    for (loaded, graph) in all {
        for (topic, source, group) in graph.topics_read() {
            let reader = format!("{}.{source}", graph.name);
            if let Some((.., other)) = readers.iter().find(|(of, as_group, _)| (*of, *as_group) == (topic, group)) {
                let message = format!("`{other}` reads topic `{topic}` as group `{group}` already");
                let flaw = Flaw::at(codes::TAKEN_GROUP, &place(loaded, source), message);
                let flaw = flaw.cure("give one of the two a `group` of its own: each group reads everything");
                faults.push(flaw.told(&loaded.text));
            }
            readers.push((topic, group, reader));
        }
    }
    faults
}

/// The warning for each source of a pipeline that reads what none of all of them writes.
pub fn unwritten(of: Pipeline<'_>, all: &[Pipeline<'_>]) -> Vec<Diagnostic> {
    let written: BTreeSet<&str> = all.iter().flat_map(|(_, graph)| graph.topics_written()).map(|(it, _)| it).collect();
    let (loaded, graph) = of;
    let silent = graph.topics_read().filter(|(topic, ..)| !written.contains(topic));
    let warning = |(topic, source, _)| {
        let message = format!("nothing writes the topic `{topic}` that `{source}` reads");
        let flaw = Flaw::at(codes::UNWRITTEN, &place(loaded, source), message);
        let cure = "run it beside a pipeline with a `topic` sink of that name, or correct the name";
        flaw.cure(cure).warned(&loaded.text)
    };
    silent.map(warning).collect()
}

/// One fault for each circle of topics in which each waits for the next.
fn circles(all: &[Pipeline<'_>]) -> Vec<Diagnostic> {
    let wait = |of, (read, written, sink)| Wait { read, written, sink, of };
    let waits: Vec<Wait<'_>> =
        all.iter().flat_map(|of| of.1.topics_waiting().into_iter().map(move |it| wait(of, it))).collect();
    let (mut faults, mut told) = (Vec::new(), BTreeSet::new());
    for first in &waits {
        let Some(circle) = circle(first, &waits) else { continue };
        let topics: BTreeSet<&str> = circle.iter().map(|wait| wait.read).collect();
        if !told.insert(topics) {
            continue;
        }
        let way: Vec<String> =
            circle.iter().map(|wait| format!("`{}` → `{}` of `{}`", wait.read, wait.sink, wait.of.1.name)).collect();
        let message = format!("topics wait for each other in a circle: {} → `{}`", way.join(" → "), first.read);
        let (loaded, _) = first.of;
        let flaw = Flaw::at(codes::TOPIC_CYCLE, &place(loaded, first.sink), message);
        let flaw = flaw.cure("write `when_full: drop_oldest` in one of these sinks, or break the circle");
        faults.push(flaw.told(&loaded.text));
    }
    faults
}

/// The shortest way from `first` back to the topic that it reads.
fn circle<'a>(first: &'a Wait<'a>, waits: &'a [Wait<'a>]) -> Option<Vec<&'a Wait<'a>>> {
    let mut ways = vec![vec![first]];
    let mut seen = BTreeSet::from([first.written]);
    while !ways.is_empty() {
        if let Some(way) = ways.iter().find(|way| way.last().is_some_and(|last| last.written == first.read)) {
            return Some(way.clone());
        }
        let mut longer = Vec::new();
        for way in &ways {
            let end = way.last().map_or("", |last| last.written);
            for next in waits.iter().filter(|wait| wait.read == end) {
                if seen.insert(next.written) {
                    longer.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

/// Where a source or sink is named.
fn place(loaded: &Loaded, name: &str) -> Range<usize> {
    let pipeline = &loaded.pipeline;
    let names = pipeline.sources.iter().map(|(name, _)| name).chain(pipeline.sinks.iter().map(|(name, _)| name));
    names.into_iter().find(|other| other.value == name).map_or(0..0, |name| name.span.clone())
}
