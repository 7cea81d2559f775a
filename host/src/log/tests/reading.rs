//! Where readers begin, and that many of them go on while one writes.

use std::sync::mpsc;

use super::*;
use crate::disk::RealDisk;

#[test]
fn a_reader_begins_where_it_is_told() {
    let sim = disk();
    let log = open(&sim, None);
    let written = append(&log, &[100, 0, 251, 1, 399, 400, 64, 3, 128]);
    commit(&log);
    for (i, (offset, block)) in written.iter().enumerate() {
        for record in 0..u64::from(block.records) {
            assert_eq!(read(&log, From::Offset(offset + record)).0, written[i..], "the block that holds the record");
            assert_eq!(read(&log, From::Time((offset + record) as i64 * 10 + 9)).0, written[i..]);
        }
    }
    let end = log.end();
    assert_eq!(read(&log, From::Time(end as i64 * 10)).0, []);
    assert_eq!(read(&log, From::Time(i64::MIN)).0, written);
    let again = open(&sim, log.sync().unwrap());
    for from in [From::End, From::Offset(end), From::Time(i64::MAX)] {
        let mut reader = again.reader(from).unwrap();
        assert_eq!((reader.offset(), reader.next().unwrap()), (end, None));
    }
    let beyond = again.reader(From::Offset(end + 1));
    assert!(matches!(beyond, Err(Error::Beyond { offset, end: at }) if (offset, at) == (end + 1, end)), "{beyond:?}");
}

#[test]
fn a_reader_sees_each_commit_and_nothing_before_it() {
    let sim = disk();
    let log = open(&sim, None);
    let mut readers = [From::Start, From::End, From::Offset(0)].map(|from| log.reader(from).unwrap());
    for round in 0..20 {
        let written = append(&log, &[round * 7, 90, round]);
        let mark = log.sync().unwrap();
        readers.iter_mut().for_each(|reader| assert_eq!(reader.next().unwrap(), None, "not committed yet"));
        log.committed(mark);
        for reader in &mut readers {
            for block in &written {
                assert_eq!(reader.next().unwrap().as_ref(), Some(block));
            }
            assert_eq!((reader.next().unwrap(), reader.offset()), (None, mark.offset));
        }
    }
}

#[test]
fn a_mark_that_is_older_takes_nothing_back() {
    let sim = disk();
    let log = open(&sim, None);
    append(&log, &[1, 2]);
    let older = commit(&log);
    let written = append(&log, &[3, 4]);
    commit(&log);
    log.committed(older);
    assert_eq!(read(&log, From::Offset(older.offset)).0, written);
}

#[test]
fn times_out_of_order_hide_no_record_from_a_reader_that_begins_at_a_time() {
    let sim = disk();
    let log = open(&sim, None);
    let times = [(50, 90), (5, 10), (70, 80), (1, 2), (95, 99), (3, 4)];
    for (i, times) in times.into_iter().enumerate() {
        log.append(&Block { records: 1, times, ..block(i as u64, 300) }).unwrap();
    }
    let mark = commit(&log);
    for log in [log, open(&sim, mark)] {
        for (time, first) in [(0, 0), (90, 0), (91, 4), (99, 4), (100, 6)] {
            assert_eq!(log.reader(From::Time(time)).unwrap().offset(), first, "{time}");
        }
    }
}

#[test]
fn a_reader_that_meets_damage_stays_there_and_says_so_again() {
    let sim = disk();
    let log = open(&sim, None);
    let written = append(&log, &[100, 100, 100]);
    commit(&log);
    let mut bytes = sim.content(&file(0)).unwrap();
    bytes[72 + 56 * 2 + 150] ^= 1;
    sim.set_content(&file(0), &bytes);
    let mut reader = log.reader(From::Start).unwrap();
    assert_eq!(reader.next().unwrap().as_ref(), Some(&written[0]));
    for _ in 0..2 {
        assert!(matches!(reader.next(), Err(Error::Damaged { at: 228, .. })));
        assert_eq!(reader.offset(), written[1].0);
    }
    assert!(matches!(log.verify(), Err(Error::Damaged { at: 228, .. })));
}

/// On the real disk: a writer and four readers, each in its own thread, and retention on top.
#[test]
fn many_readers_follow_one_writer() {
    const BLOCKS: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { segment: 8 << 10, block: 1 << 10 };
    let log = Log::open(Arc::new(RealDisk), &folder.path().join("log"), None, settings).unwrap();
    let (sends, follows): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<()>()).unzip();
    std::thread::scope(|scope| {
        for told in follows {
            let mut reader = log.reader(From::Start).unwrap();
            scope.spawn(move || {
                let mut next = 0;
                for () in told {
                    while let Some((offset, found)) = reader.next().unwrap() {
                        assert_eq!((offset, found), (next, one(next)));
                        next += 1;
                    }
                }
                assert_eq!(next, BLOCKS);
            });
        }
        let _tell = sends;
        for offset in 0..BLOCKS {
            assert_eq!(log.append(&one(offset)).unwrap(), offset);
            if offset % 20 == 19 {
                commit(&log);
                _tell.iter().for_each(|tell| tell.send(()).unwrap());
            }
        }
    });
    let bytes = log.bytes();
    let again = Log::open(Arc::new(RealDisk), &folder.path().join("log"), Some(log.sync().unwrap()), settings).unwrap();
    assert_eq!(again.verify().unwrap().records, BLOCKS);
    assert_eq!(again.bytes(), bytes);
}

/// A block of one record and some hundred bytes.
fn one(offset: u64) -> Block {
    block(offset, (offset % 160) as usize * 5)
}
