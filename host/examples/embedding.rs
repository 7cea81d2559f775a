//! Runs a pipeline inside another program, between a stream and a writer of that program's own.
//!
//! Owns nothing but the way in: read the file, check it, put other ends to it, start it. It must not know what the stages
//! do. `examples/embedding/README.md` tells the story; run it with
//! `cargo run --example embedding -- examples/embedding/pipeline.yaml`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures::{Stream, stream};
use tidegate::{
    codec::{Decoder, Format},
    config::{
        self, Diagnostic,
        diagnostic::{Colour, render},
    },
    pipeline::{self, Ended, Ending, open},
    plugin::Engine,
    sink::writer,
    source,
};
use tokio::io::AsyncWrite;

/// Runs the pipeline of `file` until `frames` ends: its first source becomes `frames`, each item one or more whole
/// records, and its first sink `out`, a line of JSON for each record.
///
/// # Errors
/// When the file has faults, or a source or sink of it cannot be opened.
pub async fn run(
    file: &Path,
    frames: impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static,
    out: impl AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<Ended> {
    let engine = Engine::new(None)?;
    let loaded = config::load(file, &|name| std::env::var(name).ok()).map_err(told)?;
    let mut parts = open::open(&loaded, &engine, None).map_err(told)?.into_parts(None).await?;

    let (Some(declared), Some(source)) = (parts.graph.sources.first(), parts.sources.first_mut()) else {
        return Err(anyhow!("the pipeline has no source"));
    };
    let decoder = Decoder::new(declared.format, &declared.stamp, declared.max_record.bytes());
    *source = Box::new(source::stream::from_stream(&declared.name, frames, decoder));
    let sink = parts.sinks.first_mut().context("the pipeline has no sink")?;
    *sink = Box::new(writer::from_writer(out, Format::Json));

    Ok(pipeline::start(parts).task.await?)
}

fn told(faults: Vec<Diagnostic>) -> anyhow::Error {
    anyhow!(render(&faults, Colour::Off))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from("examples/embedding/pipeline.yaml"), PathBuf::from);
    let readings = [
        r#"{"ts":1767607200000,"sensor":"boiler","celsius":61.5}"#,
        r#"{"ts":1767607201000,"sensor":"boiler","celsius":63}"#,
        r#"{"ts":1767607204000,"sensor":"boiler","celsius":99.5}"#,
    ];
    let frames = stream::iter(readings.map(|reading| Ok(Bytes::from_static(reading.as_bytes()))));
    let ended = run(&file, frames, tokio::io::stdout()).await?;
    match ended.ending {
        Ending::Completed | Ending::Drained => Ok(()),
        other => Err(anyhow!("the pipeline ended early: {other:?}")),
    }
}
