//! `compile-worker`: this program, in the part of the process that compiles one plugin and ends.
//!
//! Owns its arguments. What it does is [`crate::plugin::compile_worker`]'s; nobody but the host calls it.

use clap::Args;

use super::{Answer, Exit, Outcome, Trouble};
use crate::plugin::compile_worker;

pub(super) use crate::plugin::compile_worker::VERB;

#[derive(Args, Debug)]
pub(super) struct Worker {
    /// Most memory, in bytes.
    #[arg(long, value_name = "BYTES")]
    memory: u64,
    /// Most time on processors, in seconds.
    #[arg(long, value_name = "SECONDS")]
    cpu: u64,
}

impl Worker {
    pub(super) fn perform(self) -> Outcome {
        match compile_worker::work(self.memory, self.cpu, std::io::stdin().lock(), std::io::stdout().lock()) {
            Ok(()) => Ok(Answer::fine("compiled", (), "")),
            Err(error) => Err(Box::new(Answer::failed(Exit::Environment, Trouble::of(format!("{error:#}"))))),
        }
    }
}
