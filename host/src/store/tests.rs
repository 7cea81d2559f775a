//! The store over a simulated disk: a model that crashes anywhere, failures of every operation, damage, two hosts.

mod crash;
mod damage;
mod format;
mod hosts;
mod rig;
mod room;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::executor::block_on;

use self::rig::{Random, Rig};
use super::*;

/// Values by the text of their places, which is what a test compares.
type Values = BTreeMap<String, Vec<u8>>;

/// What was committed: a pipeline's last epoch and its values.
type Model = BTreeMap<String, (Option<u64>, Values)>;

fn folder() -> PathBuf {
    PathBuf::from("/state")
}

fn settings(disk: &Rig) -> Settings {
    Settings { ballast: 64 << 10, cache: 1 << 20, clock: disk.clock() }
}

fn open(disk: &Rig) -> Result<Store, StoreError> {
    Store::open(Arc::new(disk.clone()), &folder(), Lock::left_out(), settings(disk))
}

/// All that a store holds.
fn content(store: &Store) -> Result<Model, StoreError> {
    let mut model = Model::new();
    for pipeline in store.pipelines()? {
        let mut values = Values::new();
        let restored = store.restore(&pipeline, |place, value| {
            values.insert(place.to_string(), value.to_vec());
        })?;
        assert_eq!(restored.values, values.len() as u64);
        model.insert(pipeline, (restored.epoch, values));
    }
    Ok(model)
}

/// A commit of random writes, and what it makes of the model.
fn random_commit(random: &mut Random, epoch: u64, model: &mut Model) -> Commit {
    let pipeline = ["a", "b", "c"][random.below(3) as usize];
    let (last, values) = model.entry(pipeline.to_owned()).or_default();
    let mut commit = if random.below(4) > 0 {
        *last = Some(epoch);
        Commit::of_epoch(pipeline.into(), epoch, 1_000 * epoch.cast_signed())
    } else {
        Commit::of_facts(pipeline.into(), 0)
    };
    for _ in 0..random.below(12) {
        let key = random.below(40).to_le_bytes();
        let participant = ["count", "sum"][random.below(2) as usize];
        let window = [None, Some((-1, 1))][random.below(2) as usize];
        let place = Place::group(random.below(2) as u8, participant, random.below(3) as u8, &key[..1], window);
        match random.below(16) {
            0 => {
                commit.delete_all(Places::Of(place.kind, participant));
                let gone = format!("kind {} of `{participant}`,", place.kind);
                values.retain(|name, _| !name.starts_with(&gone));
            }
            1..5 => {
                commit.delete(&place);
                values.remove(&place.to_string());
            }
            _ => {
                let length = if random.below(20) == 0 { 6_000 } else { random.below(40) };
                let value: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
                commit.put(&place, &value);
                values.insert(place.to_string(), value);
            }
        }
    }
    commit
}

fn put(pipeline: &str, epoch: u64, values: &[(&str, &str)]) -> Commit {
    let mut commit = Commit::of_epoch(pipeline.into(), epoch, epoch.cast_signed());
    for (key, value) in values {
        commit.put(&Place::group(1, "count", 0, key.as_bytes(), None), value.as_bytes());
    }
    commit
}

/// The values of one pipeline by their keys.
fn keys(store: &Store, pipeline: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    store.restore(pipeline, |place, value| found.push((text(&place.key), text(value)))).unwrap();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn what_is_committed_is_restored_in_order_and_only_what_is_given_changes() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    let first = put("p", 1, &[("b", "2"), ("a", "1"), ("c", "3")]);
    let committed = block_on(store.commit(first)).unwrap();
    assert_eq!((committed.writes, committed.room), (3, true));
    let mut second = put("p", 2, &[("b", "two")]);
    second.delete(&Place::group(1, "count", 0, b"c", None));
    block_on(store.commit(second)).unwrap();
    block_on(store.commit(put("q", 7, &[("z", "z")]))).unwrap();
    drop(store);

    let store = open(&disk).unwrap();
    assert_eq!(store.generation(), 2);
    assert_eq!(keys(&store, "p"), pairs(&[("a", "1"), ("b", "two")]));
    assert_eq!(store.pipelines().unwrap(), ["p", "q"]);
    assert_eq!(store.restore("p", |_, _| {}).unwrap(), Restored { epoch: Some(2), values: 2 });
    assert_eq!(store.restore("none", |_, _| {}).unwrap(), Restored::default());
    assert_eq!(store.get("q", &Place::group(1, "count", 0, b"z", None)).unwrap().as_deref(), Some(&b"z"[..]));
    assert_eq!(store.get("q", &Place::of(1, "count")).unwrap(), None);
}

#[test]
fn a_part_of_a_pipeline_can_be_read_and_reset_and_a_pipeline_forgotten() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    let mut commit = Commit::of_epoch("p".into(), 1, 0);
    for (kind, participant, slot) in [(1, "count", 0), (1, "count", 1), (1, "counter", 0), (2, "count", 0)] {
        commit.put(&Place::group(kind, participant, slot, b"k", None), b"v");
    }
    block_on(store.commit(commit)).unwrap();
    let shown = |places| {
        let mut shown = Vec::new();
        let visit = |place: Place<'_>, _: &[u8]| {
            shown.push(format!("{}{}{}", place.kind, place.participant, place.slot));
            ControlFlow::Continue(())
        };
        store.scan("p", places, visit).unwrap();
        shown
    };
    assert_eq!(shown(Places::Of(1, "count")), ["1count0", "1count1"]);
    assert_eq!(shown(Places::Slot(1, "count", 1)), ["1count1"]);
    assert_eq!(shown(Places::Kind(2)), ["2count0"]);
    let mut seen = 0;
    let first = |_: Place<'_>, _: &[u8]| {
        seen += 1;
        ControlFlow::Break(())
    };
    store.scan("p", Places::All, first).unwrap();
    assert_eq!(seen, 1);

    let mut reset = Commit::of_facts("p".into(), 0);
    reset.delete_all(Places::Of(1, "count"));
    block_on(store.commit(reset)).unwrap();
    assert_eq!(shown(Places::All), ["1counter0", "2count0"]);
    block_on(store.forget("p".into())).unwrap();
    assert_eq!((store.pipelines().unwrap(), shown(Places::All)), (vec![], vec![]));
    drop(store);
    assert_eq!(content(&open(&disk).unwrap()).unwrap(), Model::new());
}

#[test]
fn the_history_tells_epochs_and_how_long_they_took_but_not_facts() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    disk.set_sync_takes(Duration::from_millis(250));
    block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    block_on(store.commit(Commit::of_facts("p".into(), 9))).unwrap();
    block_on(store.commit(put("p", 2, &[("a", "1"), ("b", "2")]))).unwrap();
    let history = store.history("p").unwrap();
    let took = Some(Duration::from_millis(500));
    assert_eq!((history[0].epoch, history[0].at, history[0].took, history[0].writes), (1, 1, took, 1));
    assert_eq!((history[1].epoch, history[1].took, history[1].writes), (2, None, 2));
    assert_eq!(history.len(), 2);
}

#[test]
fn a_slow_disk_stretches_the_time_between_epochs() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    let second = Duration::from_secs(1);
    let quick = block_on(store.commit(put("p", 1, &[("a", "1")]))).unwrap();
    assert_eq!(pace(quick.took, second), second);
    disk.set_sync_takes(second * 2);
    let slow = block_on(store.commit(put("p", 2, &[("a", "2")]))).unwrap();
    // A commit syncs twice: the pages, then the mark that makes them the store.
    assert_eq!((slow.took, pace(slow.took, second)), (second * 4, second * 20));
}

#[test]
fn commits_that_wait_are_written_together() {
    let disk = Rig::default();
    let store = open(&disk).unwrap();
    let before = disk.syncs();
    disk.hold_syncs(true);
    let answers = std::thread::scope(|scope| {
        let first = scope.spawn(|| block_on(store.commit(put("first", 1, &[("k", "v")]))));
        disk.until_synced(before + 1);
        let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
        let mut waiting: Vec<_> =
            names.iter().map(|name| Box::pin(store.commit(put(name, 1, &[("k", "v")])))).collect();
        // Polled once, each is in the channel.
        for commit in &mut waiting {
            assert!(futures::FutureExt::now_or_never(commit.as_mut()).is_none());
        }
        disk.hold_syncs(false);
        let answers: Vec<_> = waiting.into_iter().map(|commit| block_on(commit).unwrap()).collect();
        first.join().unwrap().unwrap();
        answers
    });
    assert_eq!((answers.len(), disk.syncs() - before), (20, 4), "two transactions of two syncs each");
    assert_eq!(store.pipelines().unwrap().len(), 21);
}
