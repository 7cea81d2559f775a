//! A folder to run the program in, and the program while it runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use wit_component::{StringEncoding, embed_component_metadata};

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own for one test.
pub(crate) struct Folder(tempfile::TempDir);

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The one JSON object on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, of: &str) -> Self {
        assert!(self.err.contains(of), "`{of}` in {self:#?}");
        self
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).current_dir(self.0.path()).env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Said {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that does not read its input has closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        said(child.wait_with_output().unwrap())
    }

    /// Starts the program; its standard output is not read until somebody asks for it.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        Started::of(self.command(args))
    }
}

fn said(output: std::process::Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The program while it runs.
pub(crate) struct Started {
    child: Child,
    out: Option<ChildStdout>,
    lines: Receiver<String>,
    err: String,
}

impl Started {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let err = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let out = child.stdout.take();
        Self { child, out, lines, err: String::new() }
    }

    /// Waits until a line on standard error satisfies `wanted`, and returns it.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.err.push_str(&line);
                    self.err.push('\n');
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(_) => panic!("it never said so:\n{}", self.err),
            }
        }
    }

    /// Waits until the host has started everything.
    #[track_caller]
    pub(crate) fn until_running(&mut self) -> &mut Self {
        self.until(|line| line.contains("running"));
        self
    }

    /// Where its source listens, once it does and the host runs.
    pub(crate) fn until_listening(&mut self) -> SocketAddr {
        let line = self.until(|line| line.contains("listening"));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        self.until_running();
        address
    }

    /// Kills it, at once and for good, after this long.
    pub(crate) fn kill_after(mut self, wait: Duration) {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        self.signal(Signal::KILL);
        self.status();
    }

    /// The most memory that it has held at once, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Standard output, read on a thread of its own from now on.
    pub(crate) fn read_out(&mut self) -> JoinHandle<String> {
        let mut out = self.out.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        })
    }

    /// Waits for the end without reading standard output.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.err.extend(self.lines.iter().map(|line| line + "\n"));
                return status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                panic!("it does not end:\n{}", self.err);
            }
            std::thread::yield_now();
        }
    }

    /// Waits for the end and returns everything that was said.
    #[track_caller]
    pub(crate) fn end(mut self) -> Said {
        let out = self.read_out();
        let status = self.status();
        Said { code: status.code(), out: out.join().unwrap(), err: self.err }
    }
}

/// A guest of `tests/guests` as a plugin of `kind`: a core module of that world.
pub(crate) fn guest(kind: &str, name: &str) -> Vec<u8> {
    guest_with(kind, name, "")
}

/// The same with `more` text in its module.
pub(crate) fn guest_with(kind: &str, name: &str, more: &str) -> Vec<u8> {
    guest_of(kind, name, &format!("{}\n{more}", wat(name)))
}

/// The text of a file of `tests/guests`.
fn wat(name: &str) -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(manifest.join(format!("../tests/guests/{name}.wat"))).unwrap()
}

/// A plugin of `kind` that calls itself `name`, with the functions in `text`.
pub(crate) fn guest_of(kind: &str, name: &str, text: &str) -> Vec<u8> {
    let described = serde_json::json!({ "contract": "0.1.0", "kind": kind, "name": name, "version": "1.2.3" });
    guest_described(kind, &described, text)
}

/// A plugin of `kind` that describes itself so, with the functions in `text`.
pub(crate) fn guest_described(kind: &str, described: &serde_json::Value, text: &str) -> Vec<u8> {
    let described = described.to_string();
    let common = wat("common")
        .replace("LENGTH", &described.len().to_string())
        .replace("\"DESCRIBED\"", &format!("{described:?}"));
    let mut module = wat::parse_str(format!("(module {common}\n{text})")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let contract = include_str!("../../../plugin-sdk/wit/plugin.wit");
    let package = resolve.push_str("plugin.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some(&format!("{kind}-plugin"))).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// A pipeline from `input.ndjson` to `sink`, without stages.
pub(crate) fn straight(name: &str, sink: &str) -> String {
    format!(
        "version: 1\nname: {name}\nsources:\n  in: {{ file: {{ path: input.ndjson }}, decode: json }}\n\
         sinks:\n  out: {{ from: in, {sink} }}\n"
    )
}

/// A pipeline that makes records up for ever.
pub(crate) fn endless(name: &str, sink: &str) -> String {
    format!(
        "version: 1\nname: {name}\nepoch: 100ms\nsources:\n  in: {{ generate: {{}}, rate: 100000/s }}\n\
         sinks:\n  out: {{ from: in, {sink} }}\n"
    )
}

/// A pipeline from `input.ndjson` through the plugin `kind: plugin` to standard output.
pub(crate) fn through(kind: &str, plugin: &str, config: &str) -> String {
    format!(
        "version: 1\nname: through\nsources:\n  in: {{ file: {{ path: input.ndjson }}, decode: lines }}\n\
         stages:\n  work: {{ from: in, {kind}: {plugin}, config: {config} }}\n\
         sinks:\n  out: {{ from: work, stdout: {{}} }}\n"
    )
}
