//! A filter that keeps everything and looks at nothing: what is left is the boundary.

use tidegate_plugin::prelude::*;

#[filter(values = false)]
fn identity(_: &Record) -> Result<bool> {
    Ok(true)
}
