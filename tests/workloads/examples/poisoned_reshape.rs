//! A map that parses JSON and writes JSON, of records that may be poisoned.

use tidegate_plugin::prelude::*;

#[map]
fn poisoned_reshape(record: &Record, out: &mut Outputs) -> Result<()> {
    workloads::taste(record.value())?;
    out.json(&record.json::<workloads::Access>()?.slim())?;
    Ok(())
}
