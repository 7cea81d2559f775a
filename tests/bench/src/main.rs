//! Prints the figures of the README: `make bench`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use bench::{
    calls::{self, BATCHES, SIZES, Workload},
    clock::Took,
    kept, poison, reload, start, whole,
};

/// Rounds in which the sides of a comparison take turns.
const ROUNDS: usize = 11;

/// Rounds of what takes long, or waits for the disk.
const FEW: usize = 5;

/// Records that a whole pipeline reads.
const WHOLE: u64 = 400_000;

/// Measures something and prints its table.
type Part = fn() -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let parts: [(&str, Part); 6] = [
        ("stage", one_stage),
        ("poison", poisoned),
        ("pipeline", whole_pipeline),
        ("kept", what_is_kept),
        ("start", starts),
        ("reload", reloads),
    ];
    let only = std::env::args().nth(1);
    if let Some(only) = &only {
        ensure!(
            parts.iter().any(|(name, _)| name == only),
            "there are `stage`, `poison`, `pipeline`, `kept`, `start` and `reload`, no `{only}`"
        );
    }
    machine();
    parts.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).try_for_each(|(_, part)| part())
}

fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    println!(
        "{} × {cores}, load {}\n",
        model.trim_start_matches(['\t', ' ', ':']),
        load.split(' ').next().unwrap_or("?")
    );
}

fn one_stage() -> anyhow::Result<()> {
    println!(
        "One stage; nanoseconds a record by the wall clock, in brackets of processor time; × is processor time by native.\n"
    );
    println!("| | batch | bytes | native | plugin | × | unmetered | × |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for workload in Workload::ALL {
        for batch in BATCHES {
            for size in SIZES {
                let row = calls::measure(workload, batch, size, ROUNDS)?;
                let each = |took: Took| {
                    let wall = took.wall.as_nanos() as f64 / row.records as f64;
                    format!("{wall:.1} ({:.1})", took.cpu_nanos_each(row.records))
                };
                let times = |took: Took| match took.cpu.as_secs_f64() / row.native.cpu.as_secs_f64() {
                    // What takes native code no time has no ratio worth printing.
                    _ if workload == Workload::Identity => "–".to_owned(),
                    times => format!("{times:.2}"),
                };
                println!(
                    "| {} | {batch} | {size} | {} | {} | {} | {} | {} |",
                    workload.title(),
                    each(row.native),
                    each(row.plugin),
                    times(row.plugin),
                    each(row.unmetered),
                    times(row.unmetered),
                );
            }
        }
    }
    Ok(())
}

fn poisoned() -> anyhow::Result<()> {
    println!("\nPoisoned records among others, 1024 × 256; nanoseconds of every record by the wall clock.\n");
    println!("| | none | refused 0.1 % | 1 % | 10 % | trapped 0.1 % | 1 % | 10 % |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (guest, title) in poison::PLUGINS {
        let row = poison::measure(guest, ROUNDS)?;
        let each = |took: &Took| format!("{:.1}", took.wall.as_nanos() as f64 / poison::RECORDS as f64);
        let all: Vec<String> = [&row.clean].into_iter().chain(&row.refused).chain(&row.trapped).map(each).collect();
        println!("| {title} | {} |", all.join(" | "));
    }
    Ok(())
}

fn whole_pipeline() -> anyhow::Result<()> {
    let result = whole::measure(WHOLE, ROUNDS)?;
    println!("\nfile → filter → JSON map → keyed window → file, {} records of 256 bytes.\n", result.records);
    println!("| | wall s | CPU s | × CPU |");
    println!("|---|--:|--:|--:|");
    let sides = [
        ("by hand, one thread", result.native),
        ("pipeline, plugins parse", result.parsed),
        ("pipeline, fields as columns", result.columns),
    ];
    for (name, took) in sides {
        let (wall, cpu) = (took.wall.as_secs_f64(), took.cpu.as_secs_f64());
        println!("| {name} | {wall:.2} | {cpu:.2} | {:.2} |", cpu / result.native.cpu.as_secs_f64());
    }
    Ok(())
}

fn what_is_kept() -> anyhow::Result<()> {
    println!("\nA running aggregate, the whole stage, over groups that it has seen before; by processor time.\n");
    println!("| keys | ns a record | million records a second and core |");
    println!("|--:|--:|--:|");
    for keys in kept::KEYS {
        let each = kept::fold(keys, FEW)?.cpu_nanos_each(kept::FOLDED);
        println!("| {keys} | {each:.0} | {:.1} |", 1e3 / each);
    }
    println!("\nA commit of changed groups, its syncs included, and how far apart epochs of a second then lie.\n");
    println!("| groups changed | wall ms | CPU ms | apart s | of a core |");
    println!("|--:|--:|--:|--:|--:|");
    for changed in kept::CHANGED {
        let (took, apart) = kept::commit(changed, FEW)?;
        let [wall, cpu] = [took.wall, took.cpu].map(|took| took.as_secs_f64() * 1e3);
        let share = took.cpu.as_secs_f64() / apart.as_secs_f64();
        println!("| {changed} | {wall:.0} | {cpu:.0} | {:.1} | {:.1} % |", apart.as_secs_f64(), share * 1e2);
    }
    let (written, read) = kept::log(FEW)?;
    let rate = |took: Took| kept::LOGGED as f64 / took.wall.as_secs_f64() / 1e6;
    println!("\nThe log, records of 256 bytes in blocks of 1024, synced sixteen times a million; by the wall clock.\n");
    println!("| | million records a second |");
    println!("|---|--:|");
    println!("| written | {:.1} |", rate(written));
    println!("| read | {:.1} |", rate(read));
    Ok(())
}

/// The host that lies beside this program.
fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe().context("find this program")?.with_file_name("tidegate"))
}

fn reloads() -> anyhow::Result<()> {
    let pauses = reload::pauses()?;
    let micros = |took: std::time::Duration| took.as_secs_f64() * 1e6;
    println!(
        "\nA worker stands still for {:.1} µs when it exchanges generations, the median of {}; p99 {:.1} µs.",
        micros(pauses.median),
        reload::EXCHANGES,
        micros(pauses.p99)
    );
    let all = reload::arrivals(&program()?, ROUNDS)?;
    let (median, worst) =
        (all.get(all.len() / 2).copied().unwrap_or_default(), all.last().copied().unwrap_or_default());
    println!(
        "From a plugin's being saved to the first record through it: {:.2} s, the median of {}; {:.2} s at worst.",
        median.as_secs_f64(),
        all.len(),
        worst.as_secs_f64()
    );
    Ok(())
}

fn starts() -> anyhow::Result<()> {
    let beside = program()?;
    let result = start::measure(&beside, ROUNDS)?;
    println!("\nStart of five plugins to the last result of {} records, by the wall clock.\n", start::RECORDS);
    println!("| cache | s |");
    println!("|---|--:|");
    println!("| empty | {:.3} |", result.cold.as_secs_f64());
    println!("| filled | {:.3} |", result.warm.as_secs_f64());
    let ready = start::recovery(&beside, FEW)?;
    println!(
        "\nA host that was killed is ready again with {} groups after {:.1} s.",
        start::GROUPS,
        ready.as_secs_f64()
    );
    Ok(())
}
