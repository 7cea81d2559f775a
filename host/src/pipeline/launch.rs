//! One run of a pipeline: its tasks, started sink first from what is committed, and the ends of their channels.
//!
//! Owns what is started and how it is taken down. It must not decide anything: the supervisor does. Invariant: whatever
//! is started here is in the crew, which counts and joins it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    board::Board,
    build::{self, PluginPart},
    committed::{Committed, Point, SinkPoint},
    coordinator::{Coordinator, Participant},
    crew::Crew,
    durable::Durable,
    ledger::Account,
    run::RunEnd,
    sink_task::{SinkFailure, SinkTask},
    source_task::{Order, SourceTask, Word},
};
use crate::{
    config::graph::{Consumer, Graph, Producer},
    epoch::Epoch,
    plugin::Interrupt,
    stage::{
        Item,
        conductor::{Handed, work},
        control::Control,
        failure::Failure,
        lane::{Gone, Handle, Sender},
    },
    store::StoreError,
};

/// A commit on its way into the store.
pub(super) struct Writing {
    pub(super) epoch: Epoch,
    pub(super) points: Vec<Point>,
    /// The ledger as it will be.
    pub(super) account: Account,
    /// How long it took.
    pub(super) written: BoxFuture<'static, Result<Duration, StoreError>>,
}

/// What a task leaves behind.
pub(super) enum TaskEnd {
    Source(Box<SourceTask>, anyhow::Result<()>),
    Stage(Result<(), Failure>),
    Sink(Box<SinkTask>, Result<(), SinkFailure>),
}

/// The tasks of one run, and the ends of their channels.
pub(super) struct Run {
    pub(super) crew: Crew<TaskEnd>,
    pub(super) coordinator: Coordinator,
    pub(super) began: Instant,
    /// To the sources; closed, they end.
    pub(super) orders: Vec<mpsc::Sender<Order>>,
    /// To the sinks: the last epoch that has committed.
    pub(super) committed: watch::Sender<Epoch>,
    /// From the sources.
    pub(super) words: mpsc::Receiver<Word>,
    /// From the stages.
    pub(super) points: mpsc::Receiver<(Epoch, Point)>,
    /// From the sinks.
    pub(super) sinks: mpsc::Receiver<(usize, Epoch, SinkPoint)>,
    /// To the stages: what they are told from outside.
    pub(super) controls: BTreeMap<usize, Sender>,
    /// Of every inbox, to take the run down.
    pub(super) handles: Vec<Handle>,
    pub(super) interrupt: Interrupt,
    /// What has been reported of the epoch under way.
    pub(super) collected: Vec<Point>,
    /// The commit that is being written, and what it consists of.
    pub(super) writing: Option<Writing>,
    /// The ledger of the last commit that was written, until it is shown.
    pub(super) account: Option<Account>,
    /// Why it is being taken down.
    pub(super) end: Option<RunEnd>,
}

impl Run {
    /// A source that does not take its orders has ended, which its task tells.
    pub(super) async fn order(&mut self, order: Order) {
        for source in &self.orders {
            let _ = source.send(order).await;
        }
    }

    /// Tells a stage to look at its breaker again; a sink hears of it by itself.
    pub(super) async fn look(&mut self, who: Participant) {
        if let Participant::Stage(stage) = who {
            self.tell(stage, Control::Look).await;
        }
    }

    /// Tells a stage; one that is gone needs nothing any more.
    pub(super) async fn tell(&mut self, stage: usize, control: Control) {
        if let Some(sender) = self.controls.get(&stage) {
            let _ = sender.send(Item::Control(control)).await;
        }
    }

    /// Takes the run down; the first reason counts.
    pub(super) fn stop(&mut self, end: RunEnd) {
        self.orders.clear();
        self.handles.iter().for_each(Handle::kill);
        self.interrupt.raise();
        self.points.close();
        self.sinks.close();
        self.words.close();
        self.end.get_or_insert(end);
    }
}

/// Starts every task of a run from what is committed.
///
/// # Errors
/// When no instance of a plugin can be made; nothing has been started then.
pub(super) fn launch(
    board: &Arc<Board>,
    graph: &Arc<Graph>,
    plugins: &[PluginPart],
    sources: Vec<SourceTask>,
    sinks: Vec<SinkTask>,
    committed: &Committed,
    durable: Option<&Durable>,
) -> Result<Run, (Failure, Vec<SourceTask>, Vec<SinkTask>)> {
    board.stepping().into_iter().for_each(|stepping| stepping.begin_anew());
    let mut wiring = build::wire(graph, board, committed);
    let by_consumer: BTreeMap<Consumer, Handle> =
        wiring.inboxes.iter().map(|(to, inbox)| (*to, inbox.handle())).collect();
    let handles: Vec<Handle> = by_consumer.values().cloned().collect();
    board.set_inboxes(by_consumer);
    let participants = (0..sources.len())
        .map(Participant::Source)
        .chain((0..graph.stages.len()).map(Participant::Stage))
        .chain((0..sinks.len()).map(Participant::Sink));
    // One report of each participant for an epoch, and one epoch at a time: senders hardly ever wait.
    let (point_sender, points) = mpsc::channel(graph.stages.len() + 1);
    let (sink_sender, sink_points) = mpsc::channel(sinks.len() + 1);
    let (word_sender, words) = mpsc::channel(64);

    let interrupt = Interrupt::default();
    let mut stages = Vec::new();
    for (at, (stage, plugin)) in graph.stages.iter().zip(plugins).enumerate() {
        let (Some(spec), Some(inbox), Some(outlet), Some(point)) = (
            build::spec(graph, at, plugin, board, &interrupt),
            wiring.inboxes.remove(&Consumer::Stage(at)),
            wiring.outlets.remove(&Producer::Stage(at)),
            committed.stages.get(at),
        ) else {
            continue;
        };
        let sender = point_sender.clone();
        let report = Box::new(move |handed: Handed| {
            sender.blocking_send((handed.epoch, Point::Stage(at, handed))).map_err(|_| Gone)
        });
        let answers = wiring.answers.remove(&at).unwrap_or_default();
        let cellar = durable.and_then(|durable| durable.cellar(stage, &interrupt));
        match build::stage(stage, spec, (point, cellar), inbox, outlet, answers, report) {
            Ok(made) => stages.push((at, made)),
            Err(failure) => return Err((failure, sources, sinks)),
        }
    }
    let began = Instant::now();
    let coordinator = Coordinator::new(graph.epoch.0, participants, committed.epoch, Duration::ZERO);
    let (committed_sender, committed_epoch) = watch::channel(committed.epoch);
    let mut crew = Crew::on(tokio::runtime::Handle::current());
    for (at, mut task) in sinks.into_iter().enumerate() {
        let Some(inbox) = wiring.inboxes.remove(&Consumer::Sink(at)) else { continue };
        let point = committed.sinks.get(at).cloned().unwrap_or_default();
        let outlet = wiring.outlets.remove(&Producer::Sink(at)).unwrap_or_default();
        let (sender, committed) = (sink_sender.clone(), committed_epoch.clone());
        let words = word_sender.clone();
        crew.spawn(Participant::Sink(at), async move {
            let result = task.run(inbox, outlet, point, sender, words, committed).await;
            TaskEnd::Sink(Box::new(task), result)
        });
    }
    for (at, (conductor, hands)) in stages {
        for (number, worker, inbox, answers) in hands {
            crew.spawn_blocking(Participant::Stage(at), move || TaskEnd::Stage(work(worker, number, &inbox, &answers)));
        }
        crew.spawn_blocking(Participant::Stage(at), move || TaskEnd::Stage(conductor.run()));
    }
    let mut orders = Vec::new();
    for (at, mut task) in sources.into_iter().enumerate() {
        let outlet = wiring.outlets.remove(&Producer::Source(at)).unwrap_or_default();
        let (sender, receiver) = mpsc::channel(16);
        orders.push(sender);
        let words = word_sender.clone();
        crew.spawn(Participant::Source(at), async move {
            let result = task.run(outlet, receiver, words).await;
            TaskEnd::Source(Box::new(task), result)
        });
    }
    Ok(Run {
        crew,
        coordinator,
        began,
        orders,
        committed: committed_sender,
        words,
        points,
        controls: wiring.controls,
        sinks: sink_points,
        handles,
        interrupt,
        collected: Vec::new(),
        writing: None,
        account: None,
        end: None,
    })
}
