//! Graphs at random, and what they come to: a fold over the inputs, one record after another.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom as _};

use super::super::{parts::Plan, *};
use crate::config::graph::Port;

/// Length of windows, in milliseconds of event time; records are one apart.
const WINDOW: i64 = 10;

/// An output that somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Output {
    Source(usize),
    Stage(usize, Port),
}

/// A graph of at most eight stages and sinks over one to three sources.
#[derive(Debug)]
pub(super) struct Shape {
    values: Vec<Vec<u64>>,
    stages: Vec<(Kind, Vec<Output>, usize)>,
    sinks: Vec<Vec<Output>>,
    batch: usize,
    /// Whether sources wait until they can fill a batch.
    lingers: bool,
    /// Records in a lane.
    pub(super) capacity: usize,
    pub(super) can_seek: bool,
    pub(super) truncates: bool,
}

#[derive(Clone, Copy)]
struct Record {
    value: u64,
    key: usize,
    time: i64,
}

/// Sum and count of each group, by the start of its window and its key.
pub(super) type Groups = BTreeMap<(i64, usize), (u64, u64)>;

/// What a prefix of the inputs comes to.
pub(super) struct Outcome {
    /// Groups of the stages that aggregate, by stage.
    pub(super) groups: BTreeMap<usize, Groups>,
    /// Records that reach each sink from stages that do not aggregate and from sources.
    pub(super) records: Vec<Vec<String>>,
    /// Stages that aggregate and are read by each sink.
    pub(super) aggregates: Vec<Vec<usize>>,
}

fn name(output: &Output) -> String {
    match output {
        Output::Source(0) => "in".to_owned(),
        Output::Source(at) => format!("in{at}"),
        Output::Stage(at, Port::Rest) => format!("s{at}.rest"),
        Output::Stage(at, Port::Named(_)) => format!("s{at}.side"),
        Output::Stage(at, _) => format!("s{at}"),
    }
}

/// A group as the fake puts it out when its window closes.
pub(super) fn shown((start, key): (i64, usize), (sum, count): (u64, u64)) -> String {
    format!("{key}@{start}={sum}/{count} Closed")
}

impl Shape {
    pub(super) fn new(random: &mut SmallRng) -> Self {
        let sources = random.random_range(1..=3);
        let values = (0..sources).map(|at| (0..random.random_range(8..=24)).map(|n| n * 3 + at).collect()).collect();
        let mut outputs: Vec<Output> = (0..sources as usize).map(Output::Source).collect();
        let (mut stages, mut folded) = (Vec::new(), Vec::new());
        for at in 0..random.random_range(1..=5) {
            let kind = *[Kind::Filter, Kind::Map, Kind::Aggregate].choose(random).unwrap();
            let inputs = random.random_range(1..=3);
            let from = outputs.choose_multiple(random, inputs).copied().collect();
            stages.push((kind, from, random.random_range(1..=3)));
            match kind {
                Kind::Filter => outputs.extend([Output::Stage(at, Port::Main), Output::Stage(at, Port::Rest)]),
                Kind::Map => outputs.extend([Output::Stage(at, Port::Main), Output::Stage(at, Port::Named(0))]),
                Kind::Aggregate => folded.push(Output::Stage(at, Port::Main)),
            }
        }
        // What a stage folds is read by the first sink, so that nothing goes unseen.
        let (others, inputs) = (random.random_range(0..=2), random.random_range(1..=3));
        let mut sinks = vec![outputs.choose_multiple(random, inputs).copied().chain(folded).collect()];
        sinks.extend((0..others).map(|_| outputs.choose_multiple(random, inputs).copied().collect()));
        Self {
            values,
            stages,
            sinks,
            batch: random.random_range(1..=6),
            lingers: random.random(),
            capacity: random.random_range(1..=4),
            can_seek: random.random_bool(0.8),
            truncates: random.random_bool(0.7),
        }
    }

    /// The same for the pipeline.
    pub(super) fn plan(&self) -> Plan {
        let texts = |values: &Vec<u64>| values.iter().map(u64::to_string).collect::<Vec<_>>();
        let list = |from: &Vec<Output>| from.iter().map(name).collect::<Vec<_>>().join(", ");
        let mut plan = Plan::new(&texts(&self.values[0]));
        for (at, values) in self.values.iter().enumerate().skip(1) {
            plan = plan.another(&format!("in{at}"), &texts(values));
        }
        for (at, (kind, from, workers)) in self.stages.iter().enumerate() {
            plan = plan.stage(&format!("s{at}"), *kind, &list(from), *workers);
        }
        for (at, from) in self.sinks.iter().enumerate() {
            plan = plan.sink(&format!("out{at}"), &list(from));
        }
        let (never, lag) = (Duration::from_secs(1 << 20), Duration::from_millis(8));
        let plan =
            plan.windows(WINDOW as u64).clocks(lag, never).linger(if self.lingers { never } else { Duration::ZERO });
        let plan = plan.batch(self.batch).capacity(self.capacity).seek(self.can_seek).buffering();
        if self.truncates { plan.truncating() } else { plan }
    }

    /// Records of each source.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.values.iter().map(Vec::len).collect()
    }

    /// What the first `upto` records of each source come to.
    pub(super) fn outcome(&self, upto: &[usize]) -> Outcome {
        let mut outputs: BTreeMap<Output, Vec<Record>> = BTreeMap::new();
        for (at, values) in self.values.iter().enumerate() {
            let records = values.iter().take(upto[at]).enumerate();
            let records = records.map(|(n, &value)| Record { value, key: n % 10, time: n as i64 });
            outputs.insert(Output::Source(at), records.collect());
        }
        let mut groups = BTreeMap::new();
        for (at, (kind, from, _)) in self.stages.iter().enumerate() {
            let input: Vec<Record> = from.iter().flat_map(|output| outputs[output].clone()).collect();
            let put = |value| move |record: &Record| Record { value: record.value + value, ..*record };
            match kind {
                Kind::Filter => {
                    let (evens, odds) = input.into_iter().partition(|record| record.value % 2 == 0);
                    outputs.insert(Output::Stage(at, Port::Main), evens);
                    outputs.insert(Output::Stage(at, Port::Rest), odds);
                }
                Kind::Map => {
                    let kept: Vec<Record> = input.into_iter().filter(|record| record.value % 10 != 0).collect();
                    outputs.insert(Output::Stage(at, Port::Main), kept.clone());
                    outputs.insert(Output::Stage(at, Port::Named(0)), kept.iter().map(put(1000)).collect());
                }
                Kind::Aggregate => {
                    let mut folded = Groups::new();
                    for Record { value, key, time } in input {
                        let (sum, count) = folded.entry((time / WINDOW * WINDOW, key)).or_default();
                        (*sum, *count) = (*sum + value, *count + 1);
                    }
                    groups.insert(at, folded);
                }
            }
        }
        let records = |from: &Vec<Output>| {
            let all = from.iter().filter_map(|output| outputs.get(output)).flatten();
            all.map(|record| record.value.to_string()).collect()
        };
        let aggregates = |from: &Vec<Output>| {
            from.iter()
                .filter_map(|output| match output {
                    Output::Stage(at, _) if groups.contains_key(at) => Some(*at),
                    _ => None,
                })
                .collect()
        };
        Outcome {
            records: self.sinks.iter().map(records).collect(),
            aggregates: self.sinks.iter().map(aggregates).collect(),
            groups,
        }
    }

    /// Whether what reaches a sink has one way only, so that its order is given.
    pub(super) fn is_straight(&self, sink: usize) -> bool {
        let mut from = &self.sinks[sink];
        loop {
            match from.as_slice() {
                [Output::Source(_)] => return true,
                [Output::Stage(at, _)] if self.stages[*at].0 != Kind::Aggregate => from = &self.stages[*at].1,
                _ => return false,
            }
        }
    }

    /// When a group's window ends.
    pub(super) fn end((start, _): &(i64, usize)) -> i64 {
        start + WINDOW
    }
}
