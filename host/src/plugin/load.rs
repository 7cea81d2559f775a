//! From the bytes of a plugin to something that can be instantiated.
//!
//! Owns the order of the checks. It must not know pipelines or calls. Invariant: nothing is compiled before it has been
//! checked, and no guest code runs before the contract has been.

use std::sync::Arc;

use super::{Described, Engine, Fault, Kind, Limits, WasmInstance};

/// Why bytes cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a component nor a core module.
    #[error("it is not WebAssembly: {0}")]
    NotWasm(String),
    /// Larger, in one way or several, than the host compiles.
    #[error("it exceeds what the host compiles: {}", .0.join("; "))]
    TooLarge(Vec<String>),
    /// WebAssembly features that are switched off.
    #[error("it uses what is switched off here: {}", .0.join(", "))]
    Features(Vec<String>),
    /// Built against a contract that the host does not speak.
    #[error("it speaks contract {found}, the host speaks {spoken} ({differs})")]
    Contract {
        /// Version in the plugin, or "none".
        found: String,
        /// Versions that the host speaks.
        spoken: String,
        /// The interface or function that differs.
        differs: String,
    },
    /// Imports that a plugin is not granted.
    #[error("it imports what plugins are not granted: {}", .0.join(", "))]
    Imports(Vec<String>),
    /// Valid, but no component can be made of it, or no code.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    /// `describe` failed, or did not answer as the contract says.
    #[error("it does not describe itself: {0}")]
    Describe(String),
}

/// A plugin that has been checked, compiled and asked what it is. Cloning is cheap; instances are made from it.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    described: Described,
    digest: String,
    kind: Kind,
    imports: Vec<String>,
    size: u64,
}

impl Plugin {
    /// Checks and compiles `bytes`, a component or a core wasm32-wasip1 module, and asks it to describe itself.
    ///
    /// # Errors
    /// Why it cannot be a plugin.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        let _ = (engine, bytes);
        Err(LoadError::NotWasm(String::new()))
    }

    /// What it says about itself.
    pub fn described(&self) -> &Described {
        &self.inner.described
    }

    /// What it does with records, by what it exports.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// SHA-256 of the bytes that were loaded, in lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// Size of what was loaded, in bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// A fresh instance, configured with `config`.
    ///
    /// # Errors
    /// A fault of kind `InstantiateFailed`: a limit, a trap, or the text with which the plugin refused `config`.
    pub fn instantiate(&self, limits: &Limits, config: &serde_json::Value) -> Result<WasmInstance, Box<Fault>> {
        let _ = (limits, config);
        todo!("the next commit")
    }
}
