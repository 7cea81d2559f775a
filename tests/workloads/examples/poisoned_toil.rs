//! A filter that takes its time, of records that may be poisoned.

use tidegate_plugin::prelude::*;

#[filter]
fn poisoned_toil(record: &Record) -> Result<bool> {
    workloads::taste(record.value())?;
    Ok(workloads::toil(record.value()))
}
