//! Reloads: what drives the generations of the stages of a running pipeline.
//!
//! Owns who is asked to build a candidate, how it gets into its stage, and who is told what came of it. It decides
//! nothing: [`Generations`] does. Invariant: what a stage serves from the next run on is what [`Reloads::parts`] says,
//! and changes only when the stage itself has changed over, or is not there.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{
    board::{self, Board, GenerationStatus},
    build::{self, PluginPart},
    durable::now,
    generations::{Action, Ask, Candidate, Generations, Input, Terms},
    launch::Run,
    run::RunEnd,
};
use crate::{
    config::graph::Graph,
    crash,
    lent::Lent,
    stage::{
        control::Control,
        generation::{Service, Swap},
    },
};

/// How often candidates on probation are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Makes candidates.
pub trait Build: Send + Sync {
    /// The plugin of the stage at this position as it is now, checked as a whole pipeline's is; from another file than the
    /// pipeline's where one is given. Takes its time, on a thread of its own.
    ///
    /// # Errors
    /// Why it cannot serve the stage.
    fn build(&self, stage: usize, from: Option<&Path>) -> Result<PluginPart, String>;
}

/// What reloads need.
#[derive(Clone)]
pub struct Reloading {
    /// Who builds.
    pub builder: Arc<dyn Build>,
    /// How candidates are judged, of each stage.
    pub terms: Vec<Terms>,
    /// Files that are watched, beside the positions of the stages that they serve.
    pub files: Vec<(usize, PathBuf)>,
    /// Positions of stages whose plugin has changed since what serves first was committed.
    pub changed: Vec<usize>,
}

impl fmt::Debug for Reloading {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Reloading").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// What a pipeline is told about the generations of a stage.
#[derive(Debug)]
pub struct Order {
    /// Position of the stage.
    pub stage: usize,
    /// What is to be done.
    pub what: What,
    /// Told the generation that serves then, or why nothing came of it.
    pub answer: oneshot::Sender<Result<u64, String>>,
}

/// What is to be done about the generations of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Build the plugin again and let it serve; from another file than the pipeline's where one is given.
    Reload(Ask, Option<PathBuf>),
    /// Let the generation before serve again.
    Back,
}

/// What came of something that takes its time.
pub(super) enum News {
    Built(usize, Box<Result<PluginPart, String>>),
    /// Of the generation of this number.
    Swapped(usize, u64, Result<(), String>),
    Look,
    Nothing,
}

struct Stage {
    generations: Generations,
    part: PluginPart,
    before: Option<PluginPart>,
    coming: Option<PluginPart>,
    from: Option<PathBuf>,
    answer: Option<oneshot::Sender<Result<u64, String>>>,
    /// What each generation has done, by its number.
    services: BTreeMap<u64, Arc<Service>>,
}

/// The reloads of one pipeline.
pub(super) struct Reloads {
    board: Arc<Board>,
    builder: Option<Arc<dyn Build>>,
    began: Instant,
    /// When `began` was, in milliseconds since the Unix epoch.
    epoch: i64,
    stages: Vec<Stage>,
    under_way: FuturesUnordered<BoxFuture<'static, News>>,
    looks: Interval,
}

impl Reloads {
    /// Those of a pipeline that `parts` serve.
    pub(super) fn new(board: Arc<Board>, parts: Vec<PluginPart>, reloading: Option<Reloading>) -> Self {
        let (builder, terms) = reloading.map_or((None, Vec::new()), |one| (Some(one.builder), one.terms));
        let stages = parts.into_iter().enumerate().map(|(at, part)| Stage {
            generations: Generations::new(
                terms.get(at).copied().unwrap_or_default(),
                part.generation,
                candidate(&part),
            ),
            services: [(part.generation, part.service.clone())].into(),
            part,
            before: None,
            coming: None,
            from: None,
            answer: None,
        });
        let (stages, under_way) = (stages.collect(), FuturesUnordered::new());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let reloads = Self { board, builder, began: Instant::now(), epoch: now(), stages, under_way, looks };
        (0..reloads.stages.len()).for_each(|at| reloads.show(at));
        reloads
    }

    /// What the stages serve from the next run on.
    pub(super) fn parts(&self) -> Vec<PluginPart> {
        self.stages.iter().map(|stage| stage.part.clone()).collect()
    }

    /// Whether a failure of the stage at this position may be a candidate's, so that there is a way back.
    pub(super) fn has_candidate(&self, at: usize) -> bool {
        self.stages.get(at).is_some_and(|stage| stage.generations.has_candidate())
    }

    /// What comes of builds, exchanges and time; waits for ever where nothing is under way.
    pub(super) async fn next(&mut self) -> News {
        let is_watching = self.stages.iter().any(|stage| stage.generations.is_on_probation());
        if !is_watching && self.under_way.is_empty() {
            return std::future::pending().await;
        }
        tokio::select! {
            Some(news) = self.under_way.next() => news,
            _ = self.looks.tick() => News::Look,
        }
    }

    /// Takes an order; whoever gave it is told what comes of it.
    pub(super) async fn order(&mut self, Order { stage: at, what, answer }: Order, run: &mut Run) {
        let Some(stage) = self.stages.get_mut(at) else { return };
        let input = match what {
            What::Reload(ask, from) => {
                // While something is under way, `from` is that one's, and the order will be refused.
                if stage.answer.is_none() {
                    stage.from = from;
                }
                Input::Asked(ask)
            }
            What::Back => Input::Back,
        };
        let busy = stage.answer.take();
        stage.answer = Some(answer);
        self.step(at, input, Some(run)).await;
        if let (Some(stage), Some(busy)) = (self.stages.get_mut(at), busy) {
            stage.answer.get_or_insert(busy);
        }
    }

    /// Takes in what came of something.
    pub(super) async fn news(&mut self, news: News, mut run: Option<&mut Run>) {
        match news {
            News::Built(at, built) => {
                crash::point("reload.compiled");
                let Some(stage) = self.stages.get_mut(at) else { return };
                let built = (*built).map(|part| {
                    let candidate = candidate(&part);
                    stage.coming = Some(part);
                    candidate
                });
                self.step(at, Input::Built(built), run.as_deref_mut()).await;
            }
            News::Swapped(at, number, swapped) => {
                let Some(stage) = self.stages.get_mut(at) else { return };
                if stage.coming.as_ref().is_none_or(|coming| coming.generation != number) {
                    return;
                }
                if swapped.is_ok()
                    && let Some(coming) = stage.coming.take()
                {
                    let same = coming.state_version == stage.part.state_version;
                    stage.before = Some(std::mem::replace(&mut stage.part, coming)).filter(|_| same);
                }
                self.step(at, Input::Swapped(swapped), run.as_deref_mut()).await;
            }
            News::Nothing => {}
            News::Look => {
                for at in 0..self.stages.len() {
                    let Some(Stage { part, before: Some(before), generations, .. }) = self.stages.get(at) else {
                        continue;
                    };
                    if !generations.is_on_probation() {
                        continue;
                    }
                    // A swap closes the breaker; one that a person has tripped, which is not tried again, accuses nobody.
                    let opened = self.board.stage_gates.get(at).and_then(|gate| gate.opened());
                    if let Some(opened) = opened.filter(|opened| opened.probe.is_some()) {
                        self.step(at, Input::Opened(opened.reason), run.as_deref_mut()).await;
                    } else {
                        let (candidate, before) = (part.service.read(), before.service.read());
                        self.step(at, Input::Looked { candidate, before }, run.as_deref_mut()).await;
                    }
                }
            }
        }
    }

    /// A run has ended, and another one is about to begin.
    pub(super) async fn restarted(&mut self, why: &str) {
        // What a stage has answered before it fell counts: its candidate has served.
        while let Some(Some(news)) = self.under_way.next().now_or_never() {
            self.news(news, None).await;
        }
        for at in 0..self.stages.len() {
            if let Some(stage) = self.stages.get_mut(at) {
                stage.coming = None;
            }
            self.step(at, Input::Restarted(why.to_owned()), None).await;
        }
    }

    async fn step(&mut self, at: usize, input: Input, mut run: Option<&mut Run>) {
        let now = self.began.elapsed();
        let Some(stage) = self.stages.get_mut(at) else { return };
        for action in stage.generations.step(now, input) {
            self.act(at, action, run.as_deref_mut()).await;
        }
        self.show(at);
    }

    async fn act(&mut self, at: usize, action: Action, run: Option<&mut Run>) {
        let graph = self.board.graph().clone();
        let (Some(stage), Some(named)) = (self.stages.get_mut(at), graph.stages.get(at)) else { return };
        let (pipeline, name) = (graph.name.as_str(), named.name.as_str());
        match action {
            Action::Build => {
                let Some(builder) = self.builder.clone() else {
                    let why = "this pipeline was started without the means to build plugins".to_owned();
                    let refused = async move { News::Built(at, Box::new(Err(why))) };
                    return self.under_way.push(refused.boxed());
                };
                let from = stage.from.take();
                self.under_way.push(
                    async move {
                        let mut building = Lent::new((builder, None));
                        let build = move |(builder, built): &mut (Arc<dyn Build>, Option<_>)| {
                            *built = Some(builder.build(at, from.as_deref()));
                        };
                        let built = match building.lend(build).await {
                            Ok((_, built)) => built.take().unwrap_or_else(|| Err("nothing was built".to_owned())),
                            Err(panic) => Err(format!("{panic:#}")),
                        };
                        News::Built(at, Box::new(built))
                    }
                    .boxed(),
                );
            }
            Action::Swap(number) => {
                let Some(coming) = &mut stage.coming else { return };
                (coming.generation, coming.service) = (number, Arc::default());
                stage.services.insert(number, coming.service.clone());
                let history = &stage.generations;
                stage.services.retain(|number, _| history.history().any(|past| past.generation == Some(*number)));
                let swapped = match run {
                    Some(run) => exchange(&self.board, &graph, at, coming, run).await,
                    None => Err("the pipeline is being restarted".to_owned()),
                };
                self.under_way.push(match swapped {
                    Ok(answer) => async move {
                        match answer.await {
                            Ok(swapped) => News::Swapped(at, number, swapped),
                            // The stage has ended, or has fallen: what ends its run tells which.
                            Err(_) => News::Nothing,
                        }
                    }
                    .boxed(),
                    Err(why) => async move { News::Swapped(at, number, Err(why)) }.boxed(),
                });
            }
            Action::Return(number) => {
                let Some(before) = stage.before.take() else { return };
                let gone = std::mem::replace(&mut stage.part, before);
                let digest = stage.part.about.digest.as_str();
                tracing::warn!(pipeline, stage = name, generation = number, digest, "rolled back {}", gone.generation);
                if let Some(run) = run
                    && let Err(error) = exchange(&self.board, &graph, at, &stage.part, run).await
                {
                    let why = format!("stage `{name}` cannot go back to generation {number}: {error}");
                    run.stop(RunEnd::Restart(why));
                }
            }
            Action::Done(number) => {
                let digest = stage.part.about.digest.as_str();
                tracing::info!(pipeline, stage = name, generation = number, digest, "reloaded");
                if let Some(answer) = stage.answer.take() {
                    // Whoever asked may have gone.
                    let _ = answer.send(Ok(number));
                }
            }
            Action::Refuse(why) => {
                tracing::warn!(pipeline, stage = name, error = why, "reload refused");
                if let Some(answer) = stage.answer.take() {
                    let _ = answer.send(Err(why));
                }
            }
        }
    }

    /// Shows the generations of a stage.
    fn show(&self, at: usize) {
        let Some(stage) = self.stages.get(at) else { return };
        let shown = stage.generations.history().map(|past| {
            let service = past.generation.and_then(|number| stage.services.get(&number)).cloned().unwrap_or_default();
            let at = self.epoch.saturating_add(i64::try_from(past.at.as_millis()).unwrap_or(i64::MAX));
            (GenerationStatus::of(past, at), service)
        });
        let (about, counts) = (stage.part.about.clone(), stage.generations.counts());
        self.board.set_generations(at, board::Generations { about, all: shown.collect(), counts });
    }
}

fn candidate(part: &PluginPart) -> Candidate {
    Candidate { digest: part.about.digest.clone(), state_version: part.state_version }
}

/// Tells the stage of a run to go on with `part`; what comes of it is answered.
async fn exchange(
    board: &Board,
    graph: &Graph,
    at: usize,
    part: &PluginPart,
    run: &mut Run,
) -> Result<oneshot::Receiver<Result<(), String>>, String> {
    let (Some(spec), Some(stage)) = (build::spec(graph, at, part, board, &run.interrupt), graph.stages.get(at)) else {
        return Err("there is no such stage".to_owned());
    };
    let instances = (0..stage.workers.max(1)).map(|_| spec.maker.make(&run.interrupt)).collect::<Result<Vec<_>, _>>();
    let instances = instances.map_err(|fault| fault.message)?;
    let (answer, answered) = oneshot::channel();
    run.tell(at, Control::Swap(Swap { spec, instances, answer })).await;
    Ok(answered)
}
