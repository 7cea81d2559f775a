//! As `served`, on a field that the host found when it read the record.

use tidegate_plugin::prelude::*;

#[filter(fields = ["/status"])]
fn served_by_field(record: &Record) -> Result<bool> {
    Ok(workloads::is_served(record.field_as(0)?))
}
