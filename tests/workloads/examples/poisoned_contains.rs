//! A filter that searches the value, of records that may be poisoned.

use tidegate_plugin::prelude::*;

#[filter]
fn poisoned_contains(record: &Record) -> Result<bool> {
    workloads::taste(record.value())?;
    Ok(workloads::contains(record.value()))
}
