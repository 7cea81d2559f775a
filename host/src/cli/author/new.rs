//! `plugin new`: a crate that builds, tests and runs as it is, inside or outside of any workspace.
//!
//! Owns the files that an author starts from, kept in `host/template`. It must not build them. Invariant: a folder that
//! holds anything is left as it was.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Error, sdk};
use crate::plugin::Kind;

/// Folder of the SDK's sources within a new crate.
const SDK: &str = ".tidegate-sdk";

/// Path and text of a file; `{{crate}}`, `{{lib}}` and `{{kind}}` stand for what the author chose.
type Template = (&'static str, &'static str);

static COMMON: [Template; 3] = [
    ("Cargo.toml", include_str!("../../../template/Cargo.toml.in")),
    ("README.md", include_str!("../../../template/README.md.in")),
    (".gitignore", "target/\n"),
];

static FILTER: [Template; 3] = [
    ("src/lib.rs", include_str!("../../../template/filter/lib.rs.in")),
    ("pipeline.yaml", include_str!("../../../template/filter/pipeline.yaml.in")),
    ("input.ndjson", include_str!("../../../template/filter/input.ndjson")),
];

static MAP: [Template; 3] = [
    ("src/lib.rs", include_str!("../../../template/map/lib.rs.in")),
    ("pipeline.yaml", include_str!("../../../template/map/pipeline.yaml.in")),
    ("input.ndjson", include_str!("../../../template/map/input.ndjson")),
];

static AGGREGATE: [Template; 3] = [
    ("src/lib.rs", include_str!("../../../template/aggregate/lib.rs.in")),
    ("pipeline.yaml", include_str!("../../../template/aggregate/pipeline.yaml.in")),
    ("input.ndjson", include_str!("../../../template/aggregate/input.ndjson")),
];

/// A crate that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Its folder.
    pub folder: PathBuf,
    /// Its files for the author to edit, relative to the folder; the SDK's are not listed.
    pub files: Vec<PathBuf>,
    /// What to type next, in order.
    pub next: Vec<String>,
}

/// Writes a crate for a plugin of `kind` into `folder`, whose last part is the crate's name.
///
/// # Errors
/// The name is none for a crate, the folder holds something already, or a file cannot be written.
pub fn create(folder: &Path, kind: Kind) -> Result<Created, Error> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    let holds_something = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something || folder.is_file() {
        return Err(Error::Usage(format!("start a crate in {}: it is there already", folder.display())));
    }

    let (own, kind_name) = match kind {
        Kind::Filter => (&FILTER, "filter"),
        Kind::Map => (&MAP, "map"),
        Kind::Aggregate => (&AGGREGATE, "aggregate"),
    };
    let lib = name.replace('-', "_");
    let mut files = Vec::new();
    for (path, text) in COMMON.iter().chain(own) {
        let text = text.replace("{{crate}}", name).replace("{{lib}}", &lib).replace("{{kind}}", kind_name);
        write(&folder.join(path), &text)?;
        files.push(PathBuf::from(path));
    }
    sdk::write(&folder.join(SDK))?;
    // With the versions that the SDK is tested with, a crate builds today as it will in a year. Cargo drops the rest.
    write(&folder.join("Cargo.lock"), sdk::LOCK)?;

    let next = [format!("cd {}", folder.display()), "cargo test".into(), "tidegate plugin build".into()];
    let next = next.into_iter().chain(["tidegate run pipeline.yaml".into()]).collect();
    Ok(Created { folder: folder.to_owned(), files, next })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::machine("create", parent))?;
    }
    std::fs::write(path, text).map_err(Error::machine("write", path))
}

/// Whether a crate, and the stage that stands for it in the pipeline, can bear `name`.
fn check_name(name: &str) -> Result<(), Error> {
    let fault = if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        "it has to begin with a small letter"
    } else if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')) {
        "only small letters, digits, `-` and `_` can be in it"
    } else if TAKEN.contains(&name.replace('-', "_").as_str()) {
        "Rust, cargo or Tidegate uses it"
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!("call a crate `{name}`: {fault}")))
}

/// Names that cargo refuses, or that would hide a crate that every plugin uses, or a name of the pipeline beside it.
#[rustfmt::skip]
const TAKEN: [&str; 56] = [
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "input", "let", "loop",
    "macro", "match", "mod", "move", "mut", "output", "override", "priv", "proc_macro", "pub", "ref", "return", "self",
    "static", "std", "struct", "super", "test", "tidegate_plugin", "trait", "true", "try", "type", "typeof", "unsafe",
    "use", "where", "while",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_or_a_pipeline_refuses_are_refused_before_anything_is_written() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["Big", "1st", "a b", "test", "in", "tidegate-plugin", "ümlaut", "where"] {
            let error = create(&parent.path().join(name), Kind::Map).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}: {error}");
            assert!(!parent.path().join(name).exists(), "{name} was written");
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_left_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("mine");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("precious"), "1").unwrap();
        assert_eq!(create(&folder, Kind::Filter).unwrap_err().exit_code(), 2);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn nothing_that_stands_for_a_name_is_left_over() {
        let parent = tempfile::tempdir().unwrap();
        for kind in [Kind::Filter, Kind::Map, Kind::Aggregate] {
            let created = create(&parent.path().join(format!("my-{kind:?}").to_lowercase()), kind).unwrap();
            for file in &created.files {
                let text = std::fs::read_to_string(created.folder.join(file)).unwrap();
                assert!(!text.contains("{{"), "{}:\n{text}", file.display());
            }
        }
    }

    #[test]
    fn a_template_is_short_and_has_a_test() {
        for ((name, text), most) in [(FILTER[0], 15), (MAP[0], 15), (AGGREGATE[0], 20)] {
            let (code, test) = text.split_once("#[cfg(test)]").unwrap();
            let is_code = |line: &&str| !line.trim().is_empty() && !line.starts_with("use ") && !line.starts_with("//");
            assert!(code.lines().filter(is_code).count() <= most, "{name}:\n{code}");
            assert!(test.contains("#[test]"), "{name} has no test");
        }
    }
}
