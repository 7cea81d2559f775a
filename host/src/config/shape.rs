//! From a tree to the fields of a file, finding every fault of its shape.
//!
//! Owns the deserializer over a [`Tree`] and the repair that lets one run find all faults: what does not fit is noted,
//! cut out of the tree, and the rest is read again. It must not know which fields there are.

use std::{collections::BTreeSet, ops::Range};

use serde::de::DeserializeOwned;

use super::tree::{Tree, Value};

mod deserializer;
mod misfit;

pub(crate) use misfit::{Misfit, Wrong, closest};

/// More faults than anybody reads; what is beyond is found in the next run.
const MOST: usize = 100;

/// What could be read of a tree, and what did not fit.
pub(crate) struct Read<T> {
    /// What was read, without what did not fit; none if the tree as a whole is something else.
    pub(crate) value: Option<T>,
    /// What did not fit.
    pub(crate) misfits: Vec<Misfit>,
    /// Things such as `sources.a` of which a part was cut out.
    pub(crate) damaged: BTreeSet<Vec<String>>,
    /// Things that were cut out as a whole.
    pub(crate) gone: BTreeSet<Vec<String>>,
}

/// Reads a `T` from `tree`.
pub(crate) fn read<T: DeserializeOwned>(mut tree: Tree) -> Read<T> {
    let mut read = Read { value: None, misfits: Vec::new(), damaged: BTreeSet::new(), gone: BTreeSet::new() };
    // Fields that are missing only because they did not fit, by the place of their mapping.
    let mut excused: BTreeSet<(usize, usize, String)> = BTreeSet::new();
    while read.misfits.len() < MOST {
        let misfit = match T::deserialize(deserializer::Reader::new(&tree)) {
            Ok(value) => {
                read.value = Some(value);
                break;
            }
            Err(error) => error.0,
        };
        let Some(cut) = cut(&mut tree, &misfit.path) else {
            read.misfits.push(*misfit);
            break;
        };
        for depth in 1..cut.names.len() {
            read.damaged.insert(cut.names.iter().take(depth).cloned().collect());
        }
        let excuse = |key: &str| (cut.owner.start, cut.owner.end, key.to_owned());
        excused.insert(excuse(cut.names.last().map_or("", String::as_str)));
        if let Some(meant) = misfit.meant() {
            excused.insert(excuse(meant));
            let above = cut.names.split_last().map_or(&[][..], |(_, above)| above);
            read.gone.insert(above.iter().cloned().chain([meant.to_owned()]).collect());
        }
        read.gone.insert(cut.names);
        let known = match &misfit.wrong {
            Wrong::Missing(field) => excused.contains(&(misfit.span.start, misfit.span.end, (*field).to_owned())),
            _ => false,
        };
        if !known {
            read.misfits.push(*misfit);
        }
    }
    read
}

/// What was cut out of a tree.
struct Cut {
    /// Keys on the way to it; places in lists are numbers.
    names: Vec<String>,
    /// Where the mapping or list stands that it was cut out of.
    owner: Range<usize>,
}

fn cut(tree: &mut Tree, path: &[usize]) -> Option<Cut> {
    let (last, way) = path.split_last()?;
    let mut names = Vec::with_capacity(path.len());
    let mut at = tree;
    for step in way {
        at = match &mut at.value {
            Value::Map(entries) => {
                let (key, below) = entries.get_mut(*step)?;
                names.push(key.value.clone());
                below
            }
            Value::List(items) => {
                names.push(step.to_string());
                items.get_mut(*step)?
            }
            _ => return None,
        };
    }
    let owner = at.span.clone();
    match &mut at.value {
        Value::Map(entries) if *last < entries.len() => names.push(entries.remove(*last).0.value),
        Value::List(items) if *last < items.len() => {
            items.remove(*last);
            names.push(last.to_string());
        }
        _ => return None,
    }
    Some(Cut { names, owner })
}
