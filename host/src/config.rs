//! What a user writes: pipelines and the host's settings, with the place of everything in the text.
//!
//! It must not know tasks or wasmtime.
