//! Bits that flip, files that end early, stores that go back.

use super::{rig::Random, *};

/// A store with three commits, closed or, if `crashed`, as a process leaves it that is killed.
fn stored(crashed: bool) -> (Rig, Model) {
    let disk = Rig::default();
    let mut store = open(&disk).unwrap();
    let (mut random, mut model) = (Random(3), Model::new());
    for epoch in 1..6 {
        block_on(store.commit(random_commit(&mut random, epoch, &mut model))).unwrap();
    }
    if crashed {
        let left = disk.copy(&folder());
        store.requests = None;
        return (left, model);
    }
    drop(store);
    (disk, model)
}

fn path() -> PathBuf {
    folder().join(NAME)
}

/// What a start finds in a file; a refusal names the file.
fn found(bytes: Vec<u8>) -> Result<Model, StoreError> {
    let disk = Rig::default();
    disk.sim.set_content(&path(), &bytes);
    let found = open(&disk).and_then(|store| content(&store));
    if let Err(error) = &found {
        assert!(error.to_string().contains("/state/store"), "{error}");
    }
    found
}

/// Bits to flip: of every number of the first page, of the embedded store's header, and samples of all that is not zero.
fn bits(bytes: &[u8], random: &mut Random) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..64).chain(4096..4096 + 320).collect();
    for at in [512, 1024, 1536, 2048] {
        chosen.extend(at..at + 16);
    }
    let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    chosen.extend((0..400).map(|_| used[random.below(used.len() as u64) as usize]));
    let mut bits: Vec<usize> = chosen.into_iter().map(|byte| byte * 8 + random.below(8) as usize).collect();
    // The byte that says which of two commits counts, whole.
    bits.extend((0..8).map(|bit| (4096 + 9) * 8 + bit));
    bits
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing_and_a_full_check_finds_more_than_reading() {
    let (mut refused, mut found_by_check) = (0, 0);
    for crashed in [false, true] {
        let (disk, model) = stored(crashed);
        let (bytes, mut random) = (disk.bytes(&path()), Random(5));
        for bit in bits(&bytes, &mut random) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match found(flipped.clone()) {
                Ok(content) => {
                    assert_eq!(content, model, "bit {} of byte {}", bit % 8, bit / 8);
                    let disk = Rig::default();
                    disk.sim.set_content(&path(), &flipped);
                    found_by_check += u32::from(verify(&disk, &folder(), &Lock::left_out()).is_err());
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 250 && found_by_check > 10, "{refused} refused, {found_by_check} found by the full check");
}

#[test]
fn a_file_that_ends_early_or_goes_on_is_refused_or_changes_nothing() {
    let (disk, model) = stored(false);
    let bytes = disk.bytes(&path());
    let lengths = (0..64).chain((64..bytes.len()).step_by(1_021)).chain([4_095, 4_096, 4_097, bytes.len() - 1]);
    for length in lengths {
        let error = found(bytes[..length].to_vec()).expect_err(&format!("cut to {length} bytes"));
        assert!(matches!(error, StoreError::Format { .. } | StoreError::Damaged { .. }), "cut to {length}: {error}");
    }
    for more in [1, 4_096, 65_536] {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + more, 0xA5);
        assert!(found(longer).map_or(true, |content| content == model), "{more} bytes more");
    }
}

#[test]
fn an_older_copy_of_a_page_is_noticed_although_it_is_whole() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "old")]))).unwrap();
    let older = disk.bytes(&path());
    for epoch in 2..5 {
        block_on(store.commit(put("p", epoch, &[("a", "new")]))).unwrap();
    }
    drop(store);
    let newer = disk.bytes(&path());
    let mut noticed = 0;
    for page in 0..older.len().min(newer.len()) / 4096 {
        let mut mixed = newer.clone();
        let place = page * 4096..(page + 1) * 4096;
        mixed[place.clone()].copy_from_slice(&older[place]);
        match found(mixed) {
            Ok(content) => assert_eq!(content["p"].1.values().next().unwrap(), b"new", "page {page}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 1, "{noticed} noticed");
}

/// Changes a table behind the store's back, as a bit would that lets an older page or a shorter one be read.
fn change(disk: &Rig, table: &str, change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>)) {
    let file: Arc<dyn File> = disk.open(&path(), How::Existing).unwrap().into();
    let generation = front::generation(&*file).unwrap().unwrap();
    let backing = backing::Backing::new(file, path(), generation);
    let database = redb::Builder::new().create_with_backend(backing).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(redb::TableDefinition::new(table)).unwrap());
    transaction.commit().unwrap();
}

#[test]
fn a_value_or_a_row_that_is_missing_or_older_is_damage_although_all_that_is_there_is_whole() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    for (epoch, value) in [(1, "old"), (2, "new")] {
        block_on(store.commit(put("p", epoch, &[("a", value), ("b", "b")]))).unwrap();
    }
    block_on(store.commit(put("q", 1, &[]))).unwrap();
    drop(store);
    let mut key = Vec::new();
    Place::group(1, "count", 0, b"a", None).encode(&mut key);
    let mut old = Vec::new();
    record::seal("pipeline/p", &key, b"old", &mut old);

    for (table, key, value, says) in [
        ("pipeline/p", &key[..], None, "the values of pipeline `p` are not those of its last commit: 1 found, 2"),
        ("pipeline/p", &key, Some(&old), "the values of pipeline `p` are not those of its last commit: 2 found, 2"),
        ("host", b"q", None, "the rows of pipelines are not those of the last commit"),
        ("host", b"", None, "the row of the last commit is damaged"),
    ] {
        let disk = disk.copy(&folder());
        change(&disk, table, |table| match value {
            Some(value) => drop(table.insert(key, &**value).unwrap()),
            None => drop(table.remove(key).unwrap()),
        });
        let error = open(&disk).and_then(|store| content(&store)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn keys_out_of_order_are_damage_although_each_value_is_whole() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "first"), ("b", "other")]))).unwrap();
    drop(store);
    let entry = |key: &[u8], value: &[u8]| {
        let (mut encoded, mut sealed) = (Vec::new(), Vec::new());
        Place::group(1, "count", 0, key, None).encode(&mut encoded);
        record::seal("pipeline/p", &encoded, value, &mut sealed);
        [encoded, sealed]
    };
    let mut bytes = disk.bytes(&path());
    for (a, b) in entry(b"a", b"first").iter().zip(&entry(b"b", b"other")) {
        let places = |what: &[u8]| -> Vec<usize> {
            bytes.windows(what.len()).enumerate().filter(|(_, part)| *part == what).map(|(at, _)| at).collect()
        };
        let (at_a, at_b) = (places(a), places(b));
        at_a.iter().for_each(|&at| bytes[at..at + a.len()].copy_from_slice(b));
        at_b.iter().for_each(|&at| bytes[at..at + b.len()].copy_from_slice(a));
    }
    let StoreError::Damaged { what, .. } = found(bytes).unwrap_err() else { panic!() };
    assert_eq!(what, "keys of `pipeline/p` are out of order");
}

#[test]
fn damage_names_the_value_and_nothing_is_copied_from_it() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "the value that is damaged"), ("b", "another")]))).unwrap();
    drop(store);
    let whole = disk.bytes(&path());
    let lock = Lock::left_out();
    assert_eq!(verify(&disk, &folder(), &lock).unwrap(), Verified { pipelines: 1, values: 2 });

    let mut bytes = whole.clone();
    let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what).unwrap();
    let value = at(&bytes, b"the value that is damaged");
    bytes[value] ^= 1;
    disk.sim.set_content(&path(), &bytes);
    let StoreError::Damaged { what, .. } = open(&disk).and_then(|store| content(&store)).unwrap_err() else { panic!() };
    assert_eq!(what, "a value of `pipeline/p` is damaged: kind 1 of `count`, slot 0, key `a`");
    let store = open(&disk).unwrap();
    assert_eq!(store.get("p", &Place::group(1, "count", 0, b"b", None)).unwrap().as_deref(), Some(&b"another"[..]));
    assert!(matches!(store.get("p", &Place::group(1, "count", 0, b"a", None)), Err(StoreError::Damaged { .. })));
    assert!(matches!(store.backup(Path::new("/backup")), Err(StoreError::Damaged { .. })));
    assert_eq!(disk.list(Path::new("/")).unwrap(), [] as [PathBuf; 0], "no half of a backup is left");
    drop(store);
    assert!(matches!(verify(&disk, &folder(), &lock), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_repair_keeps_what_is_whole_and_tells_what_is_not() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "the value that is damaged"), ("b", "another")]))).unwrap();
    block_on(store.commit(put("q", 4, &[("c", "of another pipeline")]))).unwrap();
    drop(store);
    let mut bytes = disk.bytes(&path());
    let what = b"the value that is damaged";
    // Copies of the page that are no longer in use have it too.
    let places: Vec<usize> = (0..bytes.len() - what.len()).filter(|&at| bytes[at..].starts_with(what)).collect();
    for at in places {
        bytes[at] ^= 1;
    }
    disk.sim.set_content(&path(), &bytes);
    assert!(open(&disk).and_then(|store| content(&store)).is_err());

    let mut told = Vec::new();
    let kept = repair(&disk, &folder(), &Lock::left_out(), |what| told.push(what.to_owned())).unwrap();
    assert_eq!(kept, Verified { pipelines: 2, values: 2 });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].ends_with("kind 1 of `count`, slot 0, key `a`"), "{told:?}");
    assert!(told[1].ends_with("1 found, 2 committed"), "{told:?}");

    let store = open(&disk).unwrap();
    assert_eq!((keys(&store, "p"), keys(&store, "q").len()), (pairs(&[("b", "another")]), 1));
    assert_eq!(store.restore("p", |_, _| {}).unwrap(), Restored { epoch: Some(1), values: 1 });
    assert_eq!(store.generation(), 4);
    assert_ne!(disk.bytes(&folder().join("store.before")), [] as [u8; 0]);
}
