//! Who is not ready and why, and who waits for whom.
//!
//! Owns what is said of it. It must not know how what it looks at came about.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Board, NotReady, Phase, State,
    waits::{Link, Scene, Wait},
};
use crate::{
    config::graph::{Consumer, Producer},
    epoch::Epoch,
    pipeline::coordinator::Participant,
};

impl From<Producer> for Participant {
    fn from(producer: Producer) -> Self {
        match producer {
            Producer::Source(at) => Self::Source(at),
            Producer::Stage(at) => Self::Stage(at),
            Producer::Sink(at) => Self::Sink(at),
        }
    }
}

impl From<Consumer> for Participant {
    fn from(consumer: Consumer) -> Self {
        match consumer {
            Consumer::Stage(at) => Self::Stage(at),
            Consumer::Sink(at) => Self::Sink(at),
        }
    }
}

impl Board {
    /// Who is not ready, and why; empty when the pipeline is.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let state = self.state();
        let mut all = Vec::new();
        let mut say = |who: String, why: String| all.push(NotReady { who, why });
        match state.phase {
            Phase::Running => {}
            Phase::Starting => say(self.graph.name.clone(), "it is starting".to_owned()),
            Phase::Draining => say(self.graph.name.clone(), "it is draining".to_owned()),
            Phase::Ended => say(self.graph.name.clone(), "it has ended".to_owned()),
        }
        let troubles = self.troubles(&state);
        for (who, why) in &troubles {
            say(self.name(*who), why.clone());
        }
        if state.late.is_empty() {
            return all;
        }
        let scene = self.scene(&state);
        for who in state.late.iter().filter(|who| troubles.iter().all(|(told, _)| told != *who)) {
            let age = state.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            let why = match (self.wait(&scene, *who), scene.reasons.get(who)) {
                (Some(wait), _) => format!("; it waits for {}", wait.told()),
                (None, Some(why)) => format!("; {why}"),
                (None, None) => String::new(),
            };
            say(self.name(*who), format!("it has not reported its epoch for {} s{why}", age.as_secs()));
        }
        all
    }

    /// Notes that the epoch is late, and who holds it.
    pub fn epoch_late(&self, epoch: Epoch, missing: Vec<Participant>) {
        self.state().late = missing;
        let held: Vec<String> = self.not_ready().iter().map(|held| format!("`{}`: {}", held.who, held.why)).collect();
        tracing::warn!(pipeline = self.graph.name, epoch = epoch.0, waiting_for = ?held, "the epoch is late");
    }

    /// Sources, stages and sinks that wait for room, and for whom.
    pub fn waits(&self) -> Vec<Wait> {
        let scene = self.scene(&self.state());
        scene.blocked().into_iter().filter_map(|who| self.wait(&scene, who)).collect()
    }

    fn wait(&self, scene: &Scene, who: Participant) -> Option<Wait> {
        let chain = scene.chain(who);
        let why = scene.reasons.get(chain.last()?).cloned();
        Some(Wait { who: self.name(who), on: chain.iter().map(|who| self.name(*who)).collect(), why })
    }

    /// What keeps somebody from going on who should: breakers, troubles, full states.
    fn troubles(&self, state: &State) -> Vec<(Participant, String)> {
        let stages = self.stage_gates.iter().enumerate().map(|(at, gate)| (Participant::Stage(at), gate));
        let sinks = self.sink_gates.iter().enumerate().map(|(at, gate)| (Participant::Sink(at), gate));
        let opened = stages.chain(sinks).filter_map(|(who, gate)| Some((who, gate.opened()?)));
        let mut all: Vec<_> = opened.map(|(who, opened)| (who, format!("its breaker is open: {opened}"))).collect();
        let standby = self.fallback_gates.iter().filter_map(|(at, gate)| Some((*at, gate.opened()?)));
        all.extend(standby.map(|(at, opened)| {
            (Participant::Stage(at), format!("the breaker of what stands in for it is open: {opened}"))
        }));
        all.extend(state.troubles.iter().map(|(who, why)| (*who, why.clone())));
        for (at, stage) in self.graph.stages.iter().enumerate() {
            if !self.stages.get(at).is_some_and(|meter| meter.is_full()) {
                continue;
            }
            let (name, max) = (&stage.name, stage.state.max.value);
            let why = format!(
                "its groups take all of `state.max: {max}`, and it waits for windows to close or groups to expire; raise \
                 `state.max`, or give its groups up with `--reset-state {name}`"
            );
            all.push((Participant::Stage(at), why));
        }
        all
    }

    fn scene(&self, state: &State) -> Scene {
        let views: BTreeMap<_, _> = state.inboxes.iter().map(|(to, inbox)| (*to, inbox.views())).collect();
        let link = |edge: &crate::config::graph::Edge| Link {
            from: edge.from.into(),
            to: edge.to.into(),
            view: views.get(&edge.to).and_then(|views| views.get(edge.input)).copied().unwrap_or_default(),
        };
        let paced = |(at, stage): (usize, &crate::config::graph::Stage)| {
            let rate = stage.rate.filter(|_| self.stages.get(at).is_some_and(|meter| meter.is_paced()))?;
            Some((Participant::Stage(at), format!("its rate limit of {rate} lets no more through")))
        };
        let steps = self.stepping().filter(|stepping| stepping.is_on()).map(|stepping| {
            format!("its records are called one by one, for the host has fallen {} times", stepping.start() - 1)
        });
        let stepping = (0..self.graph.stages.len()).filter_map(|at| Some((Participant::Stage(at), steps.clone()?)));
        // A trouble is told before the rate, and of several troubles the first.
        let reasons = self.graph.stages.iter().enumerate().filter_map(paced);
        Scene {
            links: self.graph.edges.iter().map(link).collect(),
            reasons: stepping.chain(reasons).chain(self.troubles(state).into_iter().rev()).collect(),
            late: state.late.iter().copied().collect(),
        }
    }
}
