use tidegate_plugin::prelude::*;

#[map]
fn wrong(record: &Record) -> Result<String> { //~ a map cannot put out
    Ok(record.text()?.to_owned())
}
