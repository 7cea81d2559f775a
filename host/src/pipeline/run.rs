//! A running pipeline: its supervisor.
//!
//! Owns the life of a pipeline from its first task to its last: starts the tasks of a run, drives the coordinator,
//! commits, and takes everything down in order. A panic of the host's own code restarts the pipeline from its last
//! commit; a plugin's fault or a refused record that stops it ends it there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

pub use super::command::{Command, Drain};
use super::{
    board::{Board, Phase},
    breakers::{self, Keeper},
    build::Parts,
    committed::{Committed, Point},
    coordinator::{Action, Input, Participant},
    durable::{Durable, Restored},
    ending::{Ended, Ending},
    falls,
    launch::{Run, TaskEnd, Writing, launch},
    ledger,
    reload::Reloads,
    sink_task::{SinkFailure, SinkTask},
    source_task::{OpenWindows, Order, SourceTask, Terms, Word},
    topics, watch,
};
use crate::{
    config::graph::{Graph, Input as Kind, Port, Producer},
    crash,
    epoch::Epoch,
    lent::Lent,
    source::Role,
    stage::{failure::Failure, lane::Gone, pace::Pace},
    store::StoreError,
    time::{Clock, Wall},
};

/// First and longest wait before a restart.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How long a run has to last for the waits to begin anew.
const HEALTHY: Duration = Duration::from_secs(60);

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
    topics::rest(&parts);
    let board = Arc::new(Board::new(parts.graph.clone(), parts.office.clone(), parts.topics.as_deref()));
    if let Some((_, Some(restored))) = &parts.durable {
        breakers::restore(&board, &restored.openings);
    }
    let (commands, receiver) = mpsc::channel(16);
    if let Some(reloading) = &parts.reloading {
        tokio::spawn(watch::watch(reloading.changed.clone(), reloading.files.clone(), commands.downgrade()));
    }
    let supervisor =
        Supervisor { board: board.clone(), commands: receiver, drain: None, durable: None, is_over: false };
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
    /// When the drain that has begun is given up, and what it does to windows.
    drain: Option<(Instant, OpenWindows)>,
    /// Where commits are kept beyond the process.
    durable: Option<Durable>,
    /// An earlier run has completed the pipeline, and this one only replays letters.
    is_over: bool,
}

/// How one run ended.
pub(super) enum RunEnd {
    End(Ending),
    Restart(String),
}

impl Supervisor {
    async fn supervise(mut self, parts: Parts) -> Ended {
        let Parts { graph, sources, plugins, sinks, durable, reloading, journal, office: _, topics: _ } = parts;
        let mut reloads = Reloads::new(self.board.clone(), plugins, reloading);
        let mut committed = Committed::empty(&graph);
        let (durable, restored) = durable.map_or((None, None), |(durable, restored)| (Some(durable), restored));
        self.durable = durable;
        let flags = sources.iter().filter_map(|source| source.paused()).collect();
        let openings = restored.as_ref().map(|restored| restored.openings.clone()).unwrap_or_default();
        let falls = restored.as_ref().and_then(|restored| restored.falls.clone());
        let keeper = Keeper::new(self.board.clone(), self.durable.clone(), flags, openings);
        let ending = match self.tasks(&graph, sources, sinks, &mut committed, restored).await {
            Err(error) => Ending::Failed(format!("{error:#}")),
            Ok(None) => Ending::Completed,
            Ok(Some((sources, sinks))) => {
                let (board, durable) = (self.board.clone(), self.durable.clone());
                let run = self.run_until_end(&graph, &mut reloads, sources, sinks, &mut committed);
                keeper.around(falls::around(&board, durable, journal, falls, run)).await
            }
        };
        self.board.set_phase(Phase::Ended);
        Ended { ending, committed, board: self.board }
    }

    async fn tasks(
        &mut self,
        graph: &Arc<Graph>,
        sources: Vec<Box<dyn crate::source::Source>>,
        sinks: Vec<Box<dyn crate::sink::Sink>>,
        committed: &mut Committed,
        restored: Option<Restored>,
    ) -> anyhow::Result<Option<(Vec<SourceTask>, Vec<SinkTask>)>> {
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
                wall: Wall::default(),
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
            let (retry, then) = (config.retry.clone(), config.breaker.then.value);
            let (name, board) = (config.name.clone(), self.board.clone());
            let gate = board.sink_gates.get(number).cloned().unwrap_or_default();
            SinkTask { number, name, sink, retry, gate, then, meter, board, trouble: None }
        });
        let mut sink_tasks: Vec<SinkTask> = sink_tasks.collect();
        for (point, task) in committed.sinks.iter_mut().zip(&sink_tasks) {
            point.position = task.sink.position();
        }
        let restored = restored.unwrap_or_else(|| Restored::nothing(graph));
        let (is_over, begun) = (restored.is_over, restored.begun());
        committed.resume(restored, &mut source_tasks).await?;
        for (meter, point) in self.board.stages.iter().zip(&committed.stages) {
            meter.reset(&point.tally);
        }
        for (task, point) in sink_tasks.iter().zip(&committed.sinks) {
            task.meter.reset(&point.tally);
        }
        self.board.epoch_committed(ledger::account(graph, committed));
        self.is_over = is_over && source_tasks.iter().any(|task| task.role() == Role::Leads);
        if is_over && !self.is_over {
            for (task, point) in sink_tasks.iter_mut().zip(&committed.sinks) {
                task.sink.rests(&point.position);
            }
            tracing::info!(
                pipeline = graph.name,
                epoch = committed.epoch.0,
                "an earlier run has completed it; `--reset-state all` begins anew, `--state none` keeps nothing"
            );
            return Ok(None);
        }
        self.back(&mut sink_tasks, committed).await?;
        crash::point("recover.taken-back");
        for (at, (point, task)) in committed.sinks.iter_mut().zip(&sink_tasks).enumerate() {
            if !begun.contains(&Participant::Sink(at)) {
                point.position = task.sink.position();
            }
        }
        // Where a part stands that begins here is committed before it does anything: what it does before the first epoch
        // has committed is taken back from there.
        let begins: Vec<Point> = committed.points().filter(|point| !begun.contains(&point.of())).collect();
        if !begins.is_empty() {
            self.write(committed.epoch, &begins, self.is_over).await?;
        }
        Ok(Some((source_tasks, sink_tasks)))
    }

    /// Sets every sink back to where it was committed.
    async fn back(&self, sinks: &mut [SinkTask], committed: &Committed) -> anyhow::Result<()> {
        for (task, point) in sinks.iter_mut().zip(&committed.sinks) {
            task.meter.reset(&point.tally);
            let restored = task.sink.restore(&point.position).await;
            let name = &task.name;
            restored.with_context(|| {
                format!("take sink `{name}` back to its last commit (`--reset-state {name}` gives that up)")
            })?;
        }
        Ok(())
    }

    async fn run_until_end(
        &mut self,
        graph: &Arc<Graph>,
        reloads: &mut Reloads,
        mut sources: Vec<SourceTask>,
        mut sinks: Vec<SinkTask>,
        committed: &mut Committed,
    ) -> Ending {
        let mut wait = RESTART.0;
        loop {
            let began = Instant::now();
            let (count_sources, count_sinks) = (sources.len(), sinks.len());
            let (end, left_sources, left_sinks) = self.run_once(graph, reloads, sources, sinks, committed).await;
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
            reloads.restarted(&why).await;
            self.board.restarted();
            self.board.set_phase(Phase::Starting);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RESTART.1);
            for (source, point) in sources.iter_mut().zip(&committed.sources) {
                if let Err(error) = source.rewind(point, committed.epoch).await {
                    return Ending::Failed(format!("{error:#}"));
                }
            }
            if let Err(error) = self.back(&mut sinks, committed).await {
                return Ending::Failed(format!("{error:#}"));
            }
            if let Err(error) = self.groups(committed).await {
                return Ending::Failed(format!("{error:#}"));
            }
        }
    }

    /// Reads the groups again that only the store has.
    async fn groups(&self, committed: &mut Committed) -> anyhow::Result<()> {
        let Some(durable) = self.durable.clone() else { return Ok(()) };
        let mut reading = Lent::new((durable, None));
        let (_, found) = reading.lend(|(durable, found)| *found = Some(durable.restore())).await?;
        committed.take_back(found.take().transpose()?.flatten())
    }

    async fn run_once(
        &mut self,
        graph: &Arc<Graph>,
        reloads: &mut Reloads,
        sources: Vec<SourceTask>,
        sinks: Vec<SinkTask>,
        committed: &mut Committed,
    ) -> (RunEnd, Vec<SourceTask>, Vec<SinkTask>) {
        let durable = self.durable.as_ref();
        let mut run = match launch(&self.board, graph, &reloads.parts(), sources, sinks, committed, durable) {
            Ok(run) => run,
            Err((failure, sources, sinks)) => return (RunEnd::End(failure.into()), sources, sinks),
        };
        if self.durable.is_some() {
            committed.let_go();
        }
        self.board.set_phase(if self.drain.is_some() { Phase::Draining } else { Phase::Running });
        if let Some((_, windows)) = self.drain {
            run.order(Order::Drain(windows)).await;
        }
        let (mut left_sources, mut left_sinks) = (BTreeMap::new(), BTreeMap::new());
        loop {
            let due = run.coordinator.due().map(|due| run.began + due).filter(|_| run.end.is_none());
            let deadline = self.drain.map(|(deadline, _)| deadline).filter(|_| run.end.is_none());
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
                    Some((Participant::Stage(at), Ok(TaskEnd::Stage(Err(failure)))))
                        if !matches!(failure, Failure::Gone(_)) =>
                    {
                        // What a candidate cannot do the generation before may.
                        run.stop(match reloads.has_candidate(at) {
                            true => RunEnd::Restart(format!("stage `{}`: {failure}", self.board.name(Participant::Stage(at)))),
                            false => RunEnd::End(failure.into()),
                        });
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
                written = writing(&mut run.writing), if run.writing.is_some() => {
                    self.written(&mut run, written, committed).await;
                }
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
                    Command::Breaker(who, lever) => {
                        self.board.gate(who).into_iter().for_each(|gate| gate.pull(lever));
                        run.look(who).await;
                    }
                    Command::Fallback(stage, lever) => {
                        self.board.fallback_gates.get(&stage).into_iter().for_each(|gate| gate.pull(lever));
                        run.look(Participant::Stage(stage)).await;
                    }
                    Command::Reload(order) => reloads.order(order, &mut run).await,
                    Command::Drain(Drain { deadline, windows }) => {
                        if self.drain.is_none() {
                            let windows = if self.durable.is_some() { windows } else { OpenWindows::Close };
                            self.drain = Some((now + deadline, windows));
                            self.board.set_phase(Phase::Draining);
                            run.order(Order::Drain(windows)).await;
                        }
                    }
                },
                news = reloads.next() => reloads.news(news, Some(&mut run)).await,
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    self.step(&mut run, Input::Tick, committed).await;
                }
                () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => {
                    run.stop(RunEnd::End(Ending::DeadlinePassed));
                }
            }
        }
        // A commit that is on its way into the store is in it, whatever else happens; from there the next run begins.
        if let Some(Writing { epoch, points, written, .. }) = run.writing.take() {
            match written.await {
                Ok(_) => committed.apply(epoch, points),
                Err(error) => {
                    run.end.get_or_insert(RunEnd::End(Ending::Failed(error.to_string())));
                }
            }
        }
        let finished = if self.drain.is_some() { Ending::Drained } else { Ending::Completed };
        let end = run.end.unwrap_or_else(|| match run.coordinator.is_over() {
            true => RunEnd::End(finished),
            false => RunEnd::Restart("its tasks ended before their time, and none said why".to_owned()),
        });
        (end, left_sources.into_values().collect(), left_sinks.into_values().collect())
    }

    async fn reported(&self, run: &mut Run, epoch: Epoch, point: Point, committed: &mut Committed) {
        let who = point.of();
        // A drain leaves what is committed to the next process; the end of all sources does not.
        if matches!(&point, Point::Sink(_, sink) if sink.waiting > 0) && self.drain.is_none() {
            self.step(run, Input::Waiting(epoch), committed).await;
        }
        run.collected.push(point);
        self.step(run, Input::Reported(who, epoch), committed).await;
    }

    /// Writes what was reported of `epoch` to the store, if there is one.
    fn write(&self, epoch: Epoch, points: &[Point], is_over: bool) -> BoxFuture<'static, Result<Duration, StoreError>> {
        let Some(durable) = self.durable.clone() else { return std::future::ready(Ok(Duration::ZERO)).boxed() };
        let (commit, board) = (durable.commit(epoch, points, is_over), self.board.clone());
        async move { durable.write(commit, |why| board.set_trouble(Participant::Store, why)).await }.boxed()
    }

    async fn written(&self, run: &mut Run, written: Result<Duration, StoreError>, committed: &mut Committed) {
        let Some(Writing { epoch, points, account, .. }) = run.writing.take() else { return };
        match written {
            Ok(took) => {
                committed.apply(epoch, points);
                run.account = Some(account);
                self.board.epoch_written(took);
                self.step(run, Input::Written(epoch, took), committed).await;
            }
            Err(error) => run.stop(RunEnd::End(Ending::Failed(error.to_string()))),
        }
    }

    async fn step(&self, run: &mut Run, input: Input, committed: &mut Committed) {
        if run.end.is_some() {
            return;
        }
        for action in run.coordinator.step(run.began.elapsed(), input) {
            match action {
                Action::Begin(epoch) => {
                    self.board.epoch_begun();
                    if run.coordinator.is_last() {
                        run.order(Order::Last).await;
                    }
                    run.order(Order::Begin(epoch)).await;
                }
                Action::Commit(epoch) => {
                    let mut points = std::mem::take(&mut run.collected);
                    let account = ledger::account(self.board.graph(), &committed.with(epoch, &points));
                    // Invariant 1: what does not balance is never committed.
                    if let Some(why) = account.refusal(&self.board.graph().name) {
                        run.stop(RunEnd::End(Ending::Failed(why)));
                        return;
                    }
                    let is_over = self.is_over || run.coordinator.is_last() && self.drain.is_none();
                    let written = self.write(epoch, &points, is_over);
                    if self.durable.is_some() {
                        points.iter_mut().for_each(Point::let_go);
                    }
                    run.writing = Some(Writing { epoch, written, points, account });
                }
                Action::Committed(epoch) => {
                    run.account.take().into_iter().for_each(|account| self.board.epoch_committed(account));
                    run.committed.send_replace(epoch);
                    run.order(Order::Committed(epoch)).await;
                }
                Action::Slow(apart) => {
                    let (pipeline, apart) = (&self.board.graph().name, apart.as_secs_f64());
                    tracing::warn!(pipeline, apart, "commits are slow: epochs lie further apart, in seconds");
                }
                Action::Quick => {
                    tracing::info!(pipeline = self.board.graph().name, "commits are quick again");
                }
                Action::Late(epoch, missing) => self.board.epoch_late(epoch, missing),
                Action::Finish => run.order(Order::Quit).await,
            }
        }
    }
}

/// The end of the write in hand.
async fn writing(writing: &mut Option<Writing>) -> Result<Duration, StoreError> {
    match writing {
        Some(writing) => (&mut writing.written).await,
        None => std::future::pending().await,
    }
}
