use tidegate_plugin::prelude::*;

#[filter]
fn wrong(record: &Record, out: &mut Outputs) -> Result<bool> { //~ a filter puts nothing out
    Ok(true)
}
