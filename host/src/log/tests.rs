//! The log against a list, on a disk that fails.
//!
//! What a block holds follows from the offset it should have, so that a lost, doubled, moved or invented record is seen.

mod damage;
mod failures;
mod format;
mod fuzz;
mod model;
mod reading;
mod retention;
mod whole;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Block, Error, From, Log, Mark, Settings, segment};
use crate::{
    disk::{Disk, Sim},
    epoch::Epoch,
};

/// Small enough that a few blocks change segments.
const SMALL: Settings = Settings { segment: 600, block: 400 };

/// Large enough that they never do.
const ONE_SEGMENT: Settings = Settings { segment: 1 << 20, block: 1 << 20 };

fn folder() -> PathBuf {
    "/state/log".into()
}

fn file(first: u64) -> PathBuf {
    segment::path(&folder(), first)
}

/// The block that belongs at `offset`; `size` is that of its payload, and its lowest byte the number of records.
fn block(offset: u64, size: usize) -> Block {
    let payload = (0..size).map(|i| xxh3_64_with_seed(&i.to_le_bytes(), offset) as u8).collect::<Vec<u8>>();
    let time = offset as i64 * 10;
    let records = (size % 5) as u32 + 1;
    Block {
        payload: payload.into(),
        records,
        times: (time, time + i64::from(records) * 10 - 1),
        epoch: Epoch(offset / 7),
    }
}

/// A disk whose folder for logs is durable.
fn disk() -> Sim {
    let sim = Sim::new();
    sim.create_folder(Path::new("/state")).unwrap();
    sim.sync_folder(Path::new("/")).unwrap();
    sim
}

fn open_with(sim: &Sim, committed: impl Into<Option<Mark>>, settings: Settings) -> Result<Arc<Log>, Error> {
    Log::open(Arc::new(sim.clone()), &folder(), committed.into(), settings)
}

fn open(sim: &Sim, committed: impl Into<Option<Mark>>) -> Arc<Log> {
    open_with(sim, committed, SMALL).unwrap()
}

/// Appends blocks with payloads of these sizes, and gives them with their offsets.
fn append(log: &Log, sizes: &[usize]) -> Vec<(u64, Block)> {
    let mut offset = super::locked(&log.writer).end().offset;
    let mut appended = Vec::new();
    for size in sizes {
        let block = block(offset, *size);
        assert_eq!(log.append(&block).unwrap(), offset);
        let after = offset + u64::from(block.records);
        appended.push((offset, block));
        offset = after;
    }
    appended
}

fn commit(log: &Log) -> Mark {
    let mark = log.sync().unwrap();
    log.committed(mark);
    mark
}

/// What a reader gives until it ends or fails.
fn read(log: &Arc<Log>, from: From) -> (Vec<(u64, Block)>, Option<Error>) {
    let mut found = Vec::new();
    let mut reader = match log.reader(from) {
        Ok(reader) => reader,
        Err(error) => return (found, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(block)) => found.push(block),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

fn read_all(log: &Arc<Log>) -> Vec<(u64, Block)> {
    let (found, error) = read(log, From::Start);
    assert!(error.is_none(), "{error:?}");
    found
}

#[test]
fn what_is_committed_is_read_back_before_and_after_it_is_opened_again() {
    let sim = disk();
    let log = open(&sim, None);
    assert_eq!((log.first(), log.end(), log.bytes()), (0, 0, 0));
    assert_eq!(commit(&log), Mark::default());
    let written = append(&log, &[100, 0, 250, 1, 399, 400, 64, 3]);
    assert_eq!(read_all(&log), [], "nothing is committed");
    let mark = commit(&log);
    assert_eq!(read_all(&log), written);
    assert_eq!(log.end(), mark.offset);
    assert!(log.bytes() > 1217 && mark.segment > 0);
    let verified = log.verify().unwrap();
    assert_eq!((verified.blocks, verified.records), (8, mark.offset));

    let again = open(&sim, mark);
    assert_eq!(read_all(&again), written);
    assert_eq!((again.first(), again.end(), again.bytes()), (0, mark.offset, log.bytes()));
    let more = append(&again, &[10, 20]);
    commit(&again);
    assert_eq!(read_all(&again), [written, more].concat());
}

#[test]
fn what_is_beyond_the_commit_is_cut() {
    let sim = disk();
    let log = open(&sim, None);
    let written = append(&log, &[100, 100]);
    let mark = commit(&log);
    append(&log, &[100, 300, 300, 300]);
    log.sync().unwrap();
    assert!(sim.list(&folder()).unwrap().len() > 2);

    let log = open(&sim, mark);
    assert_eq!(sim.list(&folder()).unwrap(), [file(0)]);
    assert_eq!(sim.content(&file(0)).unwrap().len() as u64, mark.bytes);
    assert_eq!(read_all(&log), written);

    let log = open(&sim, None);
    assert!(sim.list(&folder()).unwrap().is_empty(), "without a commit nothing is kept");
    assert_eq!(append(&log, &[5])[0].0, 0);
}

#[test]
fn nobody_appends_to_a_segment_that_an_earlier_process_began() {
    let sim = disk();
    let mark = {
        let log = open(&sim, None);
        append(&log, &[10]);
        commit(&log)
    };
    let before = sim.content(&file(0)).unwrap();
    let log = open(&sim, mark);
    append(&log, &[10]);
    commit(&log);
    assert_eq!(sim.content(&file(0)).unwrap(), before);
    assert_eq!(sim.list(&folder()).unwrap(), [file(0), file(mark.offset)]);
}

#[test]
fn a_segment_is_closed_where_the_next_block_would_pass_its_size() {
    let sim = disk();
    let log = open(&sim, None);
    // 72 + (56 + 208) * 2 is 600 exactly.
    append(&log, &[208, 208]);
    assert_eq!(sim.list(&folder()).unwrap().len(), 1);
    append(&log, &[0]);
    assert_eq!(sim.list(&folder()).unwrap().len(), 2);
    assert_eq!(sim.content(&file(0)).unwrap().len(), 600, "all of it is written when it is closed");
}

#[test]
fn a_block_that_does_not_fit_is_refused_and_changes_nothing() {
    let sim = disk();
    let log = open(&sim, None);
    append(&log, &[10]);
    let end = log.bytes();
    for unfit in [Block { records: 0, ..block(1, 10) }, block(1, 401)] {
        assert!(matches!(log.append(&unfit), Err(Error::Unfit { .. })));
    }
    assert_eq!(log.bytes(), end);
    assert_eq!(append(&log, &[400]).len(), 1);
}

#[test]
fn a_sync_without_anything_new_does_nothing() {
    let sim = disk();
    let log = open(&sim, None);
    append(&log, &[10]);
    let mark = commit(&log);
    let before = sim.operations();
    assert_eq!(log.sync().unwrap(), mark);
    assert_eq!(sim.operations(), before);
}

#[test]
fn little_of_what_was_appended_waits_in_memory() {
    let sim = disk();
    let log = open_with(&sim, None, Settings { segment: 64 << 20, block: 1 << 20 }).unwrap();
    let before = sim.operations();
    for offset in 0..60 {
        log.append(&Block { records: 1, ..block(offset, 100_000) }).unwrap();
        let written = sim.content(&file(0)).unwrap().len() as u64;
        assert!(log.bytes() - written <= 1 << 20, "after {offset}");
    }
    assert_eq!(sim.operations() - before, 2 + 5, "the file is made, then written a mebibyte at a time");
}
