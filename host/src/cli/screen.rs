//! Standard error while something runs: one live line at the bottom, everything else above it.
//!
//! Owns the live line. Invariant: whoever writes through here never writes into the middle of it.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::config;

/// Whether a live line stands on the terminal. Held while anything is written to standard error.
static STANDS: Mutex<bool> = Mutex::new(false);

/// Back to the first column, and everything behind it away.
const WIPE: &str = "\r\x1b[K";

fn hold() -> MutexGuard<'static, bool> {
    STANDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard error is a terminal.
pub(super) fn is_live() -> bool {
    io::stderr().is_terminal()
}

/// Shows `line` in the place of the live line before it.
pub(super) fn live(line: &str) {
    let mut stands = hold();
    // Without wrapping, a line wider than the terminal is cut off and still wiped whole.
    let shown = write!(io::stderr(), "{WIPE}\x1b[?7l{}\x1b[?7h", config::mask(line));
    *stands = shown.is_ok();
}

/// Takes the live line away.
pub(super) fn clear() {
    wipe(&mut hold());
}

fn wipe(stands: &mut bool) {
    if std::mem::take(stands) {
        // A terminal that has gone shows nothing any more.
        let _ = write!(io::stderr(), "{WIPE}");
    }
}

/// Writes `line` above the live line.
pub(super) fn say(line: &str) {
    let _ = Above.write_all(format!("{line}\n").as_bytes());
}

/// Writes whole lines above the live line, secrets masked.
pub(super) struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stands = hold();
        wipe(&mut stands);
        let text = String::from_utf8_lossy(bytes);
        io::stderr().write_all(config::mask(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
