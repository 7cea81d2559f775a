//! What retention removes, and what it must not.

use std::{
    io,
    sync::{OnceLock, Weak},
};

use super::*;
use crate::{
    disk::{File, How, sim::Failure},
    log::{Keep, Removed},
};

const KEEP_NOTHING: Keep<'_> = Keep { age: None, bytes: Some(0), needed: None, struck: None };

/// A log of several segments, each of two blocks; and the offsets at which they begin.
fn filled(sim: &Sim) -> (Arc<Log>, Vec<u64>) {
    let log = open(sim, None);
    append(&log, &[200; 12]);
    commit(&log);
    (log, firsts(sim))
}

fn firsts(sim: &Sim) -> Vec<u64> {
    segment::list(sim, &folder()).unwrap()
}

#[test]
fn nothing_goes_that_is_not_limited() {
    let sim = disk();
    let (log, firsts) = filled(&sim);
    assert_eq!(firsts, [0, 2, 4, 6, 8, 10]);
    assert_eq!(log.retain(i64::MAX, Keep::default()).unwrap(), Removed::default());
    assert_eq!(log.first(), 0);
}

#[test]
fn the_oldest_go_by_size_until_the_rest_fits() {
    let sim = disk();
    let (log, _) = filled(&sim);
    let one = 72 + 2 * (56 + 200);
    assert_eq!(log.bytes(), 6 * one);
    let removed = log.retain(0, Keep { bytes: Some(3 * one), ..Keep::default() }).unwrap();
    assert_eq!(removed, Removed { segments: 3, records: 6, bytes: 3 * one });
    assert_eq!((firsts(&sim), log.first(), log.bytes()), (vec![6, 8, 10], 6, 3 * one));
}

#[test]
fn the_oldest_go_by_age_of_their_youngest_record() {
    let sim = disk();
    let (log, _) = filled(&sim);
    // The second segment holds the records 2 and 3, whose times end with 39.
    let keep = Keep { age: Some(100), ..Keep::default() };
    assert_eq!(log.retain(139, keep).unwrap().segments, 1);
    assert_eq!(log.retain(140, keep).unwrap().segments, 1);
    assert_eq!(firsts(&sim), [4, 6, 8, 10]);
    let again = open(&sim, log.sync().unwrap());
    assert_eq!(again.retain(160, keep).unwrap().segments, 1, "ages are known after a start too");
}

#[test]
fn the_segment_that_is_written_and_what_is_not_committed_never_go() {
    let sim = disk();
    let log = open(&sim, None);
    append(&log, &[200; 3]);
    assert_eq!(log.retain(i64::MAX, KEEP_NOTHING).unwrap().segments, 0, "nothing is committed");
    let mark = commit(&log);
    append(&log, &[200; 6]);
    assert_eq!(log.retain(i64::MAX, KEEP_NOTHING).unwrap().segments, 1);
    assert_eq!(log.first(), mark.segment, "the committed end lies there");
    commit(&log);
    log.retain(i64::MAX, Keep { age: Some(0), ..KEEP_NOTHING }).unwrap();
    assert_eq!(log.first(), 8);
    assert_eq!(read_all(&log).len(), 1);
}

#[test]
fn what_a_reader_still_needs_never_goes() {
    for needed in 0..=12 {
        let sim = disk();
        let (log, firsts) = filled(&sim);
        log.retain(i64::MAX, Keep { age: Some(0), needed: Some(needed), ..KEEP_NOTHING }).unwrap();
        let left = *firsts.iter().rev().find(|first| **first <= needed).unwrap();
        assert_eq!(log.first(), left.min(10), "{needed}");
        assert!(log.reader(From::Offset(needed)).is_ok());
    }
}

#[test]
fn a_reader_that_was_overtaken_is_told_what_there_is() {
    let sim = disk();
    let (log, _) = filled(&sim);
    let mut readers = [From::Start, From::Offset(3)].map(|from| log.reader(from).unwrap());
    readers[0].next().unwrap();
    log.retain(0, Keep { bytes: Some(2000), ..Keep::default() }).unwrap();
    for reader in &mut readers {
        assert!(matches!(reader.next(), Err(Error::Gone { first: 6 })));
    }
    assert!(matches!(log.reader(From::Offset(5)), Err(Error::Gone { first: 6 })));
    assert_eq!(log.reader(From::Offset(6)).unwrap().next().unwrap().unwrap().0, 6);
    assert_eq!(log.reader(From::Start).unwrap().offset(), 6);
    let again = open(&sim, log.sync().unwrap());
    assert_eq!((again.first(), again.verify().unwrap().blocks), (6, 6));
}

/// A disk on which retention is quicker than whoever opens a file.
#[derive(Debug)]
struct Overtaken {
    sim: Sim,
    log: OnceLock<Weak<Log>>,
}

impl Disk for Overtaken {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn File>> {
        if let Some(log) = self.log.get().and_then(Weak::upgrade) {
            log.retain(0, KEEP_NOTHING).unwrap();
        }
        self.sim.open(path, how)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.sim.list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.sim.create_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.sim.sync_folder(folder)
    }
}

#[test]
fn a_reader_that_is_overtaken_while_it_opens_a_file_is_told_so_and_a_file_that_was_lost_is_damage() {
    let disk = Arc::new(Overtaken { sim: disk(), log: OnceLock::new() });
    let log = Log::open(disk.clone(), &folder(), None, SMALL).unwrap();
    append(&log, &[200; 6]);
    commit(&log);
    disk.log.set(Arc::downgrade(&log)).unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    assert!(matches!(reader.next(), Err(Error::Gone { first: 4 })));
    disk.sim.remove(&file(4)).unwrap();
    let lost = log.reader(From::Start).unwrap().next();
    assert!(matches!(&lost, Err(Error::Damaged { file: f, at: 0, .. }) if *f == file(4)), "{lost:?}");
}

#[test]
fn a_crash_while_segments_are_removed_leaves_no_hole() {
    for failure in Failure::ALL {
        for nth in 1.. {
            for seed in 0..8 {
                let sim = disk();
                let (log, _) = filled(&sim);
                let mark = log.sync().unwrap();
                sim.fail(nth, failure);
                let removed = log.retain(i64::MAX, KEEP_NOTHING);
                assert_eq!(removed.is_err(), sim.fired(), "{failure:?} {nth}");
                if sim.fired() && !sim.is_down() {
                    let again = log.retain(i64::MAX, KEEP_NOTHING);
                    assert!(again.is_ok() || matches!(again, Err(Error::Unsynced { .. })), "{again:?}");
                }
                sim.restart(seed);
                let again = open(&sim, mark);
                let (first, found) = (again.first(), read_all(&again));
                assert!(first <= 10 && found.len() as u64 == 12 - first);
            }
            let sim = disk();
            let (log, _) = filled(&sim);
            sim.fail(nth, failure);
            let _ = log.retain(i64::MAX, KEEP_NOTHING);
            if !sim.fired() {
                break;
            }
        }
    }
}
