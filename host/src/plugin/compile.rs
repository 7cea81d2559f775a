//! From the bytes of a plugin to machine code.
//!
//! Owns the checks before compiling and their order. It must not know in which process it runs, nor the cache. Invariant:
//! nothing is compiled before it has been checked.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::component::Component;
use wit_component::ComponentEncoder;

use super::inspect::{inspect, outside};
use super::{LoadError, contract};

/// Checks and compiles `bytes`, a component or a core wasm32-wasip1 module.
///
/// # Errors
/// What was found wrong.
pub(super) fn compile(wasm: &wasmtime::Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    let seen = inspect(bytes)?;
    let encoded = if seen.is_core { Some(component_of(bytes, &seen.imports)?) } else { None };
    let seen = match &encoded {
        Some(encoded) => outside(encoded)?,
        None => seen,
    };
    contract::kind(&seen.imports, &seen.exports)?;
    Component::new(wasm, encoded.as_deref().unwrap_or(bytes)).map_err(|error| LoadError::Compile(format!("{error:#}")))
}

/// Makes a component of a core module, whose WASI 0.1 is adapted to the component model's.
fn component_of(module: &[u8], imports: &[String]) -> Result<Vec<u8>, LoadError> {
    let mut refused: Vec<String> = imports.iter().filter(|name| !contract::is_granted_to_core(name)).cloned().collect();
    refused.sort_unstable();
    refused.dedup();
    if !refused.is_empty() {
        return Err(LoadError::Imports(refused));
    }
    encoded(module)
}

/// The component that is made of a core module: the same each time.
pub(super) fn encoded(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| LoadError::Compile(format!("no component can be made of it: {error:#}")))
}
