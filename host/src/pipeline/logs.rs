//! The logs of outboxes and journals, of pipelines that do not run.
//!
//! Owns how they are found, checked and repaired where nobody has them open. It must not know who asks, nor what their
//! records are. Invariant: whatever somebody was answered for, or waits to be sent, is read or told as damage.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    committed::{SinkPoint, SourcePoint},
    durable::{SINK, SOURCE, Unfit, parse},
    topics::visit,
};
use crate::{
    disk::Disk,
    log::{self, Log, Mark, Settings, Skipped},
    sink::{http::outbox, log::settings},
    source::journal,
    store::Store,
};

/// A log, and the end that the store knows.
struct Found {
    folder: PathBuf,
    mark: Mark,
    whose: Whose,
}

enum Whose {
    Outbox,
    Journal,
}

/// Reads and checks the logs of all outboxes and journals below `state`; how many records they hold. What a journal holds
/// behind its last commit counts, for somebody was answered for it.
///
/// # Errors
/// The first damage, and what the disk says.
pub fn verify(store: &Store, disk: &Arc<dyn Disk>, state: &Path) -> anyhow::Result<u64> {
    let mut records = 0;
    for Found { folder, mark, whose } in found(store, state)? {
        let log = match whose {
            Whose::Outbox => Log::open(disk.clone(), &folder, Some(mark), settings(u64::MAX))?,
            Whose::Journal => {
                let any = Settings { block: u32::MAX, ..Settings::default() };
                Log::open_whole(disk.clone(), &folder, mark, any)?.0
            }
        };
        records += log.verify()?.records;
    }
    Ok(records)
}

/// Skips what is damaged of the outboxes and journals, for good, and tells each stretch.
///
/// # Errors
/// What the store and the disk say.
pub fn repair(store: &Store, disk: &dyn Disk, state: &Path, mut skipped: impl FnMut(Skipped)) -> anyhow::Result<()> {
    for Found { folder, mark, .. } in found(store, state)? {
        log::repair(disk, &folder, mark)?.into_iter().for_each(&mut skipped);
    }
    Ok(())
}

/// The logs that the store knows of.
fn found(store: &Store, state: &Path) -> Result<Vec<Found>, Unfit> {
    let mut all = Vec::new();
    for pipeline in store.pipelines()? {
        visit(store, &pipeline, SINK, |place, value| {
            let point: SinkPoint = parse(place, value)?;
            let folder = state.join(outbox::folder(&pipeline, &place.participant));
            all.extend(outbox::mark(&point.position).map(|mark| Found { folder, mark, whose: Whose::Outbox }));
            Ok(())
        })?;
        visit(store, &pipeline, SOURCE, |place, value| {
            let point: SourcePoint = parse(place, value)?;
            let folder = state.join(journal::folder(&pipeline, &place.participant));
            all.extend(journal::mark(&point.position).map(|mark| Found { folder, mark, whose: Whose::Journal }));
            Ok(())
        })?;
    }
    // One that nobody has written to has no file.
    all.retain(|found| found.mark != Mark::default());
    Ok(all)
}
