//! The command line: what a user types and sees.
//!
//! Owns verbs, output and exit codes. Nothing below may name it. Invariant: standard output is the answer, standard
//! error everything else; every verb answers with an [`Answer`], which knows how to be shown to people and programs.

mod account;
mod answer;
mod ask;
mod audit;
pub mod author;
mod breaker;
mod check;
mod compile_worker;
mod completions;
mod dlq;
mod doctor;
mod epoch;
mod exit;
mod explain;
mod figure;
mod files;
mod graph;
mod log;
mod plugin;
mod run;
mod schema;
mod screen;
mod settings;
mod state;
mod status;
mod table;
mod topic;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use answer::{Answer, Form, Outcome, Trouble};
pub use exit::Exit;

/// A stream-processing host whose filters, maps and aggregates are WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Answer with one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run pipelines until they end, or until a signal drains them.
    Run(Box<run::Run>),
    /// Check pipelines as a whole, plugins included, and start nothing.
    Check(check::Check),
    /// Draw a pipeline.
    Graph(graph::Draw),
    /// Print the JSON Schema of a file, for editors.
    Schema(schema::Schema),
    /// Show what a running host does.
    Status(status::Show),
    /// Tell a running host to finish what is under way, commit and end; wait for it.
    Drain(status::Drain),
    /// Look at what is kept beyond the process, and change it.
    #[command(subcommand)]
    State(state::Verb),
    /// Commit now, and see what was committed when.
    #[command(subcommand)]
    Epoch(epoch::Verb),
    /// Show the ledger: what became of every record, and whether it balances.
    Audit(audit::Audit),
    /// Look at dead letters, records that could not be processed, and give them up.
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// See which stages and sinks are left alone for their failures, and open or close their breakers.
    #[command(subcommand)]
    Breaker(breaker::Verb),
    /// Look at topics: who writes, who reads, how far each has come.
    #[command(subcommand)]
    Topic(topic::Verb),
    /// Start, build, look at and try plugins.
    #[command(subcommand)]
    Plugin(plugin::Verb),
    /// See whether this machine has what is needed, and how to get what is missing.
    Doctor(doctor::Doctor),
    /// Explain a code such as TG203; all of them, where none is given.
    Explain(explain::Explain),
    /// Print completions for a shell.
    Completions(completions::Completions),
    /// Compile a plugin within limits; the host starts this itself.
    #[command(hide = true)]
    CompileWorker(compile_worker::Worker),
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Check(_) => "check",
            Self::Graph(_) => "graph",
            Self::Schema(_) => "schema",
            Self::Status(_) => "status",
            Self::Drain(_) => "drain",
            Self::State(verb) => verb.name(),
            Self::Epoch(verb) => verb.name(),
            Self::Audit(_) => "audit",
            Self::Dlq(verb) => verb.name(),
            Self::Breaker(verb) => verb.name(),
            Self::Topic(verb) => verb.name(),
            Self::Plugin(verb) => verb.name(),
            Self::Doctor(_) => "doctor",
            Self::Explain(_) => "explain",
            Self::Completions(_) => "completions",
            Self::CompileWorker(_) => compile_worker::VERB,
        }
    }

    fn perform(self, form: Form) -> Outcome {
        match self {
            Self::Run(verb) => verb.perform(),
            Self::Check(verb) => verb.perform(),
            Self::Graph(verb) => verb.perform(),
            Self::Schema(verb) => verb.perform(),
            Self::Status(verb) => verb.perform(form),
            Self::Drain(verb) => verb.perform(),
            Self::State(verb) => verb.perform(form),
            Self::Epoch(verb) => verb.perform(),
            Self::Audit(verb) => verb.perform(),
            Self::Dlq(verb) => verb.perform(),
            Self::Breaker(verb) => verb.perform(),
            Self::Topic(verb) => verb.perform(),
            Self::Plugin(verb) => verb.perform(),
            Self::Doctor(verb) => verb.perform(),
            Self::Explain(verb) => verb.perform(),
            Self::Completions(verb) => verb.perform(Cli::command()),
            Self::CompileWorker(verb) => verb.perform(),
        }
    }
}

/// The whole program: reads the arguments, performs the verb, shows its answer.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let form = if cli.json { Form::Json } else { Form::People };
    let name = cli.verb.name();
    let answer = guarded(|| cli.verb.perform(form));
    answer.show(name, form)
}

/// What `perform` answers; a panic of ours is an answer too.
fn guarded(perform: impl FnOnce() -> Outcome) -> Answer {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(perform)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(answer)) => *answer,
        Err(_) => Answer::failed(Exit::Bug, Trouble::of("go on: this is a bug of Tidegate's; what it said is above")),
    }
}

/// Arguments that make no sense, or ask for help.
fn misread(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if is_json && error.use_stderr() {
        let message = error.render().to_string();
        let message = message.trim_end().trim_start_matches("error: ").to_owned();
        return Answer::failed(Exit::Usage, Trouble::of(message)).show("", Form::Json);
    }
    // Where not even help can be printed, nothing else can be said either.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Fine.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            found.push((path.trim().to_owned(), command.clone()));
        }
        for one in below {
            leaves(one, &format!("{path} {}", one.get_name()), found);
        }
    }

    #[test]
    fn the_command_tree_is_well_formed_and_every_leaf_can_answer_in_json_and_says_what_it_does() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        assert!(found.len() > 10);
        for (path, leaf) in found {
            assert!(leaf.get_arguments().any(|flag| flag.get_long() == Some("json")), "`{path}` has no --json");
            assert!(leaf.get_about().is_some(), "`{path}` does not say what it does");
            for flag in leaf.get_arguments() {
                assert!(flag.get_help().is_some(), "`{path}`: `{}` does not say what it does", flag.get_id());
            }
        }
    }

    #[test]
    fn a_panic_of_ours_is_exit_70() {
        assert_eq!(guarded(|| panic!("on purpose")).exit, Exit::Bug);
        assert_eq!(Exit::Bug.code(), 70);
    }
}
