use tidegate_plugin::prelude::*;

mod mine {
    pub struct Record;
}

#[filter]
fn wrong(record: &mine::Record) -> Result<bool> { //~ mismatched types
    Ok(true)
}
