//! `dlq replay --dry-run`: whether letters would pass now, through the plugin of their stage or one in its place.
//!
//! Owns what is told of it. What becomes of a letter is [`crate::pipeline::retry`]'s. Invariant: nothing is changed.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{
    super::{Answer, Exit, Outcome, Trouble, figure, settings},
    cut,
    place::Place,
    replay::Replay,
};
use crate::{
    config::{Host, codes},
    letter::{Kind, Part},
    pipeline::{
        open::{self, Prepared},
        retry::{Again, Trial},
    },
    plugin::Plugin,
};

/// What the letters came to.
#[derive(Debug, Default, Serialize)]
struct Tried {
    pipeline: String,
    letters: u64,
    passed: u64,
    /// Refused by what has no plugin, a source or a sink.
    untried: u64,
    failed: Vec<Failed>,
}

/// Letters that fail alike.
#[derive(Debug, Serialize)]
struct Failed {
    stage: String,
    kind: Kind,
    reason: String,
    letters: u64,
    /// The first of them.
    first: u64,
}

/// Tries the letters that are picked.
pub(super) fn perform(replay: &Replay) -> Outcome {
    let engine = settings::engine_if_cached(Path::new(&Host::default().plugins.cache))?;
    let refused = |faults| Box::new(Answer::refused(faults));
    let loaded = replay.loaded()?;
    let prepared = open::open(&loaded, &engine, Some(&replay.at.state)).map_err(refused)?;
    let candidate = match &replay.plugin {
        Some(name) => Some(super::super::plugin::load(name)?),
        None => None,
    };
    let mut trials: BTreeMap<String, Trial> = BTreeMap::new();
    let pipeline = prepared.graph.name.clone();
    let mut tried = Tried { pipeline: pipeline.clone(), ..Tried::default() };
    let (mut failed, mut broken) = (BTreeMap::<(String, Kind, String), Failed>::new(), None);
    let place = Place::open(&replay.at.state, &replay.at.socket)?;
    place.each(&pipeline, &replay.query(), &mut |letter| {
        tried.letters += 1;
        let stage = letter.by.name.clone();
        if letter.by.part != Part::Stage {
            tried.untried += 1;
            return true;
        }
        let trial = match trials.entry(stage.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => match trial(&prepared, &stage, candidate.as_ref()) {
                Ok(trial) => free.insert(trial),
                Err(answer) => {
                    broken = Some(answer);
                    return false;
                }
            },
        };
        match trial.give(&letter) {
            Ok(Again::Passes) => tried.passed += 1,
            Ok(Again::Fails { kind, reason }) => {
                let reason = cut(&reason);
                let key = (stage.clone(), kind, reason.clone());
                let first = letter.offset;
                failed.entry(key).or_insert(Failed { stage, kind, reason, letters: 0, first }).letters += 1;
            }
            Err(fault) => {
                let trouble = Trouble::of(format!("make an instance for stage `{stage}`: {}", fault.message));
                broken = Some(Box::new(Answer::failed(Exit::Plugin, trouble.code(codes::PLUGIN_FAULT))));
                return false;
            }
        }
        true
    })?;
    if let Some(broken) = broken {
        return Err(broken);
    }
    tried.failed = failed.into_values().collect();
    tried.failed.sort_by_key(|failed| std::cmp::Reverse(failed.letters));
    Ok(tried.answer())
}

/// The plugin of `stage`, or `candidate` in its place.
fn trial(prepared: &Prepared, stage: &str, candidate: Option<&Plugin>) -> Result<Trial, Box<Answer>> {
    let served = prepared.graph.stages.iter().zip(&prepared.plugins).find(|(served, _)| served.name == stage);
    let Some((served, plugin)) = served else {
        let trouble =
            Trouble::of(format!("find the stage `{stage}`: the file has none of that name, and letters of it"));
        return Err(Box::new(Answer::failed(Exit::Usage, trouble.cure("pick those of another with `--stage`"))));
    };
    Trial::new(served, candidate.unwrap_or(plugin)).map_err(|why| {
        let trouble =
            Trouble::of(format!("put the plugin in the place of `{stage}`: {why}")).code(codes::CONFIG_REFUSED);
        Box::new(Answer::failed(Exit::Usage, trouble))
    })
}

impl Tried {
    fn answer(self) -> Answer {
        let of = self.letters - self.untried;
        let summary = format!("{} of {} now pass", figure::count(self.passed), figure::count(of));
        let mut text = format!("{summary}\n");
        for Failed { stage, kind, reason, letters, first } in &self.failed {
            let letters = figure::count(*letters);
            text.push_str(&format!("  {letters} of `{stage}`, {}, as letter {first}: {reason}\n", kind.name()));
        }
        if self.untried > 0 {
            let untried = figure::count(self.untried);
            text.push_str(&format!("  {untried} more were refused by sources or sinks, which no plugin can try\n"));
        }
        let exit = if self.passed == of { Exit::Fine } else { Exit::No };
        Answer { exit, ..Answer::fine(summary, &self, text) }
    }
}
