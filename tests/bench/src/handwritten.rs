//! The pipeline of `whole`, written by hand: file → filter → JSON map → keyed tumbling window → file, on one thread.
//!
//! Owns what somebody would write who needs just this one pipeline and no other. It must not know Tidegate. Invariant: it
//! writes the same bytes as the pipeline does.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use hashbrown::HashMap;
use serde::Deserialize;
use workloads::{Access, Status, Sum, Took};

/// Buffers of both files, in bytes.
const BUFFER: usize = 1 << 20;

/// What the source of the pipeline reads of each record.
#[derive(Deserialize)]
struct Stamp<'a> {
    ts: i64,
    #[serde(borrow)]
    client: std::borrow::Cow<'a, str>,
}

/// The sums of each client in each window that is open.
struct Windows {
    size: i64,
    lag: i64,
    furthest: i64,
    open: HashMap<(i64, String), Sum, foldhash::fast::RandomState>,
}

impl Windows {
    fn add(&mut self, time: i64, client: &str, us: u64) {
        let start = time.div_euclid(self.size) * self.size;
        // Only a client that is new in this window costs a string.
        let sum = match self.open.get_mut(&Borrowed(start, client)) {
            Some(sum) => sum,
            None => self.open.entry((start, client.to_owned())).or_default(),
        };
        sum.add(us);
    }

    /// Writes the windows that end before the watermark, in the order of (end, client).
    fn close(&mut self, watermark: i64, out: &mut impl Write) -> anyhow::Result<u64> {
        let size = self.size;
        let mut closed: Vec<((i64, String), Sum)> =
            self.open.extract_if(|(start, _), _| start + size <= watermark).collect();
        closed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for ((start, client), sum) in &closed {
            serde_json::to_writer(&mut *out, &sum.result(client, *start))?;
            out.write_all(b"\n")?;
        }
        Ok(closed.len() as u64)
    }
}

/// A group as it is looked for, before anybody owns its client.
#[derive(Hash)]
struct Borrowed<'a>(i64, &'a str);

impl hashbrown::Equivalent<(i64, String)> for Borrowed<'_> {
    fn equivalent(&self, (start, client): &(i64, String)) -> bool {
        self.0 == *start && self.1 == client
    }
}

/// Runs it; returns how many records it wrote.
///
/// # Errors
/// When a file cannot be read or written, or a record is not what it should be.
pub fn run(input: &Path, output: &Path, size: i64, lag: i64) -> anyhow::Result<u64> {
    let mut input = BufReader::with_capacity(BUFFER, File::open(input)?);
    let mut output = BufWriter::with_capacity(BUFFER, File::create(output)?);
    let mut windows = Windows { size, lag, furthest: i64::MIN, open: HashMap::default() };
    let (mut line, mut slim, mut written, mut next_close) = (Vec::new(), Vec::new(), 0, i64::MIN);
    while input.read_until(b'\n', &mut line)? > 0 {
        let stamp: Stamp = serde_json::from_slice(&line)?;
        if serde_json::from_slice::<Status>(&line)?.is_served() {
            slim.clear();
            serde_json::to_writer(&mut slim, &serde_json::from_slice::<Access>(&line)?.slim())?;
            windows.add(stamp.ts, &stamp.client, serde_json::from_slice::<Took>(&slim)?.us);
        }
        windows.furthest = windows.furthest.max(stamp.ts);
        let watermark = windows.furthest - windows.lag;
        if watermark >= next_close {
            written += windows.close(watermark, &mut output)?;
            next_close = (watermark.div_euclid(size) + 1) * size;
        }
        line.clear();
    }
    written += windows.close(i64::MAX, &mut output)?;
    output.flush()?;
    output.get_ref().sync_data()?;
    Ok(written)
}
