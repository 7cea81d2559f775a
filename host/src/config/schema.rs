//! JSON Schemas of the files, for editors.
//!
//! Owns nothing but their settings: draft 2020-12, as the fields say.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Host, Pipeline};

/// JSON Schema of a pipeline's file.
pub fn pipeline() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Pipeline>().to_value()
}

/// JSON Schema of the host's file.
pub fn host() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Host>().to_value()
}
