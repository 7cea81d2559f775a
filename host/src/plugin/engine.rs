//! The one compiler and run time of the process.
//!
//! Owns wasmtime's settings: what of WebAssembly exists here, and how a call is metered. It must not know what a plugin
//! is. Invariant: whatever is off here is off in [`super::inspect`] too, so that it is refused by name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use anyhow::Context;
use wasmtime::component::Linker;
use wasmtime::{Config, OptLevel, WasmBacktraceDetails, WasmFeatures};

use super::guest::Guest;
use super::{Cache, CompileWorker};

/// What of WebAssembly exists here: what a stock toolchain emits, with SIMD. All else is off, be it known to wasmtime
/// or not, for its features are where a run time's security advisories come from.
pub(super) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

/// Stack of a plugin, in bytes. A Rust release build recurses some ten thousand frames deep in it.
const WASM_STACK: usize = 512 << 10;

/// Stack on which a call runs, in bytes: the plugin's and the host functions'.
const CALL_STACK: usize = WASM_STACK + (512 << 10);

/// The compiler, the run time, what plugins may import, and the cache of compiled code. Cloning is cheap.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// What ends a call that goes on for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metering {
    Fuel,
    None,
}

struct Inner {
    wasm: wasmtime::Engine,
    linker: Linker<Guest>,
    cache: Option<Cache>,
    worker: Option<CompileWorker>,
    metering: Metering,
    settings: u64,
}

impl Engine {
    /// An engine that keeps compiled code in `cache`, or compiles anew each time. It compiles in this process, where
    /// nothing but its size bounds what a hostile module costs.
    ///
    /// # Errors
    /// When this machine cannot run compiled WebAssembly.
    pub fn new(cache: Option<Cache>) -> anyhow::Result<Self> {
        Self::with(Metering::Fuel, cache, None)
    }

    /// The same, which has what is not in the cache compiled by a `worker`.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_worker(cache: Option<Cache>, worker: CompileWorker) -> anyhow::Result<Self> {
        Self::with(Metering::Fuel, cache, Some(worker))
    }

    /// An engine that counts no fuel, so that nothing ends a plugin's endless loop: to measure what counting costs.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn unmetered(cache: Option<Cache>) -> anyhow::Result<Self> {
        Self::with(Metering::None, cache, None)
    }

    fn with(metering: Metering, cache: Option<Cache>, worker: Option<CompileWorker>) -> anyhow::Result<Self> {
        let wasm = wasmtime::Engine::new(&settings(metering)).map_err(plain).context("start the wasm engine")?;
        let mut linker = Linker::new(&wasm);
        super::wasi::link(&mut linker).map_err(plain).context("link WASI")?;
        super::host::link(&mut linker).map_err(plain).context("link the host's functions")?;
        let mut hasher = DefaultHasher::new();
        wasm.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        Ok(Self { inner: Arc::new(Inner { wasm, linker, cache, worker, metering, settings }) })
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.inner.wasm
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.inner.linker
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.inner.cache.as_ref()
    }

    pub(super) fn worker(&self) -> Option<&CompileWorker> {
        self.inner.worker.as_ref()
    }

    /// Whether fuel is counted.
    pub(super) fn is_metered(&self) -> bool {
        self.inner.metering == Metering::Fuel
    }

    /// What compiled code depends on beside the plugin: version and settings of the compiler, and the processor.
    pub(super) fn settings(&self) -> u64 {
        self.inner.settings
    }
}

/// Wasmtime's error, with all its causes, as everybody else's.
pub(super) fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

fn settings(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .wasm_features(FEATURES.complement(), false)
        .wasm_features(FEATURES, true)
        .consume_fuel(metering == Metering::Fuel)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        // Wasmtime would read all of a plugin's debugging information anew for every frame; see `super::symbols`.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK);
    config
}
