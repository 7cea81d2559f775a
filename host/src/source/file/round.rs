//! The files of one source, and which of them is read next.
//!
//! Owns the block in hand and its decoding. What a look at the folders means is the business of `follow`. Invariant:
//! the block begins at the offset of the file it is from.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    follow::STILL,
    pattern::{Pattern, Seen},
    tail::{Mark, Tail},
};
use crate::{
    batch::{BatchBuilder, Limit},
    codec::{Decoder, Format, Origin, Stamp},
    source::Chunk,
};

/// Bytes of one read: a system call for thousands of records, and small enough for the cache.
const BLOCK: usize = 512 << 10;
/// Bytes in hand below which more are read, so that batches do not end where a block ends.
const LOW: usize = 128 << 10;
/// How often files at their end, and their folders, are looked at: the latency of a record in a quiet file.
const POLL: Duration = Duration::from_millis(150);

/// What it takes to make a decoder.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) format: Format,
    pub(super) stamp: Stamp,
    pub(super) max_record: usize,
}

impl Recipe {
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::new(self.format, &self.stamp, self.max_record)
    }
}

/// Which input a file is that is known by these numbers.
fn input(known: &[u128]) -> u128 {
    let bytes: Vec<u8> = known.iter().flat_map(|part| part.to_le_bytes()).collect();
    xxh3_128(&bytes)
}

/// Which input a file is that was `before`, and begins again.
pub(super) fn again(before: u128) -> u128 {
    input(&[before])
}

/// The files, gone round in order.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) pattern: Pattern,
    pub(super) follow: bool,
    pub(super) recipe: Recipe,
    pub(super) tails: Vec<Tail>,
    /// Inputs that files were which have been written anew while nobody looked.
    pub(super) begun: HashMap<(u64, u64), u128>,
    /// Position of the file in hand.
    pub(super) at: usize,
    /// What has been read of it and not handed out, from `from` on.
    block: Vec<u8>,
    from: usize,
    visit: Visit,
    /// Whether this round has read anything.
    stirred: bool,
    /// Whether a round is under way.
    under_way: bool,
    builder: BatchBuilder,
    /// When the folders were last looked at.
    pub(super) looked: Option<Instant>,
    /// How long to wait at the end of all files.
    pub(super) poll: Duration,
    /// How long what has been moved away has to be still to be over.
    pub(super) still: Duration,
    /// Until when there is nothing to do.
    pub(super) due: Option<Instant>,
    /// Whether files came or went.
    pub(super) changed: bool,
    /// Files that have been read to their end since the marks were last taken.
    pub(super) over: Vec<usize>,
    pub(super) ended: bool,
    pub(super) error: Option<anyhow::Error>,
}

/// How far the file in hand has got in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// Not looked at yet.
    Due,
    /// Read on up to this offset, the size that the file had: one that grows all the time must not keep the others
    /// waiting.
    Until(u64),
    /// Read on to the end, which is the file's last.
    Rest,
    /// Nothing more to read in this round; what the decoder leaves stays unread.
    Dry,
    /// Nothing more to read, ever: what the decoder leaves is a record.
    Last,
    /// All of it has been handed out.
    Over,
}

impl Round {
    pub(super) fn new(pattern: Pattern, found: Vec<Seen>, follow: bool, recipe: Recipe, now: Instant) -> Self {
        let builder = recipe.decoder().builder();
        let mut round = Self {
            pattern,
            follow,
            recipe,
            tails: Vec::new(),
            begun: HashMap::new(),
            at: 0,
            block: Vec::new(),
            from: 0,
            visit: Visit::Due,
            stirred: false,
            under_way: true,
            builder,
            looked: Some(now),
            poll: POLL,
            still: STILL,
            due: None,
            changed: false,
            over: Vec::new(),
            ended: false,
            error: None,
        };
        for seen in found {
            if round.pattern.allows(&seen.path) {
                let tail = round.tail(seen, now);
                round.tails.push(tail);
            }
        }
        round
    }

    pub(super) fn tail(&self, seen: Seen, now: Instant) -> Tail {
        let born = seen.born.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut tail = Tail::new(seen, self.recipe.decoder(), now);
        let begun = self.begun.get(&tail.id()).copied();
        let known = [u128::from(tail.dev), u128::from(tail.inode), born];
        tail.decoder.begin(begun.map_or_else(|| input(&known), again));
        tail
    }

    /// How far each file has been handed out.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.tails.iter().map(Tail::mark).collect()
    }

    /// How far the file at position `at` has been handed out.
    pub(super) fn mark(&self, at: usize) -> Option<Mark> {
        self.tails.get(at).map(Tail::mark)
    }

    /// Forgets the block in hand and begins a round.
    pub(super) fn begin(&mut self) {
        self.put_down();
        self.at = 0;
        self.stirred = false;
        self.under_way = true;
        (self.due, self.ended) = (None, false);
    }

    fn put_down(&mut self) {
        self.block.clear();
        self.from = 0;
        self.visit = Visit::Due;
    }

    /// Records of the block in hand; `None` when more has to be fetched first.
    pub(super) fn decode(&mut self, most: Limit) -> Option<Chunk> {
        let tail = self.tails.get_mut(self.at)?;
        let bytes = &self.block[self.from..];
        let ready = match self.visit {
            Visit::Due | Visit::Over => false,
            Visit::Until(_) | Visit::Rest => bytes.len() >= LOW,
            Visit::Dry => !bytes.is_empty(),
            Visit::Last => true,
        };
        if !ready {
            return None;
        }
        let origin = Origin { name: &tail.name, offset: tail.offset };
        let mut undecoded = Vec::new();
        let used = match self.visit {
            Visit::Last => tail.decoder.end(bytes, origin, &mut self.builder, &mut undecoded, most),
            _ => tail.decoder.feed(bytes, origin, &mut self.builder, &mut undecoded, most),
        };
        tail.advance(&bytes[..used]);
        self.from += used;
        if self.visit == Visit::Last && self.from == self.block.len() {
            self.visit = Visit::Over;
            tail.done = true;
        }
        if !self.builder.is_empty() || !undecoded.is_empty() {
            return Some(Chunk { batch: self.builder.finish(), undecoded, ..Chunk::default() });
        }
        // Blank lines and the like: used up, and nothing to show.
        if used > 0 { self.decode(most) } else { None }
    }

    /// Reads on: afterwards there is more in hand, or the files have ended, or there is nothing to do until `due`.
    pub(super) fn fetch(&mut self, now: Instant) {
        self.due = None;
        loop {
            match self.advance(now) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }

    /// One step; true when the caller should look at what it came to.
    fn advance(&mut self, now: Instant) -> anyhow::Result<bool> {
        if self.at >= self.tails.len() {
            return self.turn(now);
        }
        match self.visit {
            Visit::Due => {
                self.visit = self.arrive(now)?;
                Ok(false)
            }
            Visit::Until(end) => self.read(end, Visit::Dry, now),
            Visit::Rest => self.read(u64::MAX, Visit::Last, now),
            Visit::Last => Ok(true),
            Visit::Dry | Visit::Over => {
                if let Some(tail) = self.tails.get_mut(self.at) {
                    tail.tried = tail.offset + (self.block.len() - self.from) as u64;
                    if self.visit == Visit::Over {
                        // What is over needs no descriptor, and is opened again should it grow all the same.
                        tail.file = None;
                        self.over.push(self.at);
                    }
                }
                self.put_down();
                self.at += 1;
                Ok(false)
            }
        }
    }

    /// At the end of a round: another one, or a rest.
    fn turn(&mut self, now: Instant) -> anyhow::Result<bool> {
        if !self.follow {
            self.ended = true;
            return Ok(true);
        }
        if self.under_way && !self.stirred {
            self.under_way = false;
            self.due = Some(now + self.poll);
            return Ok(true);
        }
        if self.looked.is_none_or(|looked| now >= looked + self.poll) {
            self.looked = Some(now);
            self.look(now)?;
        }
        self.begin();
        Ok(false)
    }

    /// Comes to a file: what there is to do with it in this round.
    fn arrive(&mut self, now: Instant) -> anyhow::Result<Visit> {
        if self.follow {
            return self.arrive_following(now);
        }
        let Some(tail) = self.tails.get_mut(self.at).filter(|tail| !tail.done) else { return Ok(Visit::Dry) };
        if let Err(error) = tail.open() {
            return Err(error).with_context(|| format!("open {}", tail.name));
        }
        Ok(Visit::Rest)
    }

    fn read(&mut self, end: u64, then: Visit, now: Instant) -> anyhow::Result<bool> {
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(false) };
        self.block.drain(..self.from);
        self.from = 0;
        let held = self.block.len();
        let at = tail.offset + held as u64;
        if at >= end {
            self.visit = then;
            return Ok(true);
        }
        let most = BLOCK.max(held);
        let count = tail.read(at, most, &mut self.block).with_context(|| format!("read {}", tail.name))?;
        if self.follow && !tail.is_intact().with_context(|| format!("read {}", tail.name))? {
            // Truncated since: what was read before is good, this block is not. The next round sees to it.
            self.block.truncate(held);
            tail.looked = None;
            self.visit = Visit::Dry;
            return Ok(true);
        }
        if self.follow && at == 0 && self.missed()? {
            // Truncated before anything was read: what stood here comes first.
            self.put_down();
            return Ok(false);
        }
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(false) };
        if count > 0 {
            self.stirred = true;
            tail.stirred = now;
        } else {
            self.visit = then;
        }
        Ok(true)
    }
}
