//! The mounted file systems and their space.
//!
//! Owns reading the table of mounts. Pseudo file systems are part of the answer: what is of interest is for a plugin to
//! decide. One that cannot be asked, because it is gone or forbidden, is left out.

use anyhow::Context;

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// What is mounted, such as `/dev/sda1` or `proc`.
    pub(super) device: String,
    /// Where.
    pub(super) path: String,
    /// Kind of file system, such as `ext4`.
    pub(super) fs: String,
    /// Bytes in use.
    pub(super) used: u64,
    /// Bytes in all; 0 for most pseudo file systems.
    pub(super) total: u64,
}

/// Every mounted file system, one for each place.
///
/// # Errors
/// When there is no table of mounts.
#[cfg(target_os = "linux")]
pub(super) fn list() -> anyhow::Result<Vec<Mount>> {
    let table = std::fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(parse(&table)
        .filter_map(|(device, path, fs)| {
            let space = rustix::fs::statvfs(&path).ok()?;
            let total = space.f_blocks.saturating_mul(space.f_frsize);
            let free = space.f_bfree.saturating_mul(space.f_frsize);
            Some(Mount { device, path, fs, used: total.saturating_sub(free), total })
        })
        .collect())
}

/// Every mounted file system that this platform names.
///
/// # Errors
/// When the list cannot be read.
#[cfg(not(target_os = "linux"))]
pub(super) fn list() -> anyhow::Result<Vec<Mount>> {
    let disks = sysinfo::Disks::new_with_refreshed_list().context("list the file systems")?;
    Ok(disks
        .list()
        .iter()
        .map(|disk| Mount {
            device: disk.name().to_string_lossy().into_owned(),
            path: disk.mount_point().to_string_lossy().into_owned(),
            fs: disk.file_system().to_string_lossy().into_owned(),
            used: disk.total_space().saturating_sub(disk.available_space()),
            total: disk.total_space(),
        })
        .collect())
}

/// Device, place and kind of each line; of two at the same place the later one, which hides the other.
#[cfg(target_os = "linux")]
fn parse(table: &str) -> impl Iterator<Item = (String, String, String)> {
    let mut seen = std::collections::BTreeMap::new();
    for line in table.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(device), Some(path), Some(fs)) = (words.next(), words.next(), words.next()) {
            seen.insert(unescape(path), (unescape(device), fs.to_owned()));
        }
    }
    seen.into_iter().map(|(path, (device, fs))| (device, path, fs))
}

/// The table writes blanks and backslashes as three octal digits (proc_pid_mounts(5), getmntent(3)).
#[cfg(target_os = "linux")]
fn unescape(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |word, (escape, blank)| word.replace(escape, blank))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_a_place_are_read_and_the_later_mount_hides_the_earlier_one() {
        let table = "proc /proc proc rw 0 0\n/dev/a /mnt/my\\040disk ext4 rw 0 0\ntmpfs /proc tmpfs rw 0 0\nbroken\n";
        let mounts: Vec<_> = parse(table).collect();
        let of = |device: &str, path: &str, fs: &str| (device.to_owned(), path.to_owned(), fs.to_owned());
        assert_eq!(mounts, [of("/dev/a", "/mnt/my disk", "ext4"), of("tmpfs", "/proc", "tmpfs")]);
    }

    #[test]
    fn the_root_and_the_pseudo_file_systems_of_this_machine_are_listed() {
        let mounts = list().unwrap();
        assert!(mounts.iter().any(|mount| mount.path == "/" && mount.used <= mount.total));
        assert!(mounts.iter().any(|mount| mount.fs == "proc"), "{mounts:?}");
    }
}
