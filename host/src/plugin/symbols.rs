//! From addresses in a plugin to lines of its source.
//!
//! Owns the reading of a plugin's debugging information (DWARF, in custom sections, its addresses counted from the
//! contents of the code section), and what was read of it. It must not know faults. Invariant: an address is looked up
//! once for all instances of a plugin, for reading takes far longer than the call that faulted.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use wasmparser::{Parser, Payload};
use wasmtime::FrameInfo;

use super::compile;

/// Most addresses whose lines are kept: many times the places where a plugin can panic, and little memory.
const KEPT: usize = 4096;

/// The names of one plugin's code.
#[derive(Default)]
pub(super) struct Symbols {
    /// The plugin, as it was loaded.
    bytes: Vec<u8>,
    lines: Mutex<HashMap<usize, Arc<[String]>>>,
}

/// One core module: where its code is, and what is said of it.
#[derive(Default)]
struct Module<'a> {
    code: Range<usize>,
    sections: Vec<(&'a str, &'a [u8])>,
}

impl Symbols {
    /// Of a plugin, a component or a core module.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// The plugin, as it was loaded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The lines of each frame, those inlined into one another innermost first: name, file and line, or the name alone.
    pub(super) fn lines(&self, frames: &[FrameInfo]) -> Vec<Arc<[String]>> {
        let mut known = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unknown = |frame: &&FrameInfo| frame.module_offset().is_none_or(|at| !known.contains_key(&at));
        let unknown: Vec<&FrameInfo> = frames.iter().filter(is_unknown).collect();
        let read = if unknown.is_empty() { HashMap::new() } else { self.read(&unknown) };
        let lines = |frame: &FrameInfo| {
            let found = frame.module_offset().and_then(|at| known.get(&at).or_else(|| read.get(&at)).cloned());
            found.unwrap_or_else(|| [name(frame)].into())
        };
        let all = frames.iter().map(lines).collect();
        if known.len() + read.len() > KEPT {
            known.clear();
        }
        known.extend(read);
        all
    }

    fn read(&self, frames: &[&FrameInfo]) -> HashMap<usize, Arc<[String]>> {
        let mut found: HashMap<usize, Arc<[String]>> =
            frames.iter().filter_map(|frame| Some((frame.module_offset()?, [name(frame)].into()))).collect();
        // Addresses are those of what was compiled.
        let encoded = if Parser::is_core_wasm(&self.bytes) { compile::encoded(&self.bytes).ok() } else { None };
        for module in modules(encoded.as_deref().unwrap_or(&self.bytes)) {
            let section = |id: addr2line::gimli::SectionId| {
                let data = module.sections.iter().find(|(name, _)| *name == id.name());
                Ok::<_, addr2line::gimli::Error>(EndianSlice::new(data.map_or(&[], |(_, data)| *data), LittleEndian))
            };
            let Ok(context) = Dwarf::load(section).and_then(addr2line::Context::from_dwarf) else { continue };
            for frame in frames {
                let Some(at) = frame.module_offset().filter(|at| module.code.contains(at)) else { continue };
                let lines = inlined(&context, (at - module.code.start) as u64, frame);
                if !lines.is_empty() {
                    found.insert(at, lines.into());
                }
            }
        }
        found
    }
}

type Context<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

/// What of the source stands at an address: one frame of code may be several, inlined into one another.
fn inlined(context: &Context<'_>, at: u64, frame: &FrameInfo) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut found) = context.find_frames(at).skip_all_loads() else { return lines };
    while let Ok(Some(inner)) = found.next() {
        let called = inner.function.as_ref().and_then(|function| function.raw_name().ok());
        let called = called.map_or_else(|| name(frame), |raw| demangled(&raw));
        lines.push(match inner.location.and_then(|location| location.file.zip(location.line)) {
            Some((file, line)) => format!("{called} at {file}:{line}"),
            None => called,
        });
    }
    lines
}

fn name(frame: &FrameInfo) -> String {
    frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), demangled)
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The core modules of a component that have any debugging information.
fn modules(component: &[u8]) -> Vec<Module<'_>> {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        // It was compiled once, so that it is well-formed.
        let Ok(payload) = payload else { break };
        match payload {
            Payload::Version { .. } => open.push(Module::default()),
            Payload::CodeSectionStart { range, .. } => {
                if let Some(module) = open.last_mut() {
                    module.code = range;
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                if let Some(module) = open.last_mut() {
                    module.sections.push((section.name(), section.data()));
                }
            }
            Payload::End(_) => done.extend(open.pop()),
            _ => {}
        }
    }
    done.retain(|module| !module.sections.is_empty());
    done
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store, WasmBacktrace};

    use super::*;

    #[test]
    fn an_address_is_looked_up_once() {
        let module =
            wat::parse_str("(module (func $inner unreachable) (func $run (export \"run\") call $inner))").unwrap();
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &Module::new(&engine, &module).unwrap(), &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let error = run.call(&mut store, ()).unwrap_err();
        let frames = error.downcast_ref::<WasmBacktrace>().unwrap().frames();

        let symbols = Symbols::of(module);
        let shown = || symbols.lines(frames).iter().map(|lines| lines.join(", ")).collect::<Vec<_>>();
        assert_eq!(shown(), ["inner", "run"]);
        symbols.lines.lock().unwrap().values_mut().for_each(|lines| *lines = ["kept".to_owned()].into());
        assert_eq!(shown(), ["kept", "kept"]);
    }
}
