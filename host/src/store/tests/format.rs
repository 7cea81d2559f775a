//! Formats of files, and stores as whole files.

use std::{
    fs,
    io::{Read, Write},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::disk::{RealDisk, sim::Failure};

/// Where a store of format 1 lies, packed, as the first version that had one wrote it.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-format-1.gz")
}

/// What is in it.
fn of_format_1() -> Vec<Commit> {
    let mut first = Commit::of_epoch("access-log".into(), 1, 1_700_000_000_000);
    for number in 0u8..20 {
        let key = [number, 0, 0xFF];
        let window = (number > 9).then_some((-60_000, i64::from(number)));
        first.put(&Place::group(1, "by-status", number, &key, window), format!("value {number}").as_bytes());
    }
    first.put(&Place::of(0, "log"), b"position 17");
    let mut second = Commit::of_epoch("access-log".into(), 2, 1_700_000_001_000);
    second.delete(&Place::group(1, "by-status", 3, &[3, 0, 0xFF], None));
    second.put(&Place::of(0, "log"), b"position 18");
    let mut facts = Commit::of_facts("a pipeline with a breaker".into(), 1_700_000_002_000);
    facts.put(&Place::of(9, "http"), b"open");
    vec![first, second, facts]
}

#[test]
fn a_store_of_format_1_opens_with_all_it_holds() {
    let disk = Rig::default();
    let fresh = open(&disk).unwrap();
    for commit in of_format_1() {
        block_on(fresh.commit(commit)).unwrap();
    }
    let expected = content(&fresh).unwrap();
    let path = folder().join(NAME);
    if std::env::var_os("UPDATE_EXPECT").is_some() && !fixture().exists() {
        drop(fresh);
        fs::create_dir_all(fixture().parent().unwrap()).unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&disk.bytes(&path)).unwrap();
        fs::write(fixture(), packed.finish().unwrap()).unwrap();
    }
    let disk = Rig::default();
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(fixture()).unwrap()).read_to_end(&mut bytes).unwrap();
    disk.sim.set_content(&path, &bytes);
    let store = open(&disk).unwrap();
    assert_eq!(content(&store).unwrap(), expected);
    let epochs: Vec<u64> = store.history("access-log").unwrap().iter().map(|past| past.epoch).collect();
    assert_eq!(epochs, [1, 2]);
    block_on(store.commit(put("access-log", 3, &[("a", "b")]))).unwrap();
    drop(store);
    assert_eq!(verify(&disk, &folder(), &Lock::left_out()).unwrap().values, 22);
}

#[test]
fn what_is_no_store_of_this_format_is_refused_with_the_cure() {
    let disk = Rig::default();
    drop(open(&disk).unwrap());
    let path = folder().join(NAME);
    let whole = disk.bytes(&path);
    let with_format = |format: u32| {
        let mut bytes = whole.clone();
        bytes[16..20].copy_from_slice(&format.to_le_bytes());
        let sum = xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        bytes
    };
    let wrong_number = {
        let mut bytes = whole.clone();
        bytes[16] = 2;
        bytes
    };
    for (bytes, says) in [
        (with_format(0), "it has format 0, and this host reads format 1"),
        (with_format(2), "it has format 2, and this host reads format 1"),
        (wrong_number, "its first 64 bytes are damaged"),
        (Vec::new(), "it is cut short after 0 bytes"),
        (whole[..4_095].to_vec(), "it is cut short after 4095 bytes"),
        (b"SQLite format 3\0".repeat(400), "it is no store"),
        (whole[4_096..].to_vec(), "it is no store"),
    ] {
        disk.sim.set_content(&path, &bytes);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, StoreError::Format { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(says) && error.contains("--reset-state") && error.contains("state restore"), "{error}");
        assert_eq!(disk.bytes(&path), bytes, "a refused file is left alone");
    }
    disk.remove(&path).unwrap();
    assert_eq!(open(&disk).unwrap_err(), StoreError::Missing { file: path.clone() });
    discard(&disk, &folder(), &Lock::left_out()).unwrap();
    assert_eq!(content(&open(&disk).unwrap()).unwrap(), Model::new());
}

#[test]
fn a_discarded_store_is_kept_beside_the_new_one() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    drop(store);
    let old = disk.bytes(&folder().join(NAME));
    discard(&disk, &folder(), &Lock::left_out()).unwrap();
    assert_eq!(content(&open(&disk).unwrap()).unwrap(), Model::new());
    assert_eq!(disk.bytes(&folder().join("store.before")), old);
}

#[test]
fn a_backup_is_taken_while_commits_go_on_and_a_person_can_go_back_to_it() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    for commit in of_format_1() {
        block_on(store.commit(commit)).unwrap();
    }
    let then = content(&store).unwrap();
    disk.create_folder(Path::new("/backups")).unwrap();
    let to = Path::new("/backups/one");
    store.backup(to).unwrap();
    let twice = store.backup(to).unwrap_err();
    assert!(matches!(twice, StoreError::Failed { .. }), "{twice}");
    block_on(store.commit(put("access-log", 3, &[("a", "b")]))).unwrap();
    let now = content(&store).unwrap();
    assert_ne!(now, then);
    drop(store);

    // A damaged backup changes nothing.
    let lock = Lock::left_out();
    let whole = disk.bytes(to);
    let mut damaged = whole.clone();
    let at = damaged.windows(8).position(|part| part == b"value 11").unwrap();
    damaged[at] ^= 4;
    disk.sim.set_content(to, &damaged);
    let error = restore_from(&disk, &folder(), &lock, to).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { file, .. } if file == to), "{error}");
    assert_eq!(content(&open(&disk).unwrap()).unwrap(), now);

    // One host is still running as it would be without the lock: it cannot write any more.
    disk.sim.set_content(to, &whole);
    let asleep = open(&disk).unwrap();
    let before = asleep.generation();
    assert_eq!(restore_from(&disk, &folder(), &lock, to).unwrap(), Verified { pipelines: 2, values: 21 });
    let store = open(&disk).unwrap();
    assert_eq!(content(&store).unwrap(), then);
    assert!(store.generation() > before);
    drop(asleep);
    assert_eq!(content(&store).unwrap(), then);
}

#[test]
fn a_power_cut_while_a_person_goes_back_leaves_one_store_or_the_other_or_says_that_none_is_in_place() {
    let lock = Lock::left_out();
    let to = Path::new("/backups/one");
    let prepared = || {
        let disk = Rig::default();
        disk.create_folder(to.parent().unwrap()).unwrap();
        let store = open(&disk).unwrap();
        block_on(store.commit(put("p", 1, &[("a", "then")]))).unwrap();
        store.backup(to).unwrap();
        block_on(store.commit(put("p", 2, &[("a", "now")]))).unwrap();
        drop(store);
        disk
    };
    let (then, now) = (pairs(&[("a", "then")]), pairs(&[("a", "now")]));
    for n in 1.. {
        let disk = prepared();
        disk.sim.fail(n, if n % 2 == 0 { Failure::CrashBefore } else { Failure::CrashAfter });
        let gone_back = restore_from(&disk, &folder(), &lock, to).is_ok();
        let fired = disk.sim.fired();
        disk.sim.restart(n);
        match open(&disk) {
            Ok(store) => {
                let found = keys(&store, "p");
                assert!(found == then || !gone_back && found == now, "operation {n}: {found:?}");
            }
            Err(error) => assert!(!gone_back && matches!(error, StoreError::Missing { .. }), "operation {n}: {error}"),
        }
        if !fired {
            break;
        }
    }
    // The same without a failure, whatever the power cut after it takes.
    for seed in 0..16 {
        let disk = prepared();
        restore_from(&disk, &folder(), &lock, to).unwrap();
        disk.sim.restart(seed);
        assert_eq!(keys(&open(&disk).unwrap(), "p"), then, "seed {seed}");
    }
}

#[test]
fn a_backup_can_be_put_into_an_empty_folder_of_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (state, backup) = (folder.path().join("state"), folder.path().join("backup"));
    let settings = || Settings { ballast: 0, ..Settings::default() };
    let lock = Lock::take(&state).unwrap();
    let store = Store::open(Arc::new(RealDisk), &state, lock, settings()).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    store.backup(&backup).unwrap();
    drop(store);
    let other = folder.path().join("other");
    let lock = Lock::take(&other).unwrap();
    assert_eq!(restore_from(&RealDisk, &other, &lock, &backup).unwrap(), Verified { pipelines: 1, values: 1 });
    let store = Store::open(Arc::new(RealDisk), &other, lock, settings()).unwrap();
    assert_eq!(keys(&store, "p"), pairs(&[("a", "1")]));
}
