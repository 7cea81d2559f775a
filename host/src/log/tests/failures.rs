//! The n-th operation fails, for every n and every kind of failure.

use super::*;
use crate::{
    disk::sim::Failure,
    log::{Keep, Reader},
};

/// Payloads appended in each epoch.
const EPOCHS: [&[usize]; 5] = [&[100, 50], &[399, 0, 222, 10], &[], &[400, 400, 3], &[31]];

/// What was committed, as the store would know it.
#[derive(Default)]
struct Committed {
    mark: Mark,
    blocks: Vec<(u64, Block)>,
    epochs: usize,
}

/// A failure that the disk answers for is tried once more; what was appended by then must not be lost or doubled.
fn again<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    match call() {
        Err(Error::Io { .. }) => call(),
        done => done,
    }
}

/// Goes on from `committed` to the last epoch, or until something fails that cannot be tried again.
fn run(sim: &Sim, committed: &mut Committed) -> Result<(), Error> {
    let log = again(|| open_with(sim, committed.mark, SMALL))?;
    let mut reader: Reader = again(|| log.reader(From::Start))?;
    let mut expected = committed.blocks.clone();
    while committed.epochs < EPOCHS.len() {
        let mut offset = committed.mark.offset;
        for size in EPOCHS[committed.epochs] {
            let block = block(offset, *size);
            assert_eq!(again(|| log.append(&block))?, offset);
            offset += u64::from(block.records);
            committed.blocks.push((offset - u64::from(block.records), block));
        }
        let synced = again(|| log.sync());
        if synced.is_err() {
            committed.blocks.truncate(expected.len());
        }
        committed.mark = synced?;
        expected.clone_from(&committed.blocks);
        committed.epochs += 1;
        log.committed(committed.mark);
        while let Some(found) = again(|| reader.next())? {
            assert!(expected.contains(&found));
        }
        assert_eq!(reader.offset(), committed.mark.offset);
    }
    again(|| log.retain(0, Keep { bytes: Some(1 << 20), ..Keep::default() }))?;
    Ok(())
}

impl Committed {
    /// After a crash, only what was committed counts.
    fn forget_the_rest(&mut self) {
        self.blocks.retain(|(offset, _)| *offset < self.mark.offset);
    }
}

#[test]
fn whatever_fails_nothing_committed_is_lost_and_the_log_goes_on() {
    for failure in Failure::ALL {
        let mut fired = 0;
        for nth in 1.. {
            for seed in 0..12 {
                let sim = disk();
                let mut committed = Committed::default();
                sim.fail(nth, failure);
                let done = run(&sim, &mut committed);
                fired = if sim.fired() { nth } else { fired };
                if matches!(failure, Failure::NoSpace | Failure::Short) {
                    assert!(done.is_ok(), "a full disk is only to be tried again: {done:?}");
                }
                if let Err(error) = done {
                    let of_disk = matches!(error, Error::Io { .. } | Error::Unsynced { .. });
                    assert!(sim.fired() && of_disk, "{failure:?} {nth}: {error}");
                }
                committed.forget_the_rest();
                // The process starts again, and the machine goes on or does as well.
                if sim.is_down() || !sim.fired() || seed % 2 == 0 {
                    sim.restart(seed);
                    let log = open(&sim, committed.mark);
                    assert_eq!(read_all(&log), committed.blocks, "{failure:?} {nth} {seed}");
                }
                run(&sim, &mut committed).unwrap();
                sim.restart(seed);
                let log = open(&sim, committed.mark);
                assert_eq!(read_all(&log), committed.blocks, "{failure:?} {nth} {seed}");
            }
            if fired < nth {
                break;
            }
        }
        assert!(fired > 5, "{failure:?}");
    }
}

#[test]
fn after_a_write_that_found_no_space_what_was_appended_is_kept_and_nothing_half_written_is_read() {
    for failure in [Failure::NoSpace, Failure::Short, Failure::Eio] {
        let sim = disk();
        let log = open(&sim, None);
        let first = append(&log, &[100]);
        commit(&log);
        let more = append(&log, &[200, 200]);
        sim.fail(1, failure);
        assert!(matches!(log.sync(), Err(Error::Io { .. })), "{failure:?}");
        assert_eq!(read_all(&log), first, "{failure:?}");
        let last = append(&log, &[7]);
        let mark = commit(&log);
        let all = [first, more, last].concat();
        assert_eq!(read_all(&log), all, "{failure:?}");
        assert_eq!(read_all(&open(&sim, mark)), all, "{failure:?}");
    }
}

#[test]
fn an_append_that_failed_has_appended_nothing() {
    let sim = disk();
    let log = open(&sim, None);
    let written = append(&log, &[400]);
    let (bytes, next) = (log.bytes(), block(1, 400));
    // What has to be written before the segment can be changed; the new file, after that was written; and its length.
    for nth in [1, 2, 2] {
        sim.fail(nth, Failure::Eio);
        assert!(matches!(log.append(&next), Err(Error::Io { .. })) && sim.fired());
        assert_eq!(log.bytes(), bytes);
    }
    assert_eq!(log.append(&next).unwrap(), 1);
    commit(&log);
    assert_eq!(read_all(&log), [written, vec![(1, next)]].concat());
}

#[test]
fn after_a_sync_that_failed_nothing_more_is_taken() {
    // Syncs of two files and of the folder.
    for nth in 0..3 {
        let sim = disk();
        let log = open(&sim, None);
        let written = append(&log, &[100]);
        let mark = commit(&log);
        append(&log, &[400, 400]);
        let before = sim.operations();
        // One write, of the last segment, comes first.
        sim.fail(2 + nth, Failure::Eio);
        let first = log.sync().unwrap_err();
        assert!(matches!(first, Error::Unsynced { .. }) && sim.fired(), "{first}");
        let operations = sim.operations();
        assert_eq!(operations - before, 2 + nth);
        for _ in 0..2 {
            assert_eq!(log.append(&block(0, 1)).unwrap_err().to_string(), first.to_string());
            assert_eq!(log.sync().unwrap_err().to_string(), first.to_string());
            assert_eq!(log.retain(0, Keep::default()).unwrap_err().to_string(), first.to_string());
        }
        assert_eq!(sim.operations(), operations, "the disk is not asked again");
        assert_eq!(read_all(&log), written, "readers go on");
        let log = open(&sim, mark);
        let all = [written, append(&log, &[400, 5])].concat();
        let mark = commit(&log);
        for seed in 0..8 {
            sim.restart(seed);
            assert_eq!(read_all(&open(&sim, mark)), all, "what the failed sync left does no harm");
        }
    }
}
