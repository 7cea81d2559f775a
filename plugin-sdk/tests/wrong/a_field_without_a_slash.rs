use tidegate_plugin::prelude::*;

#[filter(fields = ["status"])] //~ a field is a JSON pointer, such as `/status`
fn wrong(record: &Record) -> Result<bool> {
    Ok(true)
}
