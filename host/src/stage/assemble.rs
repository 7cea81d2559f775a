//! Puts together what leaves a stage: what the plugin returned, and what each output inherits from its origin.
//!
//! Owns inheritance. Invariant: a column made from the value never outlives it: where a plugin puts out another
//! value, the fields and the tombstone of the old one stay behind.

use std::sync::Arc;

use super::{
    outcome::{Outcome, Rank},
    outlet::Port,
    prepare::output_ids,
};
use crate::{
    batch::{Batch, Column, FIELD, ID, INPUT, Misfit, NULL},
    plugin::Produced,
};

/// Sets one column of a batch.
type Set = fn(Batch, Column) -> Result<Batch, Misfit>;

/// Adds the outputs of a call to `outcome`: `origins` are the records (or groups) they came from; `rank` says where
/// an output of an origin belongs among those of other workers, and is not asked when there are none. Returns how
/// many origins had an output.
pub fn assemble(
    stage: &str,
    origins: &Batch,
    mut produced: Produced,
    rank: Option<&dyn Fn(u32) -> Rank>,
    outcome: &mut Outcome,
) -> u64 {
    let len = produced.len;
    let from = produced.origins.take().unwrap_or_else(|| (0..len as u32).collect());
    let from = from.as_slice();
    let distinct = from.chunk_by(|a, b| a == b).count() as u64;
    outcome.tally.produced += len as u64;
    let is_one_to_one = len == origins.len() && distinct as usize == len;
    let inherited = if is_one_to_one { origins.clone() } else { origins.gather(from) };
    let produced = produced.over(&inherited);
    let keeps_values = produced.values.is_none();
    let mut batch = inherited.retain_named(|name| name != INPUT && name != ID && (keeps_values || !is_of_value(name)));
    let columns: [(Option<Column>, Set); 4] = [
        (produced.values, Batch::with_values),
        (produced.keys, Batch::with_keys),
        (produced.headers, Batch::with_headers),
        (produced.nulls, |batch, nulls| batch.with_named(NULL.into(), nulls)),
    ];
    for (column, set) in columns {
        if let Some(column) = column {
            // The reply was checked: its columns have `len` items.
            batch = set(batch.clone(), column).unwrap_or(batch);
        }
    }
    if let Some(times) = produced.timestamps {
        batch = batch.clone().with_timestamps(times).unwrap_or(batch);
    }
    if let Some(ids) = origins.named(ID) {
        batch = batch.clone().with_named(Arc::from(ID), output_ids(stage, ids, from)).unwrap_or(batch);
    }
    let ranks = |at: &mut dyn Iterator<Item = u32>| match rank {
        None => Vec::new(),
        Some(rank) => at.filter_map(|i| from.get(i as usize)).map(|&origin| rank(origin)).collect(),
    };
    match produced.ports {
        None => outcome.put_ranked(Port::Main, batch, ranks(&mut (0..len as u32))),
        Some(ports) => {
            let mut kinds = ports.clone();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                let at: Vec<u32> = (0u32..).zip(&ports).filter(|(_, port)| **port == kind).map(|(i, _)| i).collect();
                let port = kind.checked_sub(1).map_or(Port::Main, |named| Port::Named(named as usize));
                let part = if at.len() == len { batch.clone() } else { batch.gather(&at) };
                outcome.put_ranked(port, part, ranks(&mut at.iter().copied()));
            }
        }
    }
    distinct
}

fn is_of_value(name: &str) -> bool {
    name.starts_with(FIELD) || name == NULL
}

/// Positions from 0 up to `len` that are in none of the ascending lists.
pub fn others(len: usize, lists: [&[u32]; 2]) -> Vec<u32> {
    let mut is_listed = vec![false; len];
    for &at in lists.into_iter().flatten() {
        if let Some(flag) = is_listed.get_mut(at as usize) {
            *flag = true;
        }
    }
    (0u32..).zip(is_listed).filter(|(_, listed)| !listed).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins() -> Batch {
        let column = |items: &[&str]| -> Column { items.iter().collect() };
        Batch::of_values(column(&["a", "b", "c"]))
            .with_keys(column(&["1", "2", "3"]))
            .and_then(|batch| batch.with_named("field:/x".into(), column(&["x", "y", "z"])))
            .and_then(|batch| batch.with_timestamps(vec![1, 2, 3]))
            .unwrap()
    }

    fn run(produced: Produced) -> (u64, Vec<super::super::outcome::Output>) {
        let mut outcome = Outcome::default();
        let distinct = assemble("s", &origins(), produced, None, &mut outcome);
        (distinct, outcome.outputs)
    }

    #[test]
    fn what_a_plugin_leaves_out_comes_from_the_origin() {
        let values: Column = ["A", "A2", "C"].iter().collect();
        let (distinct, outputs) =
            run(Produced { len: 3, values: Some(values.clone()), origins: Some(vec![0, 0, 2]), ..Produced::default() });
        assert_eq!(distinct, 2);
        assert_eq!(outputs[0].batch.values(), &values);
        assert_eq!(outputs[0].batch.keys().unwrap().iter().collect::<Vec<_>>(), [b"1", b"1", b"3"]);
        assert_eq!(outputs[0].batch.timestamps().unwrap(), [1, 1, 3]);
    }

    #[test]
    fn a_field_stays_with_the_value_it_was_read_from() {
        let kept = run(Produced { len: 3, ..Produced::default() });
        assert!(kept.1[0].batch.named("field:/x").is_some());
        let replaced = run(Produced { len: 3, values: Some(Column::blank(3)), ..Produced::default() });
        assert!(replaced.1[0].batch.named("field:/x").is_none());
    }

    #[test]
    fn each_port_gets_its_outputs_in_order() {
        let (_, outputs) = run(Produced { len: 3, ports: Some(vec![2, 0, 2]), ..Produced::default() });
        assert_eq!(outputs.iter().map(|output| output.port).collect::<Vec<_>>(), [Port::Main, Port::Named(1)]);
        assert_eq!(outputs[1].batch.values().iter().collect::<Vec<_>>(), [b"a", b"c"]);
    }

    #[test]
    fn others_are_those_in_neither_list() {
        assert_eq!(others(5, [&[1], &[4]]), [0, 2, 3]);
    }
}
