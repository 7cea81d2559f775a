//! A look at the bytes of a plugin before anything is compiled.
//!
//! Owns the limits of what the host compiles, and the naming of what is switched off. It must not know the contract.
//! Invariant: it allocates in proportion to the bytes, whatever they say about themselves.

use wasmparser::{BinaryReaderError, Encoding, FunctionBody, Operator, Parser, Payload, Validator, WasmFeatures};

use super::LoadError;

/// Bytes of a plugin. An interpreter with its library is some 40 MiB.
const BYTES: usize = 64 << 20;
/// Functions of all its modules. An interpreter has some 20,000.
const FUNCTIONS: u64 = 200_000;
/// Bytes of one function: compile time and memory grow faster than a function does.
const BODY: usize = 1 << 20;
/// Locals of one function, which a function declares in a few bytes.
const LOCALS: u64 = 10_000;
/// Targets of one `br_table`.
const TARGETS: u32 = 20_000;
/// Blocks inside blocks.
const DEPTH: u32 = 2_000;
/// Tables of all modules, and elements that one has from the start.
const TABLES: u64 = 64;
const ELEMENTS: u64 = 100_000;
/// Data and element segments of all modules.
const SEGMENTS: u64 = 100_000;
/// Modules and components inside a component.
const MODULES: u64 = 64;

/// What a plugin says about itself on its outside.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Whether it is a core module, of which a component must be made first.
    pub(super) is_core: bool,
    /// Names of what it imports.
    pub(super) imports: Vec<String>,
    /// Names of what it exports.
    pub(super) exports: Vec<String>,
}

/// Checks `bytes` against the limits and the features of the host.
///
/// # Errors
/// Every limit that is exceeded; or every feature that is switched off; or why it is not WebAssembly.
pub(super) fn inspect(bytes: &[u8]) -> Result<Outside, LoadError> {
    if bytes.len() > BYTES {
        return Err(LoadError::TooLarge(vec![format!("{} bytes (at most {BYTES})", bytes.len())]));
    }
    let mut seen = Seen::default();
    seen.walk(bytes).map_err(|error| LoadError::NotWasm(error.to_string()))?;
    let excesses = seen.excesses();
    if !excesses.is_empty() {
        return Err(LoadError::TooLarge(excesses));
    }
    let offered = features();
    if let Err(error) = Validator::new_with_features(offered).validate_all(bytes) {
        let wanted = wanted(bytes, offered);
        let invalid = || LoadError::NotWasm(error.to_string());
        return Err(if wanted.is_empty() { invalid() } else { LoadError::Features(wanted) });
    }
    Ok(seen.outside)
}

/// The names on the outside of `bytes`, unchecked.
///
/// # Errors
/// When it is not WebAssembly.
pub(super) fn outside(bytes: &[u8]) -> Result<Outside, LoadError> {
    let mut seen = Seen::default();
    seen.walk(bytes).map_err(|error| LoadError::NotWasm(error.to_string()))?;
    Ok(seen.outside)
}

/// The host's features, in this crate's words: wasmtime has a parser of its own.
fn features() -> WasmFeatures {
    WasmFeatures::from_bits_truncate(super::engine::FEATURES.bits())
}

/// Names of the switched-off features without which `bytes` would not be valid, were all the others on.
fn wanted(bytes: &[u8], offered: WasmFeatures) -> Vec<String> {
    let all = WasmFeatures::all();
    let is_valid = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    if !is_valid(all) {
        return Vec::new();
    }
    all.difference(offered)
        .iter_names()
        .filter(|(_, feature)| !is_valid(all.difference(*feature)))
        .map(|(name, _)| name.to_lowercase().replace('_', "-"))
        .collect()
}

/// What was counted on the way through the bytes; of what is limited for each function, the most.
#[derive(Default)]
struct Seen {
    outside: Outside,
    functions: u64,
    body: usize,
    locals: u64,
    targets: u32,
    depth: u32,
    tables: u64,
    elements: u64,
    segments: u64,
    modules: u64,
}

impl Seen {
    fn walk(&mut self, bytes: &[u8]) -> Result<(), BinaryReaderError> {
        let mut level = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    level += 1;
                    self.modules += 1;
                    self.outside.is_core |= level == 1 && encoding == Encoding::Module;
                }
                Payload::End(_) => level = level.saturating_sub(1),
                Payload::ImportSection(section) if level == 1 => {
                    for import in section.into_imports() {
                        let import = import?;
                        self.outside.imports.push(import.module.to_owned());
                    }
                }
                Payload::ComponentImportSection(section) if level == 1 => {
                    for import in section {
                        self.outside.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if level == 1 => {
                    for export in section {
                        self.outside.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
                Payload::TableSection(section) => {
                    self.tables += u64::from(section.count());
                    for table in section {
                        self.elements = self.elements.max(table?.ty.initial);
                    }
                }
                Payload::ElementSection(section) => self.segments += u64::from(section.count()),
                Payload::DataSection(section) => self.segments += u64::from(section.count()),
                Payload::CodeSectionEntry(body) => self.function(&body)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), BinaryReaderError> {
        let size = body.range().len();
        self.body = self.body.max(size);
        if size > BODY {
            return Ok(());
        }
        let mut locals = 0_u64;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        self.locals = self.locals.max(locals);
        let mut depth = 0_u32;
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    depth += 1;
                    self.depth = self.depth.max(depth);
                }
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrTable { targets } => self.targets = self.targets.max(targets.len()),
                _ => {}
            }
        }
        Ok(())
    }

    fn excesses(&self) -> Vec<String> {
        [
            ("functions", self.functions, FUNCTIONS),
            ("bytes in one function", self.body as u64, BODY as u64),
            ("locals in one function", self.locals, LOCALS),
            ("targets of one br_table", u64::from(self.targets), u64::from(TARGETS)),
            ("blocks inside one another", u64::from(self.depth), u64::from(DEPTH)),
            ("tables", self.tables, TABLES),
            ("elements in one table", self.elements, ELEMENTS),
            ("segments", self.segments, SEGMENTS),
            ("modules inside one another", self.modules, MODULES),
        ]
        .into_iter()
        .filter(|&(_, found, most)| found > most)
        .map(|(what, found, most)| format!("{found} {what} (at most {most})"))
        .collect()
    }
}
