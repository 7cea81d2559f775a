use tidegate_plugin::prelude::*;

#[map(batch)]
fn wrong(batch: &Batch) -> Result<()> { //~ nowhere to put outputs
    Ok(())
}
