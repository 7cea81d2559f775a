//! Modules by chance: whatever the bytes are, they are refused, or run within their limits. Fault table F3, S17.

use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use proptest::prelude::*;
use wasm_smith::{Config, Module};

use super::*;

/// What becomes of `bytes` in the place of a filter; whether it got as far as a call.
fn tried(bytes: &[u8]) -> bool {
    let started = Instant::now();
    let limits = Limits { memory: 4 << 20, time: Duration::from_secs(2), ..Limits::default() };
    let was_called = Plugin::load(&ENGINE, bytes).is_ok_and(|plugin| {
        plugin.instantiate(&limits, &json!({})).is_ok_and(|mut instance| {
            let answer = instance.filter(0, &three());
            assert!(instance.usage().memory <= limits.memory);
            // Whoever answers has kept every promise, and whoever has faulted is never called again.
            assert!(answer.is_ok() || instance.filter(0, &three()).is_err());
            true
        })
    });
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    was_called
}

/// A module that chance makes of `seed`, with the imports and exports of a filter.
fn random(seed: &[u8]) -> Option<Vec<u8>> {
    let filter = wat::parse_str(text("keep", "{}")).unwrap();
    let config = Config { available_imports: Some(filter.clone()), exports: Some(filter), ..Config::default() };
    let module = Module::new(config, &mut Unstructured::new(seed)).ok()?;
    Some(naming(include_str!("../../../../plugin-sdk/wit/plugin.wit"), "filter-plugin", module.to_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_random_module_with_our_imports_is_refused_or_runs_within_its_limits(seed in prop::collection::vec(any::<u8>(), 64..4096)) {
        if let Some(module) = random(&seed) {
            tried(&module);
        }
    }

    #[test]
    fn a_plugin_with_bytes_changed_is_refused_or_runs_within_its_limits(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = guest(Kind::Filter, "keep");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        tried(&bytes);
    }

    #[test]
    fn raw_bytes_are_no_plugin(bytes in prop::collection::vec(any::<u8>(), 0..200), begins in any::<bool>()) {
        let head: &[u8] = if begins { b"\0asm\x01\0\0\0" } else { b"" };
        prop_assert!(!tried(&[head, &bytes].concat()));
    }
}

#[test]
fn chance_comes_to_modules_that_are_compiled() {
    let mut bytes = guest(Kind::Filter, "keep");
    assert!(tried(&bytes));
    let seed: Vec<u8> = (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let module = random(&seed).unwrap();
    let refused = Plugin::load(&ENGINE, &module).map(|_| ()).unwrap_err();
    assert!(matches!(refused, LoadError::Describe(_)), "it was compiled and asked what it is: {refused}");
    bytes.truncate(7);
    assert!(!tried(&bytes));
}
