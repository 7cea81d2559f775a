//! A map that parses JSON and writes JSON.

use tidegate_plugin::prelude::*;

#[map]
fn reshape(record: &Record, out: &mut Outputs) -> Result<()> {
    out.json(&record.json::<workloads::Access>()?.slim())?;
    Ok(())
}
