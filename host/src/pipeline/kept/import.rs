//! Taking groups back into a store.
//!
//! Owns what an import has to fit: the pipeline has committed, and each stage's state was made as the one that is kept.
//! Invariant: all of an import is in the store, or nothing of it is.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        committed::StagePoint,
        durable::{ALL, PIPELINE, STAGE, Signature, Staged, now, put_group},
    },
    Head, Line, StageHead, Unkept, pipeline, points, read,
};
use crate::{
    stage::table::Change,
    store::{Commit, Place, Store},
    time::Window,
    unit::Span,
};

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Groups, by stage.
    pub groups: BTreeMap<String, u64>,
}

/// Why an export is not taken in; nothing of it has been.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// The store.
    #[error(transparent)]
    Unkept(#[from] Unkept),
    /// The lines could not be read.
    #[error("read the export: {0}")]
    Unread(std::io::Error),
    /// A line is not what it should be.
    #[error("read line {line} of the export: {why}")]
    Line {
        /// Its number, from 1 on.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The states were made otherwise than those that are kept.
    #[error(
        "take the state of stage `{stage}` in: it was made by {theirs}, and the store holds what was made by {ours}"
    )]
    Changed {
        /// Name of the stage.
        stage: String,
        /// How those of the export were made.
        theirs: Box<Signature>,
        /// How those of the store were made.
        ours: Box<Signature>,
    },
}

/// Takes groups in, in the stead of those at the same places; others stay. Goes to the pipeline that is `named`, or to
/// the one of the export. A stage that the store does not hold is begun with the export's watermark, and counts begin
/// anew then.
///
/// # Errors
/// The pipeline has not committed; a line is no group of its stage; states were made otherwise; the store.
pub fn import(
    store: &Store,
    named: Option<&str>,
    lines: impl Iterator<Item = std::io::Result<String>>,
) -> Result<Imported, Misfit> {
    let mut lines = lines.zip(1..).map(|(line, number)| (number, line));
    let mut next = |is_first| -> Result<Option<(u64, Line)>, Misfit> {
        let Some((line, text)) = lines.next() else { return Ok(None) };
        let text = text.map_err(Misfit::Unread)?;
        Ok(Some((line, read(&text, is_first).map_err(|why| Misfit::Line { line, why })?)))
    };
    let Some((_, Line::Head(head))) = next(true)? else {
        return Err(Misfit::Line { line: 1, why: "it is empty".to_owned() });
    };
    let name = pipeline(store, Some(named.unwrap_or(&head.pipeline)))?;
    let mut commit = Commit::of_facts(Arc::from(name.as_str()), now());
    begin(store, &name, &head, &mut commit)?;
    let mut groups: BTreeMap<String, u64> = head.stages.keys().map(|stage| (stage.clone(), 0)).collect();
    let mut last = 1;
    while let Some((line, read)) = next(false)? {
        last = line;
        let wrong = |why: String| Misfit::Line { line, why };
        match read {
            Line::Head(_) => return Err(wrong("a second head".to_owned())),
            Line::Group(group) => {
                let (key, window, saved) = group.parts().map_err(wrong)?;
                let stage = head.stages.get(&group.stage);
                let stage = stage.ok_or_else(|| wrong(format!("its stage `{}` is not in the head", group.stage)))?;
                fits(window, stage).map_err(wrong)?;
                let kept = Some((&*saved.state, saved.facts));
                put_group(&mut commit, &group.stage, Change { key: &key, window, kept });
                *groups.entry(group.stage).or_default() += 1;
            }
            Line::End(end) => {
                let found = groups.values().sum::<u64>();
                if let Some(why) = end.error {
                    return Err(wrong(format!("the export had failed: {why}")));
                }
                if found != end.groups {
                    return Err(wrong(format!("{} groups were written, and {found} stand before it", end.groups)));
                }
                if next(false)?.is_some() {
                    return Err(Misfit::Line { line: line + 1, why: "something stands behind the end".to_owned() });
                }
                futures::executor::block_on(store.commit(commit)).map_err(Unkept::from)?;
                return Ok(Imported { pipeline: name, groups });
            }
        }
    }
    Err(Misfit::Line { line: last, why: "the export ends here, without its last line: it was cut off".to_owned() })
}

/// Compares the stages with those that are kept, and begins those that are not.
fn begin(store: &Store, name: &str, head: &Head, commit: &mut Commit) -> Result<(), Misfit> {
    let points = points(store, name)?;
    for (stage, StageHead { signature, watermark }) in &head.stages {
        match points.stages.get(stage) {
            Some(kept) if kept.signature == *signature => {}
            Some(kept) => {
                let (theirs, ours) = (Box::new(signature.clone()), Box::new(kept.signature.clone()));
                return Err(Misfit::Changed { stage: stage.clone(), theirs, ours });
            }
            None => {
                let point = StagePoint { watermark: *watermark, ..StagePoint::new(0, 0) };
                let value = serde_json::to_vec(&Staged { signature: signature.clone(), point });
                let value = value.map_err(|error| Misfit::Line { line: 1, why: error.to_string() })?;
                commit.put(&Place::of(STAGE, stage), &value);
                commit.delete(&Place::of(PIPELINE, ""));
            }
        }
    }
    Ok(())
}

/// Whether a group's window is one that its stage makes.
fn fits(window: Window, stage: &StageHead) -> Result<(), String> {
    let made = &stage.signature.window;
    let fits = match made.strip_prefix("tumbling ").map(str::parse::<Span>) {
        Some(Ok(size)) => {
            let length = window.end.checked_sub(window.start);
            length == Some(size.millis()) && window.start.rem_euclid(size.millis().max(1)) == 0
        }
        Some(Err(_)) => true,
        None => window == ALL,
    };
    if fits { Ok(()) } else { Err(format!("its window is none that `{made}` makes")) }
}
