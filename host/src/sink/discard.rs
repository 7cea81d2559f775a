//! Sink `discard`.
