use proptest::prelude::*;

use super::*;

fn batch(items: &[(Vec<u8>, Vec<u8>, i64)]) -> Batch {
    let values = items.iter().map(|item| &item.0).collect();
    let keys = items.iter().map(|item| &item.1).collect();
    Batch::of_values(values)
        .with_keys(keys)
        .and_then(|batch| batch.with_timestamps(items.iter().map(|item| item.2).collect()))
        .unwrap()
}

fn items() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, i64)>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..6);
    proptest::collection::vec((bytes(), bytes(), any::<i64>()), 0..40)
}

proptest! {
    #[test]
    fn cut_anywhere_and_joined_again_is_the_same_batch(items in items(), cuts in proptest::collection::vec(0usize..40, 0..5)) {
        let whole = batch(&items);
        let mut cuts = cuts;
        cuts.extend([0, items.len()]);
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(items.len()));
        cuts.sort_unstable();
        let parts: Vec<Batch> = cuts.windows(2).map(|pair| whole.slice(pair[0], pair[1])).collect();
        prop_assert_eq!(Batch::concat(&parts), whole);
    }

    #[test]
    fn gathered_records_are_those_at_the_positions(items in items(), picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let whole = batch(&items);
        let at: Vec<u32> = if items.is_empty() { vec![] } else { picks.iter().map(|pick| pick.index(items.len()) as u32).collect() };
        let picked: Vec<_> = at.iter().map(|&i| items[i as usize].clone()).collect();
        prop_assert_eq!(whole.gather(&at), batch(&picked));
    }

    #[test]
    fn a_partition_keeps_every_record_once_and_in_order(items in items(), parts in 1usize..5) {
        let part_of = |i: usize| items[i].2 as usize % parts;
        for (part, (rows, found)) in batch(&items).partition(parts, part_of).iter().enumerate() {
            let expected: Vec<usize> = (0..items.len()).filter(|i| part_of(*i) == part).collect();
            prop_assert_eq!(rows.iter().map(|row| *row as usize).collect::<Vec<_>>(), &*expected);
            prop_assert_eq!(found, &batch(&expected.iter().map(|i| items[*i].clone()).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn columns_from_outside_are_taken_only_when_they_fit(data in proptest::collection::vec(any::<u8>(), 0..9), ends in proptest::collection::vec(0u32..10, 0..5)) {
        let fits = ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == data.len();
        let column = Column::from_parts(data.clone().into(), ends.clone());
        prop_assert_eq!(column.is_ok(), fits);
        if let Ok(column) = column {
            prop_assert_eq!(column.iter().collect::<Vec<_>>().concat(), data);
            prop_assert!(column.iter().enumerate().all(|(i, item)| column.get(i) == Some(item)));
        }
    }
}

#[test]
fn a_column_of_another_length_is_refused() {
    let two = batch(&[(vec![1], vec![], 1), (vec![2], vec![], 2)]);
    assert_eq!(two.clone().with_values(Column::blank(3)), Err(Misfit::Count { expected: 2, found: 3 }));
    assert_eq!(two.with_timestamps(vec![1]), Err(Misfit::Count { expected: 2, found: 1 }));
}

#[test]
fn batches_with_different_columns_join_with_empty_items() {
    let plain = Batch::of_values(["a"].iter().collect());
    let keyed = batch(&[(b"b".to_vec(), b"k".to_vec(), 7)]);
    let both = Batch::concat(&[plain, keyed]);
    assert_eq!(both.keys().unwrap().iter().collect::<Vec<_>>(), [&b""[..], b"k"]);
    assert_eq!(both.timestamps().unwrap(), [0, 7]);
}

#[test]
fn headers_survive_the_way_there_and_back_and_stop_at_damage() {
    let mut encoded = Vec::new();
    push_header(&mut encoded, b"a", b"1");
    push_header(&mut encoded, b"", b"");
    assert_eq!(Headers::new(&encoded).collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..]), (b"", b"")]);
    assert!(Headers::is_well_formed(&encoded));
    encoded.extend_from_slice(&[0xff; 5]);
    assert!(!Headers::is_well_formed(&encoded));
    assert_eq!(Headers::new(&encoded).count(), 2);
}
