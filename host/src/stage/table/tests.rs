use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    arena::block_size,
    entry::{KEY, STATE},
    *,
};

/// A group as the model has it: its state, and when it was last seen.
type Model = BTreeMap<(Vec<u8>, Window), (Vec<u8>, i64)>;

#[derive(Clone, Debug)]
enum Step {
    /// Looks for groups side by side and gives each a state of so many bytes.
    Put(Vec<(u8, u8)>, usize),
    Forget(u8, u8),
    /// Lets expire what was last seen so long ago, and looks at so many entries.
    Expire(i64, usize),
    /// From this slot on, groups belong to the second of two workers.
    Move(u8),
    Barrier,
}

fn group() -> impl Strategy<Value = (u8, u8)> {
    (0u8..9, 0u8..3)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = proptest::sample::select(vec![0, 1, 31, 32, 33, 64, 65, 300, 70_000]);
    let step = prop_oneof![
        6 => (proptest::collection::vec(group(), 1..6), len).prop_map(|(groups, len)| Step::Put(groups, len)),
        3 => group().prop_map(|(key, window)| Step::Forget(key, window)),
        1 => (0i64..20, 0usize..8).prop_map(|(age, most)| Step::Expire(age, most)),
        1 => any::<u8>().prop_map(Step::Move),
        2 => Just(Step::Barrier),
    ];
    proptest::collection::vec(step, 0..60)
}

fn key(of: u8) -> Vec<u8> {
    vec![of; [0, 1, 8, 23, 24, 25, 40, 200, 5000][usize::from(of)]]
}

fn window(of: u8) -> Window {
    Window { start: i64::from(of) * 10, end: i64::from(of) * 10 + 10 }
}

/// What the groups of a table take, entry by entry.
fn recount(table: &Table) -> usize {
    let long = |bytes: &[u8], most: usize| if bytes.len() > most { block_size(bytes.len()) } else { 0 };
    let entries = (0..table.slab.end()).filter_map(|at| table.slab.get(at)).map(|entry| table.group(entry));
    let takes = |group: Group<'_>| {
        let takes = 128 + 8 + long(group.key, KEY) + long(group.state, STATE);
        assert_eq!(footprint(group.key.len(), group.state.len()), takes);
        takes
    };
    entries.map(takes).sum()
}

fn contents(tables: &[Table]) -> Model {
    let groups = |table: &Table| {
        let owned = |group: Group<'_>| ((group.key.to_vec(), group.window), (group.state.to_vec(), group.facts.seen));
        table.all().into_iter().filter_map(|at| table.get(at).map(owned)).collect::<Vec<_>>()
    };
    tables.iter().flat_map(groups).collect()
}

proptest! {
    /// Whatever happens, two tables with moving slots between them hold what a map holds; the changes of all epochs,
    /// applied one after the other, are that map too: nothing forgotten comes back, nothing is missed, no group shows
    /// bytes of the one before it; and what they take is known to the byte.
    #[test]
    fn tables_hold_what_a_map_holds(steps in steps()) {
        let mut tables = [Table::default(), Table::default()];
        let (mut model, mut committed) = (Model::new(), Model::new());
        let (mut border, mut horizon) = (128, BEGIN);
        for (now, step) in (1i64..).zip(steps.into_iter().chain([Step::Barrier])) {
            let whose = |key: &[u8]| usize::from(slot(key) >= border);
            match step {
                Step::Put(groups, len) => for (worker, table) in tables.iter_mut().enumerate() {
                    let groups = groups.iter().map(|(k, w)| (key(*k), window(*w)));
                    let mine: Vec<(Vec<u8>, Window)> = groups.filter(|(key, _)| whose(key) == worker).collect();
                    let mut found = Vec::new();
                    table.enter_many(mine.iter().map(|(key, window)| (key.as_slice(), *window)), &mut found);
                    prop_assert_eq!(found.len(), mine.len());
                    for ((at, made), group) in found.into_iter().zip(mine) {
                        let was = model.insert(group, (vec![now as u8; len], now));
                        prop_assert_eq!(made, was.is_none());
                        prop_assert!(!made || table.get(at).unwrap().state.is_empty());
                        table.write(at, &vec![now as u8; len]).unwrap().facts.seen = now;
                    }
                },
                Step::Forget(k, w) => {
                    let (key, window) = (key(k), window(w));
                    let table = &mut tables[whose(&key)];
                    let (at, made) = table.enter(&key, window);
                    prop_assert_eq!(made, model.remove(&(key, window)).is_none());
                    table.forget(at);
                    prop_assert_eq!(table.get(at), None);
                }
                Step::Expire(age, most) => {
                    horizon = horizon.max(now - age);
                    for table in &mut tables {
                        prop_assert!(table.expire(horizon, most) <= most);
                    }
                    model.retain(|_, (_, seen)| *seen >= horizon);
                }
                Step::Move(to) => {
                    border = to;
                    let [first, second] = &mut tables;
                    let (from_first, from_second) = (first.split_off(|slot| slot >= to), second.split_off(|slot| slot < to));
                    first.absorb(&from_second).unwrap();
                    second.absorb(&from_first).unwrap();
                }
                Step::Barrier => {
                    for table in &mut tables {
                        for Change { key, window, kept } in table.take_changes().iter() {
                            let group = (key.to_vec(), window);
                            match kept {
                                Some((state, facts)) => committed.insert(group, (state.to_vec(), facts.seen)),
                                None => committed.remove(&group),
                            };
                        }
                    }
                    let lasting = committed.iter().filter(|(_, (_, seen))| *seen >= horizon);
                    prop_assert_eq!(&lasting.map(|(group, kept)| (group.clone(), kept.clone())).collect::<Model>(), &model);
                }
            }
            prop_assert_eq!(&contents(&tables), &model);
            for table in &tables {
                let by_slot: BTreeSet<u32> = (0..=u8::MAX).flat_map(|slot| table.of_slot(slot)).collect();
                prop_assert_eq!(by_slot, table.all().into_iter().collect());
                prop_assert_eq!(table.slots.iter().map(Index::len).sum::<usize>(), table.len());
                prop_assert_eq!(table.bytes().used, recount(table));
                prop_assert!(table.bytes().used <= table.bytes().reserved);
            }
        }
    }
}

/// `n` groups of eight-byte keys, seen at 0.
fn table(n: u64) -> Table {
    let mut table = Table::default();
    let keys: Vec<[u8; 8]> = (0..n).map(u64::to_le_bytes).collect();
    let mut found = Vec::new();
    table.enter_many(keys.iter().map(|key| (key.as_slice(), window(0))), &mut found);
    for (at, _) in found {
        table.write(at, b"state").unwrap().facts.seen = 0;
    }
    table
}

#[test]
fn looking_for_many_finds_what_looking_for_each_finds() {
    let (mut many, mut each, mut found) = (table(1000), table(1000), Vec::new());
    let keys: Vec<[u8; 8]> = (0..5000u64).map(|n| (n * 7 % 1500).to_le_bytes()).collect();
    many.enter_many(keys.iter().map(|key| (key.as_slice(), window(0))), &mut found);
    assert_eq!(found, keys.iter().map(|key| each.enter(key, window(0))).collect::<Vec<_>>());
    assert_eq!(many.len(), 1500);
}

#[test]
fn an_expired_group_is_gone_at_once_and_its_memory_step_by_step() {
    let mut table = table(1000);
    assert_eq!(table.expire(0, 1000), 0);
    assert_eq!((table.expire(1, 10), table.len(), table.all().len()), (10, 990, 0));
    let last = 999u64.to_le_bytes();
    let (at, made) = table.enter(&last, window(0));
    assert!(made && table.get(at).unwrap().state.is_empty());
    let freed: usize = (0..99).map(|_| table.expire(1, 10)).sum();
    assert_eq!((freed, table.all()), (989, vec![at]));
}

#[test]
fn groups_that_no_commit_has_seen_leave_nothing_to_hand_over() {
    let mut table = table(1);
    assert_eq!(table.take_changes().len(), 1);
    let before = table.bytes();
    for n in 0..10_000u64 {
        let (at, _) = table.enter(&n.to_be_bytes(), window(1));
        table.write(at, b"brief");
        table.forget(at);
    }
    assert_eq!(table.bytes().used, before.used);
    // The indexes of the slots may have begun.
    assert!(table.bytes().reserved < before.reserved + SLOTS * 128, "{:?} after {before:?}", table.bytes());
    assert!(table.take_changes().is_empty());
}

#[test]
fn a_group_that_changes_often_is_handed_over_once() {
    let mut table = table(1);
    let at = table.all()[0];
    let before = table.bytes();
    for _ in 0..1000 {
        table.change(at);
        table.write(at, b"other");
    }
    assert_eq!((table.bytes(), table.take_changes().len()), (before, 1));
    let mut moved = table.split_off(|_| true);
    assert!(table.is_empty() && moved.take_changes().is_empty(), "moving is no change");
}

#[test]
fn what_has_expired_stays_so_wherever_it_goes() {
    let mut table = table(10);
    table.expire(1, 0);
    let mut moved = table.split_off(|_| true);
    assert_eq!((moved.len(), moved.all()), (10, Vec::new()));
    let mut other = Table::default();
    other.absorb(&moved).unwrap();
    assert_eq!((other.len(), other.all()), (10, Vec::new()));
    assert_eq!(moved.expire(1, 10), 10);
    moved.take_changes();
    let at = moved.restore(b"key", window(0), &Saved::default());
    assert_eq!(moved.get(at), None);
}

#[test]
fn a_table_without_groups_keeps_no_memory_beyond_a_barrier() {
    let mut table = table(100_000);
    assert!(table.bytes().reserved > 12_800_000);
    table.all().into_iter().for_each(|at| table.forget(at));
    table.take_changes();
    assert_eq!(table.bytes(), Table::default().bytes());
}

#[test]
fn a_table_takes_in_no_slot_that_it_holds_already() {
    let (mut one, mut other) = (table(3), Table::default());
    other.enter(&0u64.to_le_bytes(), window(1));
    let before = contents(std::slice::from_ref(&one));
    assert_eq!(one.absorb(&other), Err(Overlap(slot(&0u64.to_le_bytes()))));
    assert_eq!(contents(std::slice::from_ref(&one)), before);
}

#[test]
fn a_restored_group_is_no_change_but_forgetting_it_is() {
    let mut table = Table::default();
    let saved = Saved { state: vec![7; 40], facts: Facts { count: 3, time: 5, seen: 6, panes: 1, is_late: true } };
    let at = table.restore(b"key", window(0), &saved);
    let group = Group { key: b"key", window: window(0), state: &saved.state, facts: saved.facts };
    assert_eq!(table.get(at), Some(group));
    assert!(table.take_changes().is_empty());
    table.forget(at);
    let changes = table.take_changes();
    assert_eq!(changes.iter().collect::<Vec<_>>(), [Change { key: b"key", window: window(0), kept: None }]);
}

#[test]
fn nobody_outside_knows_where_in_an_index_a_group_lies() {
    let of = || Table::default().sought(b"key", window(0)).hash;
    assert_ne!(of(), of());
}

#[test]
fn every_key_has_one_owner_whatever_the_number_of_workers() {
    for workers in 1..9 {
        let owners: BTreeSet<usize> = (0..2000u32).map(|key| owner(&key.to_le_bytes(), workers)).collect();
        assert_eq!(owners, (0..workers).collect());
    }
}

#[test]
fn the_slot_of_a_key_never_changes() {
    assert_eq!([slot(b""), slot(b"/x"), slot(b"host-1"), slot(b"tidegate")], [194, 72, 10, 204]);
}
