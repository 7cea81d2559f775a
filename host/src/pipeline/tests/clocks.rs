//! What a source says of event time, item by item.

use numbers::Numbers;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    source_task::{Order, SourceTask, Terms, Word},
    *,
};
use crate::{
    batch::Limit,
    epoch::Epoch,
    stage::{
        Item,
        lane::{Inbox, Lane, lanes},
        outlet::{Edge, Outlet, Port},
    },
    time::{BEGIN, Clock, END, Mark, Wall},
};

/// A source at work, seen from below.
struct Below {
    inbox: Inbox,
    orders: mpsc::Sender<Order>,
    words: mpsc::Receiver<Word>,
    task: JoinHandle<SourceTask>,
}

/// A source of `numbers`.
async fn task(source: Numbers, idle: Duration) -> SourceTask {
    let terms = Terms {
        number: 0,
        name: "in".to_owned(),
        limit: Limit { records: 10, bytes: 1 << 20 },
        linger: Duration::ZERO,
        idle,
        uncommitted: 1 << 20,
        has_ids: false,
        is_refused_read: false,
        wall: Wall::default(),
    };
    let clock = Clock::new(Duration::from_millis(80), Duration::from_secs(3600));
    SourceTask::new(terms, Box::new(source), clock, None, Arc::default()).await.unwrap()
}

fn run(mut task: SourceTask) -> Below {
    let (inbox, mut senders) = lanes(&[Limit { records: 1 << 20, bytes: 1 << 30 }]);
    let outlet = Outlet::new(vec![Edge::new(Port::Main, senders.remove(0), Arc::default())]);
    let (orders, receiver) = mpsc::channel(16);
    let (sender, words) = mpsc::channel(16);
    let task = tokio::spawn(async move {
        // Told to quit, or that nobody gives orders any more.
        let _ = task.run(outlet, receiver, sender).await;
        task
    });
    Below { inbox, orders, words, task }
}

/// An item in words: the first and the last record of a batch, or what a mark says.
fn shown(item: Item) -> String {
    match item {
        Item::Batch(batch) => {
            let text = |at| String::from_utf8_lossy(batch.values().get(at).unwrap()).into_owned();
            format!("{}..{}", text(0), text(batch.len() - 1))
        }
        Item::Mark(Mark::At(END)) => "end".to_owned(),
        Item::Mark(mark) => format!("{mark:?}"),
        Item::Barrier(epoch) => format!("barrier {}", epoch.0),
        other => format!("{other:?}"),
    }
}

impl Below {
    /// What comes next, up to and including what `is_last` says.
    async fn until(&self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let next = self.inbox.wait(|lanes| lanes.first_mut().and_then(Lane::pop));
            all.push(shown(tokio::time::timeout(PATIENCE, next).await.expect("there is more").unwrap()));
            if all.last().is_some_and(|last| is_last(last)) {
                return all;
            }
        }
    }
}

fn allowed(plan: &mut Plan) -> (Numbers, Arc<Semaphore>) {
    let allowance = plan.allowance();
    (plan.source().clone(), allowance)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_speaks_again_after_it_was_idle_holds_the_watermark_again() {
    let (source, allowance) = allowed(&mut Plan::new(&numbers(200)));
    allowance.add_permits(10);
    let below = run(task(source, Duration::from_millis(5)).await);
    let first = below.until(|item| item.contains("Idle")).await;
    assert_eq!(first[first.len() - 2..], ["91..99", "Idle(10)"], "{first:?}");
    // The next records move the watermark only after the first of them: who wakes says where it stands.
    allowance.add_permits(1);
    let woken = below.until(|item| item.contains("Idle")).await;
    assert_eq!(woken, ["At(10)", "100..100", "At(20)", "101..109", "Idle(20)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rewind_the_same_records_and_marks_come_again() {
    let mut plan = Plan::new(&numbers(400));
    let (source, allowance) = allowed(&mut plan);
    allowance.add_permits(12);
    let mut below = run(task(source, PATIENCE).await);
    below.until(|item| item.ends_with("..119")).await;
    below.orders.send(Order::Begin(Epoch(1))).await.unwrap();
    let Some(Word::At(0, Epoch(1), point)) = below.words.recv().await else { panic!("it reports") };
    below.orders.send(Order::Committed(Epoch(1))).await.unwrap();
    allowance.add_permits(1 << 20);
    below.until(|item| item == "barrier 1").await;
    let rest = below.until(|item| item == "end").await;
    below.orders.send(Order::Quit).await.unwrap();
    let mut task = below.task.await.unwrap();
    assert_eq!(plan.source().acknowledged.load(Ordering::SeqCst), 120);

    task.rewind(&point, Epoch(1)).await.unwrap();
    assert_eq!(run(task).until(|item| item == "end").await, rest);
    assert!(rest.len() > 30 && point.clock.watermark > BEGIN, "{rest:?}");
}
