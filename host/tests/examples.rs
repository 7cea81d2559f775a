//! Every example does what its folder says.
//!
//! Owns the runs of `examples/` through the library, each in a copy of its folder. Where a folder has `expected/`, what
//! the pipeline wrote to `out/` is compared with it, byte for byte; telemetry, which is never the same twice, is recounted.

#[path = "../examples/embedding.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, whose `main` is not called here")]
mod embedding;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::{
    cli::author,
    config::{
        self, Diagnostic,
        diagnostic::{Colour, render},
    },
    pipeline::{self, Command, Drain, Ended, Ending, Parts, ledger, open},
    plugin::Engine,
    sink::writer,
};
use tokio::io::AsyncReadExt as _;

const PATIENCE: Duration = Duration::from_secs(120);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// The files of an example, without what was written or built there.
fn copy(name: &str) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(example(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

async fn parts(folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Parts {
    let told = |faults: Vec<Diagnostic>| render(&faults, Colour::Off);
    let loaded = config::load(&folder.join("pipeline.yaml"), env).map_err(told);
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
    let prepared = open::open(&loaded, &Engine::new(None).unwrap(), None).map_err(told);
    prepared.unwrap_or_else(|faults| panic!("{faults}")).into_parts(None).await.unwrap()
}

async fn end(task: impl Future<Output = Result<Ended, tokio::task::JoinError>>) -> Ended {
    tokio::time::timeout(PATIENCE, task).await.expect("the pipeline ends").unwrap()
}

/// Runs the pipeline of `folder` to its end and compares what it wrote with what the example says.
async fn check(name: &str, folder: &Path) {
    let ended = end(pipeline::start(parts(folder, &|_| None).await).task).await;
    assert_eq!(ended.ending, Ending::Completed, "{name}");
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), [], "{name}");
    let files = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let (out, expected) = (folder.join("out"), example(name).join("expected"));
    assert_eq!(files(&out), files(&expected), "{name}");
    for file in files(&expected) {
        let [found, expected] = [&out, &expected].map(|folder| fs::read_to_string(folder.join(&file)).unwrap());
        assert_eq!(found, expected, "{name}/expected/{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_becomes_latencies_with_slow_dropped_and_unreadable_lines_aside() {
    check("access-log", copy("access-log").path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_kinds_of_record_in_one_file_go_to_a_stage_each() {
    check("three-kinds", copy("three-kinds").path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_that_is_written_step_by_step_builds_and_runs() {
    let folder = copy("writing-a-plugin");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author");
    let built = author::build(&example("writing-a-plugin/by_status"), &["--target-dir".into(), target.into()]).unwrap();
    let place = folder.path().join("target/wasm32-wasip1/release");
    fs::create_dir_all(&place).unwrap();
    fs::copy(&built[0].path, place.join("by_status.wasm")).unwrap();
    check("writing-a-plugin", folder.path()).await;
    // It carries its vectors.
    let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let verified =
        verify.args(["plugin", "verify", "--config", r#"{ "min": 500 }"#]).arg(&built[0].path).output().unwrap();
    let told = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success() && told.contains("1 vector"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_runs_a_pipeline_between_a_stream_and_a_writer_of_its_own() {
    let folder = example("embedding");
    let input = fs::read_to_string(folder.join("input.ndjson")).unwrap();
    let frames: Vec<_> = input.lines().map(|line| Ok(Bytes::copy_from_slice(line.as_bytes()))).collect();
    let (out, mut read) = tokio::io::duplex(64);
    let file = folder.join("pipeline.yaml");
    let running = embedding::run(&file, stream::iter(frames), out);
    let mut written = String::new();
    let (ended, _) = tokio::join!(tokio::time::timeout(PATIENCE, running), read.read_to_string(&mut written));
    let ended = ended.expect("the pipeline ends").unwrap();
    assert_eq!(ended.ending, Ending::Completed);
    assert_eq!(written, fs::read_to_string(folder.join("expected/results.ndjson")).unwrap());
}

/// Posts `records` samples and says how many the host has accepted.
fn post(port: u16, records: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let line = |i| {
        let metric = r#""host":"poster","metric":"app.request","unit":"ms""#;
        format!("{{\"ts\":{now},{metric},\"value\":{i}}}\n")
    };
    let body: String = (0..records).map(line).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = "POST /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n";
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    answer["accepted"].as_u64().unwrap()
}

/// Posts for three seconds, and at least three times; gives the number of records sent and accepted.
fn post_for_a_while(port: u16) -> (u64, u64) {
    let (began, mut sent, mut accepted) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(3) || sent < 3 * 25 {
        accepted += post(port, 25);
        sent += 25;
    }
    (sent, accepted)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_telemetry_collector_loses_nothing_that_was_measured_or_posted() {
    let folder = copy("telemetry");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut parts = parts(folder.path(), &|name| (name == "METRICS_PORT").then(|| port.to_string())).await;
    // Counts what would stand on the screen.
    let screen = Arc::new(AtomicU64::new(0));
    let at = parts.graph.sinks.iter().position(|sink| sink.name == "screen").unwrap();
    let seen = screen.clone();
    parts.sinks[at] = Box::new(writer::from_fn(move |batch| {
        seen.fetch_add(batch.len() as u64, Ordering::SeqCst);
        std::future::ready(Ok(()))
    }));

    let running = pipeline::start(parts);
    let (sent, accepted) = tokio::task::spawn_blocking(move || post_for_a_while(port)).await.unwrap();
    running.commands.send(Command::Drain(Drain::within(PATIENCE))).await.unwrap();
    let ended = end(running.task).await;
    assert_eq!(ended.ending, Ending::Drained);
    assert_eq!(ledger::audit(ended.board.graph(), &ended.committed), []);
    assert_eq!(sent, accepted);

    let (graph, committed) = (ended.board.graph(), &ended.committed);
    let source = |name: &str| committed.sources[graph.sources.iter().position(|s| s.name == name).unwrap()].tally;
    let stage = |name: &str| committed.stages[graph.stages.iter().position(|s| s.name == name).unwrap()].tally;
    assert_eq!(source("posts").received, sent);
    assert!(source("machine").received > 0);
    assert_eq!(stage("wanted").received, sent + source("machine").received);
    assert!(stage("wanted").filtered > 0, "what is not listed is dropped");
    assert_eq!((stage("wanted").refused, stage("normal").refused), (0, 0), "the machine's metrics are understood");

    let written = fs::read_to_string(folder.path().join("out/summaries.ndjson")).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, screen.load(Ordering::SeqCst));
    let count = |lines: &[&Value]| lines.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    let posted: Vec<&Value> = lines.iter().filter(|line| line["host"] == "poster").collect();
    assert_eq!(count(&posted), sent, "every sample that was posted stands in one window");
    assert_eq!(count(&lines.iter().collect::<Vec<_>>()), stage("summary").absorbed);
    assert_eq!(stage("summary").absorbed + stage("summary").late, stage("wanted").passed);
    for line in &lines {
        assert_eq!(line["end"].as_i64().unwrap() - line["start"].as_i64().unwrap(), 5000);
        let [min, mean, max] = ["min", "mean", "max"].map(|name| line[name].as_f64().unwrap());
        // The mean of equal numbers may be off by a rounding.
        let rounding = 1e-9 * max.abs();
        assert!(min - rounding <= mean && mean <= max + rounding, "{line}");
        assert!(line["p95"].is_number() && line["unit"].is_string(), "{line}");
    }
    assert!(posted.iter().all(|line| line["unit"] == "s" && line["max"] == 0.024), "milliseconds became seconds");
}

/// The whole of `make demo`, in a shorter time: what a newcomer sees first.
#[test]
fn the_demo_swaps_a_plugin_takes_back_one_that_panics_and_accounts_for_every_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let ran = std::process::Command::new(root.join("scripts/demo"))
        .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("author"))
        .env("DURATION", "15s")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}");
    for expected in ["generation 2 serves `wanted`", "generation 3 serves `wanted`", "ledger balanced"] {
        assert!(told.contains(expected), "no `{expected}` in:\n{told}");
    }
    let fates: Vec<&str> = told
        .lines()
        .skip_while(|line| !line.contains("generation  sha256"))
        .skip(1)
        .take(3)
        .flat_map(|line| ["replaced", "active", "rolled back"].into_iter().find(|fate| line.contains(fate)))
        .collect();
    assert_eq!(fates, ["replaced", "active", "rolled back"], "{told}");
}
