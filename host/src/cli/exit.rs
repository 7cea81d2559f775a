//! What the process says of itself when it ends.
//!
//! Owns the exit codes. Invariant: they are in the order of their numbers, and of several the worst wins.

use std::process::ExitCode;

use crate::pipeline::Ending;

/// An exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All went well.
    #[default]
    Fine = 0,
    /// The answer is no: a pipeline failed, a ledger does not balance, a check found something.
    No = 1,
    /// Usage or configuration.
    Usage = 2,
    /// This machine: a port is taken, a folder cannot be written, a toolchain is missing.
    Environment = 3,
    /// A plugin committed a fault, or refused a record that nobody wanted to lose.
    Plugin = 4,
    /// A drain did not end in time.
    Deadline = 5,
    /// A bug of ours.
    Bug = 70,
    /// A second interrupt.
    Interrupted = 130,
    /// A second request to terminate.
    Terminated = 143,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit code of that number; an unknown one is a bug.
    pub fn from_code(code: u8) -> Self {
        let all = [Self::Fine, Self::No, Self::Usage, Self::Environment, Self::Plugin, Self::Deadline];
        all.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Bug)
    }

    /// What a pipeline that ended so would give the process.
    pub fn of(ending: &Ending) -> Self {
        match ending {
            Ending::Completed | Ending::Drained => Self::Fine,
            Ending::DeadlinePassed => Self::Deadline,
            Ending::Stopped(_) | Ending::Faulted(_) => Self::Plugin,
            Ending::Failed(_) => Self::No,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Model P14, its last part.
    #[test]
    fn every_end_of_a_pipeline_has_its_exit_code() {
        let shown = crate::stage::failure::Shown::default;
        let stop = crate::stage::failure::Stop { stage: String::new(), reason: String::new(), record: shown() };
        for (ending, code) in [
            (Ending::Completed, 0),
            (Ending::Drained, 0),
            (Ending::DeadlinePassed, 5),
            (Ending::Stopped(Box::new(stop)), 4),
            (Ending::Failed(String::new()), 1),
        ] {
            assert_eq!(Exit::of(&ending).code(), code, "{ending:?}");
        }
    }

    #[test]
    fn the_worst_of_several_wins() {
        let all = [Exit::Deadline, Exit::Fine, Exit::No, Exit::Plugin];
        assert_eq!(all.into_iter().max(), Some(Exit::Deadline));
        assert!(Exit::Terminated > Exit::Interrupted && Exit::Interrupted > Exit::Bug);
    }
}
