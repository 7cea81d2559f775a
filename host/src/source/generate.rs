//! Source `generate`.
