//! Dead letters: exactly what was refused, whatever falls or fills.

use std::path::Path;

use super::*;
use crate::{
    config::{
        DeadLetters,
        graph::{Graph, Letters},
    },
    disk::{Disk, Sim, sim::Failure},
    letter::{Letter, Origin, Part, Query, page},
    log::Readable,
    pipeline::{
        Parts,
        durable::{Durable, Signature},
        letters::Resting,
    },
    sink::log::{Terms, open},
    store::{Lock, Settings, Store},
};

const STATE: &str = "/state";

fn store(disk: &Sim) -> Result<Arc<Store>, crate::store::StoreError> {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let settings = Settings { ballast: 4096, ..Settings::default() };
    Store::open(Arc::new(disk.clone()), Path::new(STATE), lock, settings).map(Arc::new)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Numbers of which the source refuses some, the stage some, and the sink `odd` those that end in 7.
fn values(count: usize) -> Vec<String> {
    let value = |at: usize| match at % 40 {
        3 => "refuse".to_owned(),
        21 => "future".to_owned(),
        _ => at.to_string(),
    };
    (0..count).map(value).collect()
}

fn plan(values: &[String], workers: usize) -> Plan {
    Plan::new(values)
        .batch(20)
        .truncating()
        .refusing('7')
        .on_error(OnError::DeadLetter)
        .stage("evens", Kind::Filter, "in", workers)
        .sink("even", "evens")
        .sink("odd", "evens.rest")
}

/// The plan's parts with a sink of dead letters, which lies on `disk` below [`STATE`].
fn parts(plan: &Plan, store: &Arc<Store>, disk: &Sim, max: u64, collected: &Collected) -> Parts {
    let mut parts = plan.parts_into(collected);
    let graph = Graph::clone(&parts.graph).with_letters(&DeadLetters::default(), Path::new(STATE));
    parts.graph = Arc::new(graph);
    let origin = |name: &str, part| (name.to_owned(), Origin { name: name.to_owned(), part, plugin: None });
    let origins = [origin("in", Part::Source), origin("evens", Part::Stage), origin("odd", Part::Sink)];
    let origins = Arc::new(origins.into_iter().collect());
    let terms = Terms {
        disk: Arc::new(disk.clone()),
        state: STATE.into(),
        folder: Letters::folder("test"),
        keep: Duration::from_secs(3600),
        max,
        cure: "make room".to_owned(),
    };
    let form = Arc::new(move |batch: &_, epoch, now| crate::letter::blocks(batch, &origins, epoch, now));
    parts.sinks.push(Box::new(open(terms, form, parts.letters.clone())));
    let signatures = parts.graph.stages.iter().map(|stage| Signature::of(stage, "fake", 1)).collect();
    let durable = Durable::new(store.clone(), parts.graph.clone(), signatures);
    let restored = durable.restore().unwrap();
    Parts { durable: Some((durable, restored)), ..parts }
}

fn all(letters: &Readable) -> Vec<Letter> {
    let page = page(letters, &Query::default()).unwrap();
    assert_eq!(page.next, None);
    page.letters
}

/// Times of the letters that each part has, in their order; a time names a record.
fn times(letters: &[Letter], by: &str) -> Vec<i64> {
    letters.iter().filter(|letter| letter.by.name == by).map(|letter| letter.time.unwrap()).collect()
}

#[track_caller]
fn are_exactly_the_refused(letters: &[Letter], values: &[String]) {
    let expected = |fits: &dyn Fn(usize, &str) -> bool| -> Vec<i64> {
        (0..values.len()).filter(|at| fits(*at, &values[*at])).map(|at| at as i64).collect()
    };
    assert_eq!(times(letters, "evens"), expected(&|_, value| value == "refuse"));
    assert_eq!(times(letters, "odd"), expected(&|_, value| value.ends_with('7')));
    let future = letters.iter().filter(|letter| letter.by.name == "in");
    assert_eq!(future.count(), expected(&|_, value| value == "future").len());
    assert!(letters.iter().all(|letter| !letter.reason.is_empty() && letter.headers.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the machine falls, the letters are the refused records, each once, of the source, the stage and the sink;
    /// and what no host has open reads the same.
    #[test]
    fn a_fall_at_any_operation_of_the_disk_leaves_exactly_the_refused_records(
        seed in any::<u64>(),
        falls in proptest::collection::vec((0usize..140, any::<bool>()), 1..4),
        workers in 1usize..3,
    ) {
        let (values, runtime) = (values(600), runtime());
        let (disk, collected) = (Sim::new(), Collected::default());
        let mut falls = falls.into_iter();
        loop {
            let fall = falls.next();
            if let Some((operation, is_before)) = fall {
                disk.fail(operation as u64, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
            }
            let ended = store(&disk).ok().map(|store| {
                let parts = parts(&plan(&values, workers).rate("4000/s"), &store, &disk, 1 << 20, &collected);
                (runtime.block_on(async { end(start(parts)).await }), store)
            });
            if !disk.is_down() {
                // What has not fallen by now does not fall while it is looked at.
                disk.fail(u64::MAX, Failure::CrashBefore);
                let (ended, store) = ended.expect("the store opens on a disk that works");
                prop_assert_eq!(&ended.ending, &Ending::Completed);
                prop_assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), vec![]);
                let resting = Resting { disk: Arc::new(disk.clone()), store, state: STATE.into() };
                let letters = all(&resting.of("test").unwrap().letters.unwrap());
                are_exactly_the_refused(&letters, &values);
                // Where all was done before the fall, nothing has been opened again.
                if let Some(readable) = ended.board.letters().readable() {
                    prop_assert_eq!(ended.board.status().dead_letters, Some(letters.len() as u64));
                    prop_assert_eq!(all(&readable), letters);
                }
                break;
            }
            disk.restart(seed);
        }
        let odd: Vec<String> = values.iter().filter(|value| value.parse().is_ok_and(|n: u64| n % 2 == 1)).cloned().collect();
        let kept: Vec<String> = odd.into_iter().filter(|value| !value.ends_with('7')).collect();
        prop_assert_eq!(collected.values("odd"), kept);
    }
}

#[test]
fn a_full_disk_of_the_letters_pauses_the_pipeline_and_it_goes_on() {
    let (values, runtime) = (values(200), runtime());
    for nth in 1.. {
        let (disk, letters, collected) = (Sim::new(), Sim::new(), Collected::default());
        letters.create_folder(Path::new(STATE)).unwrap();
        let store = store(&disk).unwrap();
        let parts = parts(&plan(&values, 1), &store, &letters, 1 << 20, &collected);
        letters.fail(nth, Failure::NoSpace);
        let ended = runtime.block_on(async { end(start(parts)).await });
        if let Ending::Failed(why) = &ended.ending {
            // A folder that cannot be made is told at the start.
            assert!(why.contains("dead_letters") && nth <= 4, "operation {nth}: {why}");
            continue;
        }
        assert_eq!(ended.ending, Ending::Completed, "operation {nth}");
        are_exactly_the_refused(&all(&ended.board.letters().readable().unwrap()), &values);
        if !letters.fired() {
            return;
        }
    }
}

#[test]
fn letters_at_their_limit_pause_the_pipeline_and_say_so_and_a_purge_makes_room() {
    let (values, runtime) = (values(4000), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let store = store(&disk).unwrap();
    let running = |max| parts(&plan(&values, 1).rate("2000/s"), &store, &disk, max, &collected);
    let ended = runtime.block_on(async {
        let running = start(running(48 << 10));
        let board = running.board.clone();
        while !board.not_ready().iter().any(|it| it.who == "dead_letters" && it.why.contains("make room")) {
            tokio::task::yield_now().await;
        }
        running.commands.send(Command::Drain(Drain::within(Duration::from_millis(50)))).await.unwrap();
        end(running).await.ending
    });
    assert_eq!(ended, Ending::DeadlinePassed);
    // A commit that was under way at the deadline counts, though nobody told the sink any more.
    let resting = Resting { disk: Arc::new(disk.clone()), store: store.clone(), state: STATE.into() };
    let kept = all(&resting.of("test").unwrap().letters.unwrap());
    assert!(!kept.is_empty());

    let half = kept[kept.len() / 2].offset;
    runtime.block_on(resting.purge("test", Some(half))).unwrap();
    let left = all(&resting.of("test").unwrap().letters.unwrap());
    assert_eq!(left, kept[kept.len() / 2..]);
    runtime.block_on(resting.purge("test", None)).unwrap();
    assert_eq!(all(&resting.of("test").unwrap().letters.unwrap()), []);
    assert_eq!(disk.list(&Path::new(STATE).join(Letters::folder("test"))).unwrap(), Vec::<std::path::PathBuf>::new());

    let ended = runtime.block_on(async { end(start(running(1 << 20))).await });
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    let later = all(&ended.board.letters().readable().unwrap());
    are_exactly_the_refused(&[kept, later].concat(), &values);
}

#[test]
fn letters_that_the_store_does_not_know_are_not_emptied_until_a_person_says_so() {
    let (values, runtime) = (values(100), runtime());
    let (disk, collected) = (Sim::new(), Collected::default());
    let run = |store: &Arc<Store>| {
        let parts = parts(&plan(&values, 1), store, &disk, 1 << 20, &collected);
        runtime.block_on(async { end(start(parts)).await })
    };
    let first = store(&disk).unwrap();
    assert_eq!(run(&first).ending, Ending::Completed);
    // The store has gone, and the letters have not.
    let other = Sim::new();
    let anew = store(&other).unwrap();
    let Ending::Failed(why) = run(&anew).ending else { panic!("it has begun") };
    assert!(why.contains("knows nothing of") && why.contains("--reset-state dead_letters"), "{why}");
    let resting = Resting { disk: Arc::new(disk.clone()), store: anew.clone(), state: STATE.into() };
    assert!(runtime.block_on(resting.purge("test", Some(1))).is_err(), "nobody knows which to keep");
    runtime.block_on(resting.purge("test", None)).unwrap();
    assert_eq!(run(&anew).ending, Ending::Completed);
}
