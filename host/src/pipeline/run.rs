//! A running pipeline: its supervisor.
//!
//! Owns the life of a pipeline from its first task to its last: starts the tasks of a run, drives the coordinator,
//! commits, and takes everything down in order. A panic of the host's own code restarts the pipeline from its last
//! commit; a plugin's fault or a refused record that stops it ends it there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    board::{Board, Phase},
    build::{self, Parts, PluginPart},
    committed::{Committed, Point, SinkPoint, StagePoint},
    coordinator::{Action, Coordinator, Input, Participant},
    crew::Crew,
    ledger,
    pace::Pace,
    sink_task::{SinkFailure, SinkTask},
    source_task::{Order, SourceTask, Terms, Word},
};
use crate::{
    config::graph::{Consumer, Graph, Input as Kind, Port, Producer},
    epoch::Epoch,
    plugin::Interrupt,
    stage::{
        conductor::{Handed, work},
        failure::{self, Failure},
        lane::{Gone, Handle},
    },
    time::Clock,
};

/// First and longest wait before a restart.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How long a run has to last for the waits to begin anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// What a pipeline can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take nothing new, finish what is under way, commit, end; give up after this long.
    Drain(Duration),
    /// Begin an epoch soon.
    Epoch,
}

/// How a pipeline ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All sources ended.
    Completed,
    /// It was drained.
    Drained,
    /// It was told to drain, and did not finish in time.
    DeadlinePassed,
    /// A refused record stopped it.
    Stopped(Box<failure::Stop>),
    /// A plugin committed a fault.
    Faulted(Box<failure::Report>),
    /// Something else that does not go away by itself.
    Failed(String),
}

/// What is left of a pipeline.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// What it has committed.
    pub committed: Committed,
    /// Its board, for a last look.
    pub board: Arc<Board>,
}

/// A pipeline that runs.
#[derive(Debug)]
pub struct Running {
    /// What it shows.
    pub board: Arc<Board>,
    /// Where it is told.
    pub commands: mpsc::Sender<Command>,
    /// Its end.
    pub task: JoinHandle<Ended>,
}

/// Starts a pipeline on the current runtime, which needs a blocking thread for each worker and conductor.
pub fn start(parts: Parts) -> Running {
    let board = Arc::new(Board::new(parts.graph.clone()));
    let (commands, receiver) = mpsc::channel(16);
    let supervisor = Supervisor { board: board.clone(), commands: receiver, drain: None };
    let task = tokio::spawn(supervisor.supervise(parts));
    Running { board, commands, task }
}

/// Number of blocking threads that the stages of a graph take.
pub fn threads(graph: &Graph) -> usize {
    graph.stages.iter().map(|stage| if stage.workers > 1 { stage.workers + 1 } else { 1 }).sum()
}

struct Supervisor {
    board: Arc<Board>,
    commands: mpsc::Receiver<Command>,
    drain: Option<Instant>,
}

/// What a task leaves behind.
enum TaskEnd {
    Source(Box<SourceTask>, anyhow::Result<()>),
    Stage(Result<(), Failure>),
    Sink(Box<SinkTask>, Result<(), SinkFailure>),
}

/// How one run ended.
enum RunEnd {
    End(Ending),
    Restart(String),
}

struct Run {
    crew: Crew<TaskEnd>,
    coordinator: Coordinator,
    began: Instant,
    orders: Vec<mpsc::Sender<Order>>,
    words: mpsc::Receiver<Word>,
    points: mpsc::Receiver<(Epoch, Point)>,
    sinks: mpsc::Receiver<(usize, Epoch, SinkPoint)>,
    handles: Vec<Handle>,
    interrupt: Interrupt,
    collected: Vec<Point>,
    end: Option<RunEnd>,
}

impl Supervisor {
    async fn supervise(mut self, parts: Parts) -> Ended {
        let Parts { graph, sources, plugins, sinks } = parts;
        let mut committed = empty(&graph);
        let ending = match self.tasks(&graph, sources, sinks, &mut committed).await {
            Err(error) => Ending::Failed(format!("{error:#}")),
            Ok((sources, sinks)) => self.run_until_end(&graph, &plugins, sources, sinks, &mut committed).await,
        };
        self.board.set_phase(Phase::Ended);
        Ended { ending, committed, board: self.board }
    }

    async fn tasks(
        &self,
        graph: &Arc<Graph>,
        sources: Vec<Box<dyn crate::source::Source>>,
        sinks: Vec<Box<dyn crate::sink::Sink>>,
        committed: &mut Committed,
    ) -> anyhow::Result<(Vec<SourceTask>, Vec<SinkTask>)> {
        let mut source_tasks = Vec::new();
        for (number, (source, config)) in sources.into_iter().zip(&graph.sources).enumerate() {
            let is_refused_read = graph.out_of(Producer::Source(number)).any(|edge| edge.port == Port::Refused);
            let terms = Terms {
                number,
                name: config.name.clone(),
                limit: graph.batch,
                linger: graph.linger.0,
                idle: config.watermark.idle.0,
                uncommitted: graph.uncommitted.bytes(),
                has_ids: config.ids,
                is_refused_read,
            };
            let clock = Clock::new(config.watermark.lag.0, config.watermark.ahead.0);
            // The http source answers 429 instead of reading more slowly.
            let is_paced = !matches!(config.input, Kind::Http(_));
            let pace = config.rate.filter(|_| is_paced).map(Pace::new);
            let meter = self.board.sources.get(number).cloned().unwrap_or_default();
            let task = SourceTask::new(terms, source, clock, pace, meter).await?;
            let edges = graph.out_of(Producer::Source(number)).count();
            committed.sources.push(task.point(vec![0; edges]));
            source_tasks.push(task);
        }
        let sink_tasks = sinks.into_iter().zip(&graph.sinks).enumerate().map(|(number, (sink, config))| {
            let meter = self.board.sinks.get(number).cloned().unwrap_or_default();
            SinkTask { number, name: config.name.clone(), sink, meter, board: self.board.clone() }
        });
        Ok((source_tasks, sink_tasks.collect()))
    }

    async fn run_until_end(
        &mut self,
        graph: &Arc<Graph>,
        plugins: &[PluginPart],
        mut sources: Vec<SourceTask>,
        mut sinks: Vec<SinkTask>,
        committed: &mut Committed,
    ) -> Ending {
        let mut wait = RESTART.0;
        loop {
            let began = Instant::now();
            let (count_sources, count_sinks) = (sources.len(), sinks.len());
            let (end, left_sources, left_sinks) = self.run_once(graph, plugins, sources, sinks, committed).await;
            let why = match end {
                RunEnd::End(ending) => return ending,
                RunEnd::Restart(why) => why,
            };
            (sources, sinks) = (left_sources, left_sinks);
            if sources.len() != count_sources || sinks.len() != count_sinks {
                return Ending::Failed(why);
            }
            if began.elapsed() > HEALTHY {
                wait = RESTART.0;
            }
            tracing::error!(
                pipeline = graph.name,
                error = why,
                epoch = committed.epoch.0,
                "restarting from the last commit in {} ms",
                wait.as_millis()
            );
            self.board.restarted();
            self.board.set_phase(Phase::Starting);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RESTART.1);
            for (source, point) in sources.iter_mut().zip(&committed.sources) {
                if let Err(error) = source.rewind(point, committed.epoch).await {
                    return Ending::Failed(format!("{error:#}"));
                }
            }
            for (meter, point) in self.board.sinks.iter().zip(&committed.sinks) {
                meter.reset(&point.tally);
            }
        }
    }

    async fn run_once(
        &mut self,
        graph: &Arc<Graph>,
        plugins: &[PluginPart],
        sources: Vec<SourceTask>,
        sinks: Vec<SinkTask>,
        committed: &mut Committed,
    ) -> (RunEnd, Vec<SourceTask>, Vec<SinkTask>) {
        let mut run = match self.launch(graph, plugins, sources, sinks, committed) {
            Ok(run) => run,
            Err((failure, sources, sinks)) => return (end_of(failure), sources, sinks),
        };
        self.board.set_phase(if self.drain.is_some() { Phase::Draining } else { Phase::Running });
        if self.drain.is_some() {
            run.order(Order::Drain).await;
        }
        let (mut left_sources, mut left_sinks) = (BTreeMap::new(), BTreeMap::new());
        loop {
            let due = run.coordinator.due().map(|due| run.began + due).filter(|_| run.end.is_none());
            let deadline = self.drain.filter(|_| run.end.is_none());
            let now = Instant::now();
            tokio::select! {
                ended = run.crew.join() => match ended {
                    None => break,
                    Some((who, Err(panic))) => {
                        run.stop(RunEnd::Restart(format!("a panic in `{}`: {panic}", self.board.name(who))));
                    }
                    Some((Participant::Source(at), Ok(TaskEnd::Source(task, result)))) => {
                        left_sources.insert(at, *task);
                        if let Err(error) = result && !error.is::<Gone>() {
                            let name = self.board.name(Participant::Source(at));
                            run.stop(RunEnd::End(Ending::Failed(format!("source `{name}`: {error:#}"))));
                        }
                    }
                    Some((_, Ok(TaskEnd::Stage(Err(failure))))) if !matches!(failure, Failure::Gone(_)) => {
                        run.stop(end_of(failure));
                    }
                    Some((Participant::Sink(at), Ok(TaskEnd::Sink(task, result)))) => {
                        match result {
                            Err(error @ SinkFailure::Never { .. }) => {
                                run.stop(RunEnd::End(Ending::Failed(format!("{error:#}"))));
                            }
                            // Its sink cannot go on in another run: left out, no other run begins.
                            Err(SinkFailure::Interrupted) => continue,
                            Ok(()) | Err(SinkFailure::Gone(_)) => {}
                        }
                        left_sinks.insert(at, *task);
                    }
                    // Whoever found its neighbours gone is not the reason; the reason comes from elsewhere.
                    Some(_) => {}
                },
                Some((epoch, point)) = run.points.recv() => self.reported(&mut run, epoch, point, committed).await,
                Some((at, epoch, point)) = run.sinks.recv() => {
                    self.reported(&mut run, epoch, Point::Sink(at, point), committed).await;
                }
                Some(word) = run.words.recv() => match word {
                    Word::At(at, epoch, point) => {
                        self.reported(&mut run, epoch, Point::Source(at, point), committed).await;
                    }
                    Word::Finished(at) => self.step(&mut run, Input::Finished(at), committed).await,
                    Word::Wanted => self.step(&mut run, Input::Wanted, committed).await,
                },
                Some(command) = self.commands.recv() => match command {
                    Command::Epoch => self.step(&mut run, Input::Wanted, committed).await,
                    Command::Drain(deadline) => {
                        if self.drain.is_none() {
                            self.drain = Some(now + deadline);
                            self.board.set_phase(Phase::Draining);
                            run.order(Order::Drain).await;
                        }
                    }
                },
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    self.step(&mut run, Input::Tick, committed).await;
                }
                () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => {
                    run.stop(RunEnd::End(Ending::DeadlinePassed));
                }
            }
        }
        let finished = if self.drain.is_some() { Ending::Drained } else { Ending::Completed };
        let end = run.end.unwrap_or(RunEnd::End(finished));
        (end, left_sources.into_values().collect(), left_sinks.into_values().collect())
    }

    fn launch(
        &self,
        graph: &Arc<Graph>,
        plugins: &[PluginPart],
        sources: Vec<SourceTask>,
        sinks: Vec<SinkTask>,
        committed: &Committed,
    ) -> Result<Run, (Failure, Vec<SourceTask>, Vec<SinkTask>)> {
        let mut wiring = build::wire(graph, &self.board, committed);
        let by_consumer: BTreeMap<Consumer, Handle> =
            wiring.inboxes.iter().map(|(to, inbox)| (*to, inbox.handle())).collect();
        let handles: Vec<Handle> = by_consumer.values().cloned().collect();
        self.board.set_inboxes(by_consumer);
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
                build::spec(graph, at, plugin, &self.board, &interrupt),
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
            match build::stage(stage, spec, point, inbox, outlet, answers, report) {
                Ok(made) => stages.push((at, made)),
                Err(failure) => return Err((failure, sources, sinks)),
            }
        }
        let began = Instant::now();
        let coordinator = Coordinator::new(graph.epoch.0, participants, committed.epoch, Duration::ZERO);
        let mut crew = Crew::on(tokio::runtime::Handle::current());
        for (at, mut task) in sinks.into_iter().enumerate() {
            let Some(inbox) = wiring.inboxes.remove(&Consumer::Sink(at)) else { continue };
            let point = committed.sinks.get(at).cloned().unwrap_or_default();
            let sender = sink_sender.clone();
            crew.spawn(Participant::Sink(at), async move {
                let result = task.run(inbox, point, sender).await;
                TaskEnd::Sink(Box::new(task), result)
            });
        }
        for (at, (conductor, hands)) in stages {
            for (number, worker, inbox, answers) in hands {
                crew.spawn_blocking(Participant::Stage(at), move || {
                    TaskEnd::Stage(work(worker, number, &inbox, &answers))
                });
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
            words,
            points,
            sinks: sink_points,
            handles,
            interrupt,
            collected: Vec::new(),
            end: None,
        })
    }

    async fn reported(&self, run: &mut Run, epoch: Epoch, point: Point, committed: &mut Committed) {
        let who = match &point {
            Point::Source(at, _) => Participant::Source(*at),
            Point::Stage(at, _) => Participant::Stage(*at),
            Point::Sink(at, _) => Participant::Sink(*at),
        };
        run.collected.push(point);
        self.step(run, Input::Reported(who, epoch), committed).await;
    }

    async fn step(&self, run: &mut Run, input: Input, committed: &mut Committed) {
        if run.end.is_some() {
            return;
        }
        for action in run.coordinator.step(run.began.elapsed(), input) {
            match action {
                Action::Begin(epoch) => {
                    self.board.epoch_begun();
                    run.order(Order::Begin(epoch)).await;
                }
                Action::Commit(epoch) => {
                    committed.apply(epoch, std::mem::take(&mut run.collected));
                    let imbalances = ledger::audit(self.board.graph(), committed);
                    for imbalance in &imbalances {
                        let (place, left, right) = (imbalance.place.as_str(), imbalance.left, imbalance.right);
                        tracing::error!(
                            pipeline = self.board.graph().name,
                            place,
                            left,
                            right,
                            "the ledger does not balance"
                        );
                    }
                    self.board.epoch_committed(epoch.0, imbalances);
                    run.order(Order::Committed(epoch)).await;
                }
                Action::Late(epoch, missing) => {
                    let names: Vec<String> = missing.iter().map(|who| self.board.name(*who)).collect();
                    tracing::warn!(pipeline = self.board.graph().name, epoch = epoch.0, waiting_for = ?names, "the epoch is late");
                    self.board.epoch_late(missing);
                }
                Action::Finish => run.order(Order::Quit).await,
            }
        }
    }
}

impl Run {
    /// A source that does not take its orders has ended, which its task tells.
    async fn order(&self, order: Order) {
        for source in &self.orders {
            let _ = source.send(order).await;
        }
    }

    /// Takes the run down; the first reason counts.
    fn stop(&mut self, end: RunEnd) {
        self.orders.clear();
        self.handles.iter().for_each(Handle::kill);
        self.interrupt.raise();
        self.points.close();
        self.sinks.close();
        self.words.close();
        self.end.get_or_insert(end);
    }
}

fn end_of(failure: Failure) -> RunEnd {
    RunEnd::End(match failure {
        Failure::Fault(report) => Ending::Faulted(report),
        Failure::Stop(stop) => Ending::Stopped(stop),
        Failure::Gone(gone) => Ending::Failed(gone.to_string()),
    })
}

fn empty(graph: &Graph) -> Committed {
    let stage =
        |at| StagePoint::new(graph.into(Consumer::Stage(at)).count(), graph.out_of(Producer::Stage(at)).count());
    let sink = |at| SinkPoint { received: vec![0; graph.into(Consumer::Sink(at)).count()], ..SinkPoint::default() };
    Committed {
        epoch: Epoch(0),
        sources: Vec::new(),
        stages: (0..graph.stages.len()).map(stage).collect(),
        sinks: (0..graph.sinks.len()).map(sink).collect(),
    }
}
