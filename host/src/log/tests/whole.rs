//! Logs whose writer answers before the commit: what was synced is there, whole, and nothing that is not.

use proptest::prelude::*;

use super::*;
use crate::disk::sim::Failure;

fn open_whole(sim: &Sim, committed: impl Into<Option<Mark>>) -> Result<(Arc<Log>, u64), Error> {
    Log::open_whole(Arc::new(sim.clone()), &folder(), committed.into().unwrap_or_default(), SMALL)
}

#[test]
fn whole_blocks_behind_the_commit_are_kept_at_every_truncation_and_the_torn_rest_is_cut() {
    let sim = disk();
    let log = open(&sim, None);
    let first = append(&log, &[100, 300]);
    let committed = commit(&log);
    let second = append(&log, &[200, 150, 3, 60]);
    log.sync().unwrap();
    let written = [first, second].concat();
    let files: Vec<(PathBuf, Vec<u8>)> =
        sim.list(&folder()).unwrap().into_iter().map(|path| (path.clone(), sim.content(&path).unwrap())).collect();
    let (path, whole) = files.last().unwrap();
    for length in 0..=whole.len() {
        let sim = disk();
        drop(open(&sim, None));
        files.iter().for_each(|(path, bytes)| sim.set_content(path, bytes));
        sim.set_content(path, &whole[..length]);
        let (log, torn) = open_whole(&sim, committed).unwrap();
        let found = read_all(&log);
        assert_eq!(found, written[..found.len()], "{length}");
        assert!(found.len() >= 2 && (length < whole.len() || (found.len() == written.len() && torn == 0)));
        let end = log.committed_end();
        drop(log);
        let (again, torn) = open_whole(&sim, committed).unwrap();
        assert_eq!((again.committed_end(), torn), (end, 0), "opening twice is opening once");
        let more = append(&again, &[40]);
        commit(&again);
        assert_eq!(read_all(&again), [found, more].concat());
    }
}

#[test]
fn damage_before_the_commit_is_refused_and_damage_behind_it_is_where_the_log_ends() {
    let sim = disk();
    let log = open(&sim, None);
    let written = append(&log, &[100, 100]);
    let committed = commit(&log);
    append(&log, &[100]);
    log.sync().unwrap();
    let flip = |at: u64| {
        let mut bytes = sim.content(&file(0)).unwrap();
        bytes[at as usize] ^= 1;
        sim.set_content(&file(0), &bytes);
    };
    flip(committed.bytes + 60);
    let (log, torn) = open_whole(&sim, committed).unwrap();
    assert_eq!((read_all(&log), torn), (written, 156));
    drop(log);
    flip(10);
    assert!(matches!(open_whole(&sim, committed), Err(Error::NewerFormat { .. } | Error::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the power goes: what was synced is there, in its order, and what is there beyond it is what was appended.
    #[test]
    fn after_any_fall_everything_that_was_synced_is_there(
        seed in any::<u64>(),
        sizes in proptest::collection::vec((0usize..400, any::<bool>()), 1..30),
        fall in 0u64..80,
        is_before in any::<bool>(),
    ) {
        let sim = disk();
        let (log, _) = open_whole(&sim, None).unwrap();
        sim.fail(fall, if is_before { Failure::CrashBefore } else { Failure::CrashAfter });
        let (mut appended, mut synced, mut offset) = (Vec::new(), 0, 0);
        for (size, sync) in sizes {
            let block = block(offset, size);
            if log.append(&block).is_err() {
                break;
            }
            offset += u64::from(block.records);
            appended.push((offset - u64::from(block.records), block));
            if sync {
                match log.sync() {
                    Ok(mark) => {
                        log.committed(mark);
                        synced = appended.len();
                    }
                    Err(_) => break,
                }
            }
        }
        drop(log);
        sim.restart(seed);
        let (log, _) = open_whole(&sim, None).unwrap();
        let found = read_all(&log);
        prop_assert!(found.len() >= synced, "{} of {synced}", found.len());
        prop_assert_eq!(&found[..], &appended[..found.len()]);
        // And the next power cut takes nothing of it any more.
        drop(log);
        sim.fail(0, Failure::CrashBefore);
        let _ = sim.list(&folder());
        sim.restart(seed);
        let (log, _) = open_whole(&sim, None).unwrap();
        prop_assert_eq!(read_all(&log), found);
    }
}
