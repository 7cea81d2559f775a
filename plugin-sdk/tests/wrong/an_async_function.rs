use tidegate_plugin::prelude::*;

#[filter]
async fn wrong(record: &Record) -> Result<bool> { //~ a plugin's function is not async
    Ok(true)
}
