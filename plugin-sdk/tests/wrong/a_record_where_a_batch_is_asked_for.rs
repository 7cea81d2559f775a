use tidegate_plugin::prelude::*;

#[filter(batch)]
fn wrong(record: &Record) -> Result<Selection> { //~ found `Record` where `Batch` has to stand
    Ok(Selection::default())
}
