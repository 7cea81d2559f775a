//! Reloads of the stages of whole pipelines, under load.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::oneshot;

use super::{parts::plugin, *};
use crate::{
    batch::{Batch, Column, ColumnBuilder},
    pipeline::{
        generations::{Ask, Fate, Other, Terms, Watched},
        reload::{Build, Order, Reloading, What},
    },
    plugin::{
        Accumulated, Effects, Fault, FaultKind, Finished, Groups, Instance, Mapped, Occasion, Produced, Selection,
        Usage,
    },
    stage::{fake::Fake, worker::Maker},
};

const ASK: Ask = Ask::Person { other: Other::Stays, watched: Watched::Yes };
const AT_ONCE: Ask = Ask::Person { other: Other::Goes, watched: Watched::Yes };
const FOR_GOOD: Ask = Ask::Person { other: Other::Stays, watched: Watched::No };

/// The fake with a generation of its own: as a map it stamps what it puts out with its mark; as an aggregate it puts
/// the version in front of its states, and knows no others.
#[derive(Clone, Default)]
struct Marked {
    fake: Fake,
    mark: u64,
    version: u8,
    /// It faults whenever it is called.
    traps: bool,
    /// It cannot rewrite states.
    is_rigid: bool,
    /// Fuel for a record.
    fuel: u64,
    used: u64,
}

impl Maker for Marked {
    fn make(&self, _: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>> {
        Ok(Box::new(self.clone()))
    }
}

fn trap() -> Box<Fault> {
    Box::new(Fault {
        kind: FaultKind::Trap,
        message: "told to".to_owned(),
        at: None,
        place: None,
        backtrace: Vec::new(),
        stderr: String::new(),
        fuel: 0,
    })
}

impl Marked {
    fn bare(&self, groups: &Groups) -> Groups {
        let bare = groups.states.iter().map(|state| {
            assert!(state.first().is_none_or(|version| *version == self.version), "a state of another version");
            state.get(1..).unwrap_or_default()
        });
        Groups { states: bare.collect(), ..groups.clone() }
    }
}

impl Instance for Marked {
    fn filter(&mut self, now: i64, input: &Batch) -> Result<Selection, Box<Fault>> {
        self.fake.filter(now, input)
    }

    fn map(&mut self, _: i64, input: &Batch) -> Result<Mapped, Box<Fault>> {
        if self.traps {
            return Err(trap());
        }
        self.used += self.fuel * input.len() as u64;
        let mut values = ColumnBuilder::default();
        for value in input.values().iter() {
            values.push(format!("{}#{}", std::str::from_utf8(value).unwrap(), self.mark).as_bytes());
        }
        let produced = Produced { len: input.len(), values: Some(values.finish()), ..Produced::default() };
        Ok(Mapped { produced, ..Mapped::default() })
    }

    fn accumulate(&mut self, now: i64, all: &Groups, of: &[u32], input: &Batch) -> Result<Accumulated, Box<Fault>> {
        let accumulated = self.fake.accumulate(now, &self.bare(all), of, input)?;
        let dressed = |state: &[u8]| match state {
            [] => Vec::new(),
            state => [&[self.version], state].concat(),
        };
        Ok(Accumulated { states: accumulated.states.iter().map(dressed).collect(), ..accumulated })
    }

    fn merge(&mut self, _: i64, _: &Column, _: &[u32], _: &[u32]) -> Result<Column, Box<Fault>> {
        Err(trap())
    }

    fn finish(&mut self, now: i64, groups: &Groups, why: Occasion) -> Result<Finished, Box<Fault>> {
        self.fake.finish(now, &self.bare(groups), why)
    }

    fn migrate(&mut self, from: u32, to: u32, states: &Column) -> Result<Column, Box<Fault>> {
        assert_eq!(to, u32::from(self.version));
        if self.is_rigid {
            return Err(trap());
        }
        let rewritten = states.iter().map(|state| {
            assert_eq!(u32::from(state[0]), from);
            [&[self.version], &state[1..]].concat()
        });
        Ok(rewritten.collect())
    }

    fn take_effects(&mut self) -> Effects {
        Effects::default()
    }

    fn usage(&self) -> Usage {
        Usage { fuel: self.used, ..Usage::default() }
    }
}

/// What is built next, in order.
struct Script(Mutex<VecDeque<Result<PluginPart, String>>>);

impl Build for Script {
    fn build(&self, _: usize, _: Option<&std::path::Path>) -> Result<PluginPart, String> {
        self.0.lock().unwrap().pop_front().expect("somebody builds once more than was foreseen")
    }
}

fn marked(mark: u64, change: impl FnOnce(&mut Marked)) -> PluginPart {
    let mut made = Marked { mark, version: 1, fuel: 1, ..Marked::default() };
    change(&mut made);
    let version = u32::from(made.version);
    PluginPart { state_version: version, ..plugin(&format!("digest {mark}"), made) }
}

/// Parts whose first stage is a marked one, and builds what `script` says.
fn scripted(plan: &Plan, script: impl IntoIterator<Item = Result<PluginPart, String>>) -> (Parts, Collected) {
    scripted_by(plan, Terms::default(), script)
}

fn scripted_by(
    plan: &Plan,
    terms: Terms,
    script: impl IntoIterator<Item = Result<PluginPart, String>>,
) -> (Parts, Collected) {
    let (mut parts, collected) = plan.parts();
    parts.plugins[0] = marked(1, |_| {});
    let builder = Arc::new(Script(Mutex::new(script.into_iter().collect())));
    parts.reloading = Some(Reloading {
        builder,
        terms: vec![terms; parts.graph.stages.len()],
        files: Vec::new(),
        changed: Vec::new(),
    });
    (parts, collected)
}

async fn tell(running: &Running, what: What) -> Result<u64, String> {
    let (answer, answered) = oneshot::channel();
    running.commands.send(Command::Reload(Order { stage: 0, what, answer })).await.unwrap();
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer").expect("a pipeline that runs")
}

async fn reload(running: &Running, ask: Ask) -> Result<u64, String> {
    tell(running, What::Reload(ask, None)).await
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn drained(running: Running) -> Ended {
    running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
    let ended = end(running).await;
    assert_eq!((&ended.ending, ledger::audit(ended.board.graph(), &ended.committed)), (&Ending::Drained, vec![]));
    ended
}

/// The number of a record and the mark of who processed it.
fn read(value: &str) -> (u64, u64) {
    let (number, mark) = value.split_once('#').unwrap();
    (number.parse().unwrap(), mark.parse().unwrap())
}

/// T13, rows 54 and 55, invariant 8: every record is processed by exactly one generation, whatever the candidates are.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_and_double_nothing() {
    for workers in [1, 3] {
        let values = numbers(30_000);
        let plan = Plan::new(&values).endless().rate("25000/s").stage("work", Kind::Map, "in", workers);
        let plan = plan.sink("out", "work").sink("bad", "work.refused");
        let script = (2..102).map(|mark| match mark % 5 {
            0 => Err("it is not valid WebAssembly".to_owned()),
            3 => Ok(marked(mark, |made| made.traps = true)),
            _ => Ok(marked(mark, |_| {})),
        });
        let (parts, collected) = scripted(&plan, script);
        let running = start(parts);
        let (mut good, mut refused) = (0, 0);
        let (meter, gate) = (running.board.stages[0].clone(), running.board.stage_gates[0].clone());
        for _ in 0..100 {
            let before = meter.read().tally.received;
            match reload(&running, AT_ONCE).await {
                Ok(_) => {
                    good += 1;
                    // Each has something to do, if only enough to open the breaker.
                    until("records flow", || {
                        let received = meter.read().tally.received;
                        received > before || received == 30_000 || gate.opened().is_some()
                    })
                    .await;
                }
                Err(why) => {
                    assert_eq!(why, "it is not valid WebAssembly");
                    refused += 1;
                }
            }
        }
        assert_eq!((good, refused), (80, 20), "every reload ends");
        let of = |sink: &str| collected.values(sink).len();
        until("everything comes out", || of("out") + of("bad") == 30_000).await;
        let ended = drained(running).await;
        let out: Vec<(u64, u64)> = collected.values("out").iter().map(|value| read(value)).collect();
        let bad: Vec<u64> = collected.values("bad").iter().map(|value| value.parse().unwrap()).collect();
        assert!(out.is_sorted_by_key(|(number, _)| *number) && bad.is_sorted(), "order is kept");
        let all: BTreeSet<u64> = out.iter().map(|(number, _)| *number).chain(bad).collect();
        assert_eq!(all.len(), 30_000, "lost 0, doubled 0");
        assert!(out.iter().all(|(_, mark)| !matches!(mark % 5, 0 | 3)), "who was refused or traps puts nothing out");
        let generations = ended.board.generations(0);
        let served: u64 = generations.iter().map(|one| one.figures.records).sum();
        assert!(served <= 30_000 && generations.len() == 100);
        let serving = BTreeSet::from_iter(out.iter().map(|(_, mark)| mark));
        assert!(serving.len() > 3, "records came to several: {serving:?}");
        assert_eq!(
            ended.committed.stages[0].standing.generation,
            ended.board.generations(0).last().unwrap().generation.unwrap()
        );
    }
}

/// Row 56: whether its faults are letters or stop the pipeline, a candidate that faults is rolled back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_faults_is_rolled_back_and_the_pipeline_goes_on() {
    for is_read in [true, false] {
        let values = numbers(6000);
        let plan = Plan::new(&values).endless().rate("8000/s").truncating().stage("work", Kind::Map, "in", 2);
        let plan = plan.sink("out", "work");
        let plan = if is_read { plan.sink("bad", "work.refused") } else { plan };
        let (parts, collected) = scripted(&plan, [Ok(marked(2, |made| made.traps = true))]);
        let running = start(parts);
        until("records flow", || running.board.stages[0].read().tally.received > 100).await;
        // Where its first fault stops the pipeline, that may be before all workers have changed over.
        let reloaded = reload(&running, ASK).await;
        let is_early = reloaded.as_ref().is_err_and(|why| !is_read && why.contains("restarted meanwhile"));
        assert!(reloaded == Ok(2) || is_early, "{reloaded:?}");
        let of = |sink: &str| collected.values(sink).len();
        until("everything comes out", || of("out") + of("bad") == 6000).await;
        let ended = drained(running).await;
        let generations = ended.board.generations(0);
        assert_eq!(
            (generations[0].fate, generations[1].fate),
            (Fate::Active, if is_early { Fate::Refused } else { Fate::RolledBack })
        );
        let numbers: BTreeSet<String> = collected
            .values("out")
            .iter()
            .map(|value| value.strip_suffix("#1").expect("the first one made it").to_owned())
            .chain(collected.values("bad"))
            .collect();
        assert_eq!(numbers.len(), 6000);
        assert_eq!(
            ended.board.status().restarts,
            u64::from(!is_read),
            "where faults stop the pipeline it begins again"
        );
        assert!(is_read || of("bad") == 0);
        assert_eq!(ended.committed.stages[0].standing.digest, "digest 1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_burns_too_much_fuel_is_rolled_back() {
    let plan = Plan::new(&numbers(4000)).endless().rate("8000/s").stage("work", Kind::Map, "in", 1).sink("out", "work");
    let (parts, _) = scripted(&plan, [Ok(marked(2, |made| made.fuel = 4))]);
    let running = start(parts);
    until("records flow", || running.board.stages[0].read().tally.received > 100).await;
    assert_eq!(reload(&running, ASK).await, Ok(2));
    until("it goes", || running.board.generations(0)[1].fate == Fate::RolledBack).await;
    let why = running.board.generations(0)[1].why.clone().unwrap();
    assert_eq!(why, "it takes 4 units of fuel for a record, the one before 1");
    drained(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_proves_itself_stays_and_a_person_may_still_go_back() {
    let plan = Plan::new(&numbers(4000)).endless().rate("8000/s").stage("work", Kind::Map, "in", 1).sink("out", "work");
    let terms = Terms { probation: Duration::from_millis(150), ..Terms::default() };
    let (parts, collected) = scripted_by(&plan, terms, [Ok(marked(2, |_| {}))]);
    let running = start(parts);
    assert_eq!(reload(&running, ASK).await, Ok(2));
    assert!(reload(&running, ASK).await.unwrap_err().contains("on probation"));
    until("it proves itself", || running.board.generations(0)[1].fate == Fate::Active).await;
    assert_eq!(running.board.plugin(0).unwrap().digest, "digest 2");
    assert_eq!(tell(&running, What::Back).await, Ok(1));
    assert!(tell(&running, What::Back).await.unwrap_err().contains("no generation to go back to"));
    until("everything comes out", || collected.values("out").len() == 4000).await;
    let ended = drained(running).await;
    assert_eq!(ended.committed.stages[0].standing.generation, 1);
    let marks: Vec<u64> = collected.values("out").iter().map(|value| read(value).1).collect();
    let changes: Vec<u64> = marks.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[1]).collect();
    assert!(changes.ends_with(&[2, 1]) || changes == [1], "{changes:?}");
}

/// Row 59, and what happens where states can be rewritten: they come to what they would without a reload, also where the
/// host panics before or after it.
#[tokio::test(flavor = "multi_thread")]
async fn states_of_another_version_are_rewritten_or_the_reload_is_refused() {
    let mut values = numbers(3000);
    let plan = |values: &[String]| {
        let plan = Plan::new(values).endless().rate("6000/s").truncating();
        plan.stage("sums", Kind::Aggregate, "in", 2).windows(500).sink("out", "sums")
    };
    let (parts, clean) = plan(&values).parts();
    let running = start(parts);
    until("windows close", || clean.values("out").len() == 50).await;
    drained(running).await;
    values[1500] = "panic".to_owned();
    for (is_rigid, panics) in [(false, false), (false, true), (true, false)] {
        let values = if panics { values.clone() } else { numbers(3000) };
        let two = marked(2, |made| (made.version, made.is_rigid, made.fake.panics) = (2, is_rigid, arm(panics)));
        let (mut parts, collected) = scripted(&plan(&values), [Ok(two.clone()), Ok(two)]);
        parts.plugins[0] = marked(1, |made| made.fake.panics = arm(panics));
        let running = start(parts);
        until("records flow", || running.board.stages[0].read().tally.received > 700).await;
        assert!(reload(&running, ASK).await.unwrap_err().contains("`--no-rollback`"));
        let reloaded = reload(&running, FOR_GOOD).await;
        assert_eq!(reloaded.is_err(), is_rigid, "{reloaded:?}");
        until("windows close", || collected.values("out").len() >= 50).await;
        let ended = drained(running).await;
        let (mut is, mut was) = (collected.values("out"), clean.values("out"));
        is.truncate(50);
        was.truncate(50);
        if panics {
            // The value that made the host panic counts as 0.
            assert_eq!(ended.board.status().restarts, 1);
            assert_eq!(is.iter().zip(&was).filter(|(is, was)| is != was).count(), 1, "{is:?}");
        } else {
            assert_eq!(is, was);
        }
        assert_eq!(ended.committed.stages[0].standing.state_version, if is_rigid { 1 } else { 2 });
        let fates: BTreeMap<Option<u64>, Fate> =
            ended.board.generations(0).into_iter().map(|one| (one.generation, one.fate)).collect();
        assert_eq!(fates[&Some(2)], if is_rigid { Fate::Refused } else { Fate::Active });
    }
}

fn arm(panics: bool) -> Arc<std::sync::atomic::AtomicBool> {
    Arc::new(panics.into())
}
