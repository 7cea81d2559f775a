use tidegate_plugin::prelude::*;

#[filter(selftest = "nowhere.json")] //~ couldn't read
fn wrong(record: &Record) -> Result<bool> {
    Ok(true)
}
