use tidegate_plugin::prelude::*;

#[aggregate]
fn wrong(record: &Record) -> Result<bool> { //~ `#[aggregate]` stands on an `impl Aggregate for YourType`
    Ok(true)
}
