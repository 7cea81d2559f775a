//! Pipelines: starting the tasks of a graph, committing their epochs, ending them in order.
//!
//! Owns supervision. It must not know HTTP, clap or files of configuration. Invariants: only this module starts tasks
//! that touch batches, through [`crew`]; positions never pass an uncommitted record.

mod attempt;
pub mod board;
pub mod breakers;
pub mod build;
mod candidate;
mod cellar;
pub mod command;
pub mod committed;
pub mod coordinator;
pub mod crew;
pub mod durable;
pub mod ending;
pub mod falls;
pub mod forsaken;
pub mod generations;
mod held;
pub mod kept;
mod launch;
pub mod ledger;
pub mod letters;
pub mod logs;
pub mod open;
pub mod reload;
pub mod replay;
pub mod retry;
pub mod run;
mod shelf;
mod signature;
pub mod sink_task;
pub mod source_task;
mod standby;
pub mod topics;
mod watch;

pub use board::{Board, Phase, Status};
pub use build::{Parts, PluginPart};
pub use ending::{Ended, Ending};
pub use run::{Command, Drain, Running, start};
pub use source_task::OpenWindows;

#[cfg(test)]
mod tests;
