//! Who reads what.
//!
//! Owns the names that `from` may use, and what nothing reads. It must not know the order of stages.

use std::{collections::BTreeMap, ops::Range};

use super::{
    super::{Loaded, Overflow, codes, diagnostic::Flaw, pipeline, place::Spanned, shape::closest},
    Consumer, Edge, Port, Producer, WhenFull,
    letters::LETTERS,
    outputs::{OWN, Settled},
};
use crate::{batch::Limit, plugin::Kind, queue::Drops};

/// Names of a file, and who bears them.
struct Names<'a> {
    loaded: &'a Loaded,
    stages: &'a [Settled<'a>],
    by_name: BTreeMap<&'a str, (Bearer, &'a Range<usize>)>,
}

#[derive(Clone, Copy)]
enum Bearer {
    Producer(Producer),
    Sink,
}

/// What a reference in `from` comes to.
enum Found {
    Output(Producer, Port),
    /// It cannot be told; somebody else has said why.
    Unknown,
    /// There is no such output, but probably this one was meant.
    Not(Option<(Producer, Port)>),
}

/// Edges of the file, stages numbered by its order.
pub(super) fn draw(loaded: &Loaded, stages: &[Settled<'_>], flaws: &mut Vec<Flaw>) -> Vec<Edge> {
    let names = Names::of(loaded, stages, flaws);
    let (mut edges, mut meant) = (Vec::new(), Vec::new());
    let pipeline = &loaded.pipeline;
    let readers = stages
        .iter()
        .enumerate()
        .map(|(i, stage)| (Consumer::Stage(i), stage.name, &stage.stage.from))
        .chain(pipeline.sinks.iter().enumerate().map(|(i, (name, sink))| (Consumer::Sink(i), name, &sink.from)));
    for (to, name, from) in readers {
        names.read(to, name, from, &mut edges, &mut meant, flaws);
    }
    if pipeline.sources.is_empty() && !loaded.broken.lost("sources") {
        let flaw = Flaw::at(codes::NO_INPUT, &pipeline.name.span, "the pipeline has no source");
        flaws.push(flaw.cure("add one under `sources`"));
    }
    names.unread(&edges, &meant, flaws);
    names.capacities(&mut edges, flaws);
    edges
}

impl<'a> Names<'a> {
    fn of(loaded: &'a Loaded, stages: &'a [Settled<'a>], flaws: &mut Vec<Flaw>) -> Self {
        let mut names = Self { loaded, stages, by_name: BTreeMap::new() };
        let sources = loaded.pipeline.sources.iter().enumerate();
        let sources = sources.map(|(i, (name, _))| (Bearer::Producer(Producer::Source(i)), name));
        let of_stages = stages.iter().enumerate();
        let of_stages = of_stages.map(|(i, stage)| (Bearer::Producer(Producer::Stage(i)), stage.name));
        let sinks = loaded.pipeline.sinks.iter().map(|(name, _)| (Bearer::Sink, name));
        for (bearer, name) in sources.chain(of_stages).chain(sinks) {
            if name.value == LETTERS {
                let message = format!("`{LETTERS}` is the name of the sink that the host itself adds");
                flaws.push(Flaw::at(codes::TAKEN_NAME, &name.span, message).cure("choose another"));
            }
            match names.by_name.get(name.value.as_str()) {
                Some((_, first)) => {
                    let flaw = Flaw::at(codes::TAKEN_NAME, &name.span, format!("`{}` is taken", name.value));
                    flaws.push(flaw.cure("rename one of the two").label(first, "first here"));
                }
                None => {
                    names.by_name.insert(&name.value, (bearer, &name.span));
                }
            }
        }
        names
    }

    fn read(
        &self,
        to: Consumer,
        name: &Spanned<String>,
        from: &pipeline::From,
        edges: &mut Vec<Edge>,
        meant: &mut Vec<(Producer, Port)>,
        flaws: &mut Vec<Flaw>,
    ) {
        // One that only stands in for another gets its records from that one.
        let mut sinks = self.loaded.pipeline.sinks.iter();
        let stands_in = matches!(to, Consumer::Sink(_))
            && sinks.any(|(_, sink)| sink.breaker.stands_in().is_some_and(|other| other.value == name.value));
        if from.0.is_empty() && !stands_in && !self.loaded.broken.is(&[section(to), &name.value, "from"]) {
            let flaw = Flaw::at(codes::NO_INPUT, &name.span, format!("nothing flows into `{}`", name.value));
            flaws.push(flaw.cure("name an output under `from`"));
        }
        if let Some(beyond) = from.0.get(255) {
            let message = format!("`{}` reads more than 255 outputs", name.value);
            flaws.push(Flaw::at(codes::OUT_OF_RANGE, &beyond.span, message));
        }
        let before = edges.len();
        for (input, reference) in from.0.iter().enumerate() {
            let (from, port) = match self.find(reference, flaws) {
                Found::Output(from, port) => (from, port),
                Found::Unknown => continue,
                Found::Not(likely) => {
                    meant.extend(likely);
                    continue;
                }
            };
            if edges.iter().skip(before).any(|edge| edge.from == from && edge.port == port) {
                let message = format!("`{}` reads `{}` twice", name.value, reference.value);
                flaws.push(Flaw::at(codes::READ_TWICE, &reference.span, message).cure("name it once"));
                continue;
            }
            let default = pipeline::Capacity::default();
            edges.push(Edge { from, port, to, input, capacity: limit(&default), when_full: WhenFull::Block });
        }
    }

    fn find(&self, reference: &Spanned<String>, flaws: &mut Vec<Flaw>) -> Found {
        let (name, output) = match reference.value.split_once('.') {
            Some((name, output)) => (name, Some(output)),
            None => (reference.value.as_str(), None),
        };
        let Some((bearer, _)) = self.by_name.get(name) else {
            let broken = &self.loaded.broken;
            if broken.is(&["sources", name]) || broken.is(&["stages", name]) {
                return Found::Unknown;
            }
            return self.not_found(reference, flaws);
        };
        let Bearer::Producer(producer) = bearer else {
            let flaw =
                Flaw::at(codes::NO_SUCH_OUTPUT, &reference.span, format!("nothing comes out of the sink `{name}`"));
            flaws.push(flaw.cure("read what the sink reads"));
            return Found::Not(None);
        };
        let Some(output) = output else { return Found::Output(*producer, Port::Main) };
        let stage = match producer {
            Producer::Source(_) if output == "refused" => return Found::Output(*producer, Port::Refused),
            Producer::Source(_) => return self.not_found(reference, flaws),
            Producer::Stage(i) => self.stages.get(*i),
            Producer::Sink(_) => None,
        };
        let Some(stage) = stage else { return Found::Unknown };
        match (output, stage.kind) {
            ("refused", _) => Found::Output(*producer, Port::Refused),
            ("rest" | "late", None) => Found::Unknown,
            ("rest", Some(Kind::Filter)) => Found::Output(*producer, Port::Rest),
            ("rest", _) => {
                let message = format!("`{name}` is not a filter: it has no `.rest`");
                let flaw = Flaw::at(codes::NOT_A_FILTER, &reference.span, message);
                flaws.push(flaw.cure(format!("read `{name}`, or one of the outputs that its plugin names")));
                Found::Not(None)
            }
            ("late", _) if stage.puts_late() => Found::Output(*producer, Port::Late),
            ("late", _) if self.loaded.broken.is(&["stages", name, "window"]) => Found::Unknown,
            ("late", _) => {
                let message = format!("`{name}` puts nothing to `.late`");
                let flaw = Flaw::at(codes::NOT_WINDOWED, &reference.span, message);
                flaws.push(flaw.cure("only an aggregate with a `tumbling` window and `late: side` does"));
                Found::Not(None)
            }
            (output, _) => match &stage.outputs {
                None => Found::Unknown,
                Some(outputs) => match outputs.iter().position(|own| own == output) {
                    Some(at) => Found::Output(*producer, Port::Named(at)),
                    None => self.not_found(reference, flaws),
                },
            },
        }
    }

    /// Everything that `from` may name.
    fn all(&self) -> Vec<(String, Producer, Port)> {
        let mut all = Vec::new();
        for (name, (bearer, _)) in &self.by_name {
            let Bearer::Producer(producer) = bearer else { continue };
            all.push(((*name).to_owned(), *producer, Port::Main));
            all.push((format!("{name}.{}", OWN[2]), *producer, Port::Refused));
            let Producer::Stage(i) = producer else { continue };
            let Some(stage) = self.stages.get(*i) else { continue };
            if stage.kind == Some(Kind::Filter) {
                all.push((format!("{name}.{}", OWN[0]), *producer, Port::Rest));
            }
            if stage.puts_late() {
                all.push((format!("{name}.{}", OWN[1]), *producer, Port::Late));
            }
            for (at, output) in stage.outputs.iter().flatten().enumerate() {
                all.push((format!("{name}.{output}"), *producer, Port::Named(at)));
            }
        }
        all
    }

    fn not_found(&self, reference: &Spanned<String>, flaws: &mut Vec<Flaw>) -> Found {
        let all = self.all();
        let likely = closest(&reference.value, all.iter().map(|(name, ..)| name.as_str()));
        let likely = likely.and_then(|likely| all.iter().find(|(name, ..)| name == likely));
        let message = format!("no source, stage or side output is called `{}`", reference.value);
        let flaw = Flaw::at(codes::NO_SUCH_OUTPUT, &reference.span, message);
        flaws.push(match likely {
            Some((name, ..)) => {
                let bearer = name.split('.').next().and_then(|bearer| self.by_name.get(bearer));
                let line = bearer.map_or(0, |(_, span)| self.loaded.text.position(span.start).0);
                flaw.cure(format!("did you mean `{name}`, defined at line {line}?"))
            }
            None => flaw.cure("name a source, a stage or `STAGE.OUTPUT`"),
        });
        Found::Not(likely.map(|(_, producer, port)| (*producer, *port)))
    }

    fn unread(&self, edges: &[Edge], meant: &[(Producer, Port)], flaws: &mut Vec<Flaw>) {
        // A reader that was cut out may have been the one.
        if self.loaded.broken.lost("stages") || self.loaded.broken.lost("sinks") {
            return;
        }
        let mut must: Vec<(String, Producer, Port)> = self.all();
        must.retain(|(_, _, port)| matches!(port, Port::Main | Port::Named(_)));
        for (output, producer, port) in must {
            let read = edges.iter().any(|edge| edge.from == producer && edge.port == port);
            if read || meant.contains(&(producer, port)) {
                continue;
            }
            let name = output.split('.').next().unwrap_or_default();
            let Some((_, span)) = self.by_name.get(name) else { continue };
            let flaw = Flaw::at(codes::UNREAD, span, format!("nothing reads `{output}`"));
            flaws.push(flaw.cure("let a stage or sink read it, such as a sink with `discard: {}`"));
        }
    }

    fn capacities(&self, edges: &mut [Edge], flaws: &mut Vec<Flaw>) {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for declared in &self.loaded.pipeline.edges {
            let Found::Output(from, port) = self.find(&declared.from, flaws) else { continue };
            let pair = (declared.from.value.as_str(), declared.to.value.as_str());
            let edge = edges
                .iter_mut()
                .find(|edge| edge.from == from && edge.port == port && self.consumer(edge.to) == Some(pair.1));
            match edge {
                Some(_) if seen.contains(&pair) => {
                    let message = format!("the edge from `{}` to `{}` stands twice", pair.0, pair.1);
                    flaws
                        .push(Flaw::at(codes::DUPLICATE_KEY, &declared.from.span, message).cure("keep one of the two"));
                }
                Some(edge) => {
                    edge.capacity = limit(&declared.capacity);
                    let max = || declared.max.as_ref().map_or(pipeline::MOST_IN_AN_EDGE, |max| max.value);
                    let written = declared.when_full.as_ref().map(|written| written.value).unwrap_or_default();
                    edge.when_full = match written {
                        Overflow::Block => WhenFull::Block,
                        Overflow::Durable => WhenFull::Durable(max()),
                        Overflow::DropNewest => WhenFull::Drop(Drops::Newest),
                        Overflow::DropOldest => WhenFull::Drop(Drops::Oldest),
                    };
                }
                None if self.loaded.broken.is(&["sinks", pair.1]) || self.loaded.broken.is(&["stages", pair.1]) => {}
                None => {
                    let message = format!("`{}` does not read `{}`", pair.1, pair.0);
                    let flaw = Flaw::at(codes::NO_SUCH_EDGE, &declared.to.span, message);
                    flaws.push(flaw.cure("an edge is drawn by `from`; here it is only changed"));
                }
            }
            seen.push(pair);
        }
    }

    fn consumer(&self, consumer: Consumer) -> Option<&str> {
        match consumer {
            Consumer::Stage(i) => self.stages.get(i).map(|stage| stage.name.value.as_str()),
            Consumer::Sink(i) => self.loaded.pipeline.sinks.0.get(i).map(|(name, _)| name.value.as_str()),
        }
    }
}

fn section(consumer: Consumer) -> &'static str {
    match consumer {
        Consumer::Stage(_) => "stages",
        Consumer::Sink(_) => "sinks",
    }
}

/// What a channel of this capacity holds.
pub(super) fn limit(capacity: &pipeline::Capacity) -> Limit {
    Limit {
        records: usize::try_from(capacity.records.value).unwrap_or(usize::MAX),
        bytes: capacity.bytes.value.bytes(),
    }
}
