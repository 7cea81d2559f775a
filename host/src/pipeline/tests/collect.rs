//! A sink for tests: it keeps what it is given, and fails, waits or refuses as it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    batch::{Batch, ID},
    sink::{Refused, Sink, SinkError},
};

/// A value and its id.
type Known = (String, Vec<u8>);

/// What the sinks of a plan have written.
#[derive(Clone, Default)]
pub(super) struct Collected {
    written: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    /// Values with the ids under which they came, where they had any.
    known: Arc<Mutex<BTreeSet<Known>>>,
    failures: Arc<AtomicUsize>,
    /// Batches that sinks were handed.
    pub(super) handed: Arc<AtomicUsize>,
}

impl Collected {
    pub(super) fn values(&self, sink: &str) -> Vec<String> {
        self.written.lock().unwrap().get(sink).cloned().unwrap_or_default()
    }

    /// Every value that came with an id, and that; once, however often it came.
    pub(super) fn known(&self) -> BTreeSet<(String, Vec<u8>)> {
        self.known.lock().unwrap().clone()
    }

    pub(super) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }
}

/// A sink that keeps what it is given.
pub(super) struct Collect {
    pub(super) name: String,
    pub(super) to: Collected,
    pub(super) gate: Option<Arc<Semaphore>>,
    pub(super) failing: usize,
    pub(super) refuses: Option<char>,
    /// Records that it never makes up its mind about.
    pub(super) undecided: u64,
    /// Whether what was written behind the last commit can be taken back.
    pub(super) truncates: bool,
    /// What waits for a flush, where it does.
    pub(super) buffer: Option<Vec<String>>,
}

impl Sink for Collect {
    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
        refused: &'a mut Vec<Refused>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            self.to.handed.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let mut written = self.to.written.lock().unwrap();
            let there = written.entry(self.name.clone()).or_default();
            let mine = self.buffer.as_mut().unwrap_or(there);
            for (at, value) in (0i64..).zip(batch.values().iter()) {
                let value = String::from_utf8(value.to_vec()).unwrap();
                if let Some(id) = batch.named(ID).and_then(|ids| ids.get(at as usize)) {
                    self.to.known.lock().unwrap().insert((value.clone(), id.to_vec()));
                }
                match self.refuses {
                    Some(end) if value.ends_with(end) => refused.push(Refused { at, reason: "its end".to_owned() }),
                    _ => mine.push(value),
                }
            }
            drop(written);
            if refused.is_empty() || self.failing == 0 {
                return Ok(());
            }
            self.fail()
        }
        .boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            if self.failing > 0 {
                return self.fail();
            }
            if let Some(buffer) = &mut self.buffer {
                self.to.written.lock().unwrap().entry(self.name.clone()).or_default().append(buffer);
            }
            Ok(())
        }
        .boxed()
    }

    fn unsettled(&self) -> u64 {
        self.undecided
    }

    fn position(&self) -> Value {
        if self.truncates { self.to.values(&self.name).len().into() } else { Value::Null }
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        self.buffer.as_mut().into_iter().for_each(Vec::clear);
        if let Some(len) = position.as_u64() {
            self.to.written.lock().unwrap().entry(self.name.clone()).or_default().truncate(len as usize);
        }
        async { Ok(()) }.boxed()
    }
}

impl Collect {
    fn fail(&mut self) -> Result<(), SinkError> {
        self.failing -= 1;
        self.to.failures.fetch_add(1, Ordering::SeqCst);
        Err(SinkError::Later(anyhow::anyhow!("not now")))
    }
}
