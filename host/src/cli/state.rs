//! `state`: what a host keeps beyond its process, looked at and changed by a person.
//!
//! Owns the verbs, and the way to a state: its folder where no host has it, the host where one has. Invariant: what
//! changes something takes the folder's lock, so that no host can be running on it.

mod groups;
mod transfer;
mod whole;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};

use super::{Answer, Exit, Form, Outcome, Trouble, ask::Ask};
use crate::{
    config::codes,
    disk::RealDisk,
    pipeline::kept::Unkept,
    store::{self, Lock, Settings, Store, StoreError},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show a group: its state, and what the host knows beside it.
    Get(groups::Get),
    /// Show groups, a line each.
    Scan(groups::Scan),
    /// Write groups to a file, a line of JSON each.
    Export(transfer::Export),
    /// Take groups of an export in, where no host runs.
    Import(transfer::Import),
    /// Begin anew with a pipeline or a part of it: forget what was committed of it.
    Reset(whole::Reset),
    /// Copy all of the state into a file, also while a host runs.
    Backup(whole::Backup),
    /// Go back to a backup: what was committed since is lost.
    Restore(whole::Restore),
    /// Check every page and every value.
    Verify(whole::Verify),
    /// Keep what is whole of a damaged state, skip the rest and count it.
    Repair(whole::Repair),
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "state get",
            Self::Scan(_) => "state scan",
            Self::Export(_) => "state export",
            Self::Import(_) => "state import",
            Self::Reset(_) => "state reset",
            Self::Backup(_) => "state backup",
            Self::Restore(_) => "state restore",
            Self::Verify(_) => "state verify",
            Self::Repair(_) => "state repair",
        }
    }

    pub(super) fn perform(self, form: Form) -> Outcome {
        match self {
            Self::Get(verb) => verb.perform(),
            Self::Scan(verb) => verb.perform(form),
            Self::Export(verb) => verb.perform(),
            Self::Import(verb) => verb.perform(),
            Self::Reset(verb) => verb.perform(),
            Self::Backup(verb) => verb.perform(),
            Self::Restore(verb) => verb.perform(),
            Self::Verify(verb) => verb.perform(),
            Self::Repair(verb) => verb.perform(),
        }
    }
}

/// The folder of a state that no host may have.
#[derive(Args, Clone, Debug)]
pub(super) struct Folder {
    /// Folder of the state.
    #[arg(long = "state", value_name = "FOLDER", default_value = ".tidegate")]
    path: PathBuf,
}

/// A state, whether or not a host has it.
#[derive(Args, Clone, Debug)]
pub(super) struct Kept {
    #[command(flatten)]
    folder: Folder,
    /// Asked where a host has the folder.
    #[command(flatten)]
    ask: Ask,
}

/// The way to a state.
pub(super) enum Way {
    /// No host has it.
    Store(Box<Store>),
    /// Its host.
    Host(Ask),
}

impl Folder {
    /// The folder's lock, where it holds a state, or the process of the host that has it.
    fn held(&self) -> Result<Result<Lock, String>, Box<Answer>> {
        if !store::is_in(&RealDisk, &self.path).map_err(unusable)? {
            let trouble = Trouble::of(format!("find a state in {}: there is none", self.path.display()));
            let trouble = trouble.code(codes::STATE_UNUSABLE).cure("name the folder of a state with `--state`");
            return Err(Box::new(Answer::failed(Exit::Environment, trouble)));
        }
        match Lock::take(&self.path) {
            Ok(lock) => Ok(Ok(lock)),
            Err(StoreError::Held { pid, .. }) => Ok(Err(pid)),
            Err(error) => Err(unusable(error)),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's store, where no host has it.
    pub(super) fn alone(&self) -> Result<Store, Box<Answer>> {
        self.open(self.lock()?)
    }

    /// The folder's lock, where it holds a state and no host has it.
    fn lock(&self) -> Result<Lock, Box<Answer>> {
        self.held()?.map_err(|pid| unusable(StoreError::Held { folder: self.path.clone(), pid }))
    }

    /// The folder's store.
    fn open(&self, lock: Lock) -> Result<Store, Box<Answer>> {
        Store::open(Arc::new(RealDisk), &self.path, lock, Settings::default()).map_err(unusable)
    }
}

impl Kept {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.folder.path
    }

    /// The folder's store; its host, where one has it; without a state there, a host that keeps none.
    pub(super) fn way(&self) -> Result<Way, Box<Answer>> {
        let is_there = store::is_in(&RealDisk, &self.folder.path).map_err(unusable)?;
        if !is_there && self.ask.host().is_ok_and(|host| !host.keeps_state) {
            return Ok(Way::Host(self.ask.clone()));
        }
        let pid = match self.folder.held()? {
            Ok(lock) => return self.folder.open(lock).map(|store| Way::Store(Box::new(store))),
            Err(pid) => pid,
        };
        let answers = self.ask.host().ok().map(|host| host.pid.to_string());
        if answers.as_ref() == Some(&pid) {
            return Ok(Way::Host(self.ask.clone()));
        }
        let socket = self.ask.socket().display();
        let message = format!("ask the host with process {pid}, which has {}", self.folder.path.display());
        let message = match answers {
            Some(other) => format!("{message}: on {socket} process {other} answers"),
            None => format!("{message}: on {socket} nobody answers"),
        };
        let trouble = Trouble::of(message).code(codes::STATE_IN_USE).cure("name its control socket with `--socket`");
        Err(Box::new(Answer::failed(Exit::Environment, trouble)))
    }
}

/// What a user is told when a store cannot be used.
pub(super) fn unusable(error: StoreError) -> Box<Answer> {
    let message = error.to_string();
    let trouble = match error {
        StoreError::Held { pid, folder } => {
            let message = format!("use {}: the host with process {pid} has it", folder.display());
            Trouble::of(message).code(codes::STATE_IN_USE).cure("end that host with `tidegate drain`")
        }
        StoreError::Damaged { .. } => Trouble::of(message).code(codes::STATE_DAMAGED),
        _ => Trouble::of(message).code(codes::STATE_UNUSABLE),
    };
    Box::new(Answer::failed(Exit::Environment, trouble))
}

/// What a user is told when there is nothing to be shown.
pub(super) fn unkept(error: Unkept) -> Box<Answer> {
    use crate::pipeline::durable::Unfit;
    match error {
        Unkept::Unfit(Unfit::Store(error)) => unusable(error),
        Unkept::Unfit(error) => {
            let trouble = Trouble::of(error.to_string()).code(codes::STATE_DAMAGED);
            Box::new(Answer::failed(Exit::Environment, trouble))
        }
        Unkept::Ambiguous { .. } => {
            let trouble = Trouble::of(error.to_string()).code(codes::NOT_KEPT).cure("name it with `--pipeline`");
            Box::new(Answer::failed(Exit::Usage, trouble))
        }
        Unkept::Unknown { .. } => {
            Box::new(Answer::failed(Exit::Usage, Trouble::of(error.to_string()).code(codes::NOT_KEPT)))
        }
    }
}

/// A person's word, for what cannot be taken back.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Word {
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
}

impl Word {
    /// Asks on a terminal whether to `act`; elsewhere it has to have been given.
    pub(super) fn given(self, act: &str) -> Result<(), Box<Answer>> {
        use std::io::{BufRead as _, IsTerminal as _};
        if self.yes {
            return Ok(());
        }
        let trouble = Trouble::of(format!("{act}: that cannot be taken back")).code(codes::NOT_SURE);
        let refused = Box::new(Answer::failed(Exit::Usage, trouble.cure("say `--yes` if that is what you want")));
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(refused);
        }
        eprint!("{act}? That cannot be taken back. Type `yes`: ");
        let mut said = String::new();
        // Who says nothing does not want it.
        let _ = std::io::stdin().lock().read_line(&mut said);
        if said.trim() == "yes" { Ok(()) } else { Err(refused) }
    }
}
