//! One life of a pipeline: its tasks, each of which goes on when it is told to, and the ends of their channels.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicI64},
    task::{Context, Poll, Wake, Waker},
};

use futures::executor::block_on;
use tokio::sync::{mpsc, watch};

use super::super::*;
use crate::{
    batch::Limit,
    config::{
        Spanned,
        graph::{Consumer, Edge, Graph, Producer},
    },
    epoch::Epoch,
    pipeline::{
        committed::{Committed, Point, SinkPoint},
        coordinator::{Coordinator, Participant},
        durable::{Durable, Restored},
        sink_task::{SinkFailure, SinkTask},
        source_task::{Order, SourceTask, Terms, Word},
    },
    sink::Sink,
    stage::{
        conductor::{self, Conductor, Course, Handed, Task},
        failure::Failure,
        lane::{Gone, Handle, Inbox, Sender},
        worker::Worker,
    },
    time::{Clock, Reading, Wall},
    unit::Span,
};

/// Who goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// A source may read once more.
    Allow(usize),
    Source(usize),
    Leading(usize),
    Working(usize),
    /// Sinks may write once more.
    Admit,
    Sink(usize),
    /// What was reported is heard.
    Hear,
    /// The commit is written.
    Write,
    /// Time passes until an epoch may begin.
    Tick,
}

/// A future that is polled when somebody says so.
pub(super) struct Polled<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<T> Polled<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Some(Box::pin(future)), woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    /// Whether somebody has woken it since it was polled last.
    pub(super) fn is_woken(&self) -> bool {
        self.future.is_some() && self.woken.0.load(Ordering::SeqCst)
    }

    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }

    /// Lets it go on until it waits.
    pub(super) fn poll(&mut self) -> Option<T> {
        self.woken.0.store(false, Ordering::SeqCst);
        let future = self.future.as_mut()?;
        match future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.woken.clone()))) {
            Poll::Ready(end) => {
                self.future = None;
                Some(end)
            }
            Poll::Pending => None,
        }
    }
}

/// A conductor.
pub(super) struct Leading {
    conductor: Conductor,
    course: Course,
    /// Lanes that it sends down.
    below: Vec<(Consumer, usize)>,
}

/// A worker of several.
pub(super) struct Working {
    number: usize,
    worker: Worker,
    inbox: Inbox<Task>,
    answers: Sender,
}

pub(super) struct Life {
    pub(super) graph: Arc<Graph>,
    pub(super) coordinator: Coordinator,
    pub(super) durable: Option<Durable>,
    pub(super) sources: Vec<Polled<Source>>,
    /// Sources that have been told to quit.
    pub(super) ended: Vec<Option<SourceTask>>,
    pub(super) leading: Vec<Option<Leading>>,
    pub(super) working: Vec<Option<Working>>,
    pub(super) sinks: Vec<Polled<Result<(), SinkFailure>>>,
    pub(super) orders: Vec<mpsc::Sender<Order>>,
    pub(super) words: mpsc::Receiver<Word>,
    pub(super) points: Arc<Mutex<VecDeque<(Epoch, Point)>>>,
    pub(super) reports: mpsc::Receiver<(usize, Epoch, SinkPoint)>,
    pub(super) told: watch::Sender<Epoch>,
    pub(super) reported: Vec<Point>,
    /// The commit that is being written, and whether it is the last.
    pub(super) writing: Option<(Epoch, Vec<Point>, bool)>,
    handles: BTreeMap<Consumer, Handle>,
    capacity: usize,
}

/// What a source leaves.
pub(super) type Source = (SourceTask, anyhow::Result<()>);

/// The sources and sinks of a process that begins, and where they stand.
pub(super) struct Begun {
    pub(super) graph: Arc<Graph>,
    pub(super) sources: Vec<SourceTask>,
    pub(super) sinks: Vec<Box<dyn Sink>>,
    pub(super) committed: Committed,
}

/// The graph of a plan, whose stages never wait for room: whoever runs them sees to that. Sinks try again at once.
fn graph(plan: &Plan) -> Arc<Graph> {
    let mut graph = (*plan.parts().0.graph).clone();
    for edge in graph.edges.iter_mut().filter(|edge| matches!(edge.from, Producer::Stage(_))) {
        edge.capacity = Limit { records: 1 << 30, bytes: 1 << 40 };
    }
    let soon = Spanned::from(Span(Duration::from_millis(1)));
    for sink in &mut graph.sinks {
        (sink.retry.first, sink.retry.max) = (soon.clone(), soon.clone());
    }
    Arc::new(graph)
}

/// A machine's clock that is set to and fro every few looks, by up to an hour and a second, while the records' times
/// are those of the first second of 1970. A millisecond passes between two looks.
fn jumping() -> Wall {
    const OFF: [i64; 7] = [0, 3601, -3601, 0, 10, -10, -1];
    let looks = AtomicI64::new(0);
    Wall::reading(move || {
        let look = looks.fetch_add(1, Ordering::SeqCst);
        let passed = look * 1_000_000;
        Reading { wall: passed + OFF[(look / 5) as usize % OFF.len()] * 1_000_000_000, passed }
    })
}

/// Begins a process where another has committed.
///
/// # Errors
/// The store's, and those of sinks.
pub(super) fn begin(
    plan: &Plan,
    mut sinks: Vec<Box<dyn Sink>>,
    durable: Option<&Durable>,
    restored: Option<Restored>,
) -> anyhow::Result<Begun> {
    let (graph, parts) = (graph(plan), plan.parts());
    let (mut committed, mut sources) = (Committed::empty(&graph), Vec::new());
    for (number, (source, config)) in parts.0.sources.into_iter().zip(&graph.sources).enumerate() {
        let terms = Terms {
            number,
            name: config.name.clone(),
            limit: graph.batch,
            linger: graph.linger.0,
            idle: config.watermark.idle.0,
            uncommitted: graph.uncommitted.bytes(),
            has_ids: false,
            is_refused_read: false,
            wall: jumping(),
        };
        let clock = Clock::new(config.watermark.lag.0, config.watermark.ahead.0);
        let task = block_on(SourceTask::new(terms, source, clock, None, Arc::default())).unwrap();
        let edges = graph.out_of(Producer::Source(number)).count();
        committed.sources.push(task.point(vec![0; edges]));
        sources.push(task);
    }
    for (point, sink) in committed.sinks.iter_mut().zip(&sinks) {
        point.position = sink.position();
    }
    let is_first = restored.is_none();
    let restored = restored.unwrap_or_else(|| Restored::nothing(&graph));
    block_on(committed.resume(restored, &mut sources)).unwrap();
    back(&mut sinks, &committed)?;
    if let (Some(durable), true) = (durable, is_first) {
        let points: Vec<Point> = committed.points().collect();
        block_on(durable.write(durable.commit(committed.epoch, &points, false), |_| ()))?;
    }
    Ok(Begun { graph, sources, sinks, committed })
}

/// Sets every sink back to where it was committed.
///
/// # Errors
/// Those of sinks.
pub(super) fn back(sinks: &mut [Box<dyn Sink>], committed: &Committed) -> anyhow::Result<()> {
    sinks.iter_mut().zip(&committed.sinks).try_for_each(|(sink, point)| block_on(sink.restore(&point.position)))
}

impl Life {
    /// Starts everything from what is committed.
    pub(super) fn new(plan: &Plan, durable: Option<Durable>, begun: Begun, now: Duration, capacity: usize) -> Self {
        let Begun { graph, sources, sinks: begun_sinks, committed } = begun;
        let (parts, board) = (plan.parts().0, Arc::new(Board::new(graph.clone(), Default::default(), None)));
        let mut wiring = build::wire(&graph, &board, &committed);
        let handles = wiring.inboxes.iter().map(|(to, inbox)| (*to, inbox.handle())).collect();
        let points = Arc::new(Mutex::new(VecDeque::new()));
        let (mut leading, mut working) = (Vec::new(), Vec::new());
        for (at, plugin) in parts.plugins.iter().enumerate() {
            let spec = build::spec(&graph, at, plugin, &board, &Interrupt::default()).unwrap();
            let to = points.clone();
            let report = Box::new(move |handed: Handed| {
                to.lock().unwrap().push_back((handed.epoch, Point::Stage(at, handed)));
                Ok(())
            });
            let inbox = wiring.inboxes.remove(&Consumer::Stage(at)).unwrap();
            let outlet = wiring.outlets.remove(&Producer::Stage(at)).unwrap();
            let answers = wiring.answers.remove(&at).unwrap_or_default();
            let (stage, point) = (&graph.stages[at], &committed.stages[at]);
            let cellar = durable.as_ref().and_then(|durable| durable.cellar(stage, &Interrupt::default()));
            let made = build::stage(stage, spec, (point, cellar), inbox, outlet, answers, report);
            let (conductor, hands) = made.map_err(|failure| failure.to_string()).unwrap();
            let below = graph.out_of(Producer::Stage(at)).map(|edge: &Edge| (edge.to, edge.input)).collect();
            leading.push(Some(Leading { conductor, course: Course::default(), below }));
            working.extend(
                hands
                    .into_iter()
                    .map(|(number, worker, inbox, answers)| Some(Working { number, worker, inbox, answers })),
            );
        }
        let (told, committed_epoch) = watch::channel(committed.epoch);
        let (report_sender, reports) = mpsc::channel(64);
        let (word_sender, words) = mpsc::channel(64);
        let mut sinks = Vec::new();
        for (number, (sink, config)) in begun_sinks.into_iter().zip(&graph.sinks).enumerate() {
            let point = committed.sinks[number].clone();
            let (retry, meter, board) = (config.retry.clone(), Arc::default(), board.clone());
            let (gate, then, name) = (Arc::default(), config.breaker.then.value, config.name.clone());
            let mut task = SinkTask { number, name, sink, retry, gate, then, meter, board, trouble: None };
            let inbox = wiring.inboxes.remove(&Consumer::Sink(number)).unwrap();
            let outlet = wiring.outlets.remove(&Producer::Sink(number)).unwrap_or_default();
            let (sender, committed) = (report_sender.clone(), committed_epoch.clone());
            let wanted = word_sender.clone();
            sinks.push(Polled::new(async move { task.run(inbox, outlet, point, sender, wanted, committed).await }));
        }
        let participants = (0..sources.len())
            .map(Participant::Source)
            .chain((0..graph.stages.len()).map(Participant::Stage))
            .chain((0..sinks.len()).map(Participant::Sink));
        let coordinator = Coordinator::new(graph.epoch.0, participants, committed.epoch, now);
        let (mut orders, mut polled) = (Vec::new(), Vec::new());
        for (at, mut task) in sources.into_iter().enumerate() {
            let outlet = wiring.outlets.remove(&Producer::Source(at)).unwrap_or_default();
            let (sender, receiver) = mpsc::channel(16);
            let words = word_sender.clone();
            orders.push(sender);
            polled.push(Polled::new(async move {
                let result = task.run(outlet, receiver, words).await;
                (task, result)
            }));
        }
        Self {
            graph,
            coordinator,
            durable,
            ended: polled.iter().map(|_| None).collect(),
            sources: polled,
            leading,
            working,
            sinks,
            orders,
            words,
            points,
            reports,
            told,
            reported: Vec::new(),
            writing: None,
            handles,
            capacity,
        }
    }

    /// Everybody who may ever go on.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let sources = (0..self.sources.len()).flat_map(|at| [Turn::Allow(at), Turn::Source(at)]);
        let stages = (0..self.leading.len()).map(Turn::Leading).chain((0..self.working.len()).map(Turn::Working));
        let sinks = (0..self.sinks.len()).map(Turn::Sink);
        sources.chain(stages).chain(sinks).chain([Turn::Admit, Turn::Hear, Turn::Write]).collect()
    }

    /// Whether a conductor may send: nobody below has as much as fits.
    pub(super) fn has_room(&self, leading: &Leading) -> bool {
        leading.below.iter().all(|(to, lane)| self.handles[to].fill()[*lane].records < self.capacity)
    }

    /// What a source is told, if it still listens.
    pub(super) fn order(&self, order: Order) {
        for orders in &self.orders {
            // Who has quit does not listen.
            let _ = orders.try_send(order);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.sources.iter().all(Polled::is_over)
            && self.leading.iter().all(Option::is_none)
            && self.working.iter().all(Option::is_none)
            && self.sinks.iter().all(Polled::is_over)
    }

    /// Takes everything down, as a panic of the host does; the sources are left.
    pub(super) fn left(mut self) -> Vec<SourceTask> {
        self.orders.clear();
        self.handles.values().for_each(Handle::kill);
        self.words.close();
        let sources = self.sources.iter_mut().zip(self.ended);
        let end = |source: &mut Polled<Source>| source.poll().expect("a source that nobody hears ends").0;
        sources.map(|(source, ended)| ended.unwrap_or_else(|| end(source))).collect()
    }
}

/// Lets a conductor do the next thing, if there is one; takes it away when nothing is left.
///
/// # Errors
/// What ended the stage.
pub(super) fn lead(place: &mut Option<Leading>) -> Result<bool, Failure> {
    let Some(Leading { conductor, course, .. }) = place else { return Ok(false) };
    let did = conductor.step(course, |inbox, take| inbox.wait_blocking(|lanes| Some(take(lanes))))?;
    if course.is_over() {
        *place = None;
    }
    Ok(did)
}

/// Lets a worker do the next thing, if there is one.
///
/// # Errors
/// When its conductor is gone.
pub(super) fn work(place: &mut Option<Working>) -> Result<bool, Gone> {
    let Some(Working { number, worker, inbox, answers }) = place else { return Ok(false) };
    match inbox.wait_blocking(|lanes| Some(conductor::order(lanes)))? {
        None => Ok(false),
        Some(conductor::Order::Task(task)) => conductor::obey(worker, *number, task, answers),
        Some(conductor::Order::Over) => {
            *place = None;
            Ok(true)
        }
    }
}
