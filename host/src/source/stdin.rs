//! Source `stdin`.
