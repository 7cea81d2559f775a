//! A conductor that is told the time: what its rate holds back, and that nothing overtakes it.

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    batch::{Batch, Limit},
    stage::{
        fake::spec,
        lane::lanes,
        outlet::Edge,
        worker::{ReadPorts, SavedGroups},
    },
    time::BEGIN,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A filter with a lane before and one behind it.
struct Rig {
    conductor: Conductor,
    course: Course,
    above: Option<Sender>,
    below: Inbox,
    handed: Arc<Mutex<Vec<Epoch>>>,
}

impl Rig {
    /// One record a minute, which is what comes at once too: what passes in the time of a test is nothing beside it.
    fn new(mut spec: Spec) -> Self {
        spec.is_read = ReadPorts::default();
        let spec = Arc::new(spec);
        let (inbox, mut above) = lanes(&[Limit::default()]);
        let (below, mut sender) = lanes(&[Limit::default()]);
        let worker = Worker::new(spec.clone(), 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
        let edge = Edge::new(outlet::Port::Main, sender.remove(0), Arc::default());
        let handed = Arc::new(Mutex::new(Vec::new()));
        let to = handed.clone();
        let conductor = Conductor {
            standing: Standing::of(&spec),
            spec,
            inbox,
            intake: Intake::new(1, BEGIN),
            crew: Crew::Alone(Box::new(worker)),
            outlet: Outlet::new(vec![edge]),
            report: Box::new(move |handed| {
                to.lock().unwrap().push(handed.epoch);
                Ok(())
            }),
            tally: Tally::default(),
            received: vec![0],
            round: 0,
            is_migrating: false,
            pace: Some(Pace::new("60/h".parse().unwrap())),
            began: tokio::time::Instant::now(),
        };
        Self { conductor, course: Course::default(), above: above.pop(), below, handed }
    }

    fn send(&self, item: Item) {
        self.above.as_ref().unwrap().send_blocking(item).unwrap();
    }

    /// Does all that can be done at once.
    fn go_on(&mut self) {
        while !self.course.is_over()
            && self
                .conductor
                .step(&mut self.course, |inbox, take| inbox.wait_blocking(|lanes| Some(take(lanes))))
                .unwrap()
        {}
    }

    fn pass(&mut self, time: Duration) {
        self.conductor.began -= time;
        self.go_on();
    }

    /// What has come out below.
    fn came(&self) -> String {
        let mut all = Vec::new();
        while let Some(item) = self.below.wait_blocking(|lanes| Some(lanes[0].pop())).unwrap() {
            match item {
                Item::Batch(batch) => {
                    all.extend(batch.values().iter().map(|value| String::from_utf8_lossy(value).into_owned()));
                }
                Item::Barrier(Epoch(epoch)) => all.push(format!("|{epoch}")),
                other => panic!("{other:?}"),
            }
        }
        all.join(" ")
    }
}

fn batch(values: &[&str]) -> Item {
    Item::Batch(Batch::of_values(values.iter().copied().collect()))
}

#[test]
fn a_stage_takes_in_what_its_rate_allows_and_a_barrier_waits_behind_what_it_holds() {
    let mut rig = Rig::new(spec(Kind::Filter, None));
    for item in [batch(&["0", "2", "4", "6"]), Item::Barrier(Epoch(1)), batch(&["8"]), Item::Barrier(Epoch(2))] {
        rig.send(item);
    }
    rig.above = None;
    rig.go_on();
    // The first, and one that comes at once.
    assert_eq!(rig.came(), "0 2");
    for expected in ["4", "6 |1", "8 |2"] {
        let meter = rig.conductor.spec.meter.clone();
        assert!(meter.is_paced(), "it says that it holds something back");
        let due = rig.conductor.due().expect("it looks again by itself");
        assert!(due <= Instant::now() + MINUTE && due > Instant::now() + MINUTE / 2);
        rig.pass(MINUTE / 2);
        assert_eq!(rig.came(), "", "half a minute is not enough");
        rig.pass(MINUTE / 2);
        assert_eq!(rig.came(), expected);
    }
    assert_eq!(*rig.handed.lock().unwrap(), [Epoch(1), Epoch(2)]);
    assert!(rig.course.is_over());
    assert_eq!((rig.conductor.tally.received, &*rig.conductor.received), (5, &[5][..]));
}

#[test]
fn a_stage_that_had_nothing_to_do_has_not_saved_up_for_more() {
    let mut rig = Rig::new(spec(Kind::Filter, None));
    rig.pass(100 * MINUTE);
    rig.send(batch(&["2", "4", "6", "8", "10"]));
    rig.go_on();
    assert_eq!(rig.came(), "2 4");
    rig.pass(10 * MINUTE);
    assert_eq!(rig.came(), "6 8", "no more at once, however long ago the last one was");
}

#[test]
fn a_stage_that_is_taken_down_does_not_wait_for_its_rate() {
    let rig = Rig::new(spec(Kind::Filter, None));
    rig.send(batch(&["2", "4", "6"]));
    let handle = rig.conductor.inbox.handle();
    let conductor = std::thread::spawn(move || rig.conductor.run());
    // It has taken the first one in and waits for a minute.
    while handle.fill()[0].records > 1 {
        std::thread::yield_now();
    }
    handle.kill();
    assert!(matches!(conductor.join().unwrap(), Err(Failure::Gone(_))));
}

#[test]
fn a_worker_that_has_failed_stays_until_its_conductor_has_gone() {
    // Nobody reads what it refuses, so that a fault ends it.
    let spec = Arc::new(Spec { is_read: ReadPorts::default(), ..spec(Kind::Filter, None) });
    let worker = Worker::new(spec, 1, BEGIN, &SavedGroups::new(), |_| true, None).unwrap();
    let (inbox, mut tasks) = lanes(&[Limit::default()]);
    let (answers, mut ends) = lanes(&[Limit::default()]);
    let (tasks, sender) = (tasks.remove(0), ends.remove(0));
    let thread = std::thread::spawn(move || work(worker, 0, &inbox, &sender));
    let task = |value: &str| Task { work: Work::Batch(0, Batch::of_values([value].into_iter().collect())), round: 0 };
    tasks.send_blocking(task("fault")).unwrap();
    let Item::Done(done) = answers.wait_blocking(|lanes| lanes[0].pop()).unwrap() else { panic!("no answer") };
    assert!(matches!(done.result, Err(Failure::Fault(_))));
    // Whoever sends it more before having read that does not take it for gone.
    for _ in 0..2 {
        tasks.send_blocking(task("2")).expect("it is there");
        let sent = Instant::now();
        while tasks.fill().records > 0 {
            assert!(sent.elapsed() < MINUTE, "it takes nothing any more");
            std::thread::yield_now();
        }
    }
    drop(tasks);
    thread.join().unwrap().unwrap();
}
