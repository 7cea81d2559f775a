use tidegate_plugin::prelude::*;

#[filter]
fn wrong(record: Record) -> Result<bool> { //~ an argument has to be a reference: expected `fn(config: &Config, record: &Record) -> Result<bool>`
    Ok(!record.value().is_empty())
}
