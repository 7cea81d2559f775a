//! What is said when all pipelines have ended: records in and out, rates, cost, and the ledger.
//!
//! Owns how the end of a run is told, and which exit code it comes to. It must not know how anything was counted.

use serde::Serialize;
use serde_json::json;

use super::{
    Answer, Exit, Patience, Trouble,
    watch::{Left, Watched, word},
};
use crate::{
    cli::{
        account, figure,
        table::{self, Align},
    },
    config::{
        codes,
        graph::{Graph, LETTERS},
    },
    pipeline::{
        Ended, Ending, Status,
        board::PartStatus,
        ledger::{self, Account},
    },
    stage::spread::Quantiles,
    unit::Size,
};

/// The ledger of a pipeline as of its last commit.
#[derive(Clone, Debug, Serialize)]
struct Ledger {
    #[serde(flatten)]
    account: Account,
    /// Records read after it, which are given up.
    uncommitted: u64,
}

#[derive(Debug, Serialize)]
struct Told {
    ending: &'static str,
    exit: u8,
    error: Option<Trouble>,
    status: Status,
    /// None where the pipeline did not end in time.
    ledger: Option<Ledger>,
}

/// The answer of a run.
pub(super) fn answer(watched: Watched) -> Answer {
    if let Some(exit) = watched.aborted {
        let trouble = Trouble::of("wait for the end: a second signal came; what was not committed is given up");
        return Answer { patience: Patience::Short, ..Answer::failed(exit, trouble) };
    }
    let all: Vec<(Exit, Told)> = watched.pipelines.iter().map(told).collect();
    let worst = all.iter().max_by_key(|(exit, _)| *exit);
    let (exit, error) = worst.map_or((Exit::Fine, None), |(exit, told)| (*exit, told.error.clone()));
    let summary = all.iter().map(|(_, told)| format!("{} {}", told.status.pipeline, told.ending));
    let summary = summary.collect::<Vec<_>>().join(", ");
    let notes: String = all.iter().map(|(_, told)| shown(told)).collect();
    let told: Vec<Told> = all.into_iter().map(|(_, told)| told).collect();
    let answer = Answer::fine(summary, json!({ "pipelines": told }), "");
    // Whoever does not read what a sink writes may be the one who does not read this either.
    let patience = if exit >= Exit::Deadline { Patience::Short } else { Patience::Endless };
    Answer { exit, notes, error, is_told: true, patience, ..answer }
}

fn told(left: &Left) -> (Exit, Told) {
    let Some((ended, status)) = &left.ended else {
        let ending = Ending::DeadlinePassed;
        let (exit, error, status) = (Exit::of(&ending), trouble(&ending), left.board.status());
        return (exit, Told { ending: word(&ending), exit: exit.code(), error, status, ledger: None });
    };
    let ledger = settled(left.board.graph(), ended);
    let error = trouble(&ended.ending).or_else(|| account::unbalanced(&ledger.account));
    let exit = Exit::of(&ended.ending).max(if ledger.account.balanced { Exit::Fine } else { Exit::No });
    let (ending, status) = (word(&ended.ending), status.clone());
    (exit, Told { ending, exit: exit.code(), error, status, ledger: Some(ledger) })
}

fn trouble(ending: &Ending) -> Option<Trouble> {
    match ending {
        Ending::Completed | Ending::Drained => None,
        Ending::DeadlinePassed => {
            let message = "finish what was under way before the deadline of the drain; it was not committed";
            Some(Trouble::of(message).code(codes::DRAIN_LATE))
        }
        Ending::Stopped(stop) => Some(Trouble::of(stop.to_string()).code(codes::RECORD_REFUSED)),
        Ending::Faulted(report) => Some(Trouble::of(report.to_string()).code(codes::PLUGIN_FAULT)),
        Ending::Failed(why) => {
            let code = match why {
                source if source.starts_with("source `") => Some(codes::SOURCE_FAILED),
                sink if sink.starts_with("sink `") => Some(codes::SINK_FAILED),
                _ => None,
            };
            Some(Trouble { code, ..Trouble::of(why.as_str()) })
        }
    }
}

fn settled(graph: &Graph, ended: &Ended) -> Ledger {
    Ledger { account: ledger::account(graph, &ended.committed), uncommitted: ended.board.uncommitted(&ended.committed) }
}

fn shown(told: &Told) -> String {
    let status = &told.status;
    let mut out = format!(
        "\n{}: {} after {:.1} s, {} committed",
        status.pipeline,
        told.ending.replace('_', " "),
        status.seconds,
        figure::several(usize::try_from(status.epoch).unwrap_or(usize::MAX), "epoch"),
    );
    if status.restarts > 0 {
        out.push_str(&format!(", {}", figure::several(usize::try_from(status.restarts).unwrap_or(0), "restart")));
    }
    out.push('\n');
    let (aligns, rows) = part_rows(status);
    out.push_str(&table::lay_out("  ", aligns, &rows));
    if let Some(letters) = status.dead_letters.filter(|letters| *letters > 0) {
        out.push_str(&format!("  {} dead letters: `tidegate dlq ls {}`\n", figure::count(letters), status.pipeline));
    }
    for part in told.ledger.iter().flat_map(|ledger| &ledger.account.parts).filter(|part| part.waiting > 0) {
        let records = figure::several(usize::try_from(part.waiting).unwrap_or(usize::MAX), "record");
        let name = &part.name;
        out.push_str(&format!("  {records} of `{name}` committed and to be sent: the next run does\n"));
    }
    match &told.ledger {
        Some(ledger) => ledger_shown(ledger, &mut out),
        None => out.push_str("  ledger not known: tasks hang in calls of the system\n"),
    }
    out
}

fn ledger_shown(ledger: &Ledger, out: &mut String) {
    let Ledger { account, uncommitted } = ledger;
    out.push_str(&format!("  ledger as of epoch {}\n", account.epoch));
    out.push_str(&account::edges("    ", account));
    if *uncommitted > 0 {
        let records = usize::try_from(*uncommitted).unwrap_or(usize::MAX);
        out.push_str(&format!("    {} read and not committed\n", figure::several(records, "record")));
    }
    out.push_str(&account::verdict("  ", account));
}

/// Columns of [`part_rows`].
const ALIGNS: &[Align] = &[
    Align::Left,
    Align::Left,
    Align::Right,
    Align::Right,
    Align::Right,
    Align::Right,
    Align::Right,
    Align::Right,
    Align::Left,
];

/// Every source, stage and sink in a row: records in and out, rate, time inside the plugin, fuel a record against its
/// budget, and what became of the rest.
pub(in crate::cli) fn part_rows(status: &Status) -> (&'static [Align], Vec<Vec<String>>) {
    let head = ["", "", "in", "out", "rate", "in plugin", "a record", "fuel/record", "of budget, and the rest"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let kinds = [("source", &status.sources), ("stage", &status.stages), ("sink", &status.sinks)];
    for (kind, parts) in kinds {
        // Nobody has written down where letters come back from, and mostly none does.
        let is_shown = |part: &&PartStatus| kind != "source" || part.name != LETTERS || part.reading.tally.received > 0;
        rows.extend(parts.iter().filter(is_shown).map(|part| row(kind, part, status.seconds)));
    }
    (ALIGNS, rows)
}

fn row(kind: &str, part: &PartStatus, seconds: f64) -> Vec<String> {
    let (reading, tally) = (&part.reading, &part.reading.tally);
    let out = if kind == "stage" { tally.produced } else { tally.passed };
    let mut rest: Vec<String> = Vec::new();
    let each = |total: u64| total as f64 / tally.received.max(1) as f64;
    let [mut inside, mut each_nanos, mut fuel] = [const { String::new() }; 3];
    if reading.fuel_budget > 0 {
        inside = figure::nanos(reading.plugin_nanos as f64);
        each_nanos = figure::nanos(each(reading.plugin_nanos));
        fuel = figure::count(each(reading.fuel).round() as u64);
        let budget = figure::count(each(reading.fuel_budget).round() as u64);
        rest.push(format!("{} of {budget}", figure::share(reading.fuel, reading.fuel_budget)));
        let Quantiles { p50, p99, max } = reading.fuel_per_record;
        let [p50, p99, max] = [p50, p99, max].map(figure::count);
        rest.push(format!(
            "fuel p50 {p50} p99 {p99} most {max}, fullest call {}",
            figure::share(reading.fuel_peak, 1000)
        ));
        let memory = Size(reading.plugin_memory.div_ceil(1 << 10) << 10);
        rest.push(format!("{memory} of {} memory", Size(reading.plugin_memory_budget)));
        if reading.recycled > 0 {
            rest.push(format!("{} recycled", figure::count(reading.recycled)));
        }
    }
    for (count, word) in [
        (tally.filtered, "filtered"),
        (tally.absorbed, "absorbed"),
        (tally.late, "late"),
        (tally.refused, "refused"),
        (tally.dropped, "dropped"),
        (tally.stood_in, "done by the fallback"),
        (tally.diverted, "handed to the fallback"),
        (tally.lost, "lost"),
    ] {
        if count > 0 {
            rest.push(format!("{} {word}", figure::count(count)));
        }
    }
    for (kind, count) in &part.faults {
        let calls = figure::several(usize::try_from(*count).unwrap_or(usize::MAX), "fault");
        rest.push(format!("{calls} ({})", kind.name().replace('_', " ")));
    }
    if part.breaker.as_ref().is_some_and(|breaker| breaker.opened.is_some()) {
        rest.push("breaker open".to_owned());
    }
    if reading.groups > 0 {
        rest.push(format!("{} groups held", figure::count(reading.groups)));
    }
    if reading.cold_groups + reading.cold_reads > 0 {
        let (cold, reads) = (figure::count(reading.cold_groups), figure::count(reading.cold_reads));
        rest.push(format!("{cold} groups in the store alone, {reads} read back"));
    }
    if reading.evicted > 0 {
        rest.push(format!("{} groups evicted", figure::count(reading.evicted)));
    }
    for (name, count) in &part.counts {
        rest.push(format!("{name} {}", figure::count(*count)));
    }
    vec![
        kind.to_owned(),
        part.name.clone(),
        figure::count(tally.received),
        figure::count(out),
        figure::rate(tally.received, seconds),
        inside,
        each_nanos,
        fuel,
        rest.join(", "),
    ]
}
