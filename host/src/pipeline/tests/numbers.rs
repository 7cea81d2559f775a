//! A source of values that are given.
//!
//! Owns where it stands and what it is told; tests look at that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Semaphore;

use crate::{
    batch::{Batch, Limit},
    source::{Chunk, Position, Read, Source},
};

/// The decimal numbers from 0 up to `n`.
pub(super) fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

/// A source of given values; the key is the last digit, the time the position.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) values: Arc<[String]>,
    /// The key of each; its last digit, where there are none.
    pub(super) keys: Option<Arc<[String]>>,
    pub(super) at: usize,
    pub(super) can_seek: bool,
    pub(super) ends: bool,
    /// How many reads may still bring something; as many as are asked for, where there is none.
    pub(super) allowance: Option<Arc<Semaphore>>,
    pub(super) is_stopped: Arc<AtomicBool>,
    pub(super) accepted: Arc<AtomicU64>,
    pub(super) acknowledged: Arc<AtomicU64>,
}

impl Numbers {
    pub(super) fn new(values: &[String]) -> Self {
        Self {
            values: values.into(),
            keys: None,
            at: 0,
            can_seek: true,
            ends: true,
            allowance: None,
            accepted: Arc::default(),
            is_stopped: Arc::default(),
            acknowledged: Arc::default(),
        }
    }

    pub(super) fn key(&self, at: usize) -> String {
        self.keys.as_ref().map_or_else(|| (at % 10).to_string(), |keys| keys[at].clone())
    }
}

impl Source for Numbers {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            let is_stopped = self.is_stopped.load(Ordering::SeqCst);
            if let Some(allowance) = &self.allowance {
                if is_stopped {
                    return Ok(Read::End);
                }
                allowance.acquire().await.unwrap().forget();
            }
            let end = self.values.len().min(self.at + most.records);
            if self.at == end {
                if !self.ends && !is_stopped {
                    // Whoever stops the source drops this future first.
                    std::future::pending::<()>().await;
                }
                return Ok(Read::End);
            }
            let part = &self.values[self.at..end];
            let time = |at: usize| if self.values[at] == "future" { i64::MAX / 2 } else { at as i64 };
            let times = (self.at..end).map(time).collect();
            let batch = Batch::of_values(part.iter().collect())
                .with_keys((self.at..end).map(|at| self.key(at)).collect())
                .and_then(|batch| batch.with_timestamps(times))
                .unwrap();
            self.at = end;
            self.accepted.store(end as u64, Ordering::SeqCst);
            Ok(Read::Chunk(Chunk { batch, ..Chunk::default() }))
        }
        .boxed()
    }

    fn position(&self) -> Position {
        Position(self.at.into())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        if self.can_seek {
            self.at = position.0.as_u64().unwrap() as usize;
        }
        let can_seek = self.can_seek;
        async move { Ok(can_seek) }.boxed()
    }

    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        self.acknowledged.fetch_max(position.0.as_u64().unwrap(), Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }

    fn stop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }
}
