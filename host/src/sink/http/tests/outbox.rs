//! Requests that are committed first and sent after that, on a simulated disk and against a receiver that knows keys again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::AtomicBool,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::timeout;

use super::{
    super::outbox::{self, Outbox, Terms},
    *,
};
use crate::{
    batch::{Column, ID},
    disk::{Disk as _, Sim},
    sink::Returned,
};

/// Far beyond what anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for what would come to have come.
const MOMENT: Duration = Duration::from_millis(50);

fn terms(disk: &Sim, max: u64) -> Terms {
    disk.create_folder(Path::new("/state")).unwrap();
    let retry = (Duration::from_millis(1), Duration::from_millis(4));
    Terms { disk: Arc::new(disk.clone()), state: "/state".into(), folder: outbox::folder("p", "out"), max, retry }
}

/// The outbox as a process opens it that finds this position in the store.
async fn opened(config: &Config, requests: Requests, terms: Terms, position: &Value) -> Outbox {
    let mut outbox = outbox::open(sink(config, requests), terms);
    outbox.restore(position).await.unwrap();
    outbox
}

/// The numbers of this range, each with an id that it always has.
fn known(from: usize, to: usize) -> Batch {
    let ids: Column = (from..to).map(|n| (n as u128).to_le_bytes()).collect();
    numbers(from, to).with_named(ID.into(), ids).unwrap()
}

/// One call as a pipeline makes it: when the outbox wants one, or has an answer.
async fn turn(outbox: &mut Outbox) {
    let due = outbox.due();
    tokio::select! {
        () = outbox.stirs() => {}
        () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
    }
    outbox.write(&Batch::default(), &mut Vec::new()).await.unwrap();
}

async fn flushed(outbox: &mut Outbox) -> Value {
    outbox.flush(&mut Vec::new()).await.unwrap();
    outbox.position()
}

#[tokio::test]
async fn nothing_is_posted_before_it_is_committed() {
    let receiver = Receiver::new(|_, _| answer(200, &[], "")).await;
    let disk = Sim::new();
    let mut outbox = opened(&receiver.config(), of(2), terms(&disk, 1 << 20), &Value::Null).await;
    outbox.write(&known(0, 5), &mut Vec::new()).await.unwrap();
    let position = flushed(&mut outbox).await;
    assert!(timeout(MOMENT, turn(&mut outbox)).await.is_err(), "there is nothing to do");
    assert_eq!((receiver.bodies().len(), outbox.waiting()), (0, 5));
    outbox.committed(&position);
    while outbox.waiting() > 0 {
        timeout(PATIENCE, turn(&mut outbox)).await.expect("it is sent");
    }
    assert_eq!(receiver.bodies(), ["0\n1\n", "2\n3\n", "4\n"]);
    let keys: Vec<String> = receiver.seen().iter().map(|seen| seen.key().to_owned()).collect();
    for (key, sequence) in keys.iter().zip([0, 2, 4]) {
        assert!(key.starts_with(&format!("test/out.{sequence}.")), "{key}");
    }
}

#[tokio::test]
async fn a_full_outbox_takes_nothing_more_until_all_that_is_committed_has_been_sent() {
    let is_up = Arc::new(AtomicBool::new(false));
    let asked = is_up.clone();
    let receiver =
        Receiver::new(move |_, _| answer(if asked.load(Ordering::SeqCst) { 200 } else { 503 }, &[], "")).await;
    let disk = Sim::new();
    let mut outbox = opened(&receiver.config(), of(2), terms(&disk, 1), &Value::Null).await;
    outbox.write(&known(0, 4), &mut Vec::new()).await.unwrap();
    let position = flushed(&mut outbox).await;
    outbox.committed(&position);
    let refused = &mut Vec::new();
    let mut said = String::new();
    timeout(PATIENCE, async {
        let mut told = outbox.write(&known(4, 6), refused).await;
        for _ in 0..5 {
            said = format!("{:#}", told.unwrap_err());
            told = outbox.flush(refused).await;
        }
    })
    .await
    .expect("an answer");
    assert!(said.contains("`outbox_max` of 1") && said.contains("503"), "{said}");
    assert!(outbox.trouble().is_some_and(|why| why.contains("503")));
    is_up.store(true, Ordering::SeqCst);
    while outbox.flush(refused).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(outbox.waiting(), 2, "what came last waits for its commit");
    assert_eq!(outbox.trouble(), None);
}

/// What a receiver that knows keys again has taken and refused.
#[derive(Default)]
struct Desk {
    by_key: BTreeMap<String, (String, u16, String)>,
    repeated: usize,
}

impl Desk {
    /// Numbers that end in 7 are refused: listed, or with all of their request.
    fn decide(&mut self, seen: &Seen, lists: bool) -> (u16, String) {
        if let Some((body, status, said)) = self.by_key.get(seen.key()) {
            assert_eq!(*body, seen.body, "the same key says something else: {}", seen.key());
            self.repeated += 1;
            return (*status, said.clone());
        }
        let bad: Vec<String> = seen
            .lines()
            .iter()
            .enumerate()
            .filter(|(_, line)| line.ends_with('7'))
            .map(|(index, _)| format!("{{\"index\":{index},\"reason\":\"seven\"}}"))
            .collect();
        let (status, said) = match (bad.is_empty(), lists) {
            (true, _) => (200, String::new()),
            (false, true) => (200, format!("{{\"refused\":[{}]}}", bad.join(","))),
            (false, false) => (400, String::new()),
        };
        self.by_key.insert(seen.key().to_owned(), (seen.body.clone(), status, said.clone()));
        (status, said)
    }

    /// Everything that was taken, in any order.
    fn taken(&self) -> Vec<usize> {
        let taken = self.by_key.values().filter(|(_, status, _)| *status == 200);
        let lines = taken.flat_map(|(body, ..)| body.lines()).filter(|line| !line.ends_with('7'));
        let mut all: Vec<usize> = lines.map(|line| line.parse().unwrap()).collect();
        all.sort_unstable();
        all
    }
}

/// A run of writes, commits and falls at moments that `seed` names; how many requests the receiver knew again.
async fn through_falls(seed: u64) -> usize {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (desk, lists, loses) = (Arc::<Mutex<Desk>>::default(), random.random(), random.random_range(2..6));
    let taking = desk.clone();
    let receiver = Receiver::new(move |nth, seen| {
        let (status, said) = taking.lock().unwrap().decide(seen, lists);
        // Some answers are lost although the request has had its effect.
        let status = if nth % loses == 1 { 503 } else { status };
        answer(status, &[("content-type", "application/json")], &said)
    })
    .await;
    let requests = Requests { in_flight: random.random_range(1..4), ..of(random.random_range(1..6)) };
    let (disk, max) = (Sim::new(), if random.random() { 1 << 30 } else { 2_000 });
    let open = async |position: &Value| opened(&receiver.config(), requests, terms(&disk, max), position).await;
    let mut outbox = open(&Value::Null).await;
    let (mut written, mut letters) = (0, Vec::<usize>::new());
    // What a store has: where the outbox stood, how far the input had been read, and the letters.
    let mut committed = (outbox.position(), 0, Vec::<usize>::new());
    let put_by = |outbox: &mut Outbox, letters: &mut Vec<usize>| {
        for Returned { records, reasons } in outbox.returned() {
            assert_eq!(records.len(), reasons.len());
            letters
                .extend(records.values().iter().map(|value| String::from_utf8_lossy(value).parse::<usize>().unwrap()));
        }
    };
    for step in 0..40 {
        match random.random_range(0..10) {
            0..5 => {
                let more = random.random_range(1..12);
                let mut told = outbox.write(&known(written, written + more), &mut Vec::new()).await;
                written += more;
                while let Err(SinkError::Later(_)) = told {
                    told = outbox.flush(&mut Vec::new()).await;
                }
            }
            5..8 => {
                while outbox.flush(&mut Vec::new()).await.is_err() {}
                put_by(&mut outbox, &mut letters);
                committed = (outbox.position(), written, letters.clone());
                assert_eq!(outbox.waiting(), outbox.unsettled(), "seed {seed}, step {step}");
                if random.random() {
                    outbox.committed(&committed.0);
                }
            }
            8 => {
                let _ = timeout(Duration::from_millis(3), turn(&mut outbox)).await;
                put_by(&mut outbox, &mut letters);
            }
            _ => {
                drop(outbox);
                outbox = open(&committed.0).await;
                (written, letters) = (committed.1, committed.2.clone());
            }
        }
    }
    loop {
        while outbox.flush(&mut Vec::new()).await.is_err() {}
        put_by(&mut outbox, &mut letters);
        let position = outbox.position();
        outbox.committed(&position);
        if outbox.waiting() == 0 {
            break;
        }
        timeout(PATIENCE, turn(&mut outbox)).await.expect("what is committed is sent");
    }
    outbox.flush(&mut Vec::new()).await.unwrap();
    let kept = disk.list(&Path::new("/state").join(outbox::folder("p", "out"))).unwrap().len();
    assert!(kept <= 2, "seed {seed}: {kept} files of what has been settled are kept");
    let desk = desk.lock().unwrap();
    let (good, bad): (Vec<usize>, Vec<usize>) = (0..written).partition(|n| n % 10 != 7);
    assert_eq!(desk.taken(), good, "seed {seed}");
    assert_eq!(letters, bad, "seed {seed}: each refused record is one letter, in order");
    assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), letters.len());
    desk.repeated
}

/// Row 69, and the outbox's half of T1: whatever falls between a commit and the next, a receiver that knows keys again has
/// every record once, equal keys say the same, and each refused record is one letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_knows_keys_again_has_every_record_once_through_any_falls() {
    let mut repeated = 0;
    for seed in 0..40 {
        repeated += timeout(PATIENCE * 4, through_falls(seed)).await.expect("it ends");
    }
    assert!(repeated > 0, "no request came twice: nothing has been tested");
}
