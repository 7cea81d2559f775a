use tidegate_plugin::prelude::*;

struct Config {}

#[filter]
fn wrong(record: &Record, config: &Config) -> Result<bool> { //~ found `Config` where `Record` has to stand
    Ok(true)
}
