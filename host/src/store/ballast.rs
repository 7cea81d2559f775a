//! Room kept on the disk for the last commit before a pause.
//!
//! Owns the ballast file. It stays in the folder when it is emptied, and so shows that the folder was in use.

use std::{io, path::Path};

use crate::disk::{Disk, How, write_all_at};

const NAME: &str = "ballast";
const BLOCK: usize = 64 << 10;

/// Whether the folder has a ballast file, full or empty.
pub(super) fn exists(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    Ok(disk.list(folder)?.contains(&folder.join(NAME)))
}

/// Fills the ballast up to `size` bytes; false, and an empty file, where there is no room for it.
pub(super) fn fill(disk: &dyn Disk, folder: &Path, size: u64) -> io::Result<bool> {
    let file = disk.open(&folder.join(NAME), How::Either)?;
    let mut at = file.len()?.min(size);
    // Bytes without a pattern, for a disk that compresses would keep no room for zeros.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = vec![0; BLOCK];
    let filled = (|| {
        while at < size {
            for bytes in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.copy_from_slice(&state.to_le_bytes());
            }
            let part = usize::try_from(size - at).map_or(BLOCK, |rest| rest.min(BLOCK));
            write_all_at(&*file, at, &block[..part])?;
            at += part as u64;
        }
        file.sync()
    })();
    match filled {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            file.set_len(0)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Gives the room back to the disk, and says whether there was any kept.
pub(super) fn release(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    if !exists(disk, folder)? {
        return Ok(false);
    }
    let file = disk.open(&folder.join(NAME), How::Existing)?;
    if file.len()? == 0 {
        return Ok(false);
    }
    file.set_len(0)?;
    file.sync()?;
    Ok(true)
}

/// Forgets the ballast, and with it that the folder was in use.
pub(super) fn remove(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    if exists(disk, folder)? { disk.remove(&folder.join(NAME)) } else { Ok(()) }
}
