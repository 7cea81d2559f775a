//! Where the outputs of a stage or source go: each port to the lanes that read it.
//!
//! Owns fan-out. A batch is cloned by reference count for each reader, in the order of the edges; barriers and marks
//! go to every lane, behind the records sent before them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Item,
    lane::{Gone, Sender},
};
pub use crate::config::graph::Port;
use crate::{batch::Batch, epoch::Epoch, time::Mark};

/// One edge, seen from its sender.
#[derive(Debug)]
pub struct Edge {
    port: Port,
    sender: Sender,
    sent: Arc<AtomicU64>,
}

impl Edge {
    /// The edge from `port` into a lane; `sent` counts its records for all who look on.
    pub fn new(port: Port, sender: Sender, sent: Arc<AtomicU64>) -> Self {
        Self { port, sender, sent }
    }
}

/// All edges of one sender.
#[derive(Debug, Default)]
pub struct Outlet {
    edges: Vec<Edge>,
    /// Edges that have the item in hand already, for a send that was interrupted.
    reached: usize,
}

/// A control item, which every reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// See [`Item::Mark`].
    Mark(Mark),
    /// See [`Item::Barrier`].
    Barrier(Epoch),
    /// See [`Item::Close`].
    Close,
}

impl From<Control> for Item {
    fn from(control: Control) -> Self {
        match control {
            Control::Mark(mark) => Self::Mark(mark),
            Control::Barrier(epoch) => Self::Barrier(epoch),
            Control::Close => Self::Close,
        }
    }
}

/// What a source sends: records of a port, or a control item.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// Records of a port.
    Batch(Port, Batch),
    /// For every reader.
    Control(Control),
}

impl Outlet {
    /// An outlet with these edges.
    pub fn new(edges: Vec<Edge>) -> Self {
        Self { edges, reached: 0 }
    }

    /// Whether somebody reads `port`.
    pub fn is_read(&self, port: Port) -> bool {
        self.edges.iter().any(|edge| edge.port == port)
    }

    /// Records sent so far, of each edge.
    pub fn sent(&self) -> Vec<u64> {
        self.edges.iter().map(|edge| edge.sent.load(Ordering::Relaxed)).collect()
    }

    /// Sends records to the readers of `port`, waiting for room. Blocks the thread.
    ///
    /// # Errors
    /// When a reader is gone.
    pub fn send_blocking(&self, port: Port, batch: &Batch) -> Result<(), Gone> {
        if batch.is_empty() {
            return Ok(());
        }
        for edge in self.edges.iter().filter(|edge| edge.port == port) {
            edge.sender.send_blocking(Item::Batch(batch.clone()))?;
            edge.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends a control item to every reader; never waits.
    ///
    /// # Errors
    /// When a reader is gone.
    pub fn control(&self, control: Control) -> Result<(), Gone> {
        self.edges.iter().try_for_each(|edge| edge.sender.send_blocking(control.into()))
    }

    /// Sends `item` to its readers, waiting for room. When the future is dropped early, the next call with the
    /// same item goes on with the readers that have not got it yet.
    ///
    /// # Errors
    /// When a reader is gone.
    pub async fn send(&mut self, item: &Sent) -> Result<(), Gone> {
        while let Some(edge) = self.edges.get(self.reached) {
            match item {
                Sent::Batch(port, batch) if edge.port == *port && !batch.is_empty() => {
                    edge.sender.send(Item::Batch(batch.clone())).await?;
                    edge.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Sent::Batch(..) => {}
                Sent::Control(control) => edge.sender.send((*control).into()).await?,
            }
            self.reached += 1;
        }
        self.reached = 0;
        Ok(())
    }
}
