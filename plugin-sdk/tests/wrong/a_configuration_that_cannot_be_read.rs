use tidegate_plugin::prelude::*;

#[derive(JsonSchema)]
struct Config {}

#[filter]
fn wrong(config: &Config, record: &Record) -> Result<bool> { //~ is not satisfied
    Ok(true)
}
