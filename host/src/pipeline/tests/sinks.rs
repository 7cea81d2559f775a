//! How a sink is driven that sends later, answers later, or does not come back.

use futures::future::{BoxFuture, FutureExt};
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    task::JoinHandle,
    time::Instant,
};

use super::{
    super::{
        board::Board,
        committed::SinkPoint,
        sink_task::{SinkFailure, SinkTask},
    },
    *,
};
use crate::{
    batch::{Batch, Limit},
    config::Retry,
    epoch::Epoch,
    sink::{Refused, Sink, SinkError},
    stage::{
        Item,
        lane::{Handle, Sender, lanes},
        meter::Meter,
        outlet::{Edge, Outlet, Port},
    },
};

/// A sink that settles records at a flush, and refuses the first of them then.
struct Late {
    unsettled: u64,
    due: Option<Instant>,
    hangs: bool,
    lets_go: bool,
    calls: UnboundedSender<usize>,
}

impl Sink for Late {
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.unsettled += batch.len() as u64;
        self.due = (!batch.is_empty()).then(|| Instant::now() + Duration::from_millis(10));
        self.calls.send(batch.len()).unwrap();
        let hangs = self.hangs;
        async move { if hangs { std::future::pending().await } else { Ok(()) } }.boxed()
    }

    fn flush<'a>(&'a mut self, refused: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.unsettled = 0;
        refused.push(Refused { at: -1, reason: "late".to_owned() });
        async { Ok(()) }.boxed()
    }

    fn unsettled(&self) -> u64 {
        self.unsettled
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn lets_go(&self) -> bool {
        self.lets_go
    }
}

/// A sink at work, and everything that reaches it and comes from it.
struct Driven {
    lane: Sender,
    inbox: Handle,
    calls: mpsc::UnboundedReceiver<usize>,
    reports: mpsc::Receiver<(usize, Epoch, SinkPoint)>,
    meter: Arc<Meter>,
    task: JoinHandle<Result<(), SinkFailure>>,
}

impl Driven {
    /// How many records the next call brings to the sink.
    async fn call(&mut self) -> Option<usize> {
        tokio::time::timeout(PATIENCE, self.calls.recv()).await.expect("the sink is called in time")
    }
}

fn drive(hangs: bool, lets_go: bool) -> Driven {
    drive_into(Outlet::new(Vec::new()), hangs, lets_go)
}

/// The same, with somebody who reads what it refuses.
fn drive_into(outlet: Outlet, hangs: bool, lets_go: bool) -> Driven {
    let (inbox, mut lanes) = lanes(&[Limit::default()]);
    let (sender, calls) = mpsc::unbounded_channel();
    let (reporting, reports) = mpsc::channel(1);
    let (meter, handle) = (Arc::<Meter>::default(), inbox.handle());
    let graph = Plan::new(&numbers(1)).sink("out", "in").parts().0.graph;
    let mut task = SinkTask {
        number: 0,
        name: "out".to_owned(),
        sink: Box::new(Late { unsettled: 0, due: None, hangs, lets_go, calls: sender }),
        retry: Retry::default(),
        gate: Arc::default(),
        then: crate::config::Then::Pause,
        meter: meter.clone(),
        board: Arc::new(Board::new(graph, Default::default(), None)),
        trouble: None,
    };
    let point = SinkPoint { received: vec![0], ..SinkPoint::default() };
    let (keep, committed) = tokio::sync::watch::channel(Epoch(0));
    let task = tokio::spawn(async move {
        let _keep = keep;
        task.run(inbox, outlet, point, reporting, mpsc::channel(1).0, committed).await
    });
    Driven { lane: lanes.remove(0), inbox: handle, calls, reports, meter, task }
}

fn records(n: usize) -> Item {
    Item::Batch(Batch::of_values(numbers(n).iter().collect()))
}

#[tokio::test]
async fn a_sink_that_is_due_is_called_though_nothing_follows() {
    let mut driven = drive(false, true);
    driven.lane.send(records(3)).await.unwrap();
    // The second call comes without a barrier and without a batch, and is the last one.
    assert_eq!((driven.call().await, driven.call().await), (Some(3), Some(0)));
    drop(driven.lane);
    driven.task.await.unwrap().unwrap();
    assert!(driven.calls.is_empty());
}

#[tokio::test]
async fn a_record_counts_as_delivered_once_it_can_no_longer_be_refused() {
    let mut driven = drive(false, true);
    driven.lane.send(records(3)).await.unwrap();
    assert_eq!((driven.call().await, driven.call().await), (Some(3), Some(0)));
    let counts = |tally: Tally| (tally.received, tally.passed, tally.refused, tally.imbalance());
    assert_eq!(counts(driven.meter.read().tally), (3, 0, 0, 3));
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    let (_, _, point) = driven.reports.recv().await.unwrap();
    assert_eq!(counts(point.tally), (3, 2, 1, 0));
    assert_eq!(driven.meter.read().tally, point.tally);
}

#[tokio::test]
async fn only_a_sink_that_lets_go_may_be_given_up_and_used_again() {
    let mut both = [drive(true, true), drive(true, false)];
    for driven in &mut both {
        driven.lane.send(records(1)).await.unwrap();
        driven.call().await.unwrap();
        driven.inbox.kill();
    }
    let [lets_go, does_not] = both;
    let (first, second) = tokio::join!(lets_go.task, does_not.task);
    assert!(matches!(first.unwrap(), Err(SinkFailure::Gone(_))));
    assert!(matches!(second.unwrap(), Err(SinkFailure::Interrupted)));
}

#[tokio::test]
async fn a_late_refusal_finds_its_record_and_one_of_no_record_ends_the_pipeline() {
    let read = || {
        let (inbox, lanes) = lanes::<Item>(&[Limit::default()]);
        let edges = lanes.into_iter().map(|lane| Edge::new(Port::Refused, lane, Arc::default()));
        (inbox, Outlet::new(edges.collect()))
    };
    let (letters, outlet) = read();
    let mut driven = drive_into(outlet, false, true);
    driven.lane.send(records(3)).await.unwrap();
    // The batch that it was given last is an empty one, before which the refused record came.
    assert_eq!((driven.call().await, driven.call().await), (Some(3), Some(0)));
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    driven.reports.recv().await.unwrap();
    let letter = || letters.wait(|lanes| lanes[0].pop());
    let Item::Batch(refused) = letter().await.unwrap() else { panic!("the refused record comes before the barrier") };
    assert_eq!(refused.values().iter().collect::<Vec<_>>(), [b"2"]);
    assert!(matches!(letter().await.unwrap(), Item::Barrier(Epoch(1))));

    // The sink refuses one record at each flush, and now has been given none.
    let (_letters, outlet) = read();
    let driven = drive_into(outlet, false, true);
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, driven.task).await.unwrap().unwrap();
    assert!(matches!(&ended, Err(SinkFailure::Never { error, .. }) if error.to_string().contains("not in hand")));
}
