//! What poisoned records cost the others: plugins that get some, beside the same without, in the stage's own worker.
//!
//! Owns how many there are and where they stand. Invariant: every poisoned record is refused, and no other.

use std::sync::Arc;

use anyhow::{anyhow, ensure};
use tidegate::{
    batch::{Batch, Column},
    config::OnError,
    plugin::Engine,
    stage::worker::{SavedGroups, Spec, Work, Worker},
};

use crate::calls::{failed, spec};
use crate::clock::{Side, Start, Took, alternate};
use crate::records;

/// Plugins that are measured, and what they are called in the table.
pub const PLUGINS: [(&str, &str); 3] =
    [("poisoned_contains", "substring filter"), ("poisoned_reshape", "JSON map"), ("poisoned_toil", "5 µs a record")];

/// Of how many records one is poisoned.
pub const ONE_OF: [u64; 3] = [1000, 100, 10];

/// Records of a run.
pub const RECORDS: u64 = 1 << 15;

/// What the runs of one plugin took.
#[derive(Clone, Debug)]
pub struct Row {
    /// Without poison.
    pub clean: Took,
    /// Where poisoned records are refused, for each of [`ONE_OF`].
    pub refused: Vec<Took>,
    /// Where they trap.
    pub trapped: Vec<Took>,
}

/// Measures the plugin `guest` over `rounds` rounds.
///
/// # Errors
/// When it cannot be run, or refuses other records than the poisoned ones.
pub fn measure(guest: &str, rounds: usize) -> anyhow::Result<Row> {
    let spec = spec(guest, &Engine::new(None)?, OnError::Drop)?;
    let clean = records::batches(RECORDS, 256, 1024);
    let poisoned = |first: u8| ONE_OF.map(|one_of| (poison(&clean, first, one_of), RECORDS.div_ceil(one_of)));
    let inputs: Vec<(Vec<Batch>, u64)> = [(clean.clone(), 0)]
        .into_iter()
        .chain(poisoned(workloads::REFUSED))
        .chain(poisoned(workloads::TRAPS))
        .collect();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for (input, poisoned) in &inputs {
        let spec = spec.clone();
        sides.push(Box::new(move || run(&spec, input, *poisoned)));
    }
    let took = alternate(rounds, &mut sides)?;
    let [clean, poisoned @ ..] = took.as_slice() else { return Err(anyhow!("nothing was measured")) };
    let (refused, trapped) = poisoned.split_at(ONE_OF.len());
    Ok(Row { clean: *clean, refused: refused.to_vec(), trapped: trapped.to_vec() })
}

fn run(spec: &Arc<Spec>, input: &[Batch], poisoned: u64) -> anyhow::Result<Took> {
    let mut worker = Worker::new(spec.clone(), 0, 0, &SavedGroups::new(), |_| true, None).map_err(failed)?;
    let (started, mut refused) = (Start::now(), 0);
    for batch in input {
        refused += worker.work(Work::Batch(0, batch.clone())).map_err(failed)?.outcome.tally.refused;
    }
    let took = started.took();
    ensure!(refused == poisoned, "{refused} records were refused, {poisoned} are poisoned");
    Ok(took)
}

/// The same records, the first of each `one_of` poisoned: it begins with `first`.
fn poison(clean: &[Batch], first: u8, one_of: u64) -> Vec<Batch> {
    let mut at = 0;
    let mut spoil = |value: &[u8]| {
        let mut value = value.to_vec();
        if u64::is_multiple_of(at, one_of)
            && let Some(byte) = value.first_mut()
        {
            *byte = first;
        }
        at += 1;
        value
    };
    let many = clean.iter().map(|batch| {
        let values: Column = batch.values().iter().map(&mut spoil).collect();
        batch.clone().with_values(values).unwrap_or_else(|_| batch.clone())
    });
    many.collect()
}
