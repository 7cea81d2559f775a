//! Where records enter: one file for each kind of source.
//!
//! Owns the face that every source shows. A source must not know channels, barriers or the graph: it reads, says
//! where it stands, and is told what has been committed.

use std::sync::{Arc, atomic::AtomicBool};

use futures::future::BoxFuture;

use crate::batch::{Batch, Limit};
pub use crate::codec::Undecoded;

pub mod file;
pub mod generate;
pub mod host_metrics;
pub mod http;
pub mod journal;
pub mod letters;
pub mod passage;
pub mod queue;
pub mod rest;
pub mod stdin;
pub mod stream;
pub mod topic;

/// Where a source stands, in words of its own: everything before it has been handed out.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Position(pub serde_json::Value);

/// A fact that a source keeps with its commits, in a place of its own: one that changes costs nothing for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What tells it from the source's other facts.
    pub key: Vec<u8>,
    /// What it says; `None` forgets it.
    pub value: Option<Vec<u8>>,
}

/// What one read brought: records, and what could not become a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Decoded records, keys, event times and asked-for fields stamped.
    pub batch: Batch,
    /// What could not be decoded, in the order of the input.
    pub undecoded: Vec<Undecoded>,
    /// Further records that were refused and have been answered as such to whoever sent them; to be counted only.
    pub answered: u64,
    /// Records that were there and are gone before they could be read; to be counted only.
    pub lost: u64,
    /// Records that an edge in front of the source dropped, for there was no room for them; to be counted only.
    pub dropped: u64,
    /// How far event time had come in front of these records of the batch, in milliseconds since the Unix epoch; behind the
    /// last one, where a position is the batch's length. Only where that came with the records.
    pub watermarks: Vec<(usize, i64)>,
}

/// Letters on their way back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// How many.
    pub letters: u64,
    /// Where they go.
    pub outputs: Vec<(To, Batch)>,
}

/// Where a letter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To the reader of this number.
    Reader(usize),
    /// Back to the letters.
    Refused,
}

/// What a source has to do with the course of its pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The pipeline goes on until it has ended, and event time as it says.
    #[default]
    Reads,
    /// It gives something beside the others, holds nobody's event time, and the pipeline ends without it.
    Attends,
    /// It gives something while the others rest: the pipeline goes on until it is told to drain.
    Leads,
    /// It gives nothing, and event time stands.
    Rests,
}

/// What a source answers when it is asked for records.
#[derive(Debug)]
pub enum Read {
    /// Records, at most as many as asked for, but at least one if the first is larger than the limit; none where
    /// everything read was refused.
    Chunk(Chunk),
    /// Letters that go back to who refused them: they have been records before, and move no event time.
    Again(Replayed),
    /// There will never be more.
    End,
}

/// A source of records. The loop that drives one:
///
/// ```text
/// loop { select! {
///     read    = source.read(limit)   => stamp, cut, send;
///     barrier = coordinator          => note source.position() for this epoch, send the barrier;
///     done    = coordinator          => source.commit(position of the committed epoch);
/// } }
/// ```
pub trait Source: Send {
    /// Waits for records. Cancel safe: a future dropped before it is ready, polled or not, has taken nothing.
    ///
    /// # Errors
    /// What ends the pipeline; input that cannot be decoded does not.
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>>;

    /// Where the source stands after all that `read` returned.
    fn position(&self) -> Position;

    /// Goes back to `position`, where the source can; `Ok(false)` where it cannot, and what was sent since the
    /// last commit has to be kept and sent again by the caller.
    ///
    /// # Errors
    /// When the source could go back, but what stood there has gone.
    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>>;

    /// Says that everything before `position` is committed: the time to acknowledge.
    ///
    /// # Errors
    /// When an acknowledgement cannot be given for good.
    fn commit<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Facts that have changed since the last commit that the source was told of; they commit together with the position
    /// that is reported now.
    fn changes(&mut self) -> Vec<Kept> {
        Vec::new()
    }

    /// Gives back all facts that earlier processes have committed.
    ///
    /// # Errors
    /// When they say nothing that the source understands.
    fn recall(&mut self, _facts: Vec<Kept>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Whether somebody waits for what was read to be committed, so that an epoch should begin soon.
    fn is_awaited(&self) -> bool {
        false
    }

    /// A flag that is raised while the pipeline is paused, where the source turns others away meanwhile.
    fn paused(&self) -> Option<Arc<AtomicBool>> {
        None
    }

    /// What it has to do with the course of the pipeline.
    fn role(&self) -> Role {
        Role::Reads
    }

    /// Takes nothing new from now on: a drain has begun. `read` returns what has been accepted, then `End`.
    fn stop(&mut self);
}
