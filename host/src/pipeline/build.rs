//! From a graph to lanes, conductors and workers.
//!
//! Owns the wiring of one run: every edge becomes one lane, and a stage of several workers gets further lanes for their
//! answers. It starts nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::time::Instant;

use super::{
    board::Board,
    committed::{Committed, StagePoint},
    durable::{Durable, Restored},
    reload::Reloading,
};
use crate::{
    batch::Limit,
    config::{
        Then,
        graph::{Consumer, Graph, Producer, Stage, Windowing as Configured},
    },
    letter::{self, Office},
    plugin::Interrupt,
    sink::Sink,
    source::Source,
    stage::{
        aggregate::{Peers, Room, Rules, Windowing},
        cellar::{Cellar, Share},
        conductor::{Conductor, Crew, Report, Task, divides},
        failure::Failure,
        generation::{Service, Standing},
        intake::Intake,
        lane::{Inbox, Sender, lanes},
        outlet::{Edge, Outlet, Port},
        pace::Pace,
        prepare::Wants,
        stepping::Journal,
        table::{keeper, owner},
        worker::{Maker, ReadPorts, Spec, Worker},
    },
    time::Tumbling,
    topic::Topics,
};

/// A stage's plugin, ready to make instances.
#[derive(Clone)]
pub struct PluginPart {
    /// Where it was read from, as somebody named it.
    pub written: String,
    /// What it is.
    pub about: letter::Plugin,
    /// Version of the states that it writes.
    pub state_version: u32,
    /// Columns that it wants beside the payloads.
    pub needs: Vec<String>,
    /// Number of the generation that it is in this stage.
    pub generation: u64,
    /// What it has done.
    pub service: Arc<Service>,
    /// Where instances come from.
    pub maker: Arc<dyn Maker>,
    /// What stands in for it while the stage's breaker is open.
    pub fallback: Option<Box<PluginPart>>,
}

/// Everything that a pipeline is made of, each list in the order of the graph.
pub struct Parts {
    /// The graph.
    pub graph: Arc<Graph>,
    /// Its sources.
    pub sources: Vec<Box<dyn Source>>,
    /// The plugins of its stages.
    pub plugins: Vec<PluginPart>,
    /// Its sinks.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Where its dead letters are found, once it has started, and replays are asked for.
    pub office: Office,
    /// What reloads of its plugins need; without it, none is possible.
    pub reloading: Option<Reloading>,
    /// The topics of the host, where it keeps state.
    pub topics: Option<Arc<Topics>>,
    /// Where commits are kept beyond the process, and what is there.
    pub durable: Option<(Durable, Option<Restored>)>,
    /// Where records are noted that are called one by one, of a host that keeps state.
    pub journal: Option<Arc<Journal>>,
}

/// The lanes of one run.
pub struct Wiring {
    /// The receiving ends.
    pub inboxes: BTreeMap<Consumer, Inbox>,
    /// The sending ends.
    pub outlets: BTreeMap<Producer, Outlet>,
    /// Lanes on which stages are told from outside.
    pub controls: BTreeMap<usize, Sender>,
    /// Lanes for the answers of workers, of stages that have several.
    pub answers: BTreeMap<usize, Vec<Sender>>,
}

/// Makes a lane for every edge, its counter set to what the commit says.
pub fn wire(graph: &Graph, board: &Board, committed: &Committed) -> Wiring {
    let mut wiring = Wiring {
        inboxes: BTreeMap::new(),
        outlets: BTreeMap::new(),
        controls: BTreeMap::new(),
        answers: BTreeMap::new(),
    };
    let mut senders: BTreeMap<(Consumer, usize), Sender> = BTreeMap::new();
    let consumers = (0..graph.stages.len()).map(Consumer::Stage).chain((0..graph.sinks.len()).map(Consumer::Sink));
    for to in consumers {
        let mut capacities: Vec<Limit> = graph.into(to).map(|edge| edge.capacity).collect();
        let inputs = capacities.len();
        if let Consumer::Stage(at) = to {
            let workers = graph.stages.get(at).map_or(1, |stage| stage.workers);
            let answers = if workers > 1 { workers } else { 0 };
            capacities.extend(vec![Limit::default(); 1 + answers]);
        }
        let (inbox, ends) = lanes(&capacities);
        for (lane, sender) in ends.into_iter().enumerate() {
            match to {
                Consumer::Stage(at) if lane == inputs => drop(wiring.controls.insert(at, sender)),
                Consumer::Stage(at) if lane > inputs => wiring.answers.entry(at).or_default().push(sender),
                _ => drop(senders.insert((to, lane), sender)),
            }
        }
        wiring.inboxes.insert(to, inbox);
    }
    let producers = (0..graph.sources.len())
        .map(Producer::Source)
        .chain((0..graph.stages.len()).map(Producer::Stage))
        .chain((0..graph.sinks.len()).map(Producer::Sink));
    for from in producers {
        let sent = match from {
            Producer::Source(at) => committed.sources.get(at).map(|point| &point.sent),
            Producer::Stage(at) => committed.stages.get(at).map(|point| &point.sent),
            Producer::Sink(at) => committed.sinks.get(at).map(|point| &point.sent),
        };
        let mut edges = Vec::new();
        for (nth, edge) in graph.out_of(from).enumerate() {
            let counter = graph.edges.iter().position(|other| other == edge).and_then(|at| board.edges.get(at));
            if let (Some(sender), Some(counter)) = (senders.remove(&(edge.to, edge.input)), counter) {
                counter.store(sent.and_then(|sent| sent.get(nth)).copied().unwrap_or_default(), Relaxed);
                edges.push(Edge::new(edge.port, sender, counter.clone()));
            }
        }
        wiring.outlets.insert(from, Outlet::new(edges));
    }
    wiring
}

/// What all workers of a stage know.
pub fn spec(graph: &Graph, at: usize, plugin: &PluginPart, board: &Board, interrupt: &Interrupt) -> Option<Arc<Spec>> {
    let stage = graph.stages.get(at)?;
    let is_read = |port: Port| graph.out_of(Producer::Stage(at)).any(|edge| edge.port == port);
    let reads = ReadPorts { rest: is_read(Port::Rest), late: is_read(Port::Late), refused: is_read(Port::Refused) };
    let peers = if stage.workers > 1 { Peers::Some } else { Peers::None };
    let windowing = match stage.window {
        Configured::None => Windowing::None,
        Configured::Tumbling { size, lateness, .. } => Windowing::Tumbling(Tumbling::new(size.0, lateness.0)),
        Configured::Count(n) => Windowing::Count(n),
    };
    let ttl = stage.ttl.map(|ttl| i64::try_from(ttl.0.as_millis()).unwrap_or(i64::MAX));
    let rules = Rules {
        stage: stage.name.clone(),
        windowing,
        ttl,
        room: Room { most: stage.state.max.bytes() / stage.workers.max(1), when_full: stage.state.when_full.value },
        groups: graph.batch.records,
        has_ids: stage.ids,
        peers,
        state_version: plugin.state_version,
    };
    let own = Spec {
        stage: stage.name.clone(),
        plugin: plugin.written.clone(),
        about: plugin.about.clone(),
        kind: stage.kind,
        wants: Wants::new(&plugin.needs, stage.key.as_deref()),
        on_error: stage.on_error,
        is_read: reads,
        rules: divides(stage.kind).then_some(rules),
        generation: plugin.generation,
        state_version: plugin.state_version,
        service: plugin.service.clone(),
        maker: plugin.maker.clone(),
        interrupt: interrupt.clone(),
        meter: board.stages.get(at)?.clone(),
        gate: board.stage_gates.get(at)?.clone(),
        then: stage.breaker.then.value,
        fallback: None,
        stepping: board.stepping().cloned(),
    };
    // What stands in is called under the same rules, but for a breaker of its own, at which records wait.
    let stands_in = plugin.fallback.as_deref().zip(board.fallback_gates.get(&at)).map(|(part, gate)| {
        Arc::new(Spec {
            plugin: part.written.clone(),
            about: part.about.clone(),
            wants: Wants::new(&part.needs, None),
            service: part.service.clone(),
            maker: part.maker.clone(),
            gate: gate.clone(),
            then: Then::Pause,
            ..own.clone()
        })
    });
    Some(Arc::new(Spec { fallback: stands_in, ..own }))
}

/// A stage's workers on threads of their own.
pub type Hands = Vec<(usize, Worker, Inbox<Task>, Sender)>;

/// The conductor of a stage, and its workers where it has several, begun from a commit, whose groups may lie in a cellar.
///
/// # Errors
/// When no instance of the plugin can be made.
pub fn stage(
    stage: &Stage,
    spec: Arc<Spec>,
    (point, cellar): (&StagePoint, Option<Arc<dyn Cellar>>),
    inbox: Inbox,
    outlet: Outlet,
    answers: Vec<Sender>,
    report: Report,
) -> Result<(Conductor, Hands), Failure> {
    let workers = stage.workers.max(1);
    // What commits from before generations were noted hold has been compared with the plugin already.
    let is_noted = !point.standing.digest.is_empty();
    let version = if is_noted { point.standing.state_version } else { spec.state_version };
    let worker = |spec: &Arc<Spec>, number: usize| {
        let share = cellar.clone().zip(stage.state.memory.as_ref()).map(|(cellar, memory)| {
            let slots = (0..=u8::MAX).filter(|slot| keeper(*slot, workers) == number);
            let slots = slots.clone().min().unwrap_or(1)..=slots.max().unwrap_or(0);
            Share { most: memory.bytes() / workers, slots, cellar }
        });
        Worker::new(spec.clone(), version, point.watermark, &point.groups, |key| owner(key, workers) == number, share)
    };
    spec.meter.reset(&point.tally);
    let mut hands = Vec::new();
    let crew = if answers.is_empty() {
        Crew::Alone(Box::new(worker(&spec, 0)?))
    } else {
        // The conductor has prepared what workers get only where it divides by key.
        let divide = divides(stage.kind).then(|| spec.wants.clone());
        let mut tasks = Vec::new();
        for (number, answer) in answers.into_iter().enumerate() {
            let (inbox, mut ends) = lanes(&[Limit::default()]);
            tasks.extend(ends.pop());
            hands.push((number, worker(&spec, number)?, inbox, answer));
        }
        Crew::Many { tasks, divide, next: 0 }
    };
    let intake = Intake::new(point.received.len(), point.watermark);
    let (tally, received) = (point.tally, point.received.clone());
    let standing = Standing::of(&spec);
    spec.service.begin();
    let conductor = Conductor {
        spec,
        inbox,
        intake,
        crew,
        outlet,
        report,
        tally,
        received,
        standing,
        round: 0,
        is_migrating: false,
        pace: stage.rate.map(Pace::new),
        began: Instant::now(),
    };
    Ok((conductor, hands))
}
