//! What it costs to keep things: groups in memory, epochs in the store, records in a log.
//!
//! Owns the sizes. Invariant: what is written is on the disk, synced, before the clock is stopped.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tidegate::{
    batch::Batch,
    config::OnError,
    disk::RealDisk,
    epoch::Epoch,
    log::{self, Block, From, Log},
    plugin::Engine,
    stage::{
        table::slot,
        worker::{SavedGroups, Work, Worker},
    },
    store::{Commit, Lock, Place, Settings, Store, pace},
};

use crate::calls::{failed, spec};
use crate::clock::{Start, Took, median};

/// How many keys there are.
pub const KEYS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// How many groups an epoch has changed.
pub const CHANGED: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Records of a run of the aggregate.
pub const FOLDED: u64 = 1 << 20;

/// Records of 256 bytes that go through the log.
pub const LOGGED: u64 = 1 << 20;

/// Records of a batch, and of a block of the log.
const BATCH: u64 = 1024;

/// Epochs in which the log is written.
const EPOCHS: u64 = 16;

/// Kind of a group's value in the store.
const GROUP: u8 = 4;

/// SplitMix64, so that keys come in no order.
fn noise(at: u64) -> u64 {
    let mut z = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Records with the keys that `key` gives them.
fn batch(rows: std::ops::Range<u64>, key: impl Fn(u64) -> u64) -> anyhow::Result<Batch> {
    let values = rows.clone().map(|_| "0123456789abcdef").collect();
    let keys = rows.clone().map(|at| format!("key-{:08}", key(at))).collect();
    Ok(Batch::of_values(values).with_keys(keys)?.with_timestamps(rows.map(|_| 0).collect())?)
}

/// A running aggregate, the whole stage, over as many keys, all of which it has seen before.
///
/// # Errors
/// Those of the plugin.
pub fn fold(keys: u64, rounds: usize) -> anyhow::Result<Took> {
    let engine = Engine::new(None)?;
    let mut worker = Worker::new(spec("fold", &engine, OnError::Stop)?, 0, 0, &SavedGroups::new(), |_| true, None)
        .map_err(failed)?;
    for first in (0..keys).step_by(BATCH as usize) {
        let batch = batch(first..(first + BATCH).min(keys), |at| at)?;
        worker.work(Work::Batch(0, batch)).map_err(failed)?;
    }
    worker.take_changes();
    let mut runs = Vec::new();
    for round in 0..rounds as u64 {
        let begin = round * FOLDED;
        let batches = (begin..begin + FOLDED).step_by(BATCH as usize);
        let batches: Vec<Batch> =
            batches.map(|first| batch(first..first + BATCH, |at| noise(at) % keys)).collect::<Result<_, _>>()?;
        let started = Start::now();
        for batch in batches {
            worker.work(Work::Batch(0, batch)).map_err(failed)?;
        }
        runs.push(started.took());
        worker.take_changes();
    }
    Ok(median(&runs))
}

/// A commit of as many changed groups of 24 bytes of state, the sync included, and how far apart epochs lie then.
///
/// # Errors
/// Those of the store.
pub fn commit(changed: u64, rounds: usize) -> anyhow::Result<(Took, Duration)> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(Arc::new(RealDisk), folder.path(), Lock::take(folder.path())?, Settings::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut runs, mut apart) = (Vec::new(), Duration::ZERO);
    for epoch in 0..=rounds as u64 {
        let mut commit = Commit::of_epoch("p".into(), epoch, 0);
        for at in 0..changed {
            let key = format!("key-{:08}", noise(at));
            let place = Place::group(GROUP, "s", slot(key.as_bytes()), key.as_bytes(), None);
            commit.put(&place, &[&epoch.to_be_bytes()[..], &[0; 45]].concat());
        }
        let started = Start::now();
        let committed = runtime.block_on(store.commit(commit))?;
        // The first one makes the groups.
        if epoch > 0 {
            runs.push(started.took());
            apart = pace(committed.took, Duration::from_secs(1));
        }
    }
    Ok((median(&runs), apart))
}

/// Records written to a log, synced at each epoch, and read.
///
/// # Errors
/// Those of the log.
pub fn log(rounds: usize) -> anyhow::Result<(Took, Took)> {
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let folder = tempfile::tempdir()?;
        let log = Log::open(Arc::new(RealDisk), folder.path(), None, log::Settings::default())?;
        let payload: bytes::Bytes = vec![7; 256 * BATCH as usize].into();
        let started = Start::now();
        for epoch in 1..=EPOCHS {
            for _ in 0..LOGGED / EPOCHS / BATCH {
                let (records, times) = (BATCH as u32, (0, 0));
                log.append(&Block { payload: payload.clone(), records, times, epoch: Epoch(epoch) })?;
            }
            log.committed(log.sync()?);
        }
        written.push(started.took());
        let (mut reader, mut records) = (log.reader(From::Start)?, 0);
        let started = Start::now();
        while let Some((_, block)) = reader.next()? {
            records += u64::from(block.records);
        }
        read.push(started.took());
        ensure!(records == LOGGED, "{records} records were read of {LOGGED}");
    }
    Ok((median(&written), median(&read)))
}
