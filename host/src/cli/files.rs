//! The files of pipelines: reading them, and checking all of them together.
//!
//! Owns which files are read how. Invariant 7: everything is checked before anything is started, and all faults are
//! told at once.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        self, Diagnostic, Loaded, LoadedHost, advice::advice, budget, codes, diagnostic::Text, graph::Graph, topics,
    },
    pipeline::open::{Prepared, open},
    plugin::Engine,
};

/// A pipeline that was found good.
pub(super) struct Checked {
    /// The file that it stands in.
    pub(super) file: PathBuf,
    /// Ready to be opened.
    pub(super) prepared: Prepared,
    /// What it may say and probably does not mean.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads `paths` and checks them as a whole against `host`.
pub(super) fn check(paths: &[PathBuf], host: &LoadedHost, engine: &Engine) -> Result<Vec<Checked>, Vec<Diagnostic>> {
    let (mut checked, mut files, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        for loaded in read(path) {
            let opened = loaded.and_then(|loaded| {
                let prepared = open(&loaded, engine, host.host.state_folder())?;
                let warnings = advice(&loaded, &prepared.graph);
                Ok((Checked { file: path.clone(), prepared, warnings }, loaded))
            });
            match opened {
                Ok((one, loaded)) => {
                    checked.push(one);
                    files.push(loaded);
                }
                Err(more) => faults.extend(more),
            }
        }
    }
    let graphs: Vec<Arc<Graph>> = checked.iter().map(|one| one.prepared.graph.clone()).collect();
    if let Err(more) = budget::fit(&graphs.iter().map(|graph| &**graph).collect::<Vec<_>>(), host) {
        faults.extend(more);
    }
    let pipelines: Vec<topics::Pipeline<'_>> = files.iter().zip(graphs.iter().map(|graph| &**graph)).collect();
    faults.extend(topics::faults(&pipelines));
    for (one, pipeline) in checked.iter_mut().zip(&pipelines) {
        one.warnings.extend(topics::unwritten(*pipeline, &pipelines));
    }
    if faults.is_empty() { Ok(checked) } else { Err(faults) }
}

/// The pipelines of a file: one of a YAML file, one of each fence of a Markdown file.
pub(super) fn read(path: &Path) -> Vec<Result<Loaded, Vec<Diagnostic>>> {
    let env = |name: &str| std::env::var(name).ok();
    let is_markdown = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("md"));
    if !is_markdown {
        return vec![config::load(path, &env)];
    }
    match config::load_markdown(path, &env) {
        Ok(fences) if fences.is_empty() => {
            let text = std::sync::Arc::new(Text { path: path.to_owned(), text: String::new() });
            let message = format!("there is no pipeline in `{}`", path.display());
            let fault = Diagnostic::error(codes::UNREADABLE, &text, message);
            vec![Err(vec![fault.cure("begin a fence with ```yaml and nothing behind it")])]
        }
        Ok(fences) => fences,
        Err(faults) => vec![Err(faults)],
    }
}
