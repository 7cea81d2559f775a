//! Source `file`.
