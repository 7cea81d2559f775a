//! Fuzz target F5, the log's half: arbitrary bytes where segments should be.

use arbitrary::{Result, Unstructured};
use proptest::prelude::*;

use super::*;
use crate::log::repair;

/// Writes a log, does to it what `input` says, and opens, reads and repairs it: no panic, no phantom, nothing uncounted.
fn segments(input: &mut Unstructured<'_>) -> Result<()> {
    let sim = disk();
    let log = open(&sim, None);
    let sizes: Vec<u16> = input.arbitrary()?;
    let blocks = append(&log, &sizes.iter().take(12).map(|size| usize::from(size % 401)).collect::<Vec<_>>());
    let mark = commit(&log);
    append(&log, &[30, 300, 30]);
    log.sync().unwrap();
    for _ in 0..input.int_in_range(0..=5)? {
        damage(&sim, input)?;
    }

    let is_kept = |found: &[(u64, Block)]| assert!(found.iter().all(|block| blocks.contains(block)), "a phantom");
    match open_with(&sim, mark, SMALL) {
        Ok(log) => {
            let (found, error) = read(&log, From::Start);
            is_kept(&found);
            let whole = log.first() == 0 && error.is_none();
            assert!(!whole || found == blocks, "lost without a word");
        }
        Err(error) => assert!(matches!(error, Error::Damaged { .. } | Error::NewerFormat { .. }), "{error}"),
    }
    match repair(&sim, &folder(), mark) {
        Ok(skipped) => {
            let log = open(&sim, mark);
            let found = read_all(&log);
            is_kept(&found);
            let records: u64 = found.iter().map(|(_, block)| u64::from(block.records)).sum();
            let lost: u64 = skipped.iter().map(|skipped| skipped.records).sum();
            assert_eq!(log.first() + records + lost, mark.offset, "every record is there or counted");
        }
        Err(error) => assert!(matches!(error, Error::NewerFormat { .. }), "{error}"),
    }
    Ok(())
}

/// Flips a bit, writes, copies, cuts, lengthens, removes or adds a file, as `input` says.
fn damage(sim: &Sim, input: &mut Unstructured<'_>) -> Result<()> {
    let files = sim.list(&folder()).unwrap();
    let pick = |input: &mut Unstructured<'_>| match files.as_slice() {
        [] => Ok(file(0)),
        files => input.choose(files).cloned(),
    };
    let path = pick(input)?;
    let mut bytes = sim.content(&path).unwrap_or_default();
    let at = input.int_in_range(0..=bytes.len().min(700))?;
    let put = |bytes: &mut Vec<u8>, what: &[u8]| {
        let end = (at + what.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&what[..end - at]);
    };
    match input.int_in_range(0..=6)? {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1),
        1 => put(&mut bytes, &input.arbitrary::<Vec<u8>>()?),
        2 => {
            let other = sim.content(&pick(input)?).unwrap_or_default();
            let from = input.int_in_range(0..=other.len())?;
            let to = input.int_in_range(from..=other.len())?;
            put(&mut bytes, &other[from..to]);
        }
        3 => bytes.truncate(at),
        4 => bytes.extend(input.arbitrary::<Vec<u8>>()?),
        5 => {
            let _ = sim.remove(&path);
            return Ok(());
        }
        _ => {
            let (first, bytes): (u8, Vec<u8>) = input.arbitrary()?;
            sim.set_content(&file(u64::from(first % 64)), &bytes);
            return Ok(());
        }
    }
    sim.set_content(&path, &bytes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_damage_makes_no_panic_and_no_phantom(input in proptest::collection::vec(any::<u8>(), 0..400)) {
        // Input that ends too soon is as good as any.
        let _ = segments(&mut Unstructured::new(&input));
    }
}
