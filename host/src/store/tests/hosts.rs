//! Two hosts on one folder: the lock, and the fence behind it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::disk::RealDisk;

/// Names the folder that a child of this test holds.
const HELD: &str = "TIDEGATE_TEST_HELD_FOLDER";

fn open_at(folder: &Path) -> Result<Store, StoreError> {
    let settings = Settings { ballast: 4096, ..Settings::default() };
    Store::open(Arc::new(RealDisk), folder, Lock::take(folder)?, settings)
}

/// A line that is for the parent.
fn told(from: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(from.read_line(&mut line).unwrap(), 0, "the child is gone");
        if let Some(told) = line.trim_end().split("told: ").nth(1) {
            return told.to_owned();
        }
    }
}

/// The other host, when this binary is started as one: opens the store, and commits when it is told to.
#[test]
fn as_the_other_host() {
    let Ok(folder) = std::env::var(HELD) else { return };
    let store = open_at(Path::new(&folder)).unwrap();
    println!("told: open");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let committed = block_on(store.commit(put("p", 1, &[("a", "of the child")])));
    drop(store);
    println!("told: {}", committed.is_ok());
}

#[test]
fn a_second_host_is_refused_while_the_first_is_stopped_and_the_woken_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["as_the_other_host", "--nocapture", "--test-threads=1"])
        .env(HELD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(told(&mut says), "open");

    let pid = Pid::from_child(&child);
    let held = StoreError::Held { folder: path.clone(), pid: child.id().to_string() };
    assert_eq!(Lock::take(&path).unwrap_err(), held);
    kill_process(pid, Signal::STOP).unwrap();
    assert_eq!(Lock::take(&path).unwrap_err(), held);
    kill_process(pid, Signal::CONT).unwrap();

    writeln!(child.stdin.take().unwrap(), "commit").unwrap();
    assert_eq!(told(&mut says), "true");
    assert!(child.wait().unwrap().success());
    assert_eq!(keys(&open_at(&path).unwrap(), "p"), pairs(&[("a", "of the child")]));
}

#[test]
fn the_folder_and_its_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("new/state");
    drop(open_at(&path).unwrap());
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()) & 0o077, 0);
    }
    // One that is ours, or empty, is closed to others; another is not taken.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open_at(&path).unwrap());
    assert_eq!(mode(&path), 0o700);
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(foreign.join("letter"), "to somebody").unwrap();
    assert_eq!(open_at(&foreign).unwrap_err(), StoreError::Open { folder: foreign.clone() });
    assert_eq!(mode(&foreign), 0o755);
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let error = open_at(&file.join("state")).unwrap_err().to_string();
    assert!(error.contains("making the folder failed") && error.contains("this user's to write"), "{error}");
}

#[test]
fn a_host_that_was_overtaken_writes_nothing_more() {
    let disk = Rig::default();
    let first = open(&disk).unwrap();
    block_on(first.commit(put("p", 1, &[("a", "first")]))).unwrap();
    let second = open(&disk).unwrap();
    assert_eq!((first.generation(), second.generation()), (1, 2));
    block_on(second.commit(put("p", 2, &[("a", "second")]))).unwrap();

    let before = disk.bytes(&folder().join(NAME));
    let fenced = StoreError::Fenced { file: folder().join(NAME), ours: 1, theirs: 2 };
    assert_eq!(block_on(first.commit(put("p", 2, &[("a", "zombie")]))), Err(fenced.clone()));
    assert_eq!(block_on(first.forget("p".into())), Err(fenced));
    drop(first);
    assert_eq!(disk.bytes(&folder().join(NAME)), before, "not a byte was written");

    block_on(second.commit(put("p", 3, &[("b", "second")]))).unwrap();
    drop(second);
    assert_eq!(keys(&open(&disk).unwrap(), "p"), pairs(&[("a", "second"), ("b", "second")]));
}

#[test]
fn a_host_that_is_overtaken_in_the_middle_of_a_commit_stops_there() {
    let disk = Rig::default();
    let first = open(&disk).unwrap();
    block_on(first.commit(put("p", 1, &[("a", "first")]))).unwrap();
    // The commit is stopped between its two syncs, and the second host takes over.
    let syncs = disk.syncs();
    let second = std::thread::scope(|scope| {
        disk.hold_syncs(true);
        let stopped = scope.spawn(|| block_on(first.commit(put("p", 2, &[("a", "zombie")]))));
        disk.until_synced(syncs + 1);
        let taking = scope.spawn(|| open(&disk).unwrap());
        // Its first place of the generation is written before its first sync.
        disk.until_synced(syncs + 2);
        disk.hold_syncs(false);
        assert!(matches!(stopped.join().unwrap(), Err(StoreError::Fenced { ours: 1, theirs: 2, .. })));
        taking.join().unwrap()
    });
    assert_eq!(keys(&second, "p"), pairs(&[("a", "first")]));
}
