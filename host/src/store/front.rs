//! The first page of the store's file: whose it is, which format, which generation, which commit came last.
//!
//! Owns the layout of that page, all of whose numbers are little-endian:
//!
//! | at | holds |
//! |---|---|
//! | 0 | `tidegate store\r\n` |
//! | 16 | the format, 4 bytes, then zeros |
//! | 56 | xxh3 of the 56 bytes before |
//! | 512, 1024 | the generation twice, each a number of 8 bytes and its xxh3 |
//! | 1536, 2048 | the numbers of the last commits, odd ones in the second place, likewise |
//! | 4096 | the embedded store |
//!
//! Each number has a sector of its own, so that a torn write spoils one of two. The commit's number is a witness: it is
//! written after the commit and synced with the next one, hence never ahead of the store; a store that is behind it has
//! gone back.

use std::{io, path::Path};

use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;
use crate::disk::{File, read_exact_at, write_all_at};

/// Version of the store's format: of this page, of keys, of values' checksums and of the embedded store's tables.
pub const FORMAT: u32 = 1;

/// Where the embedded store begins.
pub(super) const LENGTH: u64 = 4096;

const MAGIC: &[u8; 16] = b"tidegate store\r\n";
const GENERATIONS: [u64; 2] = [512, 1024];
const COMMITS: [u64; 2] = [1536, 2048];

/// Writes the page of a store of generation 0.
pub(super) fn create(file: &dyn File) -> io::Result<()> {
    let mut page = vec![0; LENGTH as usize];
    page[..16].copy_from_slice(MAGIC);
    page[16..20].copy_from_slice(&FORMAT.to_le_bytes());
    let sum = xxh3_64(&page[..56]);
    page[56..64].copy_from_slice(&sum.to_le_bytes());
    write_all_at(file, 0, &page)?;
    for at in GENERATIONS.into_iter().chain(COMMITS) {
        write_number(file, at, 0)?;
    }
    Ok(())
}

/// Refuses what is no store of this format.
///
/// # Errors
/// `Format` when it is not; `Failed` when the file cannot be read.
pub(super) fn check(file: &dyn File, path: &Path) -> Result<(), StoreError> {
    let format = |found: String| StoreError::Format { file: path.to_owned(), found };
    let failed = |error: io::Error| StoreError::Failed { file: path.to_owned(), why: error.to_string() };
    let length = file.len().map_err(failed)?;
    if length < LENGTH {
        return Err(format(format!("it is cut short after {length} bytes")));
    }
    let mut page = [0; 64];
    read_exact_at(file, 0, &mut page).map_err(failed)?;
    let (begin, sum) = page.split_at(56);
    if !begin.starts_with(MAGIC) {
        return Err(format("it is no store, or its first bytes are damaged".to_owned()));
    }
    if sum != xxh3_64(begin).to_le_bytes() {
        return Err(format("its first 64 bytes are damaged".to_owned()));
    }
    let mut number = [0; 4];
    number.copy_from_slice(&begin[16..20]);
    match u32::from_le_bytes(number) {
        FORMAT => Ok(()),
        found => Err(format(format!("it has format {found}, and this host reads format {FORMAT}"))),
    }
}

/// The generation of the host that opened the store last; nothing where both places are spoilt.
pub(super) fn generation(file: &dyn File) -> io::Result<Option<u64>> {
    latest(file, GENERATIONS)
}

/// Takes the store over: writes and syncs a generation, once in either place, so that one is whole at any time.
pub(super) fn set_generation(file: &dyn File, generation: u64) -> io::Result<()> {
    for at in GENERATIONS {
        write_number(file, at, generation)?;
        file.sync()?;
    }
    Ok(())
}

/// The last commit that is known to have been made; nothing where nothing is known.
pub(super) fn commit(file: &dyn File) -> io::Result<Option<u64>> {
    latest(file, COMMITS)
}

/// Notes that a commit has been made.
pub(super) fn set_commit(file: &dyn File, commit: u64) -> io::Result<()> {
    write_number(file, COMMITS[usize::from(commit % 2 == 1)], commit)
}

fn latest(file: &dyn File, places: [u64; 2]) -> io::Result<Option<u64>> {
    let mut found = None;
    for at in places {
        let mut bytes = [0; 16];
        read_exact_at(file, at, &mut bytes)?;
        let (number, sum) = bytes.split_at(8);
        if sum == xxh3_64(number).to_le_bytes() {
            let mut whole = [0; 8];
            whole.copy_from_slice(number);
            found = found.max(Some(u64::from_le_bytes(whole)));
        }
    }
    Ok(found)
}

fn write_number(file: &dyn File, at: u64, number: u64) -> io::Result<()> {
    let mut bytes = [0; 16];
    let number = number.to_le_bytes();
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&xxh3_64(&number).to_le_bytes());
    write_all_at(file, at, &bytes)
}
