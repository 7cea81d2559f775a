use tidegate_plugin::prelude::*;

#[filter]
fn wrong(record: &Record) { //~ the return type is missing: expected `fn(config: &Config, record: &Record) -> Result<bool>`
    let _ = record;
}
