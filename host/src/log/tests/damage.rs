//! Every damage of a small segment: beyond the commit it is cut, within it is refused with its place.

use std::collections::BTreeSet;

use super::*;
use crate::log::{Skipped, repair};

const SIZES: [usize; 14] = [100, 0, 251, 32, 399, 400, 64, 3, 128, 397, 200, 1, 331, 222];

/// A log on a disk, and what was committed to it.
struct Written {
    sim: Sim,
    mark: Mark,
    blocks: Vec<(u64, Block)>,
    settings: Settings,
}

impl Written {
    fn new(settings: Settings) -> Self {
        let sim = disk();
        let log = open_with(&sim, None, settings).unwrap();
        let blocks = append(&log, &SIZES);
        let mark = commit(&log);
        Self { sim, mark, blocks, settings }
    }

    /// Where the blocks of the segment with these bytes begin, and where the last one ends.
    fn places(&self, bytes: &[u8]) -> Vec<usize> {
        let mut places = vec![segment::LEN];
        while *places.last().unwrap() < bytes.len() {
            let at = *places.last().unwrap();
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            places.push(at + crate::log::block::LEN + length as usize);
        }
        places
    }

    /// What opening and reading gives: all that was committed, or the damage, after a part that is as it was written.
    #[track_caller]
    fn outcome(&self) -> Result<(), (PathBuf, u64)> {
        let (found, error) = match open_with(&self.sim, self.mark, self.settings) {
            Ok(log) => read(&log, From::Start),
            Err(error) => (Vec::new(), Some(error)),
        };
        assert!(self.blocks.starts_with(&found), "a phantom");
        match error {
            None => assert_eq!(found.len(), self.blocks.len(), "lost without a word"),
            Some(Error::Damaged { file, at, .. }) => return Err((file, at)),
            Some(error) => panic!("{error}"),
        }
        Ok(())
    }

    /// Repairs, and holds what is left against what was skipped.
    #[track_caller]
    fn repaired(&self) -> Vec<Skipped> {
        let skipped = repair(&self.sim, &folder(), self.mark).unwrap();
        let log = open_with(&self.sim, self.mark, self.settings).unwrap();
        let left = read_all(&log);
        assert!(left.iter().all(|block| self.blocks.contains(block)), "a phantom");
        assert!(left.is_sorted_by_key(|(offset, _)| *offset));
        let records = |blocks: &[(u64, Block)]| blocks.iter().map(|(_, block)| u64::from(block.records)).sum::<u64>();
        let lost: u64 = skipped.iter().map(|skipped| skipped.records).sum();
        assert_eq!(records(&left) + lost, records(&self.blocks), "{skipped:?}");
        assert_eq!(repair(&self.sim, &folder(), self.mark).unwrap(), [], "to repair again changes nothing");
        self.writer_goes_on(&log, left);
        skipped
    }

    #[track_caller]
    fn writer_goes_on(&self, log: &Arc<Log>, mut before: Vec<(u64, Block)>) {
        before.extend(append(log, &[20, 30]));
        commit(log);
        assert_eq!(read_all(log), before);
        assert_eq!(log.verify().unwrap().blocks, before.len() as u64);
    }
}

/// Where the block with this byte begins, or the head of the segment.
fn place(places: &[usize], byte: usize) -> u64 {
    places.iter().rev().find(|place| **place <= byte).map_or(0, |place| *place as u64)
}

#[test]
fn every_flipped_bit_within_the_commit_is_refused_with_its_place() {
    let written = Written::new(ONE_SEGMENT);
    let whole = written.sim.content(&file(0)).unwrap();
    assert!(whole.len() < 5000);
    let places = written.places(&whole);
    let mut bytes = whole.clone();
    for bit in 0..whole.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        written.sim.set_content(&file(0), &bytes);
        assert_eq!(written.outcome(), Err((file(0), place(&places, bit / 8))), "bit {bit}");
        bytes[bit / 8] = whole[bit / 8];
    }
    written.sim.set_content(&file(0), &whole);
    assert_eq!(written.outcome(), Ok(()));
}

#[test]
fn every_flipped_byte_of_a_closed_segment_is_refused_too() {
    let written = Written::new(SMALL);
    let files = written.sim.list(&folder()).unwrap();
    assert!(files.len() > 5);
    for file in &files {
        let whole = written.sim.content(file).unwrap();
        let places = written.places(&whole);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            written.sim.set_content(file, &bytes);
            assert_eq!(written.outcome(), Err((file.clone(), place(&places, at))), "byte {at}");
        }
        written.sim.set_content(file, &whole);
    }
    assert_eq!(written.outcome(), Ok(()));
}

#[test]
fn every_truncation_is_refused_where_the_file_ends() {
    for settings in [ONE_SEGMENT, SMALL] {
        let written = Written::new(settings);
        for file in &written.sim.list(&folder()).unwrap() {
            let whole = written.sim.content(file).unwrap();
            for len in 0..whole.len() {
                written.sim.set_content(file, &whole[..len]);
                let (named, at) = written.outcome().unwrap_err();
                let within_head = len < segment::LEN;
                assert_eq!((&named, at), (file, if within_head { 0 } else { len as u64 }), "{len}");
                assert_eq!(written.sim.content(file).unwrap(), &whole[..len], "what is refused is not touched");
            }
            written.sim.set_content(file, &whole);
        }
    }
}

/// Whatever replaces part of a file: zeros, doubled and swapped blocks, the tail of another file.
fn replacements(places: &[usize], whole: &[u8], older: &[u8]) -> Vec<Vec<u8>> {
    let part = |i: usize| &whole[places[i]..places[i + 1]];
    let mut all = Vec::new();
    for at in 0..whole.len() {
        let mut zeroed = whole.to_vec();
        let end = (at + 512).min(whole.len());
        zeroed[at..end].fill(0);
        all.push(zeroed);
        let mut stale = whole.to_vec();
        let end = older.len().min(whole.len());
        if at < end {
            stale[at..end].copy_from_slice(&older[at..end]);
            all.push(stale);
        }
    }
    for i in 0..places.len() - 1 {
        let mut doubled = whole[..places[i + 1]].to_vec();
        doubled.extend_from_slice(part(i));
        doubled.extend_from_slice(&whole[places[i + 1]..]);
        all.push(doubled[..whole.len()].to_vec());
        all.push(doubled);
        for j in i + 1..places.len() - 1 {
            let between = &whole[places[i + 1]..places[j]];
            all.push([&whole[..places[i]], part(j), between, part(i), &whole[places[j + 1]..]].concat());
        }
    }
    all.retain(|bytes| bytes != whole);
    all
}

#[test]
fn zeros_doubled_and_swapped_blocks_and_stale_tails_are_refused_and_skipped_by_a_repair() {
    let older = Written::new(ONE_SEGMENT).sim.content(&file(0)).unwrap();
    let written = Written::new(ONE_SEGMENT);
    let whole = written.sim.content(&file(0)).unwrap();
    assert_eq!(older.len(), whole.len());
    let places = written.places(&whole);
    let all = replacements(&places, &whole, &older);
    assert!(all.len() > 6000);
    for bytes in all {
        written.sim.set_content(&file(0), &bytes);
        let differ = bytes.iter().zip(&whole).enumerate().filter(|(_, (is, was))| is != was);
        let damaged: BTreeSet<u64> = differ.map(|(byte, _)| place(&places, byte)).collect();
        match written.outcome() {
            // Opening looks at heads alone, so that it may find a later block first.
            Err((file, at)) => assert!(file == self::file(0) && damaged.contains(&at)),
            Ok(()) => assert!(damaged.is_empty(), "a doubled last block is beyond the commit"),
        }
        written.sim.set_content(&file(0), &bytes);
        assert_eq!(written.repaired().is_empty(), damaged.is_empty());
    }
}

#[test]
fn what_is_damaged_beyond_the_commit_is_cut_and_nothing_is_lost() {
    let sim = disk();
    let log = open_with(&sim, None, ONE_SEGMENT).unwrap();
    let blocks = append(&log, &SIZES[..7]);
    let mark = commit(&log);
    append(&log, &SIZES[7..]);
    log.sync().unwrap();
    let whole = sim.content(&file(0)).unwrap();
    let written = Written { sim, mark, blocks, settings: ONE_SEGMENT };
    let committed = mark.bytes as usize;

    let mut damaged = vec![whole.clone(), [whole.clone(), vec![0; 700]].concat()];
    for at in committed..whole.len() {
        damaged.push(whole[..at].to_vec());
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        damaged.push(flipped);
        let mut zeroed = whole.clone();
        zeroed[at..(at + 512).min(whole.len())].fill(0);
        damaged.push(zeroed);
    }
    for bytes in damaged {
        written.sim.set_content(&file(0), &bytes);
        assert_eq!(written.outcome(), Ok(()));
        assert_eq!(written.sim.content(&file(0)).unwrap(), whole[..committed]);
        let operations = written.sim.operations();
        let log = open_with(&written.sim, written.mark, ONE_SEGMENT).unwrap();
        let once = written.sim.operations() - operations;
        assert_eq!(written.sim.content(&file(0)).unwrap(), whole[..committed], "open(open(x)) is open(x)");
        assert!(once < 12, "there was nothing left to cut");
        written.writer_goes_on(&log, written.blocks.clone());
    }
}

#[test]
fn a_start_that_is_refused_cuts_nothing() {
    let written = Written::new(SMALL);
    let log = open(&written.sim, written.mark);
    append(&log, &SIZES);
    log.sync().unwrap();
    let mut bytes = written.sim.content(&file(0)).unwrap();
    bytes[20] ^= 1;
    written.sim.set_content(&file(0), &bytes);
    let before = written.sim.list(&folder()).unwrap();
    assert!(before.len() > 10);
    assert_eq!(written.outcome(), Err((file(0), 0)));
    assert_eq!(written.sim.list(&folder()).unwrap(), before);
}

#[test]
fn a_repair_skips_what_is_damaged_and_counts_it() {
    for settings in [ONE_SEGMENT, SMALL] {
        let written = Written::new(settings);
        for file in &written.sim.list(&folder()).unwrap() {
            let whole = written.sim.content(file).unwrap();
            let places = written.places(&whole);
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                written.sim.set_content(file, &bytes);
                let skipped = written.repaired();
                assert_eq!(skipped.len(), 1, "one byte, one stretch");
                assert_eq!((&skipped[0].file, skipped[0].at), (file, place(&places, at)));
                assert_eq!(skipped[0].records == 0, at < segment::LEN, "a head can be made again");

                written.sim.set_content(file, &whole[..at]);
                written.repaired();
            }
            written.sim.set_content(file, &whole);
        }
        assert_eq!(written.repaired(), []);
    }
}

#[test]
fn a_repair_makes_missing_segments_again_as_gaps() {
    let files = Written::new(SMALL).sim.list(&folder()).unwrap();
    // Every set of missing files but those that begin with the first: that is what retention leaves.
    for missing in 1u32..1 << (files.len() - 1) {
        let written = Written::new(SMALL);
        for (i, file) in files.iter().enumerate().skip(1) {
            if missing & 1 << (i - 1) != 0 {
                written.sim.remove(file).unwrap();
            }
        }
        let (named, at) = written.outcome().unwrap_err();
        assert!(written.sim.content(&named).is_none() && at == 0, "{named:?}");
        assert!(!written.repaired().is_empty());
        assert_eq!(written.sim.list(&folder()).unwrap()[0], files[0]);
    }
}

#[test]
fn a_file_of_another_log_is_refused_and_a_repair_keeps_none_of_it() {
    let (written, other) = (Written::new(ONE_SEGMENT), Written::new(ONE_SEGMENT));
    written.sim.set_content(&file(0), &other.sim.content(&file(0)).unwrap());
    assert_eq!(written.outcome(), Err((file(0), 0)));
    let skipped = written.repaired();
    let lost: u64 = skipped.iter().map(|skipped| skipped.records).sum();
    assert_eq!(lost, written.mark.offset);

    let stray = Written::new(SMALL);
    stray.sim.set_content(&file(2), b"not of this log");
    assert!(open_with(&stray.sim, stray.mark, SMALL).is_err());
    assert_eq!(stray.repaired(), []);
    assert_eq!(stray.sim.content(&file(2).with_extension("stray")).unwrap(), b"not of this log");
}

#[test]
fn a_length_is_checked_before_anything_is_allocated_for_it() {
    let written = Written::new(ONE_SEGMENT);
    let lowered = Settings { block: 399, ..ONE_SEGMENT };
    let log = open_with(&written.sim, written.mark, lowered);
    let at = written.places(&written.sim.content(&file(0)).unwrap())[5] as u64;
    assert!(matches!(log, Err(Error::Damaged { at: found, .. }) if found == at));
}
