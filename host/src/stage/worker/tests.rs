use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Then, WhenFull},
    plugin::Kind,
    stage::{
        aggregate::{Peers, Room, Rules, Windowing},
        fake::spec,
        gate::{Gate, Lever, Opened},
        tally::Tally,
    },
    time::{BEGIN, Tumbling},
};

/// What the worker of a stage made of records, by output.
#[derive(Debug, Default, PartialEq)]
struct Run {
    out: BTreeMap<Port, Vec<String>>,
    why: Vec<Option<letter::Kind>>,
    tally: Tally,
}

impl Run {
    fn take(&mut self, outcome: &Outcome) {
        for output in &outcome.outputs {
            let values = output.batch.values().iter().map(|value| String::from_utf8_lossy(value).into_owned());
            self.out.entry(output.port).or_default().extend(values);
            if output.port == Port::Refused {
                self.why.extend((0..output.batch.len()).map(|at| letter::Kind::of(&output.batch, at)));
            }
        }
        self.tally.add(&outcome.tally);
    }
}

fn rules(windowing: Windowing) -> Rules {
    Rules {
        stage: "s".to_owned(),
        windowing,
        ttl: None,
        room: Room { most: 1 << 30, when_full: WhenFull::Pause },
        groups: 3,
        has_ids: false,
        peers: Peers::None,
        state_version: 1,
    }
}

fn batch(records: &[(usize, &str)]) -> Batch {
    Batch::of_values(records.iter().map(|(_, value)| *value).collect())
        .with_keys(records.iter().map(|(at, _)| (at % 3).to_string()).collect())
        .and_then(|batch| batch.with_timestamps(records.iter().map(|(at, _)| (at * 10) as i64).collect()))
        .unwrap()
}

/// Has batches worked off that the records before each of `cuts` make, those not in `keep` left out.
fn run(spec: Spec, values: &[String], cuts: &[usize], keep: impl Fn(&str) -> bool) -> Result<Run, Failure> {
    let mut worker = Worker::new(Arc::new(spec), 1, BEGIN, &SavedGroups::new(), |_| true, None)?;
    let (mut run, mut from) = (Run::default(), 0);
    for to in cuts.iter().copied().chain([values.len()]) {
        let records: Vec<(usize, &str)> =
            (from..to).map(|at| (at, values[at].as_str())).filter(|(_, value)| keep(value)).collect();
        run.take(&worker.work(Work::Batch(0, batch(&records)))?.outcome);
        run.take(&worker.work(Work::Advance(to as i64 * 10 - 200))?.outcome);
        from = to;
    }
    run.take(&worker.work(Work::Close)?.outcome);
    Ok(run)
}

fn kinds() -> impl Strategy<Value = (Kind, Option<Windowing>)> {
    let tumbling = Tumbling::new(std::time::Duration::from_millis(100), std::time::Duration::from_millis(50));
    prop_oneof![
        Just((Kind::Filter, None)),
        Just((Kind::Map, None)),
        Just((Kind::Aggregate, Some(Windowing::None))),
        Just((Kind::Aggregate, Some(Windowing::Tumbling(tumbling)))),
        (1u64..5).prop_map(|n| (Kind::Aggregate, Some(Windowing::Count(n)))),
    ]
}

fn values() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        60 => (0u32..100).prop_map(|n| n.to_string()),
        4 => Just("refuse".to_owned()),
        2 => Just("pair".to_owned()),
        2 => Just("fault".to_owned()),
        2 => Just("silent".to_owned()),
    ];
    proptest::collection::vec(value, 0..200)
}

fn is_poison(value: &str) -> bool {
    ["fault", "silent"].contains(&value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// P4 with everything around it: whatever a stage does, exactly the records that fault are refused for it, and all
    /// else, states and windows and order and counts, is as if they had never come.
    #[test]
    fn a_poison_record_leaves_its_neighbours_alone(
        (kind, windowing) in kinds(),
        values in values(),
        mut cuts in proptest::collection::vec(0usize..200, 0..4),
    ) {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(values.len()));
        cuts.sort_unstable();
        let made = || spec(kind, windowing.map(rules));
        let mut with = run(made(), &values, &cuts, |_| true).unwrap();
        let clean = run(made(), &values, &cuts, |value| !is_poison(value)).unwrap();

        let refused: Vec<String> = with.out.remove(&Port::Refused).unwrap_or_default();
        let expected: Vec<&String> = values.iter().filter(|v| is_poison(v) || *v == "refuse").collect();
        let late = |value: &&String| !is_poison(value) && with.out.get(&Port::Late).is_some_and(|late| late.contains(value));
        prop_assert_eq!(refused.iter().collect::<Vec<_>>(), expected.into_iter().filter(|v| !late(v)).collect::<Vec<_>>());
        let why = |value: &String| Some(if is_poison(value) { letter::Kind::Trap } else { letter::Kind::Refused });
        prop_assert_eq!(with.why, refused.iter().map(why).collect::<Vec<_>>());

        let poison = refused.iter().filter(|value| is_poison(value)).count() as u64;
        let mut tally = clean.tally;
        (tally.received, tally.refused) = (tally.received + poison, tally.refused + poison);
        prop_assert_eq!((with.tally, with.tally.imbalance()), (tally, 0));
        let mut out = clean.out;
        out.remove(&Port::Refused);
        prop_assert_eq!(with.out, out);
    }
}

#[test]
fn a_record_that_faults_stops_the_pipeline_or_is_dropped_as_configured_where_nobody_reads_it() {
    let values: Vec<String> = ["2", "silent", "4"].map(str::to_owned).to_vec();
    let made = |on_error| Spec { on_error, is_read: ReadPorts::default(), ..spec(Kind::Filter, None) };
    let Err(Failure::Fault(report)) = run(made(OnError::Stop), &values, &[], |_| true) else { panic!("it stops") };
    assert_eq!((report.fault.at, report.records, report.record.unwrap().value.as_str()), (Some(1), 3, "silent"));
    let dropped = run(made(OnError::Drop), &values, &[], |_| true).unwrap();
    assert_eq!(dropped.out, BTreeMap::from([(Port::Main, vec!["2".to_owned(), "4".to_owned()])]));
    assert_eq!((dropped.tally.received, dropped.tally.passed, dropped.tally.refused), (3, 2, 1));
}

#[test]
fn a_group_that_faults_is_refused_with_the_reason_or_stops_the_pipeline() {
    let records = batch(&[(0, "2"), (1, "3")]).with_keys(["good", "bad!"].iter().collect()).unwrap();
    let work = |spec: Spec| {
        let mut worker = Worker::new(Arc::new(spec), 1, BEGIN, &SavedGroups::new(), |_| true, None)?;
        worker.work(Work::Batch(0, records.clone()))?;
        worker.work(Work::Advance(END)).map(|worked| worked.outcome)
    };
    let made = || spec(Kind::Aggregate, Some(rules(Windowing::None)));
    let outcome = work(made()).unwrap();
    let refused = outcome.outputs.iter().find(|output| output.port == Port::Refused).unwrap();
    assert_eq!(refused.batch.keys().unwrap().iter().collect::<Vec<_>>(), [b"bad!"]);
    assert_eq!(letter::Kind::of(&refused.batch, 0), Some(letter::Kind::Trap));
    let headers = refused.batch.headers().unwrap().get(0).unwrap();
    let reason = crate::batch::Headers::new(headers).find(|(name, _)| *name == b"tidegate-reason");
    assert_eq!(reason.unwrap().1, b"trap: told to");
    let stops = Spec { is_read: ReadPorts::default(), ..made() };
    let Err(Failure::Fault(report)) = work(stops) else { panic!("it stops") };
    assert_eq!(report.record.unwrap().key, "bad!");
}

#[test]
fn faults_are_counted_by_kind_and_what_was_too_much_at_once_is_halved() {
    let values: Vec<String> = ["2", "pair", "4", "pair"].map(str::to_owned).to_vec();
    let spec = Arc::new(spec(Kind::Filter, None));
    let mut worker = Worker::new(spec.clone(), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let records: Vec<(usize, &str)> = values.iter().map(String::as_str).enumerate().collect();
    for faults in [1, 1] {
        let outcome = worker.work(Work::Batch(0, batch(&records))).unwrap().outcome;
        assert_eq!((outcome.tally.passed, outcome.tally.refused), (4, 0), "a pair blames no record");
        assert_eq!(spec.meter.read_faults(), BTreeMap::from([(FaultKind::Trap, faults)]), "two halves at once since");
    }
}

/// A plugin whose every second call faults, and that names a record each time.
#[test]
fn an_instance_that_has_aged_costs_no_record_and_makes_way_for_a_fresh_one() {
    let spec = Arc::new(spec(Kind::Filter, None));
    let mut worker = Worker::new(spec.clone(), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let records: Vec<(usize, &str)> = ["second"; 4].into_iter().enumerate().collect();
    for faults in [0, 1, 1, 2] {
        let outcome = worker.work(Work::Batch(0, batch(&records))).unwrap().outcome;
        assert_eq!((outcome.tally.passed, outcome.tally.refused), (4, 0));
        assert_eq!(spec.meter.read_faults().values().sum::<u64>(), faults);
    }
}

/// A breaker that is open, and may be tried at once.
fn due() -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    gate.restore(Opened { reason: "told to".to_owned(), last: None, since: 0, probe: Some(0), nth: 1 });
    gate
}

#[test]
fn a_probe_changes_no_state_and_what_it_tried_is_called_once_for_good() {
    let spec = Spec { gate: due(), ..spec(Kind::Aggregate, Some(rules(Windowing::None))) };
    let gate = spec.gate.clone();
    let mut worker = Worker::new(Arc::new(spec), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let records: Vec<(usize, &str)> = ["1", "fault", "3", "4"].into_iter().enumerate().collect();
    let worked = worker.work(Work::Batch(0, batch(&records))).unwrap();
    assert!(worked.left.is_none() && gate.is_closed(), "one that faults does not keep the others away");
    assert_eq!((worked.outcome.tally.absorbed, worked.outcome.tally.refused), (3, 1));
    let mut run = Run::default();
    run.take(&worker.work(Work::Advance(END)).unwrap().outcome);
    assert_eq!(run.out[&Port::Main], ["0@-1=5/2 Closed", "2@-1=3/1 Closed"]);

    let spec = Spec { gate: due(), ..spec_of_filter() };
    let gate = spec.gate.clone();
    let mut worker = Worker::new(Arc::new(spec), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let worked = worker.work(Work::Batch(0, batch(&[(0, "refuse"), (1, "silent"), (2, "4")]))).unwrap();
    assert!(worked.left.is_some() && !gate.is_closed());
    assert_eq!(worked.outcome, Outcome::default(), "a probe that fails leaves no dead letter behind");
}

fn spec_of_filter() -> Spec {
    spec(Kind::Filter, None)
}

#[test]
fn a_worker_that_has_left_something_leaves_what_follows_until_the_next_round() {
    let spec = Spec { gate: Arc::new(Gate::default()), ..spec_of_filter() };
    let gate = spec.gate.clone();
    let mut worker = Worker::new(Arc::new(spec), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let records = || Work::Batch(0, batch(&[(0, "2"), (1, "4")]));
    gate.pull(Lever::Trip);
    let first = worker.work_in(0, records()).unwrap();
    // Somebody closes it before the worker has come to what follows.
    gate.pull(Lever::Reset);
    let second = worker.work_in(0, records()).unwrap();
    let barrier = worker.work_in(0, Work::Barrier(Epoch(1))).unwrap();
    assert!(first.left.is_some() && second.left.is_some() && barrier.left.is_some());
    let again = worker.work_in(1, first.left.unwrap()).unwrap();
    assert!(again.left.is_none() && again.outcome.tally.passed == 2);
}

/// What stands in is searched for culprits like any other, and says itself who refused them.
#[test]
fn what_stands_in_does_all_that_the_stage_would_do_and_is_named_by_what_it_refuses() {
    for kind in [Kind::Filter, Kind::Map] {
        let about = letter::Plugin { name: "other".to_owned(), version: "2".to_owned(), digest: "1".to_owned() };
        let standby = Spec { about: about.clone(), service: Arc::default(), ..spec(kind, None) };
        let service = standby.service.clone();
        let made = Spec { then: Then::Fallback, fallback: Some(Arc::new(standby)), ..spec(kind, None) };
        let (own, gate) = (made.service.clone(), made.gate.clone());
        let mut worker = Worker::new(Arc::new(made), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
        let values = ["2", "refuse", "3", "silent", "pair", "4", "pair", "fault", "6"];
        let records: Vec<(usize, &str)> = values.into_iter().enumerate().collect();
        let mut clean = Run::default();
        clean.take(&worker.work(Work::Batch(0, batch(&records))).unwrap().outcome);
        gate.pull(Lever::Trip);
        let (mut run, worked) = (Run::default(), worker.work(Work::Batch(0, batch(&records))).unwrap());
        run.take(&worked.outcome);
        assert!(worked.left.is_none());
        assert_eq!((run.tally.stood_in, run.tally.refused, run.tally.imbalance()), (9, 3, 0));
        assert_eq!((run.out, run.why), (clean.out, clean.why));
        let refused = worked.outcome.outputs.iter().find(|output| output.port == Port::Refused).unwrap();
        let by = refused.batch.named("by").and_then(|by| by.get(0)).unwrap();
        assert_eq!(serde_json::from_slice::<letter::Plugin>(by).unwrap(), about);
        let read = |service: &crate::stage::generation::Service| (service.read().records, service.read().refused);
        assert_eq!((read(&own), read(&service)), ((9, 3), (9, 3)), "each is counted for what it did");
    }
}
