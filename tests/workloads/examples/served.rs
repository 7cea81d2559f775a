//! A filter that parses JSON for one field.

use tidegate_plugin::prelude::*;
use workloads::Status;

#[filter]
fn served(record: &Record) -> Result<bool> {
    Ok(record.json::<Status>()?.is_served())
}
