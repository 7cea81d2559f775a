//! Source of an edge that drops: what the part of the pipeline in front of it has committed, and what is left of it.
//!
//! Owns the place up to which records have been read or are known to be dropped. It must not know who wrote. Invariant: no
//! record is handed out twice, whatever falls: what was read and not committed counts as dropped then.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{Chunk, Position, Read, Source};
use crate::{
    batch::Limit,
    queue::{Found, Queue},
    time::{BEGIN, END},
};

/// The end of an edge that drops which is read.
#[derive(Debug)]
pub struct QueueSource {
    queue: Arc<Queue>,
    /// Offset behind what has been read or dropped.
    at: u64,
    /// The last watermark that was handed out.
    told: i64,
    bell: watch::Receiver<()>,
    is_stopped: bool,
}

/// A source that reads `queue`.
pub fn open(queue: Arc<Queue>) -> QueueSource {
    let bell = queue.bell();
    QueueSource { queue, at: 0, told: BEGIN, bell, is_stopped: false }
}

impl Source for QueueSource {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        async move {
            loop {
                self.bell.borrow_and_update();
                match self.queue.take(self.at, self.told, most) {
                    Found::Next(next) => {
                        let moved = next.watermark > self.told && next.watermark < END;
                        self.at = next.offset;
                        self.told = self.told.max(next.watermark);
                        let watermarks = if moved { vec![(0, next.watermark)] } else { Vec::new() };
                        let (batch, dropped) = (next.batch, next.dropped);
                        return Ok(Read::Chunk(Chunk { batch, watermarks, dropped, ..Chunk::default() }));
                    }
                    Found::Nothing if self.told == END => return Ok(Read::End),
                    // A drain takes along what is on the way: nothing keeps it for another process.
                    Found::Closed if self.told == END || self.is_stopped => return Ok(Read::End),
                    // The queue holds the other end as long as this source holds the queue.
                    Found::Nothing | Found::Closed => self.bell.changed().await.context("wait for an edge")?,
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> Position {
        Position(self.at.into())
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        // A position of another kind is of an edge that was another one.
        self.at = position.0.as_u64().unwrap_or_default();
        self.told = BEGIN;
        std::future::ready(Ok(true)).boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}
