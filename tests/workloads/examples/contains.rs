//! A filter that searches the value.

use tidegate_plugin::prelude::*;

#[filter]
fn contains(record: &Record) -> Result<bool> {
    Ok(workloads::contains(record.value()))
}
