//! From the bytes of a plugin to something that instances are made of.
//!
//! Owns where compiled code comes from, and the order of the checks after it. It must not know pipelines or calls.
//! Invariant: no code of a plugin runs before its contract has been checked.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, InstancePre};

use super::bind::Exports;
use super::compile::compile;
use super::contract;
use super::fresh::Fresh;
use super::guest::Guest;
use super::instance::WasmInstance;
use super::symbols::Symbols;
use super::{Described, Engine, Fault, Kind, Limits};

/// Raised whenever a check before compiling changes, so that code compiled under the old one is not used any more.
const CHECKS: u32 = 1;

/// Why bytes cannot be a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum LoadError {
    /// Neither a valid component nor a valid core module.
    #[error("it is not valid WebAssembly: {0}")]
    NotWasm(String),
    /// Larger, in one way or several, than the host compiles.
    #[error("it exceeds what the host compiles: {}", .0.join("; "))]
    TooLarge(Vec<String>),
    /// WebAssembly features that are switched off.
    #[error("it uses features of WebAssembly that are switched off: {}", .0.join(", "))]
    Features(Vec<String>),
    /// Built against a contract that the host does not speak.
    #[error("its contract is {found}, the host speaks {spoken}: {differs}")]
    Contract {
        /// Version in the plugin, or `none`.
        found: String,
        /// Version that the host speaks.
        spoken: String,
        /// The interface or function that differs.
        differs: String,
    },
    /// Imports that plugins are not granted.
    #[error("it imports what plugins are not granted: {}", .0.join(", "))]
    Imports(Vec<String>),
    /// Valid, but no component can be made of it, or no code.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    /// The process that compiled it was ended by a limit.
    #[error("compiling it is more than the host allows: {0}")]
    Limits(String),
    /// The process that was to compile it failed for a reason of its own.
    #[error("nobody could compile it: {0}")]
    Worker(String),
    /// `describe` failed, or did not answer as the contract says.
    #[error("it does not describe itself: {0}")]
    Describe(String),
}

/// A plugin that has been checked, compiled and asked what it is. Cloning is cheap; instances are made of it.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    pre: InstancePre<Guest>,
    exports: Exports,
    symbols: Arc<Symbols>,
    described: Described,
    kind: Kind,
    digest: String,
    imports: Vec<String>,
    size: u64,
}

impl Plugin {
    /// Checks and compiles `bytes`, a component or a core wasm32-wasip1 module, and asks it to describe itself.
    ///
    /// # Errors
    /// Why it cannot be a plugin.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        let digest = hexadecimal(&Sha256::digest(bytes));
        let component = component(engine, bytes, &digest)?;
        let (imports, kind) = outside(engine, &component)?;
        let symbols = Arc::new(Symbols::of(bytes.to_vec()));
        let pre = engine
            .linker()
            .instantiate_pre(&component)
            .map_err(|error| contract::differs(contract::VERSION, format!("{error:#}")))?;
        let exports = Exports::find(&component, kind)?;
        let described = described(engine, &pre, &exports, &symbols, kind)?;
        let size = bytes.len() as u64;
        let engine = engine.clone();
        Ok(Self { inner: Arc::new(Inner { engine, pre, exports, symbols, described, kind, digest, imports, size }) })
    }

    /// What it says about itself.
    pub fn described(&self) -> &Described {
        &self.inner.described
    }

    /// What it does with records.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// SHA-256 of the bytes that were loaded, in lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Names of the interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// What was loaded.
    pub fn bytes(&self) -> &[u8] {
        self.inner.symbols.bytes()
    }

    /// Size of what was loaded, in bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// A fresh instance, configured with `config`.
    ///
    /// # Errors
    /// A fault of kind `InstantiateFailed`: a limit, a trap, or the text with which the plugin refuses `config`.
    pub fn instantiate(&self, limits: &Limits, config: &serde_json::Value) -> Result<WasmInstance, Box<Fault>> {
        let inner = &self.inner;
        let mut fresh = Fresh::make(&inner.engine, &inner.pre, &inner.symbols, limits)?;
        fresh.configure(&inner.exports, &config.to_string())?;
        fresh.bind(&inner.exports, &inner.described, config)
    }
}

/// The component that is made of `bytes`: out of the cache, by a process of its own, or in this one.
fn component(engine: &Engine, bytes: &[u8], digest: &str) -> Result<Component, LoadError> {
    let entry = format!("{digest}-{CHECKS}-{:016x}", engine.settings());
    // What is kept was checked before it was compiled.
    if let Some(component) = engine.cache().and_then(|cache| cache.get(engine.wasm(), &entry)) {
        return Ok(component);
    }
    let component = match engine.worker() {
        None => compile(engine.wasm(), bytes)?,
        Some(worker) => {
            let artifact = worker.compile(bytes)?;
            let component = artifact.component(engine.wasm());
            component.map_err(|error| LoadError::Worker(format!("use what the compile worker made: {error:#}")))?
        }
    };
    if let Some(cache) = engine.cache() {
        cache.put(&entry, &component);
    }
    Ok(component)
}

/// Names of the interfaces that a component imports, and the kind that its exports make it.
fn outside(engine: &Engine, component: &Component) -> Result<(Vec<String>, Kind), LoadError> {
    let component = component.component_type();
    let imports: Vec<String> = component.imports(engine.wasm()).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = component.exports(engine.wasm()).map(|(name, _)| name.to_owned()).collect();
    let kind = contract::kind(&imports, &exports)?;
    Ok((imports, kind))
}

fn described(
    engine: &Engine,
    pre: &InstancePre<Guest>,
    exports: &Exports,
    symbols: &Arc<Symbols>,
    kind: Kind,
) -> Result<Described, LoadError> {
    let fault = |fault: Box<Fault>| LoadError::Describe(fault.message.clone());
    let mut fresh = Fresh::make(engine, pre, symbols, &Limits::for_describing()).map_err(fault)?;
    fresh.check_types(exports)?;
    let text = fresh.describe(exports).map_err(fault)?;
    let described: Described =
        serde_json::from_str(&text).map_err(|error| LoadError::Describe(format!("{error} in {text}")))?;
    if described.contract != contract::VERSION {
        return Err(contract::differs(&described.contract, "see the `contract` that it describes".to_owned()));
    }
    if described.kind != kind {
        let message = format!("it says it is a {}, and exports what makes a {kind}", described.kind);
        return Err(LoadError::Describe(message));
    }
    Ok(described)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
