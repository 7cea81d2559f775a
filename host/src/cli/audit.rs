//! `audit`: the ledger, from a running host or from what is kept.

use clap::Args;
use hyper::Method;

use super::{
    Answer, Exit, Outcome, account,
    epoch::{NOTHING, which},
    figure,
    state::{Kept, Way, unkept},
};
use crate::{
    api::{client, kept::Audited},
    pipeline::kept,
    store::Store,
};

#[derive(Args, Debug)]
#[command(after_help = "Exits 1 where a ledger does not balance.

Examples:
  tidegate audit
  tidegate audit access-log --json")]
pub(super) struct Audit {
    /// The pipeline; all, where none is named.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

impl Audit {
    pub(super) fn perform(self) -> Outcome {
        let all: Vec<Audited> = match self.kept.way()? {
            Way::Store(store) => audited(&store, self.pipeline.as_deref()).map_err(unkept)?,
            Way::Host(ask) => ask.ask(Method::GET, &client::with_query("/api/v1/audit", &which(self.pipeline)))?,
        };
        let text = if all.is_empty() { NOTHING.to_owned() } else { all.iter().map(shown).collect() };
        let off = all.iter().filter(|one| !one.ledger.balanced).count();
        let trouble = all.iter().find_map(|one| account::unbalanced(&one.ledger));
        let pipelines = figure::several(all.len(), "pipeline");
        let summary = if off == 0 { format!("{pipelines} balanced") } else { format!("{off} of {pipelines} off") };
        let mut answer = Answer::fine(summary, all, text);
        if let Some(trouble) = trouble {
            answer.exit = Exit::No;
            answer.error = Some(trouble);
        }
        Ok(answer)
    }
}

fn audited(store: &Store, named: Option<&str>) -> Result<Vec<Audited>, kept::Unkept> {
    let names = match named {
        Some(_) => vec![kept::pipeline(store, named)?],
        None => store.pipelines()?,
    };
    names.into_iter().map(|pipeline| Ok(Audited { ledger: kept::account(store, &pipeline)?, pipeline })).collect()
}

fn shown(one: &Audited) -> String {
    let ledger = &one.ledger;
    let (parts, edges) = (account::parts("  ", ledger), account::edges("  ", ledger));
    format!("{} as of epoch {}\n{parts}{edges}{}", one.pipeline, ledger.epoch, account::verdict("  ", ledger))
}
