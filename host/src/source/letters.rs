//! Dead letters that are given back to those who refused them.
//!
//! Owns what becomes of an order to replay: which letters are handed out, in what order, and which of them are gone once
//! that has committed. It must not know who asks, nor where a reader stands in a graph: readers are numbers. Its position
//! is how many letters it has handed out; which ones are gone are facts, a row for each stretch of offsets. Invariants: a
//! letter is gone from the commit on that holds what became of it, and from no other; a letter that comes back is
//! another one, so that no order runs in a circle.

mod taker;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use self::taker::Gathered;
pub use self::taker::{Decode, Taker};
use super::{Kept, Position, Read, Replayed, Role, Source};
use crate::{
    batch::Limit,
    letter::{self, Asked, Desk, Insistence, Letter, Page, Progress, Query, TRIES, Unreadable},
    log::{Access, Struck},
};

/// How much of a second's letters may come at once, where there is a rate.
const BURST: f64 = 0.1;

/// The letters of a pipeline as a source.
pub struct Letters {
    access: Access,
    desk: Desk,
    takers: BTreeMap<String, Taker>,
    role: Role,
    /// Letters that are gone, as it is committed.
    struck: Struck,
    /// How many have been handed out.
    handed: u64,
    /// Handed out and not committed: their number and their offset.
    flying: VecDeque<(u64, u64)>,
    /// Keys of rows that are no longer needed, as the last commit left it.
    needless: Vec<[u8; 8]>,
    job: Option<Job>,
    is_stopped: bool,
}

/// An order that is carried out.
struct Job {
    asked: Asked,
    progress: Progress,
    /// Which letters come next; none where all have been looked at.
    next: Option<Query>,
    paging: Option<JoinHandle<Result<Page, Unreadable>>>,
    page: VecDeque<Letter>,
    /// Letters that have been handed out, those of the last commit included.
    taken: u64,
    /// From when on letters may be handed out.
    due: Instant,
    /// Whether it has been said that nothing more will come.
    is_told: bool,
}

/// A source of the letters in `access`, which takes orders from `desk`; `takers` are those who may have refused them, by
/// name.
pub fn open(access: Access, desk: Desk, takers: BTreeMap<String, Taker>, role: Role) -> Letters {
    Letters {
        access,
        desk,
        takers,
        role,
        struck: Struck::default(),
        handed: 0,
        flying: VecDeque::new(),
        needless: Vec::new(),
        job: None,
        is_stopped: false,
    }
}

impl Letters {
    /// Begins with an order: up to where the letters end now.
    fn begin(&mut self, asked: Asked) {
        let mut job = Job {
            asked,
            progress: Progress::default(),
            next: None,
            paging: None,
            page: VecDeque::new(),
            taken: 0,
            due: Instant::now(),
            is_told: false,
        };
        let end = self.access.readable().map_or(0, |letters| letters.log.end());
        job.progress.from = end;
        job.next = Some(job.query());
        job.stop_at_enough();
        self.job = Some(job);
    }

    fn cut(&mut self, why: &str) {
        if let Some(job) = &mut self.job {
            (job.next, job.paging) = (None, None);
            job.page.clear();
            job.progress.cut.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Tells how far the order in hand has come, and ends it where everything of it has committed.
    fn tell(&mut self) {
        let Some(job) = &mut self.job else { return };
        job.progress.is_over = job.is_read() && self.flying.is_empty();
        job.asked.tell(&job.progress);
        if job.progress.is_over {
            self.job = None;
        }
    }

    /// The letters that come next, as they are handed out; nothing where there are no more.
    async fn hand_out(&mut self, most: Limit) -> Option<Replayed> {
        if self.job.as_ref().is_some_and(|job| job.asked.is_given_up()) {
            self.cut("nobody waits for it any more");
        }
        let job = self.job.as_mut()?;
        while job.page.is_empty() && !job.is_read() {
            if let Err(error) = job.turn_page(&self.access).await {
                self.cut(&format!("{error:#}"));
                return None;
            }
        }
        if job.page.is_empty() {
            return None;
        }
        sleep_until(job.due).await;
        let most = job.most(most);
        let gathered = job.gather(&self.takers, most);
        let (replayed, offsets) = gathered.into_parts();
        job.taken += offsets.len() as u64;
        job.stop_at_enough();
        if let Some(rate) = job.asked.order.rate {
            let took = Duration::try_from_secs_f64(offsets.len() as f64 / rate.per_second()).unwrap_or(Duration::MAX);
            job.due = job.due.max(Instant::now()).checked_add(took).unwrap_or(job.due);
        }
        for offset in offsets {
            self.handed += 1;
            self.flying.push_back((self.handed, offset));
        }
        Some(replayed)
    }

    async fn next(&mut self, most: Limit) -> anyhow::Result<Read> {
        loop {
            if self.is_stopped {
                self.cut("the pipeline takes nothing new");
                self.tell();
                return Ok(Read::End);
            }
            if self.job.is_none() {
                let asked = self.desk.next().await;
                self.begin(asked);
            }
            if let Some(replayed) = self.hand_out(most).await {
                if replayed.letters > 0 {
                    return Ok(Read::Again(replayed));
                }
                continue;
            }
            // What was handed out has still to commit, which somebody waits for.
            self.tell();
            match &mut self.job {
                Some(job) if !job.is_told => {
                    job.is_told = true;
                    return Ok(Read::Again(Replayed::default()));
                }
                Some(_) => std::future::pending::<()>().await,
                None => {}
            }
        }
    }

    fn now_gone(&mut self, numbers: u64) {
        let before = self.flying.len();
        while let Some((_, offset)) = self.flying.pop_front_if(|(number, _)| *number <= numbers) {
            self.struck.insert(offset);
        }
        let gone = (before - self.flying.len()) as u64;
        self.needless.clear();
        if gone > 0 {
            if let Some(letters) = self.access.readable() {
                self.needless = self.struck.forget_before(letters.log.first());
            }
            self.access.strike(Arc::new(self.struck.clone()));
        }
        if let Some(job) = &mut self.job {
            job.progress.replayed += gone;
        }
        self.tell();
    }
}

impl Job {
    fn query(&self) -> Query {
        let end = self.progress.from;
        let query = self.asked.order.query.clone();
        Query { until: Some(query.until.unwrap_or(end).min(end)), ..query }
    }

    fn is_read(&self) -> bool {
        self.next.is_none() && self.page.is_empty()
    }

    fn stop_at_enough(&mut self) {
        if self.asked.order.most.is_some_and(|most| self.taken >= most) {
            self.next = None;
            self.page.clear();
        }
    }

    /// Reads the page that comes next. A future dropped before it is ready goes on reading the same one later.
    async fn turn_page(&mut self, access: &Access) -> anyhow::Result<()> {
        let Some(query) = self.next.clone() else { return Ok(()) };
        let Some(letters) = access.readable() else {
            self.next = None;
            return Ok(());
        };
        let reading = self.paging.get_or_insert_with(|| {
            let query = query.clone();
            spawn_blocking(move || letter::page(&letters, &query))
        });
        let page = reading.await.context("read dead letters");
        self.paging = None;
        let page = page?.context("read dead letters")?;
        self.next = page.next.map(|from| Query { from: Some(from), ..query });
        self.page = page.letters.into();
        Ok(())
    }

    /// How many of `most` may be handed out at once.
    fn most(&self, most: Limit) -> Limit {
        let left = self.asked.order.most.map_or(u64::MAX, |all| all.saturating_sub(self.taken));
        let paced = self.asked.order.rate.map_or(f64::INFINITY, |rate| (rate.per_second() * BURST).max(1.0));
        let records = most.records.min(usize::try_from(left).unwrap_or(usize::MAX)).min(paced as usize);
        Limit { records: records.max(1), ..most }
    }

    /// The letters at the head of the page that go the same way; those that stay are noted.
    fn gather(&mut self, takers: &BTreeMap<String, Taker>, most: Limit) -> Gathered {
        let order = &self.asked.order;
        let mut gathered = Gathered::new(order.lateness, most);
        while let Some(letter) = self.page.front() {
            if letter.attempts >= TRIES && order.insistence == Insistence::Spares {
                self.progress.spared += 1;
            } else {
                match takers.get(&letter.by.name) {
                    None => self.progress.stays(&letter.by.name, "the pipeline has nobody of that name", letter.offset),
                    Some(taker) => match gathered.take(taker, letter) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(why) => self.progress.stays(&letter.by.name, why, letter.offset),
                    },
                }
            }
            self.page.pop_front();
        }
        gathered
    }
}

impl Source for Letters {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        self.next(most).boxed()
    }

    fn position(&self) -> Position {
        Position(self.handed.into())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        async {
            let handed = position.0.as_u64().context("read how many letters were replayed")?;
            self.flying.retain(|(number, _)| *number <= handed);
            self.now_gone(handed);
            self.handed = handed;
            // Whatever was not committed is looked for again.
            if let Some(job) = &mut self.job {
                (job.next, job.taken) = (Some(job.query()), job.progress.replayed);
                (job.paging, job.is_told) = (None, false);
                job.page.clear();
                job.stop_at_enough();
                (job.progress.spared, job.progress.untaken) = Default::default();
            }
            Ok(true)
        }
        .boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        if let Some(handed) = position.0.as_u64() {
            self.now_gone(handed);
        }
        std::future::ready(Ok(())).boxed()
    }

    fn changes(&mut self) -> Vec<Kept> {
        if self.flying.is_empty() && self.needless.is_empty() {
            return Vec::new();
        }
        let mut then = self.struck.clone();
        let offsets = || self.flying.iter().map(|(_, offset)| *offset);
        offsets().for_each(|offset| then.insert(offset));
        let rows = then.rows(offsets());
        let needless = self.needless.iter().filter(|key| !rows.iter().any(|(row, _)| row == *key));
        let needless = needless.map(|key| Kept { key: key.to_vec(), value: None });
        needless.chain(rows.iter().map(|(key, value)| Kept { key: key.to_vec(), value: Some(value.clone()) })).collect()
    }

    fn recall(&mut self, facts: Vec<Kept>) -> anyhow::Result<()> {
        for Kept { key, value } in facts {
            self.struck.read(&key, &value.unwrap_or_default()).context("read which letters are gone")?;
        }
        self.access.strike(Arc::new(self.struck.clone()));
        Ok(())
    }

    fn is_awaited(&self) -> bool {
        !self.flying.is_empty() && self.job.as_ref().is_some_and(Job::is_read)
    }

    fn role(&self) -> Role {
        self.role
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}
