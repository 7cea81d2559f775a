//! The process that compiles plugins: what a hostile module costs, it costs there. Fault table 49, S7.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::json;
use tidegate::{
    batch::Batch,
    plugin::{CompileWorker, Engine, Instance as _, Limits, LoadError, Plugin, compile_worker::Bounds, standard},
};

use crate::folder::{Folder, guest, guest_with};

fn engine(bounds: Bounds) -> Engine {
    Engine::with_worker(None, CompileWorker::of(env!("CARGO_BIN_EXE_tidegate").into(), bounds)).unwrap()
}

fn refused(engine: &Engine, bytes: &[u8]) -> LoadError {
    Plugin::load(engine, bytes).map(|_| ()).unwrap_err()
}

/// A plugin that no check before compiling refuses, and that takes `functions` times some milliseconds to compile.
fn laborious(functions: usize) -> Vec<u8> {
    let body = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (call_indirect (param i32 i32) (result i32) (local.get 1) (local.get 0) (i32.rem_u (local.get 0) (local.get 1)))))".repeat(400);
    let functions = format!("(func (param i32 i32) (result i32) {body} (local.get 0))").repeat(functions);
    guest_with("filter", "keep", &format!("(table 1 funcref) {functions}"))
}

#[test]
fn a_plugin_that_a_worker_compiled_is_like_any_other() {
    let engine = engine(Bounds::default());
    let plugin = Plugin::load(&engine, &guest("filter", "keep")).unwrap();
    let mut instance = plugin.instantiate(&Limits::default(), &json!({})).unwrap();
    assert_eq!(instance.filter(0, &Batch::of_values(["a", "b"].iter().collect())).unwrap().keep, [0, 1]);
    // What is wrong with a plugin is told as if it had been found here.
    assert!(matches!(refused(&engine, b"no wasm"), LoadError::NotWasm(_)));
    let here = refused(&Engine::new(None).unwrap(), &wat::parse_str("(component)").unwrap());
    assert_eq!(refused(&engine, &wat::parse_str("(component)").unwrap()), here);
}

#[test]
fn a_module_beyond_a_limit_of_the_worker_is_refused_by_the_name_of_the_limit_and_calls_go_on() {
    let whole = Bounds::default();
    let module = laborious(200);
    let plugin = Plugin::load(&Engine::new(None).unwrap(), standard::find("where").unwrap()).unwrap();
    let (is_over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended = std::thread::scope(|scope| {
        // Somebody has data to move meanwhile.
        scope.spawn(|| {
            let mut instance = plugin.instantiate(&Limits::default(), &json!({ "where": "a > 0" })).unwrap();
            let batch = Batch::of_values([r#"{"a":1}"#; 64].iter().collect());
            while !is_over.load(Relaxed) {
                instance.filter(0, &batch).unwrap();
                calls.fetch_add(1, Relaxed);
            }
        });
        let ended = [
            (Bounds { cpu: Duration::from_secs(1), ..whole }, "it takes more than 1s of processor time"),
            (Bounds { memory: 48 << 20, ..whole }, "it takes more than 48MiB of memory"),
            (Bounds { time: Duration::from_millis(300), ..whole }, "it takes longer than 300ms"),
        ]
        .map(|(bounds, expected)| {
            let (before, started) = (calls.load(Relaxed), Instant::now());
            let error = Plugin::load(&engine(bounds), &module).map(|_| ());
            (expected, error, started.elapsed(), calls.load(Relaxed) - before)
        });
        is_over.store(true, Relaxed);
        ended
    });
    for (expected, error, took, calls) in ended {
        assert!(matches!(&error, Err(LoadError::Limits(limit)) if limit == expected), "{expected}: {error:?}");
        assert!(took < Duration::from_secs(30), "{expected}: {took:?}");
        assert!(calls > 10, "{expected}: {calls} calls");
    }
}

#[test]
fn evil_modules_are_refused_in_no_time_and_little_memory() {
    let folder = Folder::new();
    let body = format!("(module (func {}))", "nop ".repeat(10 << 20));
    let functions = format!("(module {})", "(func)".repeat(1_000_000));
    let locals = format!("(module (func (local {})))", "i32 ".repeat(50_000));
    let depth = format!("(module (func {} {}))", "block ".repeat(100_000), "end ".repeat(100_000));
    for (name, module) in [("body", body), ("functions", functions), ("locals", locals), ("depth", depth)] {
        let file = format!("{name}.wasm");
        folder.write(&file, wat::parse_str(&module).unwrap());
        let started = Instant::now();
        folder.run(&["plugin", "inspect", &file]).exits(1).complains("TG310").complains("at most");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}: {:?}", started.elapsed());
    }
}

/// A program that does what a compile worker never should.
fn impostor(folder: &Folder, script: &str) -> PathBuf {
    folder.write("impostor", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(folder.path("impostor"), fs::Permissions::from_mode(0o755)).unwrap();
    folder.path("impostor")
}

#[test]
fn a_worker_that_fails_breaks_off_or_never_ends_is_told_and_gone() {
    let folder = Folder::new();
    let bounds = Bounds { time: Duration::from_secs(2), ..Bounds::default() };
    for (script, expected) in [
        ("echo out of luck >&2; exit 3", "out of luck"),
        ("printf '\\000\\011'; exit 0", "it said nothing"),
        ("printf '\\001\\002\\000\\000\\000\\000\\000\\000\\000{]'", "it said nothing"),
        ("kill -9 $$", "signal: 9"),
        ("exec sleep 1000", "it takes longer than 2s"),
        ("exec >&-; exec sleep 1000", "it said nothing"),
    ] {
        let program = impostor(&folder, script);
        let engine = Engine::with_worker(None, CompileWorker::of(program, bounds)).unwrap();
        let started = Instant::now();
        let error = refused(&engine, &guest("filter", "keep")).to_string();
        assert!(error.contains(expected), "{script}: {error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{script}");
    }
    let nobody = CompileWorker::of(folder.path("nobody"), bounds);
    let error = refused(&Engine::with_worker(None, nobody).unwrap(), &guest("filter", "keep"));
    assert!(matches!(&error, LoadError::Worker(_)), "{error}");
}

#[test]
fn the_worker_is_hidden_and_refuses_to_be_called_by_hand_without_limits() {
    let folder = Folder::new();
    let help = folder.run(&["--help"]).exits(0);
    assert!(!help.out.contains("compile-worker"), "{}", help.out);
    folder.run(&["compile-worker"]).exits(2);
}
