//! Source `http`: records that others post.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::Size;

/// What `http:` of a source takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on, such as `127.0.0.1:8080`; port 0 takes any free one.
    pub listen: String,
    /// Path that records are posted to.
    #[serde(default = "root")]
    pub path: String,
    /// Budget for all bodies in hand, part of the host's memory sum.
    #[serde(default = "bodies")]
    pub bodies: Size,
}

fn root() -> String {
    "/".to_owned()
}

fn bodies() -> Size {
    Size(64 << 20)
}
