use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::batch::Batch;

fn stamp(key: &str, time: &str, fields: &[&str]) -> Stamp {
    Stamp {
        key: Some(key.to_owned()),
        time: Some(time.to_owned()),
        fields: fields.iter().map(|pointer| Arc::from(*pointer)).collect(),
        ids: Some(1),
    }
}

fn next(source: &mut dyn Source, records: usize) -> Option<Batch> {
    match source.read(Limit { records, bytes: 1 << 20 }).now_or_never().expect("never waits").unwrap() {
        Read::Chunk(chunk) => Some(chunk.batch),
        Read::End | Read::Again(_) => None,
    }
}

/// All records, read in batches of `records`.
fn all(config: &Config, stamp: &Stamp, records: usize) -> Batch {
    let mut source = open(config, stamp).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = next(source.as_mut(), records) {
        batches.push(batch);
    }
    Batch::concat(&batches)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_is_the_same_however_the_batches_are_cut(seed: u64, records in 1_usize..70, size in 0_u32..400) {
        let config = Config { seed, count: Some(100), keys: 7, size };
        let stamp = stamp("/key", "/ts", &["/value", "/text", "/nothing"]);
        prop_assert_eq!(all(&config, &stamp, records), all(&config, &stamp, 1000));
    }

    #[test]
    fn seeking_goes_to_that_very_record(seed: u64, place in 0_u64..100) {
        let config = Config { seed, count: Some(100), ..Config::default() };
        let whole = all(&config, &Stamp::default(), 1000);
        let mut source = open(&config, &Stamp::default()).unwrap();
        next(source.as_mut(), 13);
        let there = Position(place.into());
        prop_assert!(source.seek(&there).now_or_never().unwrap().unwrap());
        prop_assert_eq!(source.position(), there);
        let rest = next(source.as_mut(), 1000).unwrap();
        prop_assert_eq!(rest.values(), &whole.values().slice(place as usize, 100));
    }
}

#[test]
fn records_are_json_of_the_asked_for_size_and_the_columns_repeat_them() {
    let config = Config { seed: 3, count: Some(500), keys: 5, size: 200 };
    let batch = all(&config, &stamp("/key", "/ts", &["/value", "/text", "/seq", "/key", "/nothing"]), 64);
    assert_eq!(batch.len(), 500);
    for (i, record) in batch.values().iter().enumerate() {
        assert_eq!(record.len(), 200);
        let json: Value = serde_json::from_slice(record).unwrap();
        assert_eq!((json["seq"].as_u64(), json["ts"].as_u64()), (Some(i as u64), Some(i as u64)));
        assert_eq!(batch.timestamps().unwrap()[i], i as i64);
        let key = batch.keys().unwrap().get(i).unwrap();
        assert_eq!(json["key"].as_str().unwrap().as_bytes(), key);
        for pointer in ["/value", "/text", "/seq", "/key"] {
            let column = batch.named(&format!("{FIELD}{pointer}")).unwrap();
            let field: Value = serde_json::from_slice(column.get(i).unwrap()).unwrap();
            assert_eq!(Some(&field), json.pointer(pointer));
        }
        assert_eq!(batch.named("field:/nothing").unwrap().get(i), Some(&b""[..]));
    }
    let keys: std::collections::BTreeSet<&[u8]> = batch.keys().unwrap().iter().collect();
    assert_eq!(keys.len(), 5);
}

#[test]
fn another_seed_gives_other_records() {
    let of = |seed| all(&Config { seed, count: Some(10), ..Config::default() }, &Stamp::default(), 10);
    assert_ne!(of(1), of(2));
    assert_eq!(of(1), of(1));
}

#[test]
fn a_tenth_of_the_texts_begins_with_error() {
    let batch = all(&Config { count: Some(10_000), ..Config::default() }, &Stamp::default(), 1024);
    let errors = batch.values().iter().filter(|record| memchr::memmem::find(record, b"\"error ").is_some()).count();
    assert!((800..1200).contains(&errors), "{errors}");
}

#[test]
fn a_batch_keeps_to_its_limit_in_bytes_and_one_large_record_travels_alone() {
    let mut source = open(&Config { size: 1000, ..Config::default() }, &stamp("/key", "/ts", &["/text"])).unwrap();
    let mut read = |bytes| match source.read(Limit { records: 1024, bytes }).now_or_never().unwrap().unwrap() {
        Read::Chunk(chunk) => chunk.batch,
        Read::End | Read::Again(_) => panic!("the source has no end"),
    };
    let batch = read(100_000);
    assert!(batch.bytes() <= 100_000 && batch.len() > 20, "{} bytes, {} records", batch.bytes(), batch.len());
    assert_eq!(read(10).len(), 1);
}

#[test]
fn it_ends_after_its_count_and_when_it_is_stopped() {
    let mut source = open(&Config { count: Some(3), ..Config::default() }, &Stamp::default()).unwrap();
    assert_eq!(next(source.as_mut(), 10).map(|batch| batch.len()), Some(3));
    assert_eq!(next(source.as_mut(), 10), None);
    let mut endless = open(&Config::default(), &Stamp::default()).unwrap();
    assert!(next(endless.as_mut(), 10).is_some());
    endless.stop();
    assert_eq!(next(endless.as_mut(), 10), None);
}

#[test]
fn what_these_records_do_not_have_is_refused_at_once() {
    for (stamp, text) in [(stamp("/nokey", "/ts", &[]), "the key at `/nokey`"), (stamp("/key", "/t", &[]), "`/t`")] {
        let error = format!("{:#}", open(&Config::default(), &stamp).err().unwrap());
        assert!(error.contains(text), "{error}");
    }
    assert!(open(&Config { keys: 0, ..Config::default() }, &Stamp::default()).is_err());
}
