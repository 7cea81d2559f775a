//! Sources and sinks for tests, and a short way to write a graph.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    super::{
        Parts, PluginPart,
        durable::{Durable, Signature, Unfit},
    },
    collect::{Collect, Collected},
    numbers::Numbers,
};
use crate::{
    batch::Limit,
    codec::{Format, Stamp},
    config::{
        Breaker, Limits, OnError, Retry, Secret, State, Watermark, WhenFull,
        graph::{self, Consumer, Edge, Fallback, Graph, Input, Output, Port, Producer, Windowing},
    },
    letter,
    plugin::Kind,
    sink::Sink,
    source::Source,
    stage::{
        fake::{Fake, Mood},
        worker::Maker,
    },
    store::Store,
    unit::{Rate, Size, Span},
};

/// A plugin whose bytes have this digest.
pub(super) fn plugin(digest: &str, maker: impl Maker + 'static) -> PluginPart {
    let about = letter::Plugin { name: "fake".to_owned(), version: "1".to_owned(), digest: digest.to_owned() };
    let (service, maker) = (Arc::default(), Arc::new(maker));
    let written = digest.to_owned();
    PluginPart { written, about, state_version: 1, needs: Vec::new(), generation: 1, service, maker, fallback: None }
}

/// A graph in short words. Every stage and sink reads a comma-separated list of outputs.
pub(super) struct Plan {
    source: Numbers,
    /// Further sources, by name.
    others: Vec<(String, Numbers)>,
    lag: Duration,
    idle: Duration,
    linger: Duration,
    rate: Option<Rate>,
    stage_rate: Option<Rate>,
    epoch: Duration,
    uncommitted: u64,
    stages: Vec<(String, Kind, String, usize)>,
    sinks: Vec<(String, String)>,
    window: Windowing,
    state: State,
    was: Option<String>,
    undecided: u64,
    batch: usize,
    capacity: usize,
    on_error: OnError,
    breaker: Breaker,
    pub(super) fake: Fake,
    standby: Option<Fake>,
    gate: Mutex<Option<Arc<Semaphore>>>,
    failing: usize,
    troubled: Option<String>,
    refuses: Option<char>,
    truncates: bool,
    buffers: bool,
    has_ids: bool,
}

impl Plan {
    pub(super) fn new(values: &[String]) -> Self {
        Self {
            source: Numbers::new(values),
            others: Vec::new(),
            lag: Duration::from_millis(80),
            idle: Duration::from_millis(50),
            linger: Duration::ZERO,
            rate: None,
            stage_rate: None,
            epoch: Duration::from_millis(50),
            uncommitted: 1 << 20,
            stages: Vec::new(),
            sinks: Vec::new(),
            window: Windowing::None,
            state: State::default(),
            was: None,
            undecided: 0,
            batch: 64,
            capacity: 8192,
            on_error: OnError::Stop,
            breaker: Breaker::default(),
            fake: Fake::default(),
            standby: None,
            gate: Mutex::default(),
            failing: 0,
            troubled: None,
            refuses: None,
            truncates: false,
            buffers: false,
            has_ids: false,
        }
    }

    /// Somebody needs ids.
    pub(super) fn ids(mut self) -> Self {
        self.has_ids = true;
        self
    }

    pub(super) fn stage(mut self, name: &str, kind: Kind, from: &str, workers: usize) -> Self {
        self.stages.push((name.to_owned(), kind, from.to_owned(), workers));
        self
    }

    /// The key of each record.
    pub(super) fn keys(mut self, keys: &[String]) -> Self {
        self.source.keys = Some(keys.into());
        self
    }

    pub(super) fn sink(mut self, name: &str, from: &str) -> Self {
        self.sinks.push((name.to_owned(), from.to_owned()));
        self
    }

    pub(super) fn windows(mut self, millis: u64) -> Self {
        let span = |millis| Span(Duration::from_millis(millis));
        self.window = Windowing::Tumbling { size: span(millis), lateness: span(0), late: crate::config::Late::Drop };
        self
    }

    /// Windows of so many records of a key.
    pub(super) fn counts(mut self, records: u64) -> Self {
        self.window = Windowing::Count(records);
        self
    }

    /// How long sources wait to fill a batch.
    pub(super) fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    pub(super) fn batch(mut self, records: usize) -> Self {
        self.batch = records;
        self
    }

    pub(super) fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    pub(super) fn seek(mut self, can_seek: bool) -> Self {
        self.source.can_seek = can_seek;
        self
    }

    pub(super) fn endless(mut self) -> Self {
        self.source.ends = false;
        self
    }

    /// A second source, called `silent`, that never says anything.
    pub(super) fn silent_source(mut self) -> Self {
        self.others.push(("silent".to_owned(), Numbers { ends: false, ..Numbers::new(&[]) }));
        self
    }

    /// A further source, called so, of these values.
    pub(super) fn another(mut self, name: &str, values: &[String]) -> Self {
        self.others.push((name.to_owned(), Numbers::new(values)));
        self
    }

    /// Watermarks stay so far behind; after so long without a record sources are idle.
    pub(super) fn clocks(mut self, lag: Duration, idle: Duration) -> Self {
        (self.lag, self.idle) = (lag, idle);
        self
    }

    /// Most records a second.
    pub(super) fn rate(mut self, rate: &str) -> Self {
        self.rate = Some(rate.parse().unwrap());
        self
    }

    /// Most records a second that a stage takes in.
    pub(super) fn stage_rate(mut self, rate: &str) -> Self {
        self.stage_rate = Some(rate.parse().unwrap());
        self
    }

    pub(super) fn epoch(mut self, every: Duration) -> Self {
        self.epoch = every;
        self
    }

    /// Bytes that a source which cannot seek may keep.
    pub(super) fn uncommitted(mut self, bytes: u64) -> Self {
        self.uncommitted = bytes;
        self
    }

    pub(super) fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Stages open like this.
    pub(super) fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = breaker;
        self
    }

    /// Another fake stands in for the plugins of all stages.
    pub(super) fn standby(mut self) -> Self {
        self.standby = Some(Fake::default());
        self
    }

    /// How what stands in takes whatever it is given.
    pub(super) fn mood_of_standby(&self) -> Arc<Mutex<Mood>> {
        self.standby.as_ref().unwrap().mood.clone()
    }

    /// The first time the value `panic` is seen, the host's own code panics; behind a gate, once a sink has a batch in hand.
    pub(super) fn panics(self) -> Self {
        self.fake.panics.store(true, Ordering::SeqCst);
        self
    }

    /// Sinks never make up their minds about so many records, which is against the rules.
    pub(super) fn undecided(mut self, records: u64) -> Self {
        self.undecided = records;
        self
    }

    /// What the groups of aggregates may take, and what becomes of more.
    pub(super) fn state(mut self, max: u64, when_full: WhenFull) -> Self {
        self.state = State { max: Size(max).into(), memory: None, when_full: when_full.into() };
        self
    }

    /// Bytes of groups that aggregates hold in memory.
    pub(super) fn memory(mut self, bytes: u64) -> Self {
        self.state.memory = Some(Size(bytes).into());
        self
    }

    /// Aggregates had this name before.
    pub(super) fn was(mut self, name: &str) -> Self {
        self.was = Some(name.to_owned());
        self
    }

    /// Sinks write only as many batches as the semaphore has permits, of which there are none.
    pub(super) fn gate(&self) -> Arc<Semaphore> {
        self.gate.lock().unwrap().insert(Arc::new(Semaphore::new(0))).clone()
    }

    /// The first flushes fail for a while.
    pub(super) fn failing(mut self, times: usize) -> Self {
        self.failing = times;
        self
    }

    /// How many flushes fail.
    pub(super) fn flushes_that_fail(&self) -> usize {
        self.failing
    }

    /// Only this sink is held by the gate, or fails.
    pub(super) fn only(mut self, sink: &str) -> Self {
        self.troubled = Some(sink.to_owned());
        self
    }

    /// Sinks refuse values that end so.
    pub(super) fn refusing(mut self, end: char) -> Self {
        self.refuses = Some(end);
        self
    }

    /// Sinks can take back what they wrote behind a commit.
    pub(super) fn truncating(mut self) -> Self {
        self.truncates = true;
        self
    }

    /// What sinks write is there once they have flushed.
    pub(super) fn buffering(mut self) -> Self {
        self.buffers = true;
        self
    }

    /// The source reads only as often as the semaphore has permits, and nothing once it is told to stop.
    pub(super) fn allowance(&mut self) -> Arc<Semaphore> {
        self.source.allowance.insert(Arc::new(Semaphore::new(0))).clone()
    }

    /// As [`allowance`](Self::allowance), of each source.
    pub(super) fn allowances(&mut self) -> Vec<Arc<Semaphore>> {
        let all = [&mut self.source].into_iter().chain(self.others.iter_mut().map(|(_, source)| source));
        all.map(|source| source.allowance.insert(Arc::new(Semaphore::new(0))).clone()).collect()
    }

    /// All sources.
    pub(super) fn sources(&self) -> Vec<&Numbers> {
        [&self.source].into_iter().chain(self.others.iter().map(|(_, source)| source)).collect()
    }

    pub(super) fn source(&self) -> &Numbers {
        &self.source
    }

    fn find(&self, reference: &str) -> (Producer, Port) {
        let (name, port) = reference.split_once('.').unwrap_or((reference, ""));
        let port = match port {
            "" => Port::Main,
            "rest" => Port::Rest,
            "late" => Port::Late,
            "refused" => Port::Refused,
            _ => Port::Named(0),
        };
        let producer = match name {
            "in" => Producer::Source(0),
            name => match self.others.iter().position(|(other, _)| other == name) {
                Some(at) => Producer::Source(at + 1),
                None => Producer::Stage(self.stages.iter().position(|(stage, ..)| stage == name).unwrap()),
            },
        };
        (producer, port)
    }

    pub(super) fn parts(&self) -> (Parts, Collected) {
        let collected = Collected::default();
        (self.parts_into(&collected), collected)
    }

    /// The parts, as a process finds them whose store is this one and whose sinks have been written to before.
    pub(super) fn parts_after(&self, store: &Arc<Store>, collected: &Collected) -> Result<Parts, Unfit> {
        let durable = self.durable_on(store);
        let mut restored = durable.restore()?;
        if let Some(restored) = &mut restored {
            futures::executor::block_on(durable.rename(restored))?;
        }
        Ok(Parts { durable: Some((durable, restored)), ..self.parts_into(collected) })
    }

    /// The pipeline's part of a store.
    pub(super) fn durable_on(&self, store: &Arc<Store>) -> Durable {
        let graph = self.parts().0.graph;
        let signatures = graph.stages.iter().map(|stage| Signature::of(stage, "fake", 1)).collect();
        Durable::new(store.clone(), graph, signatures)
    }

    pub(super) fn parts_into(&self, collected: &Collected) -> Parts {
        let stages = self.stages.iter().map(|(name, kind, _, workers)| graph::Stage {
            name: name.clone(),
            kind: *kind,
            plugin: "fake".to_owned(),
            config: Secret::new("{}".to_owned()),
            outputs: vec!["side".to_owned()],
            needs: Vec::new(),
            rate: self.stage_rate,
            fallback: self.standby.as_ref().map(|_| Fallback { plugin: "standby".to_owned(), needs: Vec::new() }),
            workers: *workers,
            limits: Limits::default(),
            on_error: self.on_error,
            breaker: self.breaker.clone(),
            key: None,
            window: if *kind == Kind::Aggregate { self.window } else { Windowing::None },
            ttl: None,
            reload: Default::default(),
            state: self.state.clone(),
            was: self.was.clone().filter(|_| *kind == Kind::Aggregate),
            fields: [].into(),
            ids: self.has_ids,
        });
        let froms = self.stages.iter().map(|(.., from, _)| from).chain(self.sinks.iter().map(|(_, from)| from));
        let mut edges = Vec::new();
        for (at, from) in froms.enumerate() {
            let to = at.checked_sub(self.stages.len()).map_or(Consumer::Stage(at), Consumer::Sink);
            for (input, reference) in from.split(", ").enumerate() {
                let (from, port) = self.find(reference);
                let capacity = Limit { records: self.capacity, bytes: 1 << 30 };
                edges.push(Edge { from, port, to, input, capacity, when_full: graph::WhenFull::Block });
            }
        }
        let source = |name: &str| graph::Source {
            name: name.to_owned(),
            input: Input::Stdin(crate::source::stdin::Config::default()),
            format: Format::Lines,
            stamp: Stamp::default(),
            watermark: Watermark { lag: Span(self.lag), idle: Span(self.idle), ahead: Span(Duration::from_secs(3600)) },
            rate: self.rate,
            max_record: Size(1 << 20),
            ids: self.has_ids,
        };
        let names = ["in"].into_iter().chain(self.others.iter().map(|(name, _)| name.as_str()));
        let graph = Graph {
            name: "test".to_owned(),
            folder: PathBuf::new(),
            epoch: Span(self.epoch),
            batch: Limit { records: self.batch, bytes: 1 << 20 },
            linger: Span(self.linger),
            uncommitted: Size(self.uncommitted),
            sources: names.map(source).collect(),
            stages: stages.collect(),
            sinks: self
                .sinks
                .iter()
                .map(|(name, _)| graph::Sink {
                    name: name.clone(),
                    output: Output::Discard(crate::sink::discard::Config {}),
                    format: Format::Lines,
                    asked: None,
                    retry: Retry::default(),
                    breaker: Breaker::default(),
                })
                .collect(),
            edges,
        };
        let gate = self.gate.lock().unwrap().clone();
        let sinks = self.sinks.iter().map(|(name, _)| {
            let is_troubled = self.troubled.as_ref().is_none_or(|only| only == name);
            Box::new(Collect {
                name: name.clone(),
                to: collected.clone(),
                gate: gate.clone().filter(|_| is_troubled),
                failing: if is_troubled { self.failing } else { 0 },
                refuses: self.refuses,
                undecided: self.undecided,
                truncates: self.truncates,
                buffer: self.buffers.then(Vec::new),
            }) as Box<dyn Sink>
        });
        let sources = self.sources().into_iter().map(|source| Box::new(source.clone()) as Box<dyn Source>);
        let panics_after = gate.is_some().then(|| collected.handed.clone());
        let mut fake = self.fake.clone();
        fake.panics_after = panics_after;
        let standby = self.standby.clone().map(|fake| Box::new(plugin("1", fake)));
        let plugin = PluginPart { fallback: standby, ..plugin("0", fake) };
        Parts {
            plugins: graph.stages.iter().map(|_| plugin.clone()).collect(),
            sinks: sinks.collect(),
            sources: sources.collect(),
            graph: Arc::new(graph),
            office: Default::default(),
            reloading: None,
            topics: None,
            durable: None,
            journal: None,
        }
    }
}
