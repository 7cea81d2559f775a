//! Where log lines go and how they look.
//!
//! Owns the one subscriber of the process. Invariant: logs go to standard error, whatever is asked for.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::screen;
use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging as `log` says.
pub(super) fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // What lies below us talks to its own developers.
    let filter = EnvFilter::new(format!("{},tidegate={level}", level.min(LevelFilter::WARN)));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| screen::Above)
        .with_ansi(screen::is_live())
        .with_target(false);
    // A second start finds the first; both write to the same place.
    let _ = match log.format {
        LogFormat::Human => lines.compact().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
