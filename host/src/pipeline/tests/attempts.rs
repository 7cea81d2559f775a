//! Sinks that are down: how often they are tried, in shortened time, and what becomes of records meanwhile.

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{
    super::{
        committed::SinkPoint,
        sink_task::{SinkFailure, SinkTask},
    },
    *,
};
use crate::{
    batch::{Batch, Limit},
    config::{Breaker, GiveUp, Retry, Then},
    epoch::Epoch,
    letter::Kind as Why,
    sink::{Refused, Sink, SinkError},
    stage::{
        Item,
        breaker::Terms,
        gate::{Gate, Lever},
        lane::{Inbox, Sender, lanes},
        outlet::{Edge, Outlet, Port},
    },
    unit::Span,
};

/// A sink that is down until some time; it holds what it could not write.
struct Down {
    until: Instant,
    in_hand: Vec<String>,
    taken: i64,
    last: i64,
    written: Arc<Mutex<Vec<String>>>,
    /// When it was tried.
    tried: Arc<Mutex<Vec<Instant>>>,
}

impl Down {
    fn hand_over(&mut self) -> Result<(), SinkError> {
        self.tried.lock().unwrap().push(Instant::now());
        if Instant::now() < self.until {
            return Err(SinkError::Later(anyhow::anyhow!("it is down")));
        }
        self.written.lock().unwrap().append(&mut self.in_hand);
        Ok(())
    }
}

impl Sink for Down {
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.last = batch.len() as i64;
        self.taken += self.last;
        self.in_hand.extend(batch.values().iter().map(|value| String::from_utf8(value.to_vec()).unwrap()));
        async { self.hand_over() }.boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async { self.hand_over() }.boxed()
    }

    fn unsettled(&self) -> u64 {
        self.in_hand.len() as u64
    }

    fn give_up(&mut self, reason: &str, refused: &mut Vec<Refused>) -> bool {
        let len = self.in_hand.len() as i64;
        refused.extend((self.last - len..self.last).map(|at| Refused { at, reason: reason.to_owned() }));
        self.in_hand.clear();
        true
    }
}

struct Driven {
    lane: Sender,
    letters: Inbox,
    /// What is handed to another sink.
    other: Inbox,
    reports: mpsc::Receiver<(usize, Epoch, SinkPoint)>,
    written: Arc<Mutex<Vec<String>>>,
    tried: Arc<Mutex<Vec<Instant>>>,
    gate: Arc<Gate>,
    task: JoinHandle<Result<(), SinkFailure>>,
}

fn drive(down: Duration, breaker: &Breaker, retry: Retry) -> Driven {
    let (inbox, mut ends) = lanes(&[Limit::default()]);
    let (letters, edges) = lanes::<Item>(&[Limit::default()]);
    let (other, further) = lanes::<Item>(&[Limit::default()]);
    let edges = edges.into_iter().map(|lane| (Port::Refused, lane));
    let further = further.into_iter().map(|lane| (Port::Fallback, lane));
    let edges = edges.chain(further).map(|(port, lane)| Edge::new(port, lane, Arc::default())).collect();
    let graph = Plan::new(&numbers(1)).sink("out", "in").parts().0.graph;
    let board = Arc::new(Board::new(graph, Default::default(), None));
    let gate = Arc::new(Gate::new("out".to_owned(), Terms::from(breaker), board.bell.clone()));
    let (written, tried) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<Instant>>>)>::default();
    let until = Instant::now() + down;
    let sink = Down { until, in_hand: Vec::new(), taken: 0, last: 0, written: written.clone(), tried: tried.clone() };
    let (then, meter) = (breaker.then.value, Arc::default());
    let (name, sink, number) = ("out".to_owned(), Box::new(sink), 0);
    let mut task = SinkTask { number, name, sink, retry, gate: gate.clone(), then, meter, board, trouble: None };
    let point = SinkPoint { received: vec![0], sent: vec![0, 0], ..SinkPoint::default() };
    let (keep, committed) = tokio::sync::watch::channel(Epoch(0));
    let (reporting, reports) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        let _keep = keep;
        task.run(inbox, Outlet::new(edges), point, reporting, mpsc::channel(1).0, committed).await
    });
    Driven { lane: ends.remove(0), letters, other, reports, written, tried, gate, task }
}

fn batch(range: std::ops::Range<usize>) -> Item {
    Item::Batch(Batch::of_values(range.map(|at| at.to_string()).collect()))
}

impl Driven {
    /// Letters until the barrier, with why they are.
    async fn letters(&self) -> Vec<(String, Option<Why>)> {
        until_barrier(&self.letters).await
    }
}

async fn until_barrier(inbox: &Inbox) -> Vec<(String, Option<Why>)> {
    let mut all = Vec::new();
    while let Item::Batch(batch) = inbox.wait(|lanes| lanes[0].pop()).await.unwrap() {
        let values = batch.values().iter().enumerate();
        all.extend(values.map(|(at, value)| (String::from_utf8(value.to_vec()).unwrap(), Why::of(&batch, at))));
    }
    all
}

/// Time five hundred times as fast: a second is two milliseconds.
fn quick() -> (Breaker, Retry) {
    let span = |millis| Span(Duration::from_millis(millis)).into();
    let breaker = Breaker { window: span(20), open: span(10), ..Breaker::default() };
    (breaker, Retry { first: span(1), max: span(60), ..Retry::default() })
}

/// Row 65.
#[tokio::test]
async fn a_sink_that_is_down_for_ten_minutes_is_left_alone_but_for_probes_and_loses_nothing() {
    let (breaker, retry) = quick();
    let (began, down) = (Instant::now(), Duration::from_millis(1200));
    let mut driven = drive(down, &breaker, retry);
    for nth in 0..3 {
        driven.lane.send(batch(nth * 100..nth * 100 + 100)).await.unwrap();
    }
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    let (_, _, point) = driven.reports.recv().await.unwrap();
    assert_eq!((point.tally.received, point.tally.passed, point.tally.imbalance()), (300, 300, 0));
    assert_eq!(*driven.written.lock().unwrap(), numbers(300));
    assert!(driven.gate.is_closed() && began.elapsed() >= down);
    let tried = driven.tried.lock().unwrap().clone();
    // Attempts with growing waits until it opens, then no more than one for each opening, of 10, 20, 40 … milliseconds.
    let while_down = tried.iter().filter(|at| **at < began + down).count();
    assert!((3..30).contains(&while_down), "{while_down}");
    let last = tried.iter().filter(|at| **at < began + down).nth(while_down - 2).unwrap();
    assert!(began + down - *last > Duration::from_millis(80), "openings do not grow");
    drop(driven.lane);
    driven.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_sink_that_is_down_does_not_take_becomes_letters_or_is_dropped_as_it_says() {
    for then in [Then::DeadLetter, Then::Drop] {
        let (breaker, retry) = quick();
        let breaker =
            Breaker { then: then.into(), open: Span(Duration::from_secs(100)).into(), samples: 3.into(), ..breaker };
        let mut driven = drive(Duration::from_secs(3600), &breaker, retry);
        for nth in 0..3 {
            driven.lane.send(batch(nth * 100..nth * 100 + 100)).await.unwrap();
        }
        driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
        let (_, _, point) = driven.reports.recv().await.unwrap();
        let letters = driven.letters().await;
        assert_eq!((point.tally.received, point.tally.passed, point.tally.imbalance()), (300, 0, 0), "{then:?}");
        if then == Then::Drop {
            assert_eq!((point.tally.dropped, letters), (300, Vec::new()));
        } else {
            let values: Vec<String> = letters.iter().map(|(value, _)| value.clone()).collect();
            assert_eq!((point.tally.refused, values), (300, numbers(300)));
            assert!(letters.iter().all(|(_, why)| *why == Some(Why::BreakerOpen)), "{letters:?}");
        }
        assert_eq!(*driven.written.lock().unwrap(), [""; 0]);
    }
}

/// What it had in hand when it was given up goes first, and its own order is kept.
#[tokio::test]
async fn what_a_sink_that_is_down_does_not_take_goes_to_the_one_that_stands_in_for_it() {
    let (breaker, retry) = quick();
    let open = Span(Duration::from_millis(300)).into();
    let breaker = Breaker { then: Then::Fallback.into(), open, samples: 3.into(), ..breaker };
    let mut driven = drive(Duration::from_millis(100), &breaker, retry);
    for nth in 0..3 {
        driven.lane.send(batch(nth * 100..nth * 100 + 100)).await.unwrap();
    }
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    let (_, _, point) = driven.reports.recv().await.unwrap();
    let (there, letters) = (until_barrier(&driven.other).await, driven.letters().await);
    assert_eq!((point.tally.received, point.tally.diverted, point.tally.imbalance()), (300, 300, 0));
    assert_eq!((point.sent, letters), (vec![0, 300], Vec::new()));
    assert_eq!(
        there,
        numbers(300).into_iter().map(|value| (value, None)).collect::<Vec<_>>(),
        "in order, without a reason"
    );
    // It is up again, and the breaker finds out: what comes then is its own.
    while !driven.gate.lets_through() {
        tokio::task::yield_now().await;
    }
    driven.lane.send(batch(300..400)).await.unwrap();
    driven.lane.send(Item::Barrier(Epoch(2))).await.unwrap();
    let (_, _, point) = driven.reports.recv().await.unwrap();
    assert_eq!((point.tally.passed, point.tally.diverted, point.tally.imbalance()), (100, 300, 0));
    assert_eq!(*driven.written.lock().unwrap(), numbers(400)[300..]);
}

#[tokio::test]
async fn attempts_come_to_an_end_where_they_are_numbered() {
    let retry = |then: GiveUp| Retry { attempts: Some(4.into()), then: then.into(), ..quick().1 };
    let mut driven = drive(Duration::from_secs(3600), &Breaker::default(), retry(GiveUp::DeadLetter));
    driven.lane.send(batch(0..50)).await.unwrap();
    driven.lane.send(Item::Barrier(Epoch(1))).await.unwrap();
    let (_, _, point) = driven.reports.recv().await.unwrap();
    assert_eq!((point.tally.refused, point.tally.imbalance()), (50, 0));
    assert_eq!(driven.letters().await.len(), 50);
    assert!(driven.tried.lock().unwrap().len() >= 4);

    let driven = drive(Duration::from_secs(3600), &Breaker::default(), retry(GiveUp::Stop));
    driven.lane.send(batch(0..50)).await.unwrap();
    let ended = driven.task.await.unwrap();
    assert!(
        matches!(&ended, Err(SinkFailure::Never { error, .. }) if format!("{error:#}").contains("after 4 attempts"))
    );
    assert_eq!(driven.tried.lock().unwrap().len(), 4);
}

/// One that is tripped is not even tried, until somebody resets it.
#[tokio::test]
async fn a_sink_that_is_tripped_is_not_tried_until_it_is_reset() {
    let driven = drive(Duration::ZERO, &Breaker::default(), Retry::default());
    driven.gate.pull(Lever::Trip);
    driven.lane.send(batch(0..50)).await.unwrap();
    while !driven.lane.is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(driven.tried.lock().unwrap().len(), 0);
    driven.gate.pull(Lever::Reset);
    drop(driven.lane);
    driven.task.await.unwrap().unwrap();
    assert_eq!(*driven.written.lock().unwrap(), numbers(50));
}
