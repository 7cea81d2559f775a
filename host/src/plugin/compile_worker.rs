//! A process that compiles one plugin and ends: what a hostile module costs, it costs there.
//!
//! Owns both sides of the pipe and the worker's limits. It must not know what a plugin is for. What the worker writes: one
//! byte, 0 for compiled code or 1 for a [`LoadError`] in JSON; the length of what follows, 8 bytes, little-endian; the code
//! or the error. Invariant: whatever the module is, the worker has ended when [`CompileWorker::compile`] returns, and has
//! used no more than its [`Bounds`].

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use super::artifact::Artifact;
use super::compile::compile;
use super::{Engine, LoadError};
use crate::unit::{Size, Span};

/// The subcommand under which the program is a worker.
pub const VERB: &str = "compile-worker";

/// Bytes of compiled code that are taken: some four times as large as what it was compiled from.
const CODE_BYTES: u64 = 512 << 20;
/// Bytes of what a worker says on standard error that are kept.
const SAID: u64 = 8 << 10;
/// How far a worker stands back for those who have data to move.
const NICE: i32 = 10;

/// What a worker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Memory, in bytes.
    pub memory: u64,
    /// Time on processors, of all its threads, in whole seconds.
    pub cpu: Duration,
    /// Wall-clock time.
    pub time: Duration,
}

impl Default for Bounds {
    /// An interpreter of 40 MiB takes some 40 s of one processor and 1 GiB; there is room for a slow machine.
    fn default() -> Self {
        Self { memory: 2 << 30, cpu: Duration::from_secs(120), time: Duration::from_secs(120) }
    }
}

/// Starts workers.
#[derive(Clone, Debug)]
pub struct CompileWorker {
    program: PathBuf,
    bounds: Bounds,
}

impl CompileWorker {
    /// Workers that are this very program, which must know [`VERB`]; also when its file has been replaced since it started.
    pub fn of_this_program() -> Self {
        Self::of("/proc/self/exe".into(), Bounds::default())
    }

    /// Workers that are the program at `program`.
    pub fn of(program: PathBuf, bounds: Bounds) -> Self {
        Self { program, bounds }
    }

    /// Has `bytes` checked and compiled.
    ///
    /// # Errors
    /// What was found wrong; which limit ended the worker; that there is none.
    pub(super) fn compile(&self, bytes: &[u8]) -> Result<Artifact, LoadError> {
        let mut child = self.start().map_err(|error| {
            LoadError::Worker(format!("start {} as a compile worker: {error}", self.program.display()))
        })?;
        let (answer, said) = std::thread::scope(|scope| {
            let said = feed(scope, &mut child, bytes);
            let answer = answer(scope, &mut child, self.bounds.time);
            // It has said everything, or too little. Whoever has ended already keeps the status that it ended with.
            let killed = child.kill();
            (answer.and_then(|answer| killed.map(|()| answer)), said.join().unwrap_or_default())
        });
        let status = child.wait();
        let failed = |error: std::io::Error| LoadError::Worker(format!("hear from the compile worker: {error}"));
        match answer.map_err(failed)? {
            None => Err(LoadError::Limits(format!("it takes longer than {}", Span(self.bounds.time)))),
            Some(answer) => match read(answer) {
                Some(answer) => answer,
                None => Err(self.judged(status.map_err(failed)?, &String::from_utf8_lossy(&said))),
            },
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg0("tidegate")
            .arg(VERB)
            .args(["--memory", &self.bounds.memory.to_string()])
            .args(["--cpu", &self.bounds.cpu.as_secs().max(1).to_string()])
            // Nothing that somebody told the host in confidence goes there, and no signal of the terminal.
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Why a worker ended that has not answered.
    fn judged(&self, status: ExitStatus, said: &str) -> LoadError {
        let Bounds { memory, cpu, .. } = self.bounds;
        let signal = status.signal();
        if signal == Some(Signal::XCPU.as_raw()) {
            return LoadError::Limits(format!("it takes more than {} of processor time", Span(cpu)));
        }
        // What Rust's own run time says before it aborts.
        if signal == Some(Signal::ABORT.as_raw()) && said.contains("memory allocation of") {
            return LoadError::Limits(format!("it takes more than {} of memory", Size(memory)));
        }
        if said.contains("has overflowed its stack") {
            return LoadError::Limits("the compiler runs out of stack".to_owned());
        }
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        LoadError::Worker(format!("the compile worker ended with {status}: {last}"))
    }
}

/// Gives the module to a worker; what comes to its standard error is heard meanwhile.
fn feed<'s>(scope: &'s Scope<'s, '_>, child: &mut Child, bytes: &'s [u8]) -> ScopedJoinHandle<'s, Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A worker that is gone does not read; how it ended tells why.
        scope.spawn(move || stdin.write_all(bytes).is_ok());
    }
    let stderr = child.stderr.take();
    scope.spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            // The rest is thrown away, so that it never waits for us.
            let heard = stderr.by_ref().take(SAID).read_to_end(&mut said);
            let _ = heard.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink()));
        }
        said
    })
}

/// What a worker writes until it closes its end, or has written more than anybody needs; none after `time`.
fn answer<'s>(scope: &'s Scope<'s, '_>, child: &mut Child, time: Duration) -> std::io::Result<Option<Vec<u8>>> {
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let (sender, answered) = mpsc::channel();
    scope.spawn(move || {
        let mut answer = Vec::new();
        let read = stdout.take(CODE_BYTES).read_to_end(&mut answer);
        sender.send(read.map(|_| answer)).is_ok()
    });
    answered.recv_timeout(time).ok().transpose()
}

/// A whole answer; none where it breaks off.
fn read(answer: Vec<u8>) -> Option<Result<Artifact, LoadError>> {
    let (&tag, rest) = answer.split_first()?;
    let (length, payload) = rest.split_first_chunk()?;
    if u64::try_from(payload.len()).ok()? != u64::from_le_bytes(*length) {
        return None;
    }
    match tag {
        0 => Some(Ok(Artifact::of_ours(answer, 1 + size_of::<u64>()))),
        _ => serde_json::from_slice(payload).ok().map(Err),
    }
}

/// The worker's side: lowers its own limits for good, then compiles what comes in.
///
/// # Errors
/// When limits cannot be set, or one of the pipes breaks; a plugin that is refused is an answer like any other.
pub fn work(memory: u64, cpu_seconds: u64, mut input: impl Read, mut output: impl Write) -> anyhow::Result<()> {
    let both = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    // Private memory that can be written: what is only reserved, such as the arenas of an allocator, costs nothing.
    setrlimit(Resource::Data, both(memory)).context("limit the memory")?;
    // A second between the two, so that it ends by the signal that says so.
    let cpu = Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds.saturating_add(1)) };
    setrlimit(Resource::Cpu, cpu).context("limit the time on processors")?;
    setrlimit(Resource::Core, both(0)).context("forbid core dumps")?;
    setrlimit(Resource::Fsize, both(0)).context("forbid files")?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("end with the host")?;
    nice(NICE).context("stand back")?;

    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).context("read the plugin")?;
    let engine = Engine::new(None)?;
    let code = compile(engine.wasm(), &bytes)
        .and_then(|component| component.serialize().map_err(|error| LoadError::Compile(format!("{error:#}"))));
    let (tag, payload) = match code {
        Ok(code) => (0, code),
        Err(error) => (1, serde_json::to_vec(&error)?),
    };
    output.write_all(&[tag])?;
    output.write_all(&(payload.len() as u64).to_le_bytes())?;
    output.write_all(&payload)?;
    output.flush().context("hand over what was compiled")
}
