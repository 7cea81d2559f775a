//! What the simulated disk loses, and what it must not.

use std::collections::BTreeSet;

use super::*;

fn written(sim: &Sim, path: &str) -> Box<dyn File> {
    let file = sim.open(Path::new(path), How::Either).unwrap();
    assert_eq!(file.write_at(0, b"abcdef").unwrap(), 6);
    file
}

/// Every content that a file may have after a crash, over many seeds; `None` where the file is gone.
fn after_crashes(prepare: impl Fn(&Sim)) -> BTreeSet<Option<Vec<u8>>> {
    (0..200)
        .map(|seed| {
            let sim = Sim::new();
            prepare(&sim);
            sim.restart(seed);
            sim.content(Path::new("/f"))
        })
        .collect()
}

#[test]
fn what_was_synced_survives_and_what_was_not_is_kept_torn_or_lost() {
    let whole = after_crashes(|sim| {
        written(sim, "/f").sync().unwrap();
        sim.sync_folder(Path::new("/")).unwrap();
    });
    assert_eq!(whole, BTreeSet::from([Some(b"abcdef".to_vec())]));

    let torn = after_crashes(|sim| {
        written(sim, "/f");
        sim.sync_folder(Path::new("/")).unwrap();
    });
    assert_eq!(torn, (0..=6).map(|len| Some(b"abcdef"[..len].to_vec())).collect());

    let nameless = after_crashes(|sim| written(sim, "/f").sync().unwrap());
    assert_eq!(nameless, BTreeSet::from([None, Some(b"abcdef".to_vec())]));

    let renamed = after_crashes(|sim| {
        written(sim, "/f").sync().unwrap();
        written(sim, "/g").write_at(0, b"A").unwrap();
        sim.sync_folder(Path::new("/")).unwrap();
        sim.open(Path::new("/g"), How::Existing).unwrap().sync().unwrap();
        sim.rename(Path::new("/g"), Path::new("/f")).unwrap();
    });
    assert_eq!(renamed, BTreeSet::from([Some(b"abcdef".to_vec()), Some(b"Abcdef".to_vec())]));

    let overwritten = after_crashes(|sim| {
        let file = written(sim, "/f");
        file.sync().unwrap();
        sim.sync_folder(Path::new("/")).unwrap();
        file.write_at(0, b"A").unwrap();
        file.write_at(5, b"F").unwrap();
    });
    let all = [b"abcdef", b"Abcdef", b"abcdeF", b"AbcdeF"];
    assert_eq!(overwritten, all.map(|bytes| Some(bytes.to_vec())).into());
}

#[test]
fn a_new_folder_goes_with_all_it_holds_unless_its_parent_was_synced() {
    let is_there = |seed, synced: &[&str]| {
        let sim = Sim::new();
        sim.create_folder(Path::new("/a/b")).unwrap();
        written(&sim, "/a/b/f").sync().unwrap();
        synced.iter().for_each(|folder| sim.sync_folder(Path::new(folder)).unwrap());
        sim.restart(seed);
        sim.content(Path::new("/a/b/f")).is_some()
    };
    assert!((0..50).all(|seed| is_there(seed, &["/", "/a", "/a/b"])));
    for synced in [["/a", "/a/b"], ["/", "/a/b"], ["/", "/a"]] {
        assert!((0..50).any(|seed| !is_there(seed, &synced)), "{synced:?}");
    }
}

#[test]
fn a_sync_that_failed_does_not_help_when_it_is_asked_again() {
    let left = after_crashes(|sim| {
        let file = written(sim, "/f");
        sim.sync_folder(Path::new("/")).unwrap();
        sim.fail(1, Failure::Eio);
        file.sync().unwrap_err();
        file.sync().unwrap();
    });
    assert!(left.contains(&Some(Vec::new())));
}

#[test]
fn the_nth_operation_fails_as_it_is_told_and_only_that_one() {
    for (failure, left) in [(Failure::Eio, ""), (Failure::NoSpace, ""), (Failure::Short, "abc")] {
        let sim = Sim::new();
        let file = sim.open(Path::new("/f"), How::Create).unwrap();
        sim.fail(1, failure);
        let done = super::super::write_all_at(&*file, 0, b"abcdef");
        assert!(done.is_err() && sim.fired() && !sim.is_down(), "{failure:?}");
        assert_eq!(sim.content(Path::new("/f")).unwrap(), left.as_bytes(), "{failure:?}");
        super::super::write_all_at(&*file, 0, b"abcdef").unwrap();
    }
    for (failure, left) in [(Failure::CrashBefore, ""), (Failure::CrashAfter, "abcdef")] {
        let sim = Sim::new();
        let file = sim.open(Path::new("/f"), How::Create).unwrap();
        sim.fail(2, failure);
        assert_eq!(file.len().unwrap(), 0);
        file.write_at(0, b"abcdef").unwrap_err();
        assert!(sim.is_down() && file.len().is_err() && sim.list(Path::new("/")).is_err());
        assert_eq!(sim.content(Path::new("/f")).unwrap(), left.as_bytes(), "{failure:?}");
        sim.restart(0);
        assert!(sim.list(Path::new("/")).is_ok() && file.len().is_err(), "what was open stays shut");
    }
}

#[test]
fn the_same_seed_loses_the_same() {
    let after = |seed| {
        let sim = Sim::new();
        for name in ["/f", "/g", "/h"] {
            written(&sim, name);
        }
        sim.restart(seed);
        ["/f", "/g", "/h"].map(|name| sim.content(Path::new(name)))
    };
    assert_eq!(after(7), after(7));
}
