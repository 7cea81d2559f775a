use tidegate_plugin::prelude::*;

#[filter(
    needs = [
        "keys",
        "time", //~ no column is called `time`: expected one of `keys`, `timestamps`, `headers`, `id`, `input`, `null`
    ]
)]
fn wrong(record: &Record) -> Result<bool> {
    Ok(true)
}
