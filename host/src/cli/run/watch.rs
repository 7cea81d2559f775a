//! What happens while pipelines run: they end, somebody asks for a drain, a signal comes, time passes.
//!
//! Owns when a drain begins and when it is given up. Each arm of the loop only names what happened; [`Watch::handle`]
//! acts. Invariant: the first signal drains, the second ends the process at once.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinError,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{Exit, host::Opened, live::Live};
use crate::{
    api::{End, Service},
    pipeline::{
        Board, Command, Drain, Ended, Ending, Status,
        generations::Ask,
        reload::{Order, What},
    },
};

/// How long after the deadline of a drain tasks may take to notice it. One that hangs in a call of the system never does.
const NOTICE: Duration = Duration::from_millis(500);

/// How often the live line is drawn.
const TICK: Duration = Duration::from_millis(250);

/// What was asked for on the command line.
pub(super) struct Terms {
    /// How long a drain may take.
    pub(super) drain_deadline: Duration,
    /// Drain after this time.
    pub(super) duration: Option<Duration>,
    /// What is said meanwhile.
    pub(super) live: Live,
}

/// What is left of a host.
pub(super) struct Watched {
    /// Its pipelines, in the order in which they were named.
    pub(super) pipelines: Vec<Left>,
    /// The exit code of a second signal, if one came.
    pub(super) aborted: Option<Exit>,
}

/// What is left of a pipeline.
pub(super) struct Left {
    /// Its board, for a last look.
    pub(super) board: Arc<Board>,
    /// What it came to, and how it stood then; none where it did not end in time.
    pub(super) ended: Option<(Ended, Status)>,
}

enum Happening {
    Ended(usize, Result<Ended, JoinError>),
    Signal(SignalKind),
    Drain(Drain),
    Reload,
    Tick,
    GiveUp,
}

struct Watch {
    service: Arc<Service>,
    commands: Vec<tokio::sync::mpsc::Sender<Command>>,
    /// Of each pipeline, the parts of the same file that it reads.
    feeders: Vec<Vec<usize>>,
    left: Vec<Left>,
    running: usize,
    /// When tasks that have not ended are left behind; set once a drain has begun.
    give_up: Option<Instant>,
    signals: u32,
    aborted: Option<Exit>,
    terms: Terms,
}

/// Waits for the end of every pipeline, or for the second signal.
pub(super) async fn watch(opened: Opened, terms: Terms, signals: Signals) -> Watched {
    let Opened { running, feeders, service, mut drains, all_ended, closing, servers, socket } = opened;
    let Signals { mut interrupt, mut terminate, mut hang_up } = signals;
    let over = terms.duration.map(|duration| Instant::now() + duration);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watch = Watch {
        service,
        feeders,
        commands: running.iter().map(|running| running.commands.clone()).collect(),
        left: running.iter().map(|running| Left { board: running.board.clone(), ended: None }).collect(),
        running: running.len(),
        give_up: None,
        signals: 0,
        aborted: None,
        terms,
    };
    let mut tasks: FuturesUnordered<_> =
        running.into_iter().enumerate().map(|(at, running)| async move { (at, running.task.await) }).collect();
    while watch.running > 0 && watch.aborted.is_none() {
        let give_up = watch.give_up;
        let over = over.filter(|_| give_up.is_none());
        let now = Instant::now();
        let happening = tokio::select! {
            Some((at, ended)) = tasks.next() => Happening::Ended(at, ended),
            () = interrupt.come() => Happening::Signal(SignalKind::interrupt()),
            () = terminate.come() => Happening::Signal(SignalKind::terminate()),
            () = hang_up.come() => Happening::Reload,
            Some(drain) = drains.recv() => Happening::Drain(drain),
            () = sleep_until(over.unwrap_or(now)), if over.is_some() => Happening::Drain(Drain::within(watch.terms.drain_deadline)),
            () = sleep_until(give_up.unwrap_or(now)), if give_up.is_some() => Happening::GiveUp,
            _ = ticks.tick() => Happening::Tick,
        };
        watch.handle(happening);
    }
    super::super::screen::clear();
    // Nobody may take the socket before this host has answered and let go of it.
    if watch.aborted.is_none() {
        let _ = all_ended.send(true);
        drop(drains);
        closing.cancel();
        servers.wait().await;
    }
    drop(socket);
    Watched { pipelines: watch.left, aborted: watch.aborted }
}

impl Watch {
    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Ended(at, ended) => self.ended(at, ended),
            Happening::Signal(kind) => {
                self.signals += 1;
                let number = if kind == SignalKind::interrupt() { Exit::Interrupted } else { Exit::Terminated };
                if self.signals > 1 {
                    self.aborted = Some(number);
                } else {
                    self.drain(Drain::within(self.terms.drain_deadline));
                }
            }
            Happening::Drain(drain) => self.drain(drain),
            Happening::Reload => self.reload(),
            Happening::Tick => self.terms.live.show(self.left.iter().map(|left| &*left.board)),
            Happening::GiveUp => {
                for (at, left) in self.left.iter().enumerate().filter(|(_, left)| left.ended.is_none()) {
                    let pipeline = &left.board.graph().name;
                    tracing::error!(pipeline, "the drain has not ended in time; what is not committed is given up");
                    self.note(at, &Ending::DeadlinePassed);
                }
                self.running = 0;
            }
        }
    }

    fn drain(&mut self, drain: Drain) {
        if self.give_up.is_some() {
            return;
        }
        tracing::info!(deadline_ms = drain.deadline.as_millis(), "draining; a second signal aborts");
        self.give_up = Some(Instant::now() + drain.deadline + NOTICE);
        for commands in &self.commands {
            // Whoever has ended needs no telling, and no pipeline is told sixteen things before it listens.
            let _ = commands.try_send(Command::Drain(drain));
        }
    }

    /// Asks for a reload of every plugin; what comes of each stands in the log.
    fn reload(&self) {
        for (commands, left) in self.commands.iter().zip(&self.left) {
            let (commands, stages) = (commands.clone(), left.board.graph().stages.len());
            tokio::spawn(async move {
                for stage in 0..stages {
                    let (answer, answered) = oneshot::channel();
                    let order = Order { stage, what: What::Reload(Ask::PERSON, None), answer };
                    if commands.send(Command::Reload(order)).await.is_err() {
                        return;
                    }
                    // One after the other: they share the machine with the records.
                    let _ = answered.await;
                }
            });
        }
    }

    fn ended(&mut self, at: usize, ended: Result<Ended, JoinError>) {
        self.running -= 1;
        let Some(left) = self.left.get_mut(at) else { return };
        let board = left.board.clone();
        let ended = ended.unwrap_or_else(|panic| {
            let committed = crate::pipeline::committed::Committed::default();
            Ended { ending: Ending::Failed(format!("a panic of the host's own code: {panic}")), committed, board }
        });
        let pipeline = &left.board.graph().name;
        match &ended.ending {
            Ending::Completed => tracing::info!(pipeline, "completed"),
            Ending::Drained => tracing::info!(pipeline, "drained"),
            Ending::DeadlinePassed => {
                tracing::error!(pipeline, "the drain has not ended in time; what is not committed is given up");
            }
            Ending::Stopped(stop) => tracing::error!(pipeline, "{stop}"),
            Ending::Faulted(report) => tracing::error!(pipeline, "{report}"),
            Ending::Failed(why) => tracing::error!(pipeline, "{why}"),
        }
        let ending = ended.ending.clone();
        left.ended = Some((ended, left.board.status()));
        self.note(at, &ending);
        // What a part that failed has committed is there for the next run; nothing more will come to those behind it.
        if !matches!(ending, Ending::Completed) {
            let behind = self.feeders.iter().zip(&self.commands).filter(|(feeders, _)| feeders.contains(&at));
            for (_, commands) in behind {
                let _ = commands.try_send(Command::Drain(Drain::within(self.terms.drain_deadline)));
            }
        }
    }

    /// Tells the interface.
    fn note(&self, at: usize, ending: &Ending) {
        if let Some(hosted) = self.service.pipelines.get(at) {
            let pipeline = hosted.board.graph().name.clone();
            let end = End { pipeline, ending: word(ending).to_owned(), exit: Exit::of(ending).code() };
            // A pipeline ends once.
            let _ = hosted.end.set(end);
        }
    }
}

/// An ending in a word.
pub(super) fn word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Drained => "drained",
        Ending::DeadlinePassed => "deadline_passed",
        Ending::Stopped(_) => "stopped",
        Ending::Faulted(_) => "faulted",
        Ending::Failed(_) => "failed",
    }
}

/// The signals that drain a host, and the one that reloads its plugins.
pub(super) struct Signals {
    interrupt: Caught,
    terminate: Caught,
    hang_up: Caught,
}

impl Signals {
    /// Catches them from now on; those that come before [`watch`] are kept for it.
    pub(super) fn catch() -> Self {
        let caught = Caught::new;
        Self {
            interrupt: caught(SignalKind::interrupt()),
            terminate: caught(SignalKind::terminate()),
            hang_up: caught(SignalKind::hangup()),
        }
    }
}

/// A signal that is caught, where the system lets us.
struct Caught(Option<Signal>);

impl Caught {
    fn new(kind: SignalKind) -> Self {
        match signal(kind) {
            Ok(signal) => Self(Some(signal)),
            Err(error) => {
                tracing::warn!(%error, "a signal cannot be caught, and will end the host without a drain");
                Self(None)
            }
        }
    }

    async fn come(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
