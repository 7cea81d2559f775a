//! The records that are measured: accesses as JSON, the same in every run.
//!
//! Owns their form. Invariant: record `i` of a size is always the same bytes.

use std::io::Write;
use std::path::Path;

use tidegate::batch::{Batch, Column};

/// How many clients there are.
pub const CLIENTS: u64 = 100;

/// Event time of the first record, in milliseconds since the Unix epoch.
const BEGIN: u64 = 1_767_607_200_000;

/// Records for each millisecond of event time.
const PER_MILLISECOND: u64 = 10;

/// What fills a record up.
const UA: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 ";

/// Record `at`, as near to `size` bytes as its fields allow: the shortest have four. One in ten has status 503.
pub fn record(at: u64, size: usize) -> String {
    // SplitMix64's last step, so that neighbours differ.
    let mut noise = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    noise = (noise ^ (noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    noise ^= noise >> 27;
    let ts = BEGIN + at / PER_MILLISECOND;
    let status = if noise.is_multiple_of(10) { 503 } else { 200 };
    let (client, ms) = ((noise >> 8) % CLIENTS, (noise >> 20) % 100);
    let head = format!(r#"{{"ts":{ts},"client":"c{client:02}","status":{status},"ms":{ms}"#);
    if size < 128 {
        return head + "}";
    }
    let (shop, item) = ((noise >> 32) % 9, (noise >> 40) % 10_000);
    let head =
        format!(r#"{head},"method":"GET","path":"/shops/{shop}/items/{item}","bytes":{},"ua":""#, noise % 65_536);
    let fill: String = UA.chars().cycle().take(size.saturating_sub(head.len() + 2)).collect();
    format!("{head}{fill}\"}}")
}

/// `count` records, in batches of `batch`, with keys and event times.
pub fn batches(count: u64, size: usize, batch: u64) -> Vec<Batch> {
    let many = (0..count).step_by(batch as usize).map(|first| {
        let rows = first..(first + batch).min(count);
        let values: Column = rows.clone().map(|at| record(at, size)).collect();
        let keys: Column = rows.clone().map(|at| format!("c{:02}", at % CLIENTS)).collect();
        let times = rows.map(|at| (BEGIN + at / PER_MILLISECOND) as i64).collect();
        let batch = Batch::of_values(values);
        batch.clone().with_keys(keys).and_then(|batch| batch.with_timestamps(times)).unwrap_or(batch)
    });
    many.collect()
}

/// Writes `count` records as lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, count: u64, size: usize) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    for at in 0..count {
        writeln!(out, "{}", record(at, size))?;
    }
    Ok(out.flush()?)
}
