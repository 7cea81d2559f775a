//! Parts of a pipeline that its file does not have any more.
//!
//! Owns what the store and the logs hold of them, and how that is given up. It must not know what a part did. Invariant:
//! nothing is given up but on a person's word.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{
    durable::{SINK, SOURCE, Unfit},
    letters, topics,
};
use crate::{
    config::graph::Letters,
    disk::Disk,
    sink::http::outbox,
    source::journal,
    store::{Places, Store, StoreError},
};

/// The parts of `pipeline` that `store` holds and that are none of `parts`.
///
/// # Errors
/// The store's.
pub fn parts(store: &Store, pipeline: &str, parts: &BTreeSet<&str>) -> Result<Vec<String>, StoreError> {
    let is_part = |name: &str| name.strip_prefix(pipeline).is_some_and(|rest| rest.starts_with('.'));
    Ok(store.pipelines()?.into_iter().filter(|name| is_part(name) && !parts.contains(name.as_str())).collect())
}

/// Gives up what `store` and the logs below `state` hold of a part.
///
/// # Errors
/// What the store and the disk say.
pub async fn give_up(store: &Store, disk: &Arc<dyn Disk>, state: &Path, part: &str) -> anyhow::Result<()> {
    let written = topics::logs(store, part)?;
    let mut folders = vec![Letters::folder(part)];
    folders.extend(names(store, part, SOURCE)?.iter().map(|source| journal::folder(part, source)));
    let outboxes: Vec<_> = names(store, part, SINK)?.iter().map(|sink| outbox::folder(part, sink)).collect();
    store.forget(part.into()).await?;
    topics::discard(disk, state, &written)?;
    for folder in folders {
        letters::discard(disk, &state.join(folder))?;
    }
    for folder in outboxes {
        outbox::discard(disk, &state.join(folder))?;
    }
    Ok(())
}

/// Whose values of a kind the store holds.
fn names(store: &Store, part: &str, kind: u8) -> Result<Vec<String>, Unfit> {
    let mut names = Vec::new();
    store.scan(part, Places::Kind(kind), |place, _| {
        names.push(place.participant.to_string());
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(names)
}
