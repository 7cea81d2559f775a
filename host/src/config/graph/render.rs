//! The graph as people look at it: text, dot, mermaid.
//!
//! Owns the three pictures. It must not know how the graph was made.

use std::fmt::Write;

use super::{Consumer, Edge, Graph, Input, Output, Port, Producer, WhenFull, Windowing, outputs::word};
use crate::queue::Drops;

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// Lines of text.
    Ascii,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown shows it.
    Mermaid,
}

/// Draws `graph`.
pub fn render(graph: &Graph, picture: Picture) -> String {
    let graph = &graph.clone().without_replays();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = match picture {
        Picture::Ascii => ascii(graph, &mut out),
        Picture::Dot => dot(graph, &mut out),
        Picture::Mermaid => mermaid(graph, &mut out),
    };
    out
}

impl Graph {
    /// Name of a producer.
    pub fn producer(&self, producer: Producer) -> &str {
        match producer {
            Producer::Source(i) => self.sources.get(i).map_or("", |source| &source.name),
            Producer::Stage(i) => self.stages.get(i).map_or("", |stage| &stage.name),
            Producer::Sink(i) => self.sinks.get(i).map_or("", |sink| &sink.name),
        }
    }

    /// Name of a consumer.
    pub fn consumer(&self, consumer: Consumer) -> &str {
        match consumer {
            Consumer::Stage(i) => self.stages.get(i).map_or("", |stage| &stage.name),
            Consumer::Sink(i) => self.sinks.get(i).map_or("", |sink| &sink.name),
        }
    }

    /// Name of an output as `from` writes it, without its producer: empty for the main one.
    pub fn port(&self, from: Producer, port: Port) -> &str {
        match (port, from) {
            (Port::Main, _) => "",
            (Port::Rest, _) => "rest",
            (Port::Late, _) => "late",
            (Port::Refused, _) => "refused",
            (Port::Fallback, _) => "fallback",
            (Port::Named(at), Producer::Stage(i)) => {
                self.stages.get(i).and_then(|stage| stage.outputs.get(at)).map_or("", String::as_str)
            }
            (Port::Named(_), Producer::Source(_) | Producer::Sink(_)) => "",
        }
    }

    /// Names with what they stand for, sources first, sinks last.
    fn things(&self) -> Vec<(&str, String)> {
        let mut things = Vec::new();
        for source in &self.sources {
            let kind = match &source.input {
                Input::File(config) => format!("file {}", config.path),
                Input::Stdin(_) => "stdin".to_owned(),
                Input::Http(config) => format!("http {}{}", config.listen, config.path),
                Input::Topic(config, group) => format!("topic {}, group {group}", config.name),
                Input::Generate(_) => "generate".to_owned(),
                Input::HostMetrics(_) => "host_metrics".to_owned(),
                Input::Letters => "letters that are replayed".to_owned(),
                Input::Passage(_) => "edge".to_owned(),
            };
            things.push((source.name.as_str(), kind));
        }
        for stage in &self.stages {
            let mut kind = format!("{} {}", word(stage.kind), stage.plugin);
            let _ = match stage.window {
                Windowing::None => Ok(()),
                Windowing::Tumbling { size, .. } => write!(kind, ", windows of {size}"),
                Windowing::Count(count) => write!(kind, ", windows of {count} records"),
            };
            if stage.workers > 1 {
                let _ = write!(kind, ", {} workers", stage.workers);
            }
            things.push((stage.name.as_str(), kind));
        }
        for sink in &self.sinks {
            let kind = match &sink.output {
                Output::File(config) => format!("file {}", config.path),
                Output::Http(config, _) => format!("http {}", config.url),
                Output::Topic(config) => format!("topic {}, kept {}, at most {}", config.name, config.keep, config.max),
                Output::Stdout(_) => "stdout".to_owned(),
                Output::Discard(_) => "discard".to_owned(),
                Output::Passage(_) => "edge".to_owned(),
                Output::DeadLetters(letters) => format!("kept {}, at most {}", letters.keep, letters.max),
            };
            things.push((sink.name.as_str(), kind));
        }
        things
    }
}

fn ascii(graph: &Graph, out: &mut String) -> std::fmt::Result {
    let things = graph.things();
    let width = things.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (at, (name, kind)) in things.iter().enumerate() {
        writeln!(out, "{name:width$}  {kind}")?;
        let (sources, stages) = (graph.sources.len(), graph.stages.len());
        let producer = match at.checked_sub(sources).map(|at| (at, at.checked_sub(stages))) {
            None => Producer::Source(at),
            Some((stage, None)) => Producer::Stage(stage),
            Some((_, Some(sink))) => Producer::Sink(sink),
        };
        for edge in graph.out_of(producer) {
            let port = graph.port(edge.from, edge.port);
            let dot = if port.is_empty() { "" } else { "." };
            let (space, arrow) = (
                if port.is_empty() { "" } else { " " },
                match edge.when_full {
                    WhenFull::Block => "─▶",
                    WhenFull::Durable(_) => "═▶",
                    WhenFull::Drop(_) => "┄▶",
                },
            );
            writeln!(out, "  {dot}{port}{space}{arrow} {}", graph.consumer(edge.to))?;
        }
    }
    Ok(())
}

/// What stands beside an edge: the output, and what it does when it is full, where it does not block.
fn label(graph: &Graph, edge: &Edge) -> String {
    let words = [
        graph.port(edge.from, edge.port),
        match edge.when_full {
            WhenFull::Block => "",
            WhenFull::Durable(_) => "durable",
            WhenFull::Drop(Drops::Newest) => "drops its newest",
            WhenFull::Drop(Drops::Oldest) => "drops its oldest",
        },
    ];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

fn dot(graph: &Graph, out: &mut String) -> std::fmt::Result {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    writeln!(out, "digraph {} {{\n  rankdir=LR;\n  node [shape=box];", quoted(&graph.name))?;
    for (name, kind) in graph.things() {
        writeln!(out, "  {} [label={}];", quoted(name), quoted(&format!("{name}\n{kind}")))?;
    }
    for edge in &graph.edges {
        let label = label(graph, edge);
        let (from, to) = (quoted(graph.producer(edge.from)), quoted(graph.consumer(edge.to)));
        writeln!(
            out,
            "  {from} -> {to}{};",
            if label.is_empty() { String::new() } else { format!(" [label={label:?}]") }
        )?;
    }
    writeln!(out, "}}")
}

fn mermaid(graph: &Graph, out: &mut String) -> std::fmt::Result {
    writeln!(out, "flowchart LR")?;
    // `end` and the like are words of mermaid's; an underscore in front makes any name safe.
    for (name, kind) in graph.things() {
        writeln!(out, "  _{name}[\"{name}<br/>{}\"]", kind.replace('"', "#quot;").replace('<', "#lt;"))?;
    }
    for edge in &graph.edges {
        let label = label(graph, edge);
        let arrow = if label.is_empty() { "-->".to_owned() } else { format!("-- {label} -->") };
        writeln!(out, "  _{} {arrow} _{}", graph.producer(edge.from), graph.consumer(edge.to))?;
    }
    Ok(())
}
