//! A disk that fills up, and has room again.

use super::*;

#[test]
fn the_last_commit_before_a_pause_takes_the_room_that_was_kept_and_it_goes_on_when_there_is_room() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    disk.set_room(Some(disk.taken()));

    // Values that need more than the file has free.
    let large = "x".repeat(9_000);
    let mut epoch = 1;
    let last = loop {
        epoch += 1;
        let key = epoch.to_string();
        let committed = block_on(store.commit(put("p", epoch, &[(&key, &large)]))).unwrap();
        if !committed.room {
            break epoch;
        }
        assert!(epoch < 100, "the disk is never full");
    };
    assert!(!block_on(store.room()).unwrap(), "there is no room for the ballast");

    // The room that was kept is used up too, and then a commit is refused, again and again, and reading goes on.
    let mut refused = None;
    for more in last + 1..last + 100 {
        let key = more.to_string();
        let commit = put("p", more, &[(&key, &large)]);
        if let Err(error) = block_on(store.commit(commit.clone())) {
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            refused = Some(commit);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    let held = content(&store).unwrap();
    assert!(matches!(block_on(store.commit(refused.clone())), Err(StoreError::Full { .. })));
    assert!(!block_on(store.room()).unwrap());
    assert_eq!(content(&store).unwrap(), held);

    disk.set_room(None);
    assert!(block_on(store.room()).unwrap());
    let committed = block_on(store.commit(refused)).unwrap();
    assert!(committed.room);
    let after = content(&store).unwrap();
    assert_eq!(after["p"].1.len(), held["p"].1.len() + 1);
    drop(store);
    disk.sim.restart(1);
    assert_eq!(content(&open(&disk).unwrap()).unwrap(), after);
}

#[test]
fn a_host_starts_on_a_full_disk() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    let killed = disk.copy(&folder());
    drop(store);
    for disk in [disk, killed] {
        disk.set_room(Some(disk.taken()));
        disk.sim.restart(2);
        let store = open(&disk).unwrap();
        assert_eq!(keys(&store, "p"), pairs(&[("a", "1")]));
    }
}

#[test]
fn the_ballast_takes_its_room_on_the_disk_and_gives_it_back() {
    let disk = Rig::default();
    let folder = folder();
    disk.create_folder(&folder).unwrap();
    disk.set_room(Some(200 << 10));
    assert!(ballast::fill(&disk, &folder, 100 << 10).unwrap());
    assert_eq!(disk.taken(), 100 << 10);
    assert!(!ballast::fill(&disk, &folder, 300 << 10).unwrap());
    assert_eq!(disk.taken(), 0);
    assert!(ballast::fill(&disk, &folder, 200 << 10).unwrap());
    assert!(ballast::release(&disk, &folder).unwrap());
    assert!(!ballast::release(&disk, &folder).unwrap());
    assert_eq!((disk.taken(), ballast::exists(&disk, &folder).unwrap()), (0, true));
}
