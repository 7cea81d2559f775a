//! Reads a file: text, tree, variables, fields, rules.
//!
//! Owns the order of these steps and what is left when one of them finds faults. Invariant: a fault is told once.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Diagnostic, Pipeline, codes,
    diagnostic::Text,
    rules,
    shape::{self, Misfit, Wrong},
    vars::interpolation,
    yaml,
};

/// A file that has been read: what could be made of it, and every fault of its shape.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The pipeline; where there are faults, what is left of it.
    pub pipeline: Pipeline,
    /// The file's text.
    pub text: Arc<Text>,
    /// Folder that paths are relative to.
    pub folder: PathBuf,
    /// Faults of its shape; [`super::graph::check`] hands them on.
    pub faults: Vec<Diagnostic>,
    pub(crate) broken: Broken,
}

/// What was cut out of a file: nobody is told that it is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken {
    damaged: BTreeSet<Vec<String>>,
    gone: BTreeSet<Vec<String>>,
    doubtful: Vec<Range<usize>>,
}

impl Broken {
    /// Whether something at `path` or below was cut out, or all of it.
    pub(crate) fn is(&self, path: &[&str]) -> bool {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        let above = (1..=path.len()).any(|len| path.get(..len).is_some_and(|way| self.gone.contains(way)));
        above || self.damaged.contains(&path)
    }

    /// Whether a whole section, a thing of it, or what a thing reads was cut out.
    pub(crate) fn lost(&self, section: &str) -> bool {
        self.gone.iter().any(|way| {
            way.first().is_some_and(|first| first == section) && way.get(2).is_none_or(|field| field == "from")
        })
    }

    /// Whether a variable without a value stands there, which has been told.
    pub(crate) fn doubts(&self, span: &Range<usize>) -> bool {
        touches(&self.doubtful, span)
    }
}

/// Reads a pipeline's file; `env` looks an environment variable up.
///
/// # Errors
/// Where nothing can be made of the file at all. Faults that leave something are in [`Loaded::faults`].
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Vec<Diagnostic>> {
    let text = read(path)?;
    let yaml = text.text.clone();
    load_text(&text, &yaml, env)
}

/// Reads the text of a file.
pub(crate) fn read(path: &Path) -> Result<Arc<Text>, Vec<Diagnostic>> {
    let unreadable = |reason: String, cure: &str| {
        let file = Arc::new(Text { path: path.to_owned(), text: String::new() });
        let message = format!("cannot read `{}`: {reason}", path.display());
        vec![Diagnostic::error(codes::UNREADABLE, &file, message).cure(cure)]
    };
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = u64::try_from(yaml::MOST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string(), "check the path and its permissions"))?;
    let cut = bytes.len() > yaml::MOST_BYTES;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Arc::new(Text { path: path.to_owned(), text })),
        // The cut at the largest size may have split a character; the size is the fault then.
        Err(error) if cut => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Ok(Arc::new(Text { path: path.to_owned(), text }))
        }
        Err(_) => Err(unreadable("it is not UTF-8".to_owned(), "save it as UTF-8")),
    }
}

/// Reads `yaml`, whose places are places of `text`.
pub(crate) fn load_text(
    text: &Arc<Text>,
    yaml: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let folder = text.path.parent().map(Path::to_owned).unwrap_or_default();
    let (tree, flaws) = yaml::parse(yaml);
    let mut faults: Vec<_> = flaws.into_iter().map(|flaw| flaw.told(text)).collect();
    let Some(mut tree) = tree else { return Err(faults) };
    let filled = interpolation::interpolate(&mut tree, yaml, &folder, env);
    faults.extend(filled.flaws.into_iter().map(|flaw| flaw.told(text)));
    // What a variable without a value leads to is told once, as the variable's fault.
    let doubtful = filled.doubtful;
    let written = tree.clone();
    let read = shape::read::<Pipeline>(tree);
    let misfits = read.misfits.iter().filter(|misfit| !touches(&doubtful, &misfit.span));
    faults.extend(misfits.map(|misfit| misfit_told(misfit, text)));
    let Some(pipeline) = read.value else { return Err(in_order(faults)) };
    let broken = Broken { damaged: read.damaged, gone: read.gone, doubtful };
    let rules = rules::check(&pipeline, &written, &|path| broken.is(path));
    let rules = rules.into_iter().filter(|fault| fault.labels.iter().all(|at| !broken.doubts(&at.0)));
    faults.extend(rules.map(|flaw| flaw.told(text)));
    Ok(Loaded { pipeline, text: Arc::clone(text), folder, faults: in_order(faults), broken })
}

fn touches(spans: &[Range<usize>], span: &Range<usize>) -> bool {
    spans.iter().any(|other| other.start < span.end && span.start < other.end)
}

/// Faults in the order of the file.
pub fn in_order(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    faults.sort_by_key(|fault| fault.labels.first().map_or(0, |label| label.span.start));
    faults
}

/// Fields of later versions, which a reader of their documentation may try.
const LATER: &[&str] = &["session", "sliding", "drift", "tests", "require_digest", "priority"];

pub(crate) fn misfit_told(misfit: &Misfit, text: &Arc<Text>) -> Diagnostic {
    let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let meant = misfit.meant().map(|word| format!("did you mean `{word}`?"));
    let span = misfit.span.clone();
    let fault = |code, message: String| Diagnostic::error(code, text, message).at(span.clone());
    match &misfit.wrong {
        Wrong::Unknown { field, .. } if LATER.contains(&field.as_str()) => {
            fault(codes::NOT_YET, format!("this version does not know `{field}` yet")).cure("take it out")
        }
        Wrong::Unknown { field, expected } => fault(codes::UNKNOWN_FIELD, format!("there is no field `{field}` here"))
            .cure(meant.unwrap_or_else(|| format!("the fields here are {}", list(expected)))),
        Wrong::Missing(field) => {
            fault(codes::MISSING_FIELD, format!("the field `{field}` is missing")).cure("add it here")
        }
        Wrong::Choice { found, expected } => fault(codes::UNKNOWN_WORD, format!("`{found}` is not known here"))
            .cure(meant.unwrap_or_else(|| format!("take one of {}", list(expected)))),
        Wrong::Kind { found, expected } => {
            let fault = fault(codes::WRONG_VALUE, format!("expected {expected}, found {found}"));
            if expected == "a text" && found.starts_with('`') { fault.cure("put it in quotes") } else { fault }
        }
        Wrong::Secret => fault(codes::SECRET_IN_SIGHT, "a secret stands where it could be shown".to_owned())
            .cure("secrets stand only in the `config` of a plugin, and in `token` and `headers` of an `http` sink; use `env` if it is none"),
        Wrong::Value(message) => fault(codes::WRONG_VALUE, message.clone()),
    }
}
