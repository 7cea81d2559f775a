//! The format, written by hand from its tables: what is read here must be read for ever.

use xxhash_rust::xxh3::xxh3_64;

use super::*;

const SALT: u64 = 0x5a17;

/// The head of a segment after `before`, which is the first one if that has no bytes.
fn segment_head(version: u32, before: Mark) -> Vec<u8> {
    let mut head = b"tidelog\0".to_vec();
    head.extend(version.to_le_bytes());
    head.extend([0; 4]);
    for field in [SALT, before.offset, before.segment, before.bytes, before.salt] {
        head.extend(field.to_le_bytes());
    }
    head.extend(i64::MIN.to_le_bytes());
    head.extend(xxh3_64(&head).to_le_bytes());
    head
}

fn push_block(bytes: &mut Vec<u8>, offset: u64, records: u32, times: [i64; 2], epoch: u64, payload: &[u8]) {
    let at = bytes.len();
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(records.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(times.map(i64::to_le_bytes).concat());
    bytes.extend(epoch.to_le_bytes());
    bytes.extend(if records == 0 { 0 } else { xxh3_64(payload) }.to_le_bytes());
    bytes.extend(xxh3_64_with_seed(&bytes[at..], SALT + at as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
}

/// Two blocks around a gap of seven records.
fn written(version: u32) -> (Sim, Mark) {
    let mut bytes = segment_head(version, Mark::default());
    push_block(&mut bytes, 0, 2, [-5, 5], 1, b"two records");
    push_block(&mut bytes, 2, 0, [i64::MAX, i64::MIN], 7, b"what was here");
    push_block(&mut bytes, 9, 1, [8, 8], 3, b"one");
    let sim = disk();
    sim.set_content(&file(0), &bytes);
    (sim, Mark { offset: 10, segment: 0, bytes: bytes.len() as u64, salt: SALT })
}

#[test]
fn a_segment_of_format_1_is_read() {
    let (sim, mark) = written(1);
    let log = open(&sim, mark);
    let block = |payload: &'static [u8], records, times, epoch| Block {
        payload: payload.into(),
        records,
        times,
        epoch: Epoch(epoch),
    };
    assert_eq!(read_all(&log), [(0, block(b"two records", 2, (-5, 5), 1)), (9, block(b"one", 1, (8, 8), 3))]);
    assert_eq!(read(&log, From::Offset(4)).0[0].0, 9, "what is missing is passed over");
    assert_eq!(read(&log, From::Time(6)).0[0].0, 9);
    assert_eq!(sim.list(&folder()).unwrap(), [PathBuf::from("/state/log/00000000000000000000.log")]);
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let (sim, mark) = written(2);
    let before = sim.content(&file(0));
    let refused = open_with(&sim, mark, SMALL);
    assert!(matches!(refused, Err(Error::NewerFormat { found: 2, known: 1, .. })), "{refused:?}");
    assert!(matches!(crate::log::repair(&sim, &folder(), mark), Err(Error::NewerFormat { .. })));
    assert_eq!(sim.content(&file(0)), before);
}

#[test]
fn what_an_error_says_reads_after_failed_to() {
    let (sim, mark) = written(2);
    let said = open_with(&sim, mark, SMALL).unwrap_err().to_string();
    assert_eq!(
        said,
        "read /state/log/00000000000000000000.log: it has format 2 and this version knows up to 1; use the newer one"
    );
    let (sim, mark) = written(1);
    let mut bytes = sim.content(&file(0)).unwrap();
    bytes[72] ^= 1;
    sim.set_content(&file(0), &bytes);
    let said = open_with(&sim, mark, SMALL).unwrap_err().to_string();
    assert_eq!(
        said,
        "read /state/log/00000000000000000000.log at byte 72: the head of a block does not fit its checksum"
    );
}

/// A log of one segment with these heads, each with a payload of that length behind it: offset, records, length.
fn of(heads: &[(u64, u32, usize)], end: u64) -> (Sim, Mark) {
    let mut bytes = segment_head(1, Mark::default());
    for &(offset, records, length) in heads {
        push_block(&mut bytes, offset, records, [0, 0], 0, &vec![7; length]);
    }
    let sim = disk();
    sim.set_content(&file(0), &bytes);
    (sim, Mark { offset: end, segment: 0, bytes: bytes.len() as u64, salt: SALT })
}

#[test]
fn a_block_that_does_not_follow_the_one_before_it_is_refused_and_skipped_by_a_repair() {
    // Whatever their checksums say: one offset too low, one too high, one beyond the end.
    for (wrong, kept) in [(1, 2), (3, 2), (90, 2)] {
        let (sim, mark) = of(&[(0, 2, 5), (wrong, 1, 5), (3, 1, 5)], 4);
        let refused = open_with(&sim, mark, SMALL);
        assert!(matches!(refused, Err(Error::Damaged { at: 133, .. })), "{refused:?}");
        let skipped = crate::log::repair(&sim, &folder(), mark).unwrap();
        let left = read_all(&open(&sim, mark));
        assert_eq!(left.len(), kept, "{wrong}");
        let records: u64 = left.iter().map(|(_, block)| u64::from(block.records)).sum();
        assert_eq!(records + skipped.iter().map(|skipped| skipped.records).sum::<u64>(), 4);
    }
    let (sim, mark) = of(&[(0, 2, 5), (1, 1, 5), (0, 2, 5)], 4);
    crate::log::repair(&sim, &folder(), mark).unwrap();
    assert_eq!(read_all(&open(&sim, mark)).len(), 1);
}

#[test]
fn a_mark_that_does_not_fit_is_refused_with_the_place() {
    let (sim, mark) = of(&[(0, 2, 5), (2, 1, 100)], 3);
    assert_eq!(mark.bytes, 289);
    let cases = [
        (Mark { offset: 4, ..mark }, 0, 289),
        (Mark { offset: 2, ..mark }, 0, 289),
        (Mark { bytes: 288, ..mark }, 0, 133),
        (Mark { bytes: 290, ..mark }, 0, 289),
        (Mark { bytes: 150, ..mark }, 0, 133),
        (Mark { bytes: 133, ..mark }, 0, 133),
        (Mark { bytes: 0, ..mark }, 0, 0),
        (Mark { salt: SALT + 1, ..mark }, 0, 0),
        (Mark { segment: 1, ..mark }, 1, 0),
    ];
    for (wrong, segment, place) in cases {
        let refused = open_with(&sim, wrong, SMALL).unwrap_err();
        assert!(
            matches!(&refused, Error::Damaged { file: f, at, .. } if *f == file(segment) && *at == place),
            "{refused}"
        );
        assert_eq!(sim.content(&file(0)).unwrap().len(), 289, "nothing is cut then");
    }
    assert!(open_with(&sim, mark, SMALL).is_ok());
}

#[test]
fn a_segment_that_ends_with_another_offset_than_the_next_one_says_is_refused_by_the_reader() {
    let (sim, mark) = of(&[(0, 2, 5)], 2);
    let before = Mark { offset: 3, ..mark };
    let mut bytes = segment_head(1, before);
    push_block(&mut bytes, 3, 1, [0, 0], 0, b"");
    sim.set_content(&file(3), &bytes);
    let log = open(&sim, Mark { offset: 4, segment: 3, bytes: bytes.len() as u64, salt: SALT });
    let (found, error) = read(&log, From::Start);
    assert_eq!(found.len(), 1);
    assert!(matches!(error, Some(Error::Damaged { file: f, at: 133, .. }) if f == file(0)));
}

#[test]
fn offsets_that_would_run_over_are_refused() {
    let mut bytes = segment_head(1, Mark::default());
    push_block(&mut bytes, 0, 0, [0, 0], u64::MAX - 3, b"");
    let sim = disk();
    sim.set_content(&file(0), &bytes);
    let mark = Mark { offset: u64::MAX - 3, segment: 0, bytes: bytes.len() as u64, salt: SALT };
    let log = open(&sim, mark);
    assert!(matches!(log.append(&Block { records: 4, ..block(0, 1) }), Err(Error::Unfit { .. })));
    assert_eq!(log.append(&Block { records: 3, ..block(0, 1) }).unwrap(), u64::MAX - 3);
}

#[test]
fn another_file_by_the_name_of_a_segment_is_told_apart_from_damage() {
    let (sim, mark) = written(1);
    for (bytes, said) in [(vec![b'x'; 500], "it is not a segment of a log"), (vec![], "it ends within its head")] {
        sim.set_content(&file(0), &bytes);
        assert!(matches!(open_with(&sim, mark, SMALL), Err(Error::Damaged { at: 0, what, .. }) if what == said));
    }
    let mut other = segment_head(1, Mark { offset: 5, ..Mark::default() });
    other.resize(500, 0);
    sim.set_content(&file(0), &other);
    let said = "it is another segment than its name says";
    assert!(matches!(open_with(&sim, mark, SMALL), Err(Error::Damaged { at: 0, what, .. }) if what == said));
}
