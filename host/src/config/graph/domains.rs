//! The parts of a graph that commit by themselves.
//!
//! Owns how a graph is divided where its edges do not block, and what the parts are called. It must not know how a part is
//! run. Invariant: every source, stage and sink of the whole is in exactly one part, with the edges that it has there; a
//! edge that divides is a sink of one part and a source of another, and what the one has written the other reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::{Breaker, Loaded, Overflow, Watermark, codes, diagnostic::Flaw, pipeline::Retry},
    Consumer, Edge, Graph, Input, Output, Port, Producer, Sink, Source,
    order::circle,
};
use crate::{
    batch::Limit,
    codec::{Format, Stamp},
    queue::Drops,
    unit::{Size, Span},
};

/// What a channel does when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Its sender waits.
    #[default]
    Block,
    /// It is a log on disk, which takes so many bytes before its sender waits; behind it begins a part of its own.
    Durable(Size),
    /// It is a queue in memory, which drops what it has no room for; behind it begins a part of its own.
    Drop(Drops),
}

/// An edge between two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Its name, `PIPELINE>OUTPUT>CONSUMER`, which no file can write.
    pub name: String,
    /// The part that writes it.
    pub writer: String,
    /// The part that reads it, which is the one group that does.
    pub reader: String,
    /// What keeps records between the two.
    pub medium: Medium,
}

/// What keeps records between two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A topic of one writer and one reader, which holds so many bytes that have not been read.
    Log(Size),
    /// A queue in memory, which holds so much.
    Queue(Limit, Drops),
}

/// A part of a pipeline, with epochs of its own.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its graph; its name is that of the pipeline, or `PIPELINE.CONSUMER` behind an edge that divides.
    pub graph: Graph,
    /// Where each of its stages stands in the whole.
    pub stages: Vec<usize>,
    /// The parts that it reads, by position.
    pub feeders: BTreeSet<usize>,
}

/// A source, stage or sink of the whole.
type Part = (u8, usize);

fn sender(producer: Producer) -> Part {
    match producer {
        Producer::Source(at) => (0, at),
        Producer::Stage(at) => (1, at),
        Producer::Sink(at) => (2, at),
    }
}

fn receiver(consumer: Consumer) -> Part {
    match consumer {
        Consumer::Stage(at) => (1, at),
        Consumer::Sink(at) => (2, at),
    }
}

/// Whether another part begins behind an edge.
fn divides(edge: &Edge) -> bool {
    edge.when_full != WhenFull::Block
}

/// The domain of each part: the lowest part that blocking edges connect it with, and one for all that no such
/// edge leads to.
fn domains(graph: &Graph) -> BTreeMap<Part, Part> {
    let sizes = [graph.sources.len(), graph.stages.len(), graph.sinks.len()];
    let parts = (0u8..).zip(sizes).flat_map(|(kind, len)| (0..len).map(move |at| (kind, at)));
    let mut of: BTreeMap<Part, Part> = parts.map(|part| (part, part)).collect();
    let join = |of: &mut BTreeMap<Part, Part>, a: Part, b: Part| {
        let (Some(&a), Some(&b)) = (of.get(&a), of.get(&b)) else { return };
        let (least, other) = (a.min(b), a.max(b));
        of.values_mut().filter(|domain| **domain == other).for_each(|domain| *domain = least);
    };
    for edge in graph.edges.iter().filter(|edge| !divides(edge)) {
        join(&mut of, sender(edge.from), receiver(edge.to));
    }
    let durable = graph.edges.iter().filter(|edge| divides(edge));
    let behind: BTreeSet<Part> = durable.filter_map(|edge| of.get(&receiver(edge.to)).copied()).collect();
    let front: BTreeSet<Part> = of.values().copied().filter(|domain| !behind.contains(domain)).collect();
    if let Some(&first) = front.first() {
        of.values_mut().filter(|domain| front.contains(domain)).for_each(|domain| *domain = first);
    }
    of
}

/// Tells edges that cannot be had: durable ones where nothing is kept, and what leads round.
pub(super) fn check(loaded: &Loaded, graph: &Graph, is_kept: bool, flaws: &mut Vec<Flaw>) {
    for (written, when_full) in loaded.pipeline.edges.iter().filter_map(|edge| Some((edge, edge.when_full.as_ref()?))) {
        if when_full.value == Overflow::Durable && !is_kept {
            let (from, to) = (&written.from.value, &written.to.value);
            let message =
                format!("the edge from `{from}` to `{to}` is durable, and with `state: none` there is no place for it");
            flaws.push(Flaw::at(codes::NO_STATE, &when_full.span, message).cure("name a folder with `--state`"));
        }
    }
    for written in &loaded.pipeline.edges {
        let is_durable = written.when_full.as_ref().is_some_and(|it| it.value == Overflow::Durable);
        if let Some(max) = written.max.as_ref().filter(|_| !is_durable) {
            let (from, to) = (&written.from.value, &written.to.value);
            let message =
                format!("`max` would have no effect on the edge from `{from}` to `{to}`, which is not durable");
            let cure = "take it out, say `capacity`, or write `when_full: durable`";
            flaws.push(Flaw::at(codes::NO_EFFECT, &max.span, message).cure(cure));
        }
    }
    let of = domains(graph);
    let all: BTreeSet<Part> = of.values().copied().collect();
    let at = |part: Part| all.iter().position(|domain| of.get(&part) == Some(domain));
    let mut feeders = vec![BTreeSet::new(); all.len()];
    for edge in graph.edges.iter().filter(|edge| divides(edge)) {
        if let (Some(from), Some(to)) = (at(sender(edge.from)), at(receiver(edge.to)))
            && let Some(feeders) = feeders.get_mut(to)
        {
            feeders.insert(from);
        }
    }
    // Whoever waits for nobody is taken out until only circles are left.
    let mut left: BTreeSet<usize> = (0..feeders.len()).collect();
    while let Some(ready) =
        left.iter().copied().find(|at| feeders.get(*at).is_none_or(|feeders| feeders.is_disjoint(&left)))
    {
        left.remove(&ready);
    }
    if left.is_empty() {
        return;
    }
    let round: BTreeSet<usize> = circle(&feeders, &left).into_iter().collect();
    let is_on = |edge: &&Edge| {
        let on = |part| at(part).is_some_and(|at| round.contains(&at));
        divides(edge) && on(sender(edge.from)) && on(receiver(edge.to))
    };
    for edge in graph.edges.iter().filter(is_on) {
        let name = graph.passage(edge);
        let written = loaded.pipeline.edges.iter().find(|written| {
            let mut names = name.split('>');
            names.next() == Some(written.from.value.as_str()) && names.next() == Some(written.to.value.as_str())
        });
        let Some(written) = written else { continue };
        let message = format!(
            "the edge from `{}` to `{}` begins a part and leads round in a circle of parts",
            written.from.value, written.to.value
        );
        let flaw = Flaw::at(codes::CYCLE, &written.from.span, message);
        flaws.push(
            flaw.cure("let what is behind it feed nothing that is in front of it, but by a topic, or let it block"),
        );
    }
}

impl Graph {
    /// What an edge that divides is called in its parts: `OUTPUT>CONSUMER`.
    fn passage(&self, edge: &Edge) -> String {
        let port = self.port(edge.from, edge.port);
        let dot = if port.is_empty() { "" } else { "." };
        format!("{}{dot}{port}>{}", self.producer(edge.from), self.consumer(edge.to))
    }

    /// The parts of this graph, those in front of such edges first: itself alone where it has none.
    pub fn domains(&self) -> Vec<Domain> {
        if !self.edges.iter().any(divides) {
            let stages = (0..self.stages.len()).collect();
            return vec![Domain { graph: self.clone(), stages, feeders: BTreeSet::new() }];
        }
        // Letters would connect everything: each part has its own.
        let (whole, letters) = self.clone().without_letters();
        let of = domains(&whole);
        let mut all: Vec<Part> = of.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let is_behind =
            |domain: &Part| whole.edges.iter().any(|edge| divides(edge) && of.get(&receiver(edge.to)) == Some(domain));
        all.sort_by_key(is_behind);
        let parts = all.iter().map(|domain| whole.domain(&of, *domain, &all));
        parts.map(|part| Domain { graph: part.graph.lettered(letters.clone()), ..part }).collect()
    }

    /// The name of a part: that of the pipeline, or of what an edge that divides leads to first.
    fn name_of(&self, of: &BTreeMap<Part, Part>, domain: Part) -> String {
        let mut leading = self.edges.iter().filter(|edge| divides(edge) && of.get(&receiver(edge.to)) == Some(&domain));
        match leading.next() {
            None => self.name.clone(),
            Some(edge) => format!("{}.{}", self.name, self.consumer(edge.to)),
        }
    }

    fn empty(&self, name: String) -> Self {
        let (sources, stages, sinks, edges) = Default::default();
        Self { name, sources, stages, sinks, edges, folder: self.folder.clone(), ..*self }
    }

    fn domain(&self, of: &BTreeMap<Part, Part>, domain: Part, all: &[Part]) -> Domain {
        let mine = |kind: u8, at: usize| of.get(&(kind, at)) == Some(&domain);
        let (receives, sends) = (
            |edge: &Edge| of.get(&receiver(edge.to)) == Some(&domain),
            |edge: &Edge| of.get(&sender(edge.from)) == Some(&domain),
        );
        let mut part = self.empty(self.name_of(of, domain));
        let (mut sources, mut stages, mut sinks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (at, source) in self.sources.iter().enumerate().filter(|(at, _)| mine(0, *at)) {
            sources.insert(at, part.sources.len());
            part.sources.push(source.clone());
        }
        for (at, stage) in self.stages.iter().enumerate().filter(|(at, _)| mine(1, *at)) {
            stages.insert(at, part.stages.len());
            part.stages.push(stage.clone());
        }
        for (at, sink) in self.sinks.iter().enumerate().filter(|(at, _)| mine(2, *at)) {
            sinks.insert(at, part.sinks.len());
            part.sinks.push(sink.clone());
        }
        let from = |producer: Producer| match producer {
            Producer::Source(at) => sources.get(&at).copied().map(Producer::Source),
            Producer::Stage(at) => stages.get(&at).copied().map(Producer::Stage),
            Producer::Sink(at) => sinks.get(&at).copied().map(Producer::Sink),
        };
        let to = |consumer: Consumer| match consumer {
            Consumer::Stage(at) => stages.get(&at).copied().map(Consumer::Stage),
            Consumer::Sink(at) => sinks.get(&at).copied().map(Consumer::Sink),
        };
        let mut feeders = BTreeSet::new();
        for edge in &self.edges {
            let (medium, capacity) = match edge.when_full {
                WhenFull::Block => {
                    if let (Some(from), Some(to)) = (from(edge.from), to(edge.to)) {
                        part.edges.push(Edge { from, to, ..*edge });
                    }
                    continue;
                }
                WhenFull::Durable(max) => (Medium::Log(max), edge.capacity),
                // What waits, waits where it can be dropped.
                WhenFull::Drop(drops) => (Medium::Queue(edge.capacity, drops), Limit::default()),
            };
            let name = self.passage(edge);
            let part_of = |part: Part| of.get(&part).map_or_else(String::new, |domain| self.name_of(of, *domain));
            let (writer, reader) = (part_of(sender(edge.from)), part_of(receiver(edge.to)));
            let passage = Passage { name: format!("{}>{name}", self.name), writer, reader, medium };
            let inner = Edge { when_full: WhenFull::Block, capacity, ..*edge };
            if let (true, Some(from)) = (sends(edge), from(edge.from)) {
                part.edges.push(Edge { from, to: Consumer::Sink(part.sinks.len()), input: 0, ..inner });
                part.sinks.push(writing(&name, passage.clone()));
            }
            if let (true, Some(to)) = (receives(edge), to(edge.to)) {
                feeders.extend(all.iter().position(|domain| of.get(&sender(edge.from)) == Some(domain)));
                part.edges.push(Edge { from: Producer::Source(part.sources.len()), port: Port::Main, to, ..inner });
                part.sources.push(reading(&name, passage));
            }
        }
        part.edges.sort_by_key(|edge| (edge.to, edge.input));
        Domain { graph: part, stages: stages.into_keys().collect(), feeders }
    }
}

/// The end of an edge that its sender writes to.
fn writing(name: &str, passage: Passage) -> Sink {
    let (name, output) = (name.to_owned(), Output::Passage(passage));
    let breaker = Breaker::default();
    Sink { name, output, format: Format::Raw, retry: Retry::default(), breaker, asked: None }
}

/// The end that its receiver reads: records as they were, ids and fields with them, and the sender's watermark.
fn reading(name: &str, passage: Passage) -> Source {
    let never = Span(Duration::MAX);
    Source {
        name: name.to_owned(),
        input: Input::Passage(passage),
        format: Format::Raw,
        stamp: Stamp::default(),
        watermark: Watermark { lag: never, ahead: never, ..Watermark::default() },
        rate: None,
        max_record: Size(0),
        ids: false,
    }
}
