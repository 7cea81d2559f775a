//! What a read brought, on its way to batches: stamped, refused where it cannot be, cut where watermarks pass.
//!
//! Owns what becomes of a chunk before it is sent, and the counts of it. It must not know when anything is read or sent.
//! Invariant: a watermark stands behind everything that it was told behind, whatever batches the records were in.

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::{Out, SourceTask};
use crate::{
    batch::{Batch, Column, ID},
    codec::id_of,
    letter::{PLACE, with_header, with_reasons},
    source::Chunk,
    stage::{
        outlet::{Control, Port, Sent},
        tally::Tally,
    },
    time::{BEGIN, Mark},
};

impl SourceTask {
    pub(super) fn take_chunk(&mut self, chunk: Chunk) {
        let arrival = self.terms.wall.now();
        let undecoded = chunk.undecoded.len() as u64 + chunk.answered;
        let mut batch = chunk.batch;
        let first = self.tally.received;
        let (lost, dropped) = (chunk.lost, chunk.dropped);
        let received = batch.len() as u64 + undecoded + lost + dropped;
        let mut tally = Tally { received, refused: undecoded, lost, dropped, ..Tally::default() };
        if batch.timestamps().is_none() {
            let times = vec![arrival; batch.len()];
            batch = batch.clone().with_timestamps(times).unwrap_or(batch);
        }
        // A source whose records have a place of their own has named them after it.
        if self.terms.has_ids && batch.named(ID).is_none() {
            let ids = ids(&self.terms.name, self.salt, first, batch.len());
            batch = batch.clone().with_named(ID.into(), ids).unwrap_or(batch);
        }
        let future = self.clock.too_far_ahead(batch.timestamps().unwrap_or_default(), self.terms.wall.latest());
        if !future.is_empty() {
            tally.refused += future.len() as u64;
            let refused = batch.gather(&future);
            let reason = Column::repeat(b"its event time lies too far ahead of its arrival", refused.len());
            batch = batch.gather(&crate::stage::assemble::others(batch.len(), [&future, &[]]));
            self.refuse(&refused, &reason, "event time");
        }
        if !chunk.undecoded.is_empty() {
            let place = chunk.undecoded.first().map(|one| one.place.clone()).unwrap_or_default();
            let raw: Column = chunk.undecoded.iter().map(|one| &one.raw).collect();
            let reasons: Column = chunk.undecoded.iter().map(|one| &one.reason).collect();
            let places: Column = chunk.undecoded.iter().map(|one| &one.place).collect();
            let times = vec![arrival; raw.len()];
            let refused = Batch::of_values(raw).with_timestamps(times).unwrap_or_default();
            let refused = with_header(&refused, PLACE, &places);
            self.refuse(&refused, &reasons, &place);
        }
        tally.passed = batch.len() as u64;
        tally.produced = batch.len() as u64;
        self.tally.add(&tally);
        self.meter.count(&tally);
        let mut start = 0;
        for (at, watermark) in chunk.watermarks {
            self.hold(batch.slice(start, at));
            start = at;
            self.tell(watermark);
        }
        self.hold(batch.slice(start, batch.len()));
    }

    /// Keeps records until there are enough for a batch.
    fn hold(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.pending.push(batch);
            self.pending_since.get_or_insert_with(Instant::now);
        }
    }

    /// Sends on how far event time has come, behind everything that was read before.
    fn tell(&mut self, watermark: i64) {
        self.flush();
        if self.clock.tell(watermark) {
            // Whoever says how far time has come is there.
            self.is_idle = false;
            self.mark(watermark);
        }
    }

    fn mark(&mut self, watermark: i64) {
        self.meter.watermark(watermark);
        self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::At(watermark)))));
    }

    /// Sends refused input to who reads it; where nobody does, it has been counted and is logged with its place.
    fn refuse(&mut self, refused: &Batch, reasons: &Column, place: &str) {
        if self.terms.is_refused_read {
            self.flush();
            let batch = with_reasons(refused, &self.terms.name, reasons);
            self.outbox.push_back(Out::Item(Sent::Batch(Port::Refused, batch)));
        } else {
            let reason = reasons.get(0).map(String::from_utf8_lossy).unwrap_or_default();
            tracing::warn!(source = self.terms.name, refused = refused.len(), place, %reason, "input refused");
        }
    }

    /// Makes batches of what is pending and cuts them where the watermark moves.
    pub(super) fn flush(&mut self) {
        self.pending_since = None;
        if self.pending.is_empty() {
            return;
        }
        let batch = Batch::concat(&self.pending);
        self.pending.clear();
        if self.is_idle {
            self.is_idle = false;
            let watermark = self.clock.state().watermark;
            if watermark > BEGIN {
                self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::At(watermark)))));
            }
        }
        let mut start = 0;
        for cut in self.clock.advance(batch.timestamps().unwrap_or_default()) {
            self.outbox.push_back(Out::Item(Sent::Batch(Port::Main, batch.slice(start, cut.end))));
            start = cut.end;
            if let Some(watermark) = cut.watermark {
                self.mark(watermark);
            }
        }
    }
}

/// Ids of records that the source gave none: a hash of its name, `salt` and the record's number.
fn ids(name: &str, salt: u128, first: u64, len: usize) -> Column {
    let root = xxh3_128(name.as_bytes());
    (first..first + len as u64).map(|number| id_of(root, salt, number)).collect()
}
