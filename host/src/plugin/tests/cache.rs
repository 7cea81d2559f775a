//! Compiled code comes from where only we can have put it. Guests S8 and S9.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;

fn entries(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap() != "key").collect()
}

fn cached(folder: &Path) -> Engine {
    Engine::new(Some(Cache::open(folder).unwrap())).unwrap()
}

#[test]
fn compiled_code_is_kept_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = guest(Kind::Filter, "keep");
    Plugin::load(&cached(folder.path()), &bytes).unwrap();
    let [entry] = &entries(folder.path())[..] else { panic!("one plugin is one entry") };
    let name = entry.file_name().unwrap().to_str().unwrap();

    let again = cached(folder.path());
    assert!(again.cache().unwrap().get(again.wasm(), name).is_some());
    let plugin = Plugin::load(&again, &bytes).unwrap();
    assert_eq!(plugin.instantiate(&Limits::default(), &json!({})).unwrap().filter(0, &three()).unwrap().keep.len(), 3);
    assert!(plugin.imports().iter().any(|name| name == "tidegate:plugin/host@0.1.0"));
    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_tampered_entry_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = guest(Kind::Filter, "keep");
    let engine = cached(folder.path());
    Plugin::load(&engine, &bytes).unwrap();
    let entry = entries(folder.path()).remove(0);
    let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&entry).unwrap();
    let get = || engine.cache().unwrap().get(engine.wasm(), &name);

    let offsets = [0, 31, 32, 33, whole.len() / 2, whole.len() - 1];
    for offset in offsets {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1;
        fs::write(&entry, flipped).unwrap();
        assert!(get().is_none(), "byte {offset} was flipped");
    }
    for length in [0, 31, 32, whole.len() - 1] {
        fs::write(&entry, &whole[..length]).unwrap();
        assert!(get().is_none(), "{length} bytes are left");
    }
    Plugin::load(&engine, &bytes).unwrap();
    assert!(get().is_some(), "the damaged entry was replaced");
}

#[test]
fn an_entry_cannot_be_passed_off_as_another() {
    let folder = tempfile::tempdir().unwrap();
    let engine = cached(folder.path());
    Plugin::load(&engine, &guest(Kind::Filter, "keep")).unwrap();
    let entry = entries(folder.path()).remove(0);
    fs::copy(&entry, entry.with_file_name("other")).unwrap();
    assert!(engine.cache().unwrap().get(engine.wasm(), "other").is_none());
}

#[test]
fn an_entry_sealed_with_another_key_is_not_used() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = guest(Kind::Filter, "keep");
    Plugin::load(&cached(theirs.path()), &bytes).unwrap();
    let forged = entries(theirs.path()).remove(0);
    let name = forged.file_name().unwrap();
    fs::copy(&forged, ours.path().join(name)).unwrap();
    let engine = cached(ours.path());
    assert!(engine.cache().unwrap().get(engine.wasm(), name.to_str().unwrap()).is_none());
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        assert!(Cache::open(folder.path()).is_err(), "{mode:o}");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(Cache::open(folder.path()).is_ok());
}

#[test]
fn a_folder_by_symbolic_link_or_of_another_owner_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink(folder.path().join("real"), &link).unwrap();
    assert!(Cache::open(&link).is_err());

    // Whoever is not root finds a folder of somebody else's at the root; root makes one.
    let theirs = if rustix::process::geteuid().is_root() {
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(1), None).unwrap();
        theirs
    } else {
        PathBuf::from("/")
    };
    let error = format!("{:#}", Cache::open(&theirs).map(|_| ()).unwrap_err());
    assert!(error.contains("it belongs to user"), "{error}");
}

#[test]
fn a_key_that_others_can_read_or_that_is_a_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Cache::open(folder.path()).unwrap();
    let key = folder.path().join("key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(Cache::open(folder.path()).is_err());
    fs::rename(&key, folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), &key).unwrap();
    assert!(Cache::open(folder.path()).is_err());
}
