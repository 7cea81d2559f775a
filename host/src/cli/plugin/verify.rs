//! `plugin verify`: whether a plugin keeps its vectors, and gives the same however its records come.
//!
//! Owns what it is tried with and how the verdict is told. The trying is [`crate::stage::verify`]'s.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Answer, Exit, Outcome, Trouble, Which, call::refused_config, figure, load, records};
use crate::{
    plugin::{Limits, Plugin},
    stage::verify::{self, Unfit, Vector, Verdict},
};

/// Records that are made up, beside odd ones.
const MADE_UP: usize = 120;
/// Bytes of each.
const SIZE: usize = 120;

#[derive(Args, Debug)]
#[command(
    after_help = "Vectors are a JSON array: what a plugin carries in its description as `selftest`, and what `--vectors` names.

  [{ \"config\": { \"min\": 500 }, \"records\": [{ \"value\": { \"status\": 503 }, \"key\": \"a\" }],
     \"out\": [{ \"of\": 0, \"output\": \"main\" }], \"refused\": [] }]

It exits with 1 if an answer differs, and with 4 if a record makes the plugin fault.

Example:
  tidegate plugin verify by_status.wasm --config '{\"min\":500}' --input sample.ndjson"
)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reading: records::Reading,
    /// File with records to try it with; they are made up where none is given, odd ones among them.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// File with vectors: records, and what must come of them.
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
}

/// What was found out.
#[derive(Serialize)]
struct Found {
    plugin: String,
    #[serde(flatten)]
    verdict: Verdict,
    vectors: usize,
    unfit: Vec<Unfit>,
}

impl Verify {
    pub(super) fn perform(self) -> Outcome {
        let plugin = load(&self.which.plugin)?;
        let limits = Limits::default();
        let vectors = self.vectors(&plugin)?;
        let batch = match &self.input {
            Some(path) => {
                let (batch, undecoded) = self.reading.read_file(path, &plugin)?;
                if let Some(first) = undecoded.first() {
                    let trouble = Trouble::of(format!("read {}: {}", first.place, first.reason));
                    return Err(Box::new(Answer::failed(Exit::No, trouble)));
                }
                batch
            }
            None => records::made_up_and_odd(MADE_UP, SIZE, &plugin),
        };
        let refused = |fault: Box<_>| refused_config(&self.which.plugin, &fault);
        let mut verdict = verify::verify(&plugin, &limits, &self.which.config, &batch).map_err(refused)?;
        for vector in &vectors {
            // A vector whose configuration is refused is told below.
            let Ok(more) = verify::verify(&plugin, &limits, &vector.config, &vector.batch(&plugin)) else { continue };
            verdict.differences.extend(more.differences);
        }
        let unfit = verify::vectors(&plugin, &limits, &vectors);
        let name = format!("{} {}", plugin.described().name, plugin.described().version);
        let found = Found { plugin: name, verdict, vectors: vectors.len(), unfit };
        let exit = found.exit();
        Ok(Answer { exit, ..Answer::fine(found.summary(), &found, found.text()) })
    }

    /// Those that the plugin carries, then those of the file.
    fn vectors(&self, plugin: &Plugin) -> Result<Vec<Vector>, Box<Answer>> {
        let carried = plugin.described().selftest.clone().unwrap_or_else(|| Value::Array(Vec::new()));
        let unread = |whose: &str, error: &dyn std::fmt::Display| {
            let trouble = Trouble::of(format!("read the vectors of {whose}: {error}"));
            Box::new(Answer::failed(Exit::Usage, trouble.cure("`tidegate plugin verify --help` shows their form")))
        };
        let mut vectors: Vec<Vector> =
            serde_json::from_value(carried).map_err(|error| unread(&self.which.plugin, &error))?;
        if let Some(path) = &self.vectors {
            let whose = path.display().to_string();
            let text = std::fs::read(path).map_err(|error| unread(&whose, &error))?;
            let more: Vec<Vector> = serde_json::from_slice(&text).map_err(|error| unread(&whose, &error))?;
            vectors.extend(more);
        }
        Ok(vectors)
    }
}

impl Found {
    fn exit(&self) -> Exit {
        let faults = if self.verdict.poison.is_empty() { Exit::Fine } else { Exit::Plugin };
        let differs = !self.verdict.differences.is_empty() || !self.unfit.is_empty();
        faults.max(if differs { Exit::No } else { Exit::Fine })
    }

    fn summary(&self) -> String {
        let Verdict { records, poison, differences, arrangements, .. } = &self.verdict;
        let vectors =
            if self.vectors == 0 { String::new() } else { format!(", {}", figure::several(self.vectors, "vector")) };
        let tried = format!(
            "{}, {}{vectors}",
            figure::several(*records, "record"),
            figure::several(*arrangements, "arrangement")
        );
        match (poison.len(), differences.len() + self.unfit.len()) {
            (0, 0) => format!("{} gives the same in all: {tried}", self.plugin),
            (0, differences) => format!("{}: {} in {tried}", self.plugin, figure::several(differences, "difference")),
            (poison, 0) => format!("{} faults on {} of {tried}", self.plugin, figure::several(poison, "record")),
            (poison, differences) => {
                let differences = figure::several(differences, "difference");
                format!("{} faults on {} of {tried}; {differences}", self.plugin, figure::several(poison, "record"))
            }
        }
    }

    fn text(&self) -> String {
        let Verdict { passed, refused, poison, differences, .. } = &self.verdict;
        let mut text = format!("{}\n  {passed} passed, {refused} refused\n", self.summary());
        for one in poison {
            text.push_str(&format!(
                "record {}: a fault, {}: {}\n",
                one.record,
                one.fault.kind.name(),
                one.fault.message
            ));
        }
        for one in &self.unfit {
            text.push_str(&format!("{one}\n"));
        }
        let mut hinted = Vec::new();
        for one in differences {
            text.push_str(&format!(
                "record {}: not the same on {}\n  fresh, one batch: {}\n  there:            {}\n",
                one.record, one.how, one.fresh, one.found
            ));
            if !hinted.contains(&one.how.hint()) {
                hinted.push(one.how.hint());
            }
        }
        text.extend(hinted.into_iter().map(|hint| format!("  = help: {hint}\n")));
        text
    }
}
