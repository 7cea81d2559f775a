//! Source `http`.
