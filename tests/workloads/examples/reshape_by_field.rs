//! As `reshape`, on fields that the host found when it read the record.

use serde_json::value::RawValue;
use tidegate_plugin::prelude::*;
use workloads::SlimFields;

#[map(fields = ["/ts", "/client", "/status", "/path", "/ms"])]
fn reshape_by_field(record: &Record, out: &mut Outputs) -> Result<()> {
    let raw = |index| record.field_as::<&RawValue>(index);
    out.json(&SlimFields::new([raw(0)?, raw(1)?, raw(2)?, raw(3)?], record.field_as(4)?))?;
    Ok(())
}
