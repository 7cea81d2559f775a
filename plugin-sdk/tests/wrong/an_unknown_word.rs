use tidegate_plugin::prelude::*;

#[filter(outputs = ["slow"])] //~ expected one of `batch`, `fields`, `name`, `needs`, `selftest`, `values`
fn wrong(record: &Record) -> Result<bool> {
    Ok(true)
}
