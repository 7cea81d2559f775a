//! From a call that went wrong to a fault with its reasons.
//!
//! Owns the order in which causes are looked for. It must not know what the call was for. Invariant: every error that
//! wasmtime can give becomes exactly one kind of fault.

use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::guest::{Denied, Guest};
use super::symbols::Symbols;
use super::{Fault, FaultKind};

/// Frames shown of a backtrace: deep recursion repeats itself.
const FRAMES: usize = 32;

/// How a call ended that did not succeed.
pub(super) enum Failure {
    /// Wasmtime or a host function ended it.
    Ended(wasmtime::Error),
    /// It was ended between two slices of fuel.
    Denied(Denied),
    /// It returned, and what it returned cannot be used.
    Returned(Misdeed),
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misdeed {
    pub(super) kind: FaultKind,
    pub(super) message: String,
}

impl Misdeed {
    pub(super) fn reply(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::BadReply, message: message.into() }
    }

    pub(super) fn output(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::OutputLimit, message: message.into() }
    }
}

/// The report of `failure`, with what the host kept for the instance.
pub(super) fn report(failure: Failure, guest: &Guest, fuel: u64) -> Box<Fault> {
    let (Misdeed { kind, message }, backtrace) = match &failure {
        Failure::Denied(denied) => (denied_to(denied), Vec::new()),
        Failure::Returned(misdeed) => (misdeed.clone(), Vec::new()),
        Failure::Ended(error) => (classify(error, guest), backtrace(error, &guest.symbols)),
    };
    let panicked = guest.panicked.as_ref();
    let message = match panicked {
        Some(panicked) if matches!(kind, FaultKind::Trap) => panicked.message.clone(),
        _ => message,
    };
    Box::new(Fault {
        kind,
        message,
        at: panicked.and_then(|panicked| panicked.at),
        place: panicked.map(|panicked| panicked.place.clone()),
        backtrace,
        stderr: guest.said.text(),
        fuel,
    })
}

fn classify(error: &wasmtime::Error, guest: &Guest) -> Misdeed {
    let misdeed = |kind, message: String| Misdeed { kind, message };
    if let Some(denied) = error.downcast_ref::<Denied>() {
        return denied_to(denied);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return misdeed(FaultKind::Exit, format!("the plugin called exit with status {}", exit.0));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return misdeed(FaultKind::MemoryLimit, "the plugin holds more handles than the host lends".to_owned());
    }
    let cause = error.root_cause().to_string();
    // The error's type is private to wasmtime; a test holds on to its words.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return misdeed(FaultKind::OutputLimit, "the plugin gave back more bytes than its limit".to_owned());
    }
    if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
        return misdeed(FaultKind::OutOfFuel, "the fuel for the call ran out".to_owned());
    }
    // A plugin that is refused memory mostly aborts: the refusal is the cause, however it ends.
    if let Some(denied) = &guest.memory.denied {
        return misdeed(FaultKind::MemoryLimit, denied.clone());
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) if is_bad_reply(*trap) => misdeed(FaultKind::BadReply, words(*trap)),
        Some(trap) => misdeed(FaultKind::Trap, words(*trap)),
        // What is left are answers that are not even of the contract's types: strings that are not UTF-8, lists
        // outside the memory.
        None => misdeed(FaultKind::BadReply, cause),
    }
}

fn denied_to(denied: &Denied) -> Misdeed {
    let kind = match denied {
        Denied::Logs(_) | Denied::Counters | Denied::CounterName | Denied::Handed(..) => FaultKind::OutputLimit,
        Denied::Random(_) | Denied::Sleep => FaultKind::Trap,
        Denied::Deadline => FaultKind::Deadline,
        Denied::Interrupted => FaultKind::Interrupted,
    };
    Misdeed { kind, message: denied.to_string() }
}

/// What the trap was, without the words that every trap begins with.
fn words(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(text)
}

fn is_bad_reply(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::InvalidChar
            | Trap::UnalignedPointer
    )
}

fn backtrace(error: &wasmtime::Error, symbols: &Symbols) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frames = trace.frames();
    let shown = symbols.lines(frames.get(..FRAMES).unwrap_or(frames));
    let mut lines: Vec<String> = shown.iter().flat_map(|lines| lines.iter().cloned()).collect();
    if lines.len() > FRAMES || frames.len() > FRAMES {
        lines.truncate(FRAMES);
        lines.push(format!("… of {} frames", frames.len()));
    }
    lines
}
