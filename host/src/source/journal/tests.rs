//! A journal in front of a source that cannot be asked again, over a simulated disk.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::*;
use crate::{
    batch::Batch,
    codec::Undecoded,
    disk::{Sim, sim::Failure},
    source::Kept,
};

/// What a source gives that cannot be asked again: numbers, of which every seventh cannot be decoded. It ends there.
struct Posts {
    next: u64,
    end: u64,
    /// Up to where it has been told that what it gave has been taken.
    answered: Arc<AtomicU64>,
    recalled: Arc<Mutex<Vec<Kept>>>,
}

impl Source for Posts {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        let end = self.end.min(self.next + most.records as u64);
        let (first, is_over) = (self.next, self.next == self.end);
        self.next = end;
        let (fine, bad): (Vec<u64>, Vec<u64>) = (first..end).partition(|number| number % 7 != 6);
        let undecoded = |number: &u64| Undecoded {
            place: format!("posts:{number}"),
            index: *number,
            reason: "not JSON".to_owned(),
            raw: number.to_string().into(),
        };
        let batch = Batch::of_values(fine.iter().map(u64::to_string).collect());
        let chunk = Chunk { batch, undecoded: bad.iter().map(undecoded).collect(), ..Chunk::default() };
        std::future::ready(Ok(if is_over { Read::End } else { Read::Chunk(chunk) })).boxed()
    }

    fn position(&self) -> Position {
        Position(self.next.into())
    }

    fn seek<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        self.answered.store(position.0.as_u64().unwrap(), Ordering::SeqCst);
        std::future::ready(Ok(())).boxed()
    }

    fn changes(&mut self) -> Vec<Kept> {
        vec![Kept { key: b"last".to_vec(), value: Some(self.next.to_string().into_bytes()) }]
    }

    fn recall(&mut self, facts: Vec<Kept>) -> anyhow::Result<()> {
        self.recalled.lock().unwrap().extend(facts);
        Ok(())
    }

    fn stop(&mut self) {
        self.end = self.next;
    }
}

/// A journal, with what its source is told.
struct Given {
    journal: Journal,
    answered: Arc<AtomicU64>,
    recalled: Arc<Mutex<Vec<Kept>>>,
}

fn given(disk: &Sim, numbers: std::ops::Range<u64>, answer: Answer) -> Given {
    // The store has made the state's folder durable before a journal is opened.
    disk.create_folder(Path::new("/state")).and_then(|()| disk.sync_folder(Path::new("/"))).unwrap();
    let (answered, recalled): (Arc<AtomicU64>, Arc<Mutex<Vec<Kept>>>) = Default::default();
    let (next, end) = (numbers.start, numbers.end);
    let source = Posts { next, end, answered: answered.clone(), recalled: recalled.clone() };
    let terms = Terms { disk: Arc::new(disk.clone()), state: "/state".into(), folder: folder("p", "in"), answer };
    Given { journal: open(Box::new(source), terms), answered, recalled }
}

impl Given {
    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// The numbers of the next chunk, decoded or not; none at the end.
    async fn next(&mut self, most: usize) -> anyhow::Result<Option<Vec<u64>>> {
        match self.journal.read(Limit { records: most, bytes: 1 << 20 }).await? {
            Read::End | Read::Again(_) => Ok(None),
            Read::Chunk(chunk) => Ok(Some(numbers(&chunk))),
        }
    }

    async fn rest(&mut self, most: usize) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(more) = self.next(most).await.unwrap() {
            all.extend(more);
        }
        all.sort_unstable();
        all
    }
}

fn numbers(chunk: &Chunk) -> Vec<u64> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    chunk.batch.values().iter().map(text).chain(chunk.undecoded.iter().map(|one| text(&one.raw))).collect()
}

#[tokio::test]
async fn who_sent_is_answered_when_it_is_in_the_journal_or_committed_as_it_says() {
    let disk = Sim::new();
    let mut journaled = given(&disk, 0..30, Answer::Journaled);
    assert_eq!(journaled.journal.position(), Position(serde_json::Value::Null));
    journaled.next(10).await.unwrap();
    assert_eq!(journaled.answered(), 10, "at once, for it is durable");

    let disk = Sim::new();
    let mut committed = given(&disk, 0..30, Answer::Committed);
    committed.next(10).await.unwrap();
    let at = committed.journal.position();
    committed.next(10).await.unwrap();
    assert_eq!(committed.answered(), 0);
    committed.journal.commit(&at).await.unwrap();
    assert_eq!(committed.answered(), 10, "up to what has been committed");
}

#[tokio::test]
async fn what_was_handed_out_and_not_committed_comes_again_in_a_later_process_and_in_this_one() {
    let disk = Sim::new();
    let mut first = given(&disk, 0..50, Answer::Journaled);
    first.next(20).await.unwrap();
    let at = first.journal.position();
    first.journal.commit(&at).await.unwrap();
    first.next(20).await.unwrap();
    assert!(first.journal.seek(&at).await.unwrap(), "it can be read again");
    assert_eq!(first.rest(6).await, (20..50).collect::<Vec<_>>(), "and goes on with what is new");
    drop(first);
    let mut later = given(&disk, 50..60, Answer::Journaled);
    later.journal.seek(&at).await.unwrap();
    assert_eq!(later.rest(9).await, (20..60).collect::<Vec<_>>());
    assert_eq!(later.recalled.lock().unwrap().last().unwrap().value.as_deref(), Some(&b"50"[..]), "facts come with it");
}

/// Whatever falls when: who was answered finds the record, once, in the next process.
#[test]
fn after_a_fall_at_any_operation_of_the_disk_everything_that_was_answered_comes_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (failure, seed) in [(Failure::CrashBefore, 1), (Failure::CrashAfter, 2)] {
        for nth in 0.. {
            let disk = Sim::new();
            let (mut at, mut done) = (Position(serde_json::Value::Null), 0);
            let answered = runtime.block_on(async {
                let mut given = given(&disk, 0..40, Answer::Journaled);
                disk.fail(nth, failure);
                while let Ok(Some(more)) = given.next(5).await {
                    let is_committed = more[0] % 2 == 0;
                    if is_committed && !disk.is_down() {
                        (at, done) = (given.journal.position(), more.iter().max().unwrap() + 1);
                        given.journal.commit(&at).await.unwrap();
                    }
                }
                given.answered()
            });
            if !disk.fired() {
                assert!(nth > 5);
                break;
            }
            disk.restart(seed + nth);
            let found = runtime.block_on(async {
                let mut later = given(&disk, 0..0, Answer::Journaled);
                later.journal.seek(&at).await.unwrap();
                later.rest(4).await
            });
            let expected: Vec<u64> = (done..done + found.len() as u64).collect();
            assert_eq!(found, expected, "{nth}: in order, each once");
            assert!(done + found.len() as u64 >= answered, "{nth}: {answered} were answered");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_each_record_comes_once() {
    // Each costs a second of waiting.
    for nth in 0..3 {
        let disk = Sim::new();
        let mut given = given(&disk, 0..20, Answer::Journaled);
        // Opened with room: what a start without any comes to is the store's to say.
        given.next(5).await.unwrap();
        disk.fail(nth, Failure::NoSpace);
        assert_eq!(given.rest(5).await, (5..20).collect::<Vec<_>>(), "{nth}");
        assert!(disk.fired());
    }
}

#[tokio::test]
async fn what_every_commit_has_passed_is_removed() {
    let disk = Sim::new();
    let mut given = given(&disk, 0..200_000, Answer::Journaled);
    let mut read = 0;
    while let Some(more) = given.next(20_000).await.unwrap() {
        read += more.len();
        let at = given.journal.position();
        given.journal.commit(&at).await.unwrap();
    }
    assert_eq!(read, 200_000);
    let log = Path::new("/state").join(folder("p", "in"));
    let kept: usize = disk.list(&log).unwrap().iter().map(|path| disk.content(path).unwrap().len()).sum();
    assert!(kept < 3 << 20, "{kept} bytes");
}

#[tokio::test]
async fn a_journal_that_has_lost_what_was_committed_is_refused() {
    let disk = Sim::new();
    let mut first = given(&disk, 0..50, Answer::Journaled);
    first.next(20).await.unwrap();
    let at = first.journal.position();
    drop(first);
    let log = Path::new("/state").join(folder("p", "in"));
    for path in disk.list(&log).unwrap() {
        disk.remove(&path).unwrap();
    }
    let mut later = given(&disk, 50..60, Answer::Journaled);
    later.journal.seek(&at).await.unwrap();
    let refused = format!("{:#}", later.next(5).await.unwrap_err());
    assert!(refused.contains("logs/journals/p/in"), "{refused}");
}
