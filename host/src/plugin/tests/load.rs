//! What is refused before anything is compiled or run, and by what name. Guests S6, S7 and S10.

use super::*;

fn refused(bytes: &[u8]) -> LoadError {
    Plugin::load(&ENGINE, bytes).map(|_| ()).unwrap_err()
}

fn refused_text(module: &str) -> LoadError {
    refused(&wat::parse_str(module).unwrap())
}

#[test]
fn bytes_that_are_no_wasm_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\n", &[0xff; 100], b"\0asm\x0d\0\x01\0"] {
        let error = refused(bytes);
        assert!(matches!(error, LoadError::NotWasm(_) | LoadError::Contract { .. }), "{error}");
    }
    let mut cut = guest(Kind::Filter, "keep");
    cut.truncate(cut.len() / 2);
    assert!(matches!(refused(&cut), LoadError::NotWasm(_)));
}

#[test]
fn what_would_take_too_long_to_compile_is_refused_by_name() {
    let locals = format!("(module (func (local {})))", "i32 ".repeat(50_000));
    let functions = format!("(module {})", "(func)".repeat(200_001));
    let body = format!("(module (func {}))", "nop ".repeat(1 << 20));
    let depth = format!("(module (func {} {}))", "block ".repeat(2_001), "end ".repeat(2_001));
    let targets = format!("(module (func (br_table {} (i32.const 0))))", "0 ".repeat(20_002));
    let tables = format!("(module {})", "(table 1 funcref)".repeat(65));
    let segments = format!("(module (memory 1) {})", "(data)".repeat(100_001));
    let cases: &[(&str, &str)] = &[
        (&locals, "50000 locals in one function (at most 10000)"),
        (&functions, "200001 functions (at most 200000)"),
        (&body, "bytes in one function (at most 1048576)"),
        (&depth, "2001 blocks inside one another (at most 2000)"),
        (&targets, "targets of one br_table (at most 20000)"),
        (&tables, "65 tables (at most 64)"),
        (&segments, "100001 segments (at most 100000)"),
        ("(module (table 4000000000 funcref))", "4000000000 elements in one table (at most 100000)"),
    ];
    for (module, expected) in cases {
        let error = refused_text(module);
        assert!(matches!(&error, LoadError::TooLarge(limits) if limits.len() == 1), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(refused(&vec![0; (64 << 20) + 1]), LoadError::TooLarge(_)));
}

#[test]
fn every_limit_that_is_exceeded_is_named_at_once() {
    let many = format!("(module {} (table 200000 funcref))", "(table 1 funcref)".repeat(65));
    let LoadError::TooLarge(limits) = refused_text(&many) else { panic!() };
    assert_eq!(limits.len(), 2);
}

#[test]
fn features_that_are_off_are_refused_by_name() {
    let cases: &[(&str, &str)] = &[
        ("(module (memory i64 1))", "memory64"),
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (type (struct (field i32))))", "gc"),
        ("(module (tag (param i32)))", "exceptions"),
        ("(module (func $f return_call $f))", "tail-call"),
        ("(module (memory 1) (memory 1))", "multi-memory"),
        (
            "(module (func (param v128 v128) (result v128)
               local.get 0 local.get 1 i8x16.relaxed_swizzle))",
            "relaxed-simd",
        ),
        ("(module (type $f (func)) (func (param (ref $f)) local.get 0 call_ref $f))", "function-references"),
        ("(module (memory 1 1 (pagesize 1)))", "custom-page-sizes"),
    ];
    for (module, feature) in cases {
        let error = refused_text(module);
        let LoadError::Features(features) = &error else { panic!("{feature}: {error}") };
        assert!(features.iter().any(|name| name == feature), "{feature}: {features:?}");
    }
}

#[test]
fn simd_is_there() {
    let error = refused_text("(module (func (param v128) (result v128) local.get 0 local.get 0 i8x16.add))");
    assert!(matches!(error, LoadError::Contract { .. }), "{error}");
}

#[test]
fn imports_that_are_not_granted_are_named() {
    let component = r#"(component
        (import "wasi:sockets/tcp@0.2.0" (instance))
        (import "wasi:clocks/wall-clock@0.2.3" (instance))
        (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#;
    let expected = ["wasi:sockets/tcp@0.2.0", "wasi:http/outgoing-handler@0.2.0"];
    assert_eq!(refused_text(component), LoadError::Imports(expected.map(str::to_owned).to_vec()));

    let module = r#"(module (import "env" "now" (func)) (import "env" "later" (func)))"#;
    assert_eq!(refused_text(module), LoadError::Imports(vec!["env".to_owned()]));
}

#[test]
fn another_version_of_the_contract_is_refused_with_both_versions() {
    let newer = include_str!("../../../../plugin-sdk/wit/plugin.wit").replace("@0.1.0", "@0.2.0");
    let module = text("keep", "{}").replace("@0.1.0", "@0.2.0");
    let error = refused(&of_contract(&newer, "filter-plugin", &module)).to_string();
    assert!(error.starts_with("its contract is 0.2.0, the host speaks 0.1.0: see tidegate:plugin/"), "{error}");
}

#[test]
fn a_function_of_another_type_is_named() {
    let other = include_str!("../../../../plugin-sdk/wit/plugin.wit")
        .replace("keep: list<u32>,\n    refused: refusals,", "keep: list<u64>,\n    refused: refusals,");
    let error = refused(&of_contract(&other, "filter-plugin", &text("keep", "{}"))).to_string();
    assert!(error.contains("filtering.filter: "), "{error}");
}

#[test]
fn a_component_that_exports_nothing_of_the_contract_is_no_plugin() {
    let error = refused_text("(component)").to_string();
    assert!(error.starts_with("its contract is none, the host speaks 0.1.0: it exports none of"), "{error}");
}

#[test]
fn a_plugin_that_lies_about_its_kind_is_refused() {
    let map = r#"{"contract":"0.1.0","kind":"map","name":"x"}"#;
    let error = refused(&of_world("filter-plugin", &text("keep", map)));
    assert_eq!(error, LoadError::Describe("it says it is a map, and exports what makes a filter".to_owned()));
}

#[test]
fn a_plugin_that_describes_itself_in_other_words_is_refused() {
    for words in ["", "{}", "no JSON", r#"{"contract":"0.1.0","kind":"sink","name":"x"}"#] {
        let error = refused(&of_world("filter-plugin", &text("keep", words)));
        assert!(matches!(error, LoadError::Describe(_)), "{words}: {error}");
    }
}

#[test]
fn a_plugin_tells_what_it_is() {
    let bytes = guest(Kind::Filter, "keep");
    let plugin = Plugin::load(&ENGINE, &bytes).unwrap();
    assert_eq!((plugin.kind(), plugin.size()), (Kind::Filter, bytes.len() as u64));
    assert_eq!((&*plugin.described().name, &*plugin.described().version), ("keep", "1.2.3"));
    assert_eq!(plugin.digest().len(), 64);
    assert!(plugin.imports().iter().any(|name| name == "tidegate:plugin/host@0.1.0"));
}

#[test]
fn every_standard_plugin_loads() {
    for name in standard::names() {
        let plugin = Plugin::load(&ENGINE, standard::find(name).unwrap());
        let plugin = plugin.unwrap_or_else(|error| panic!("std/{name}: {error}"));
        assert!(plugin.described().config_schema.is_some(), "std/{name}");
    }
}
