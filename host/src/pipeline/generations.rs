//! The generations of a stage: which one serves, what a candidate has to prove, and when the one before comes back.
//!
//! Owns the decisions of a reload, as a pure machine over figures and its own clock. It must not know how a plugin is
//! built, or how a stage exchanges it. Invariant 8: every reload that is accepted ends active, rolled back or refused, and
//! the history says which.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{stage::generation::Figures, unit::Span};

/// Records after which a candidate has proved itself, however little time has passed.
const RECORDS: u64 = 10_000;

/// Records before which nothing is judged while there is time: one poison record among three would condemn anybody.
const SAMPLES: u64 = 20;

/// How many times what the one before did is too much.
const TIMES: f64 = 3.0;

/// What is remembered of a stage.
const HISTORY: usize = 100;

/// How candidates of a stage are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// How long a candidate is on probation.
    pub probation: Duration,
    /// The share of its records, between 0 and 1, that it may refuse at most.
    pub rollback_at: f64,
    /// After how many rollbacks, within how long, a changed file waits for a person.
    pub rollbacks: (usize, Duration),
}

impl Default for Terms {
    fn default() -> Self {
        Self { probation: Duration::from_secs(30), rollback_at: 0.01, rollbacks: (3, Duration::from_secs(3600)) }
    }
}

/// Who wants a reload, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A file has changed.
    File,
    /// A person.
    Person {
        /// What becomes of a candidate that is on probation.
        other: Other,
        /// Whether it is watched.
        watched: Watched,
    },
}

impl Ask {
    /// A person who insists on nothing.
    pub const PERSON: Self = Self::Person { other: Other::Stays, watched: Watched::Yes };
}

/// What becomes of a candidate that is on probation when another one is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Other {
    /// It stays, and whoever asks is refused.
    #[default]
    Stays,
    /// It is rolled back at once.
    Goes,
}

/// Whether a candidate is watched and may be rolled back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watched {
    /// It is.
    #[default]
    Yes,
    /// It stays whatever it does: there is no way back from a new version of states.
    No,
}

/// What serves, or is to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// Version of the states that it writes.
    pub state_version: u32,
}

/// What happens to the generations of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants the plugin built again.
    Asked(Ask),
    /// What became of that.
    Built(Result<Candidate, String>),
    /// What the stage made of the candidate.
    Swapped(Result<(), String>),
    /// What the candidate and the one before it have done.
    Looked {
        /// The candidate.
        candidate: Figures,
        /// The one before.
        before: Figures,
    },
    /// The breaker of the stage has opened, for this reason.
    Opened(String),
    /// A run has ended and another one begins from the last commit.
    Restarted(String),
    /// Somebody wants the one before back.
    Back,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build the plugin.
    Build,
    /// Let the stage exchange its generation for the candidate, which gets this number.
    Swap(u64),
    /// Let the stage exchange its generation for the one before.
    Return(u64),
    /// Tell who asked that the candidate serves, or that the one before does.
    Done(u64),
    /// Tell who asked why nothing comes of it.
    Refuse(String),
}

/// How far a generation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is on its way into the stage.
    Coming,
    /// It serves, and is watched.
    Probation,
    /// It serves.
    Active,
    /// Another one serves.
    Replaced,
    /// The one before serves again.
    RolledBack,
    /// It has never served.
    Refused,
}

impl fmt::Display for Fate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Coming => "coming",
            Self::Probation => "on probation",
            Self::Active => "active",
            Self::Replaced => "replaced",
            Self::RolledBack => "rolled back",
            Self::Refused => "refused",
        })
    }
}

/// One generation, or a candidate that has not become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its number; none of a candidate that was refused before it got one.
    pub generation: Option<u64>,
    /// SHA-256 of its bytes, in hexadecimal; none where there were none that could be read.
    pub digest: Option<String>,
    /// When that was, by the clock of the machine.
    pub at: Duration,
    /// How far it has come.
    pub fate: Fate,
    /// Why, where it was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How the reloads of a stage have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The candidate serves for good.
    pub active: u64,
    /// The one before came back.
    pub rolled_back: u64,
    /// The candidate has never served.
    pub refused: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Serving,
    Building(Watched),
    Swapping(Candidate, Watched),
    Probation { since: Duration },
}

/// The generations of one stage.
#[derive(Clone, Debug)]
pub struct Generations {
    terms: Terms,
    state: State,
    serving: (u64, Candidate),
    /// The one that served before, while there is a way back to it.
    before: Option<(u64, Candidate)>,
    highest: u64,
    rolled_back: VecDeque<Duration>,
    /// A file changed while nothing could be made of it.
    is_file_waiting: bool,
    history: VecDeque<Past>,
    counts: Counts,
}

impl Generations {
    /// A stage that `candidate` serves, as generation `number`.
    pub fn new(terms: Terms, number: u64, candidate: Candidate) -> Self {
        let first = Past {
            generation: Some(number),
            digest: Some(candidate.digest.clone()),
            at: Duration::ZERO,
            fate: Fate::Active,
            why: None,
        };
        Self {
            terms,
            state: State::Serving,
            serving: (number, candidate),
            before: None,
            highest: number,
            rolled_back: VecDeque::new(),
            is_file_waiting: false,
            history: [first].into(),
            counts: Counts::default(),
        }
    }

    /// Number of the generation that serves.
    pub fn serving(&self) -> u64 {
        self.serving.0
    }

    /// Number of the one that served before, while there is a way back to it.
    pub fn before(&self) -> Option<u64> {
        self.before.as_ref().map(|(number, _)| *number)
    }

    /// Whether there is a candidate that may go again: what the stage cannot do may be its fault.
    pub fn has_candidate(&self) -> bool {
        matches!(self.state, State::Probation { .. } | State::Swapping(_, Watched::Yes))
    }

    /// Whether a candidate is on probation.
    pub fn is_on_probation(&self) -> bool {
        matches!(self.state, State::Probation { .. })
    }

    /// How reloads have ended so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What became of all of them, oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Past> {
        self.history.iter()
    }

    /// Takes in what happened at `now`, and says what is to be done.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        match (input, self.state.clone()) {
            (Input::Asked(ask), State::Serving) => self.build(now, ask),
            (Input::Asked(ask @ Ask::Person { other: Other::Goes, .. }), State::Probation { .. }) => {
                let mut actions = self.go_back("another one was asked for".to_owned());
                actions.extend(self.build(now, ask));
                actions
            }
            (Input::Asked(ask), state) => {
                self.is_file_waiting |= ask == Ask::File;
                let candidate = self.serving();
                vec![Action::Refuse(match state {
                    State::Probation { .. } => {
                        format!("generation {candidate} is on probation; `--now` rolls it back and tries this one")
                    }
                    _ => "another reload of this stage is under way".to_owned(),
                })]
            }
            (Input::Built(built), State::Building(watched)) => {
                self.state = State::Serving;
                let accepted = match built {
                    Ok(candidate) => self.accept(now, candidate, watched),
                    Err(why) => {
                        self.remember(now, None, Some(why.clone()));
                        Err(why)
                    }
                };
                match accepted {
                    Ok(number) => vec![Action::Swap(number)],
                    Err(why) => {
                        let mut actions = vec![Action::Refuse(why)];
                        actions.extend(self.look_again(now));
                        actions
                    }
                }
            }
            (Input::Swapped(swapped), State::Swapping(candidate, watched)) => {
                self.swapped(now, swapped, candidate, watched)
            }
            (Input::Restarted(why), State::Swapping(candidate, watched)) => {
                self.swapped(now, Err(format!("the pipeline was restarted meanwhile: {why}")), candidate, watched)
            }
            (Input::Looked { candidate, before }, State::Probation { since }) => {
                let is_over = now.saturating_sub(since) >= self.terms.probation || candidate.records >= RECORDS;
                let mut actions = Vec::new();
                if let Some(why) = self.condemn(&candidate, &before, is_over) {
                    self.rolled_back.push_back(now);
                    actions = self.go_back(why);
                } else if is_over {
                    self.counts.active += 1;
                    self.state = State::Serving;
                    self.note(self.serving(), Fate::Active, None);
                }
                if self.state == State::Serving {
                    actions.extend(self.look_again(now));
                }
                actions
            }
            (Input::Restarted(why), State::Probation { .. }) => {
                self.rolled_back.push_back(now);
                self.go_back(format!("the pipeline was restarted: {why}"))
            }
            (Input::Opened(why), State::Probation { .. }) => {
                self.rolled_back.push_back(now);
                let mut actions = self.go_back(format!("the breaker opened: {why}"));
                actions.extend(self.look_again(now));
                actions
            }
            (Input::Back, State::Serving | State::Probation { .. }) => {
                let mut actions = self.go_back("somebody asked for the one before".to_owned());
                actions.push(match actions.first() {
                    Some(_) => Action::Done(self.serving()),
                    None => Action::Refuse("there is no generation to go back to".to_owned()),
                });
                actions
            }
            (Input::Back, _) => vec![Action::Refuse("a reload of this stage is under way".to_owned())],
            // What was built, exchanged or looked at for nobody concerns nobody.
            (
                Input::Built(_) | Input::Swapped(_) | Input::Looked { .. } | Input::Opened(_) | Input::Restarted(_),
                _,
            ) => Vec::new(),
        }
    }

    fn build(&mut self, now: Duration, ask: Ask) -> Vec<Action> {
        let (most, within) = self.terms.rollbacks;
        self.rolled_back.retain(|then| now.saturating_sub(*then) < within);
        let count = self.rolled_back.len();
        let watched = match ask {
            Ask::File if count >= most => {
                let why = format!(
                    "{count} reloads were rolled back within {}; `tidegate plugin reload` tries this one",
                    Span(within)
                );
                self.remember(now, None, Some(why.clone()));
                return vec![Action::Refuse(why)];
            }
            Ask::File => Watched::Yes,
            Ask::Person { watched, .. } => watched,
        };
        self.state = State::Building(watched);
        vec![Action::Build]
    }

    /// Builds what changed while something else was under way.
    fn look_again(&mut self, now: Duration) -> Vec<Action> {
        if std::mem::take(&mut self.is_file_waiting) { self.build(now, Ask::File) } else { Vec::new() }
    }

    /// The number that a candidate gets.
    fn accept(&mut self, now: Duration, candidate: Candidate, watched: Watched) -> Result<u64, String> {
        let (number, serving) = &self.serving;
        if candidate.digest == serving.digest {
            return Err(format!("generation {number} has the same bytes and the same configuration"));
        }
        if candidate.state_version != serving.state_version && watched == Watched::Yes {
            let (from, to) = (serving.state_version, candidate.state_version);
            let why = format!(
                "it writes states of version {to}, and there are such of version {from}: once they are rewritten there is no way back; `--no-rollback` does it all the same"
            );
            self.remember(now, Some(candidate.digest), Some(why.clone()));
            return Err(why);
        }
        self.highest += 1;
        self.push(Past {
            generation: Some(self.highest),
            digest: Some(candidate.digest.clone()),
            at: now,
            fate: Fate::Coming,
            why: None,
        });
        self.state = State::Swapping(candidate, watched);
        Ok(self.highest)
    }

    fn swapped(
        &mut self,
        now: Duration,
        swapped: Result<(), String>,
        candidate: Candidate,
        watched: Watched,
    ) -> Vec<Action> {
        let number = self.highest;
        self.state = State::Serving;
        if let Err(why) = swapped {
            self.counts.refused += 1;
            self.note(number, Fate::Refused, Some(why.clone()));
            let mut actions = vec![Action::Refuse(why)];
            actions.extend(self.look_again(now));
            return actions;
        }
        let before = std::mem::replace(&mut self.serving, (number, candidate));
        self.note(before.0, Fate::Replaced, None);
        self.before = Some(before).filter(|(_, before)| before.state_version == self.serving.1.state_version);
        let mut actions = vec![Action::Done(number)];
        match watched {
            Watched::Yes => {
                self.note(number, Fate::Probation, None);
                self.state = State::Probation { since: now };
            }
            Watched::No => {
                self.counts.active += 1;
                self.note(number, Fate::Active, None);
                actions.extend(self.look_again(now));
            }
        }
        actions
    }

    /// Lets the generation before serve again, if there is a way back.
    fn go_back(&mut self, why: String) -> Vec<Action> {
        let Some(before) = self.before.take() else { return Vec::new() };
        self.counts.rolled_back += 1;
        self.note(self.serving.0, Fate::RolledBack, Some(why));
        self.note(before.0, Fate::Active, None);
        (self.serving, self.state) = (before, State::Serving);
        vec![Action::Return(self.serving.0)]
    }

    /// Why a candidate has to go, if it has.
    fn condemn(&self, candidate: &Figures, before: &Figures, is_over: bool) -> Option<String> {
        if candidate.records == 0 || (candidate.records < SAMPLES && !is_over) {
            return None;
        }
        let share = |figures: &Figures| figures.refused as f64 / figures.records.max(1) as f64;
        let fuel = |figures: &Figures| figures.fuel as f64 / figures.records.max(1) as f64;
        let (is, was) = (share(candidate), share(before));
        if is > self.terms.rollback_at && is > TIMES * was {
            let (is, was) = (is * 100.0, was * 100.0);
            return Some(format!("it refuses {is:.1} % of its records, the one before {was:.1} %"));
        }
        let (is, was) = (fuel(candidate), fuel(before));
        (was > 0.0 && is > TIMES * was)
            .then(|| format!("it takes {is:.0} units of fuel for a record, the one before {was:.0}"))
    }

    /// Remembers a candidate that got no number.
    fn remember(&mut self, at: Duration, digest: Option<String>, why: Option<String>) {
        self.counts.refused += 1;
        self.push(Past { generation: None, digest, at, fate: Fate::Refused, why });
    }

    fn push(&mut self, past: Past) {
        self.history.push_back(past);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    fn note(&mut self, generation: u64, fate: Fate, why: Option<String>) {
        if let Some(past) = self.history.iter_mut().find(|past| past.generation == Some(generation)) {
            (past.fate, past.why) = (fate, why);
        }
    }
}

#[cfg(test)]
mod tests;
