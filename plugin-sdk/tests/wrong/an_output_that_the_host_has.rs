use tidegate_plugin::prelude::*;

#[map(outputs = ["refused"])] //~ the host has an output `refused` of its own
fn wrong(record: &Record) -> Result<Output> {
    Ok(Output::same())
}
