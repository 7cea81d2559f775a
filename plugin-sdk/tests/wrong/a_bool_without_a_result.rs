use tidegate_plugin::prelude::*;

#[filter]
fn wrong(record: &Record) -> bool { //~ mismatched types
    !record.value().is_empty()
}
