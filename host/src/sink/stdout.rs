//! Sink `stdout`.
