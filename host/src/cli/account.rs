//! A ledger as people read it.
//!
//! Owns the words of an account, at the end of a run and whenever somebody audits. It must not know how it came about.

use super::{
    Trouble, figure,
    table::{self, Align},
};
use crate::{
    config::{codes, graph::LETTERS},
    pipeline::ledger::{Account, Kind, Part},
};

/// A row for each edge, what was sent and what was received.
pub(super) fn edges(indent: &str, account: &Account) -> String {
    let (to, from) = (format!("→ {LETTERS}"), format!("{LETTERS} →"));
    let is_of_letters = |name: &str| name.ends_with(&to) || name.starts_with(&from);
    let rows: Vec<Vec<String>> = account
        .edges
        .iter()
        // What leads to the dead letters and back is there everywhere, and worth a line where something came.
        .filter(|edge| edge.sent + edge.received > 0 || !is_of_letters(&edge.name))
        .map(|edge| {
            let (sent, received) = (figure::count(edge.sent), figure::count(edge.received));
            vec![edge.name.clone(), sent, "sent".to_owned(), received, "received".to_owned()]
        })
        .collect();
    table::lay_out(indent, &[Align::Left, Align::Right, Align::Left, Align::Right, Align::Left], &rows)
}

/// A row for each source, stage and sink, and what became of its records.
pub(super) fn parts(indent: &str, account: &Account) -> String {
    let rows: Vec<Vec<String>> = account.parts.iter().map(row).collect();
    table::lay_out(indent, &[Align::Left, Align::Left, Align::Right, Align::Left], &rows)
}

fn row(part: &Part) -> Vec<String> {
    let kind = match part.kind {
        Kind::Source => "source",
        Kind::Stage => "stage",
        Kind::Sink => "sink",
    };
    let tally = &part.tally;
    let fates: Vec<String> = [
        (tally.passed, "passed"),
        (tally.filtered, "filtered"),
        (tally.absorbed, "absorbed"),
        (tally.late, "late"),
        (tally.refused, "refused"),
        (tally.dropped, "dropped"),
        (tally.diverted, "handed to another sink"),
        (tally.lost, "lost"),
        (part.waiting, "waiting to be sent"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{} {word}", figure::count(count)))
    .collect();
    let fates = if fates.is_empty() { "in".to_owned() } else { format!("in = {}", fates.join(" + ")) };
    vec![kind.to_owned(), part.name.clone(), figure::count(tally.received), fates]
}

/// Every equation that does not hold, and whether all do.
pub(super) fn verdict(indent: &str, account: &Account) -> String {
    let mut out = String::new();
    for off in &account.imbalances {
        let (left, right) = (figure::count(off.left), figure::count(off.right));
        out.push_str(&format!("{indent}  {} does not balance: {left} on one side, {right} on the other\n", off.place));
    }
    out.push_str(indent);
    out.push_str(if account.balanced { "ledger balanced\n" } else { "ledger NOT balanced\n" });
    out
}

/// What is said where a ledger does not balance.
pub(super) fn unbalanced(account: &Account) -> Option<Trouble> {
    let first = account.imbalances.first()?;
    let message =
        format!("balance the ledger: {}: {} on one side, {} on the other", first.place, first.left, first.right);
    Some(Trouble::of(message).code(codes::LEDGER))
}
