//! The boundary from both sides: guests written by hand, each misbehaving in one way, and what the host makes of it.

mod cache;
mod calls;
mod limits;
mod load;
mod reply;
mod wasi;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::json;
use wit_component::{StringEncoding, embed_component_metadata};

use super::*;

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(None).unwrap());

/// A guest of `tests/guests`: a core module of the world that belongs to `kind`.
pub(crate) fn guest(kind: Kind, name: &str) -> Vec<u8> {
    let described = json!({ "contract": "0.1.0", "kind": kind, "name": name, "version": "1.2.3" }).to_string();
    of_world(&format!("{kind}-plugin"), &text(name, &described))
}

/// The text of a guest that describes itself as `described`.
fn text(name: &str, described: &str) -> String {
    let read = |name: &str| std::fs::read_to_string(guests().join(format!("{name}.wat"))).unwrap();
    let common = read("common")
        .replace("LENGTH", &described.len().to_string())
        .replace("\"DESCRIBED\"", &format!("{described:?}"));
    format!("(module {common}\n{})", read(name))
}

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests")
}

/// A core module that says of itself that it implements `world` of the contract.
fn of_world(world: &str, module: &str) -> Vec<u8> {
    of_contract(include_str!("../../../plugin-sdk/wit/plugin.wit"), world, module)
}

fn of_contract(contract: &str, world: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("plugin.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// An instance of the filter `name` under `limits`.
fn filter(name: &str, limits: &Limits) -> WasmInstance {
    plugin(name).instantiate(limits, &json!({})).unwrap()
}

fn plugin(name: &str) -> Plugin {
    Plugin::load(&ENGINE, &guest(Kind::Filter, name)).unwrap()
}

/// The fault of the filter `name` when it gets three records.
#[track_caller]
fn fault(name: &str, limits: &Limits) -> Fault {
    match filter(name, limits).filter(0, &three()) {
        Ok(selection) => panic!("{name}: {selection:?}"),
        Err(fault) => *fault,
    }
}

fn three() -> Batch {
    values(&["one", "two", "three"])
}

fn values(items: &[&str]) -> Batch {
    Batch::of_values(items.iter().collect())
}

#[test]
fn every_guest_has_a_test() {
    let tests =
        ["calls", "limits", "load", "wasi", "../../pipeline/tests/guests", "../../stage/verify/tests"].map(|name| {
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plugin/tests/{name}.rs")))
                .unwrap()
        });
    for entry in std::fs::read_dir(guests()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let named = format!("{name:?}");
        assert!(name == "common" || tests.iter().any(|test| test.contains(&named)), "{name} is loaded by no test");
    }
}
