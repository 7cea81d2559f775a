//! Compiled code as bytes, and the one unsafe call of the host: wasmtime runs whatever they say.
//!
//! Owns that call. It must not know where the bytes lie. Invariant: an artifact is made only of bytes that this program's
//! own compiler has written: [`super::Cache`] found its seal on them, or a compile worker handed them over.

use wasmtime::component::Component;

use super::engine::plain;

/// What `Component::serialize` has returned, in this process or in another of this program.
pub(super) struct Artifact {
    bytes: Vec<u8>,
    /// Where the code begins.
    start: usize,
}

impl Artifact {
    /// The code from `start` on, which our own compiler has written.
    pub(super) fn of_ours(bytes: Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }

    pub(super) fn code(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// What runs on `engine`.
    ///
    /// # Errors
    /// When it was made by another version of wasmtime, or under other settings.
    #[expect(unsafe_code, reason = "our own compiler has written the code: see the invariant of this file")]
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> anyhow::Result<Component> {
        // SAFETY: `deserialize` must be given what `Component::serialize` has returned. `Cache::read` has checked the HMAC
        // of these very bytes in memory; its key lies in a folder that only we can write, in a file that only we can read.
        // A compile worker is a process of this very program that wrote them down a pipe which nobody else holds.
        // Artifacts of another version or other settings of wasmtime are refused by `deserialize` itself.
        unsafe { Component::deserialize(engine, self.code()) }.map_err(plain)
    }
}
