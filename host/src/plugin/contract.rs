//! The contract by its names: which interfaces there are, and which of them make a plugin of which kind.
//!
//! Owns the versions that the host speaks. It must not know wasm: it works on names of imports and exports. Invariant:
//! every name that is refused is named in the error.

use super::wasi::GRANTED;
use super::{Kind, LoadError};

/// The version of the contract that the host speaks.
pub(super) const VERSION: &str = "0.1.0";

/// The host's own interface.
pub(super) const HOST: &str = "tidegate:plugin/host@0.1.0";
/// What every plugin exports.
pub(super) const LIFECYCLE: &str = "tidegate:plugin/lifecycle@0.1.0";
/// What a filter exports.
pub(super) const FILTERING: &str = "tidegate:plugin/filtering@0.1.0";
/// What a map exports.
pub(super) const MAPPING: &str = "tidegate:plugin/mapping@0.1.0";
/// What an aggregate exports.
pub(super) const AGGREGATION: &str = "tidegate:plugin/aggregation@0.1.0";

/// What belongs to the contract, whatever its version.
const PACKAGE: &str = "tidegate:plugin/";
/// Types only; nothing is called there.
const TYPES: &str = "tidegate:plugin/types@0.1.0";

/// Reads the kind of a plugin from the names of its imports and exports.
///
/// # Errors
/// When an import is not granted, the contract's version is another, or the exports are not those of one kind.
pub(super) fn kind(imports: &[String], exports: &[String]) -> Result<Kind, LoadError> {
    let ours = || imports.iter().chain(exports).filter(|name| name.starts_with(PACKAGE));
    if let Some(other) = ours().find(|name| name.split_once('@').map(|(_, version)| version) != Some(VERSION)) {
        let (interface, version) = other.split_once('@').unwrap_or((other, "without a version"));
        return Err(differs(version, format!("see {interface}")));
    }
    let refused: Vec<String> = imports.iter().filter(|name| !is_granted(name)).cloned().collect();
    if !refused.is_empty() {
        return Err(LoadError::Imports(refused));
    }
    let exported = |interface: &str| exports.iter().any(|name| name == interface);
    let kinds: Vec<(Kind, &str)> = [(Kind::Filter, FILTERING), (Kind::Map, MAPPING), (Kind::Aggregate, AGGREGATION)]
        .into_iter()
        .filter(|(_, interface)| exported(interface))
        .collect();
    match kinds.as_slice() {
        [] => Err(differs("none", format!("it exports none of {FILTERING}, {MAPPING}, {AGGREGATION}"))),
        [(kind, _)] if exported(LIFECYCLE) => Ok(*kind),
        [_] => Err(differs(VERSION, format!("it does not export {LIFECYCLE}"))),
        [(_, first), (_, second), ..] => {
            Err(differs(VERSION, format!("it exports {first} and {second}, and a plugin is one kind")))
        }
    }
}

/// A plugin whose contract is not the host's.
pub(super) fn differs(found: &str, differs: String) -> LoadError {
    LoadError::Contract { found: found.to_owned(), spoken: VERSION.to_owned(), differs }
}

/// Whether a component may import `name`.
fn is_granted(name: &str) -> bool {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    name == HOST || name == TYPES || (GRANTED.contains(&interface) && version.starts_with("0.2."))
}

/// Whether a core module may import from `name`, which becomes an import of the component that is made of it.
pub(super) fn is_granted_to_core(name: &str) -> bool {
    // What a toolchain asks of the component around a core module is in brackets or under a dollar sign.
    let intrinsic = name.starts_with('[') || name.starts_with('$');
    name == "wasi_snapshot_preview1" || name.starts_with(PACKAGE) || name.starts_with("wasi:") || intrinsic
}
