//! Sink of an edge that drops: records for the part of the pipeline behind it, in memory.
//!
//! Owns what a commit lets the reader have. It must not know what is dropped, or who reads. Invariant: it never waits.

use std::sync::Arc;

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};

use super::{Refused, Sink, SinkError};
use crate::{batch::Batch, queue::Queue, time::BEGIN, topic::Told};

/// The end of an edge that drops which is written.
#[derive(Debug)]
pub struct QueueSink {
    queue: Arc<Queue>,
    /// How far event time has come.
    watermark: i64,
}

/// A sink that writes to `queue`.
pub fn open(queue: Arc<Queue>) -> QueueSink {
    QueueSink { queue, watermark: BEGIN }
}

fn told(position: &Value) -> anyhow::Result<Told> {
    serde_json::from_value(position.clone()).context("read how far an edge that drops had come: it was of another kind")
}

impl Sink for QueueSink {
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.queue.push(batch, self.watermark);
        std::future::ready(Ok(())).boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn is_awaited(&self) -> bool {
        self.queue.is_pressed()
    }

    fn position(&self) -> Value {
        json!(Told { offset: self.queue.end(), watermark: self.watermark })
    }

    fn restore<'a>(&'a mut self, position: &'a Value) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            let told = told(position)?;
            self.watermark = told.watermark;
            self.queue.restore(told);
            Ok(())
        }
        .boxed()
    }

    fn rests(&mut self, position: &Value) {
        told(position).into_iter().for_each(|told| self.queue.restore(told));
    }

    fn mark(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    fn committed(&mut self, position: &Value) {
        told(position).into_iter().for_each(|told| self.queue.commit(told));
    }
}

impl Drop for QueueSink {
    fn drop(&mut self) {
        self.queue.close();
    }
}
