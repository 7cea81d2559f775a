//! A whole pipeline: file (JSON, key, time) → filter → JSON map → keyed tumbling window → file, beside the same written by
//! hand.
//!
//! Owns the pipeline's text. Invariant: all sides read the same file and write the same bytes.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};
use tidegate::{
    config::{
        self,
        diagnostic::{Colour, render},
    },
    pipeline::{self, Ending, open},
    plugin::{Cache, Engine},
};
use tokio::runtime::Runtime;

use crate::clock::{Side, Start, Took, alternate};
use crate::{guest, handwritten, records};

/// Size of a window, in milliseconds.
const WINDOW: i64 = 5000;

/// How far records may stand out of order, in milliseconds.
const LAG: i64 = 5000;

/// How stages get at fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Each parses the JSON.
    Parsed,
    /// They ask for columns, which the source fills.
    Columns,
}

/// What the runs took.
#[derive(Clone, Copy, Debug)]
pub struct Result {
    /// Records read.
    pub records: u64,
    /// By hand, on one thread.
    pub native: Took,
    /// As a pipeline whose plugins parse.
    pub parsed: Took,
    /// As a pipeline whose plugins ask for fields.
    pub columns: Took,
}

/// The pipeline, in a folder with its input.
#[derive(Debug)]
pub struct Pipeline {
    file: PathBuf,
    output: PathBuf,
}

impl Pipeline {
    /// Writes the pipeline's file into `folder`, which has `input.ndjson`. A batch holds `batch` records.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(folder: &Path, fields: Fields, batch: u64) -> anyhow::Result<Self> {
        let name = format!("{fields:?}-{batch}").to_lowercase();
        let suffix = if fields == Fields::Columns { "_by_field" } else { "" };
        let plugin = |name: &str| guest(&format!("{name}{suffix}")).display().to_string();
        let text = format!(
            r#"version: 1
name: whole
batch: {{ records: {batch} }}
sources:
  access:
    file: {{ path: input.ndjson }}
    decode: json
    key: /client
    time: /ts
    watermark: {{ lag: {LAG}ms }}
stages:
  served:
    from: access
    filter: {}
  reshape:
    from: served
    map: {}
  sums:
    from: reshape
    aggregate: {}
    window: {{ tumbling: {WINDOW}ms }}
sinks:
  out:
    from: sums
    file: {{ path: {name}.out }}
    encode: json
"#,
            plugin("served"),
            plugin("reshape"),
            plugin("sums"),
        );
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, text)?;
        Ok(Self { file, output: folder.join(format!("{name}.out")) })
    }

    /// Runs it to the end of its input. What is compiled, opened and checked before is not in `took`.
    ///
    /// # Errors
    /// When it does not run to its end.
    pub fn run(&self, runtime: &Runtime, engine: &Engine) -> anyhow::Result<Took> {
        if self.output.exists() {
            std::fs::remove_file(&self.output)?;
        }
        let told = |faults: Vec<config::Diagnostic>| anyhow!(render(&faults, Colour::Off));
        let loaded = config::load(&self.file, &|_| None).map_err(told)?;
        let prepared = open::open(&loaded, engine, None).map_err(told)?;
        let (took, ended) = runtime.block_on(async {
            let parts = prepared.into_parts(None).await?;
            let started = Start::now();
            let ended = pipeline::start(parts).task.await?;
            anyhow::Ok((started.took(), ended))
        })?;
        ensure!(ended.ending == Ending::Completed, "the pipeline ended early: {:?}", ended.ending);
        Ok(took)
    }

    /// What it wrote.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn written(&self) -> anyhow::Result<Vec<u8>> {
        Ok(std::fs::read(&self.output)?)
    }
}

/// Measures `count` records of 256 bytes over `rounds` rounds.
///
/// # Errors
/// When a side fails, or writes other bytes than the others.
pub fn measure(count: u64, rounds: usize) -> anyhow::Result<Result> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let (input, output) = (folder.join("input.ndjson"), folder.join("native.out"));
    records::write(&input, count, 256)?;
    let runtime = Runtime::new()?;
    let engine = Engine::new(Some(Cache::open(&folder.join("cache"))?))?;
    let parsed = Pipeline::write(folder, Fields::Parsed, 1024)?;
    let columns = Pipeline::write(folder, Fields::Columns, 1024)?;
    let mut sides: Vec<Side<'_>> = vec![
        Box::new(|| {
            let started = Start::now();
            handwritten::run(&input, &output, WINDOW, LAG)?;
            Ok(started.took())
        }),
        Box::new(|| parsed.run(&runtime, &engine)),
        Box::new(|| columns.run(&runtime, &engine)),
    ];
    let took = alternate(rounds, &mut sides)?;
    drop(sides);
    let expected = std::fs::read(&output)?;
    ensure!(!expected.is_empty(), "the hand-written pipeline wrote nothing");
    for (name, pipeline) in [("parsed", &parsed), ("columns", &columns)] {
        ensure!(pipeline.written()? == expected, "the pipeline ({name}) wrote other bytes than the hand-written one");
    }
    let [native, parsed, columns] = took[..] else { return Err(anyhow!("three sides were measured")) };
    Ok(Result { records: count, native, parsed, columns })
}
