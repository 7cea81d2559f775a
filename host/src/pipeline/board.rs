//! What a pipeline shows of itself: numbers, phase, and who is not ready and why.
//!
//! Owns the view from outside; nothing in the data path reads it. A board outlives restarts inside the process.

mod readiness;
mod status;
mod waits;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
pub use status::{EdgeStatus, GenerationStatus, NotReady, PartStatus, Status};
use tokio::sync::watch;
pub use waits::Wait;

use super::{
    committed::Committed,
    coordinator::Participant,
    generations::{Counts, Fate},
    ledger::{self, Account},
};
use crate::{
    config::{
        Then,
        graph::{self, Consumer, Fallback, Graph, Output, Sink, Source, Stage},
    },
    letter::{self, Desk, Office},
    log::Access,
    stage::{
        breaker::Terms,
        gate::{Bell, Gate},
        generation::Service,
        lane::{Fill, Handle},
        meter::Meter,
        stepping::Stepping,
    },
    topic::{Topic, Topics},
};

/// How long a call of a sink takes that is slow, where nobody says.
const SLOW: Duration = Duration::from_secs(10);

/// Where a pipeline is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its tasks are being started, for the first time or again.
    #[default]
    Starting,
    /// Records flow.
    Running,
    /// Sources have stopped, what is under way goes on.
    Draining,
    /// It has ended.
    Ended,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    account: Account,
    begun: Option<Instant>,
    took: Duration,
    late: Vec<Participant>,
    troubles: BTreeMap<Participant, String>,
    restarts: u64,
    inboxes: BTreeMap<Consumer, Handle>,
    /// Of each stage: the plugin that serves it, and its generations.
    generations: BTreeMap<usize, Generations>,
}

/// The generations of a stage, as they are shown.
#[derive(Clone, Debug)]
pub struct Generations {
    /// The plugin that serves.
    pub about: letter::Plugin,
    /// All of them, oldest first, each with what it does.
    pub all: Vec<(GenerationStatus, Arc<Service>)>,
    /// How reloads have ended.
    pub counts: Counts,
}

/// The live view of one pipeline.
#[derive(Debug)]
pub struct Board {
    graph: Arc<Graph>,
    started: Instant,
    /// Meters of the sources, in the order of the graph.
    pub sources: Vec<Arc<Meter>>,
    /// Meters of the stages.
    pub stages: Vec<Arc<Meter>>,
    /// Meters of the sinks.
    pub sinks: Vec<Arc<Meter>>,
    /// Records sent on each edge.
    pub edges: Vec<Arc<AtomicU64>>,
    /// Breakers of the stages.
    pub stage_gates: Vec<Arc<Gate>>,
    /// Breakers of the plugins that stand in for those of stages, by the stage's position.
    pub fallback_gates: BTreeMap<usize, Arc<Gate>>,
    /// Breakers of the sinks.
    pub sink_gates: Vec<Arc<Gate>>,
    /// Rings when one of them has opened or closed.
    pub bell: Bell,
    state: Mutex<State>,
    /// How records are called one by one, from the start of this process on.
    stepping: OnceLock<Arc<Stepping>>,
    office: Office,
    /// Of each source that reads a topic, the topic and the group.
    groups: Vec<Option<(Arc<Topic>, String)>>,
    pulse: watch::Sender<Pulse>,
}

/// How far a pipeline has come, for those who wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The last epoch that was committed.
    pub epoch: u64,
    /// How long it took, from its beginning until it was committed.
    pub took: Duration,
    /// Whether nothing will be committed any more.
    pub is_over: bool,
}

impl Board {
    /// A board for a pipeline that has not been started, whose dead letters are found in `office` once it has been, and
    /// what it reads of other pipelines in `topics`.
    pub fn new(graph: Arc<Graph>, office: Office, topics: Option<&Topics>) -> Self {
        let group = |source: &Source| {
            let (topic, group) = source.input.topic()?;
            Some((topics?.topic(topic), group.to_owned()))
        };
        fn meters(n: usize) -> Vec<Arc<Meter>> {
            (0..n).map(|_| Arc::default()).collect()
        }
        let bell = Bell::default();
        let gate = |name: &String, terms| Arc::new(Gate::new(name.clone(), terms, bell.clone()));
        let terms = |sink: &graph::Sink| match Terms::from(&sink.breaker) {
            _ if !sink.has_breaker() => Terms::never(),
            terms => Terms { slow: terms.slow.or(Some(SLOW)), ..terms },
        };
        Self {
            stage_gates: graph.stages.iter().map(|stage| gate(&stage.name, Terms::from(&stage.breaker))).collect(),
            fallback_gates: graph
                .stages
                .iter()
                .enumerate()
                .filter(|(_, stage)| stage.fallback.is_some())
                .map(|(at, stage)| (at, gate(&Fallback::name(&stage.name), Terms::from(&stage.breaker))))
                .collect(),
            sink_gates: graph.sinks.iter().map(|sink| gate(&sink.name, terms(sink))).collect(),
            bell,
            started: Instant::now(),
            sources: meters(graph.sources.len()),
            stages: meters(graph.stages.len()),
            sinks: meters(graph.sinks.len()),
            edges: graph.edges.iter().map(|_| Arc::default()).collect(),
            state: Mutex::default(),
            stepping: OnceLock::new(),
            pulse: watch::Sender::default(),
            groups: graph.sources.iter().map(group).collect(),
            graph,
            office,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the pipeline's dead letters are found.
    pub fn letters(&self) -> &Access {
        &self.office.letters
    }

    /// Where replays of them are asked for.
    pub fn desk(&self) -> &Desk {
        &self.office.desk
    }

    /// The graph it shows.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Has records called one by one until an epoch commits; what this process was told first counts.
    pub fn step(&self, stepping: Stepping) {
        self.stepping.get_or_init(|| Arc::new(stepping));
    }

    /// How records are called one by one, or were.
    pub fn stepping(&self) -> Option<&Arc<Stepping>> {
        self.stepping.get()
    }

    /// The breakers of stages, of what stands in for them, and of sinks, by name.
    pub fn gates(&self) -> impl Iterator<Item = (&str, &Arc<Gate>)> {
        let all = self.stage_gates.iter().chain(self.fallback_gates.values()).chain(&self.sink_gates);
        all.map(|gate| (gate.name(), gate))
    }

    /// The breaker of a stage or sink.
    pub fn gate(&self, who: Participant) -> Option<&Arc<Gate>> {
        match who {
            Participant::Stage(at) => self.stage_gates.get(at),
            Participant::Sink(at) => self.sink_gates.get(at),
            Participant::Source(_) | Participant::Store => None,
        }
    }

    /// Whether records wait, for a breaker is open whose stage or sink keeps them meanwhile.
    pub fn is_paused(&self) -> bool {
        let stages = self.graph.stages.iter().map(|stage| &stage.breaker).zip(&self.stage_gates).enumerate();
        let sinks = self.graph.sinks.iter().map(|sink| &sink.breaker).zip(&self.sink_gates);
        let is_open = |gate: &Arc<Gate>| gate.opened().is_some();
        // What stands in may be left alone too.
        let has_nobody = |at, then| match then {
            Then::Pause => true,
            Then::Fallback => self.fallback_gates.get(&at).is_some_and(is_open),
            Then::DeadLetter | Then::Bypass | Then::Drop => false,
        };
        let mut stages = stages.map(|(at, (breaker, gate))| is_open(gate) && has_nobody(at, breaker.then.value));
        let mut sinks = sinks.map(|(breaker, gate)| is_open(gate) && breaker.then.value == Then::Pause);
        stages.any(|is_paused| is_paused) || sinks.any(|is_paused| is_paused)
    }

    /// Notes where the pipeline is in its life.
    pub fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
        self.pulse.send_modify(|pulse| pulse.is_over = phase == Phase::Ended);
    }

    /// Where the pipeline is in its life.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Notes the inboxes of this run.
    pub fn set_inboxes(&self, inboxes: BTreeMap<Consumer, Handle>) {
        self.state().inboxes = inboxes;
    }

    /// Notes that an epoch has begun.
    pub fn epoch_begun(&self) {
        self.state().begun = Some(Instant::now());
    }

    /// Notes a commit by its ledger.
    pub fn epoch_committed(&self, account: Account) {
        self.stepping()
            .iter()
            .filter(|stepping| stepping.epoch().0 < account.epoch)
            .for_each(|stepping| stepping.end());
        let mut state = self.state();
        let took = state.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        state.late.clear();
        self.pulse.send_modify(|pulse| (pulse.epoch, pulse.took) = (account.epoch, took));
        state.account = account;
    }

    /// The ledger of the last commit.
    pub fn account(&self) -> Account {
        self.state().account.clone()
    }

    /// How far the pipeline has come, from now on, and the first epoch that begins after now.
    pub fn pulse(&self) -> (watch::Receiver<Pulse>, u64) {
        let state = self.state();
        let under_way = u64::from(state.begun.is_some());
        (self.pulse.subscribe(), state.account.epoch + under_way + 1)
    }

    /// Notes the generations of a stage.
    pub fn set_generations(&self, stage: usize, generations: Generations) {
        self.state().generations.insert(stage, generations);
    }

    /// The generations of a stage, oldest first.
    pub fn generations(&self, stage: usize) -> Vec<GenerationStatus> {
        let state = self.state();
        let all = state.generations.get(&stage).into_iter().flat_map(|generations| &generations.all);
        all.map(|(one, service)| GenerationStatus { figures: service.read(), ..one.clone() }).collect()
    }

    /// The plugin that serves a stage.
    pub fn plugin(&self, stage: usize) -> Option<letter::Plugin> {
        self.state().generations.get(&stage).map(|generations| generations.about.clone())
    }

    /// Notes how long a commit took to be written.
    pub fn epoch_written(&self, took: Duration) {
        self.state().took = took;
    }

    /// Notes a restart inside the process.
    pub fn restarted(&self) {
        let mut state = self.state();
        state.restarts += 1;
        state.begun = None;
        state.late.clear();
        state.troubles.clear();
    }

    /// Notes what keeps somebody from going on, or that nothing does any more.
    pub fn set_trouble(&self, who: Participant, why: Option<String>) {
        let mut state = self.state();
        match why {
            Some(why) => state.troubles.insert(who, why),
            None => state.troubles.remove(&who),
        };
    }

    /// The name of a participant.
    pub fn name(&self, who: Participant) -> String {
        match who {
            Participant::Source(at) => self.graph.sources.get(at).map(|source| source.name.clone()),
            Participant::Stage(at) => self.graph.stages.get(at).map(|stage| stage.name.clone()),
            Participant::Sink(at) => self.graph.sinks.get(at).map(|sink| sink.name.clone()),
            Participant::Store => Some("the store".to_owned()),
        }
        .unwrap_or_default()
    }

    /// Records that its sources have read and `committed` does not hold: given up where the pipeline has ended, and
    /// read again from the committed positions.
    pub fn uncommitted(&self, committed: &Committed) -> u64 {
        let read = self.sources.iter().map(|meter| meter.read().tally.received);
        let held = committed.sources.iter().map(|point| point.tally.received);
        read.sum::<u64>().saturating_sub(held.sum())
    }

    /// The pipeline as it stands.
    pub fn status(&self) -> Status {
        let part = |name: &String, meter: &Arc<Meter>| PartStatus {
            name: name.clone(),
            reading: meter.read(),
            behind: None,
            waiting: None,
            counts: meter.read_plugin_counts(),
            faults: meter.read_faults(),
            breaker: self.gates().find(|(gated, _)| *gated == name).map(|(_, gate)| gate.shown().open_to_all()),
            generation: None,
            reloads: None,
        };
        let stage = |(at, (stage, meter)): (usize, (&Stage, _))| {
            let serves = |one: &GenerationStatus| matches!(one.fate, Fate::Active | Fate::Probation);
            let generation = self.generations(at).into_iter().find(serves);
            let reloads = self.state().generations.get(&at).map(|generations| generations.counts);
            PartStatus { generation, reloads, ..part(&stage.name, meter) }
        };
        let stages = self.graph.stages.iter().zip(&self.stages).enumerate().map(stage).collect();
        let (not_ready, waits) = (self.not_ready(), self.waits());
        let state = self.state();
        let fill: BTreeMap<Consumer, Vec<Fill>> = state.inboxes.iter().map(|(to, inbox)| (*to, inbox.fill())).collect();
        Status {
            pipeline: self.graph.name.clone(),
            phase: state.phase,
            seconds: self.started.elapsed().as_secs_f64(),
            epoch: state.account.epoch,
            epoch_age: state.begun.map(|begun| begun.elapsed().as_secs_f64()),
            commit_seconds: state.took.as_secs_f64(),
            epoch_seconds: self.pulse.borrow().took.as_secs_f64(),
            restarts: state.restarts,
            sources: self
                .graph
                .sources
                .iter()
                .map(|source| &source.name)
                .zip(&self.sources)
                .zip(&self.groups)
                .map(|((n, m), group)| PartStatus {
                    behind: group.as_ref().map(|(topic, group)| topic.behind_of(group)),
                    ..part(n, m)
                })
                .collect(),
            stages,
            sinks: self
                .graph
                .sinks
                .iter()
                .zip(&self.sinks)
                .map(|(sink, meter)| PartStatus {
                    waiting: has_outbox(sink).then(|| state.account.waiting(&sink.name)),
                    ..part(&sink.name, meter)
                })
                .collect(),
            edges: self
                .graph
                .edges
                .iter()
                .zip(&self.edges)
                .map(|(edge, sent)| EdgeStatus {
                    name: ledger::name(&self.graph, edge),
                    sent: sent.load(Relaxed),
                    waiting: fill.get(&edge.to).and_then(|fill| fill.get(edge.input)).copied().unwrap_or_default(),
                })
                .collect(),
            dead_letters: self.office.letters.readable().map(|letters| letters.records()),
            not_ready,
            waits,
            imbalances: state.account.imbalances.clone(),
        }
    }
}

fn has_outbox(sink: &Sink) -> bool {
    matches!(&sink.output, Output::Http(_, requests) if requests.outbox.is_some())
}
