//! The host killed at any moment, and started again: what it had committed is there, what it had not is done again.
//!
//! `TIDEGATE_KILLS` says how often; `make chaos` sets it, and shows the row that each campaign prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::folder::{Folder, PATIENCE, Started};

/// Kills in a run, unless somebody wants more.
const KILLS: u32 = 10;

/// Records of the input for each kill.
pub(crate) const RECORDS: u64 = 6_000;

/// Clients that post at once, each its next record when the one before has been answered.
const CLIENTS: usize = 8;

/// So many kills that what may happen has happened.
const MANY: u32 = 200;

/// How long a host may take to be ready again; ten times what is expected.
const READY: Duration = Duration::from_secs(20);

/// How often the host is killed.
pub(crate) fn kills() -> u32 {
    std::env::var("TIDEGATE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// What a campaign came to: the lines that are there and the lines that should be.
pub(crate) fn told(seed: u64, kills: u32, records: u64, worst: Duration, found: &[&str], expected: &[&str]) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    expected.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    found.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    let is_expected: BTreeSet<&str> = expected.iter().copied().collect();
    let lost: i64 = counts.values().filter(|count| **count < 0).sum();
    let doubled: i64 =
        counts.iter().filter(|(line, count)| **count > 0 && is_expected.contains(*line)).map(|(_, n)| n).sum();
    let spurious: i64 =
        counts.iter().filter(|(line, count)| **count > 0 && !is_expected.contains(*line)).map(|(_, n)| n).sum();
    println!("seed {seed}");
    println!("| kills | records | lost | doubled | spurious | worst recovery |");
    println!("| {kills} | {records} | {} | {doubled} | {spurious} | {} ms |", -lost, worst.as_millis());
    assert_eq!((lost, doubled, spurious), (0, 0, 0), "seed {seed}");
    assert!(worst < READY, "the host was not ready for {worst:?}: seed {seed}");
}

/// A pipeline from a file through a filter and windows into a file that is rotated.
const PIPELINE: &str = "version: 1
name: killed
epoch: 100ms
sources:
  in: { file: { path: input.ndjson }, decode: json, key: /client, time: /ts, rate: 25000/s, watermark: { lag: 100ms } }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
  sums: { from: served, aggregate: std/summary, config: { field: /ms, echo: [/client] }, window: { tumbling: 100ms } }
sinks:
  out: { from: sums, file: { path: OUT, rotate: { bytes: 200KiB } }, encode: json }
";

/// Milliseconds that nobody foresees and everybody can repeat: SplitMix64 of the number of the kill.
pub(crate) fn moment(seed: u64, kill: u32) -> Duration {
    let mut z = seed.wrapping_add(u64::from(kill).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Duration::from_millis(50 + (z ^ (z >> 31)) % 500)
}

/// A seed that is new in each run, and told when the test fails.
pub(crate) fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}

/// Everything in the files that rotation made of `name`, oldest first.
fn whole(folder: &Folder, name: &str) -> String {
    let aside = (1..).map(|n| format!("{name}.{n}")).take_while(|name| folder.path(name).exists());
    aside.chain([name.to_owned()]).map(|name| folder.read(&name)).collect()
}

/// Row 1 and T1: file → windows → file is exactly once through any crash.
#[test]
fn a_host_killed_again_and_again_writes_what_one_that_lives_writes() {
    let (folder, seed) = (Folder::new(), seed());
    let record = |n: u64| {
        format!("{{\"ts\":{},\"client\":\"c{}\",\"status\":{},\"ms\":{}}}\n", n / 20, n % 17, 200 + n % 7 * 60, n % 100)
    };
    let (kills, records) = (kills(), RECORDS * u64::from(kills()));
    folder.write("input.ndjson", (0..records).map(record).collect::<String>());
    folder.write("clean.yaml", PIPELINE.replace("OUT", "clean.ndjson").replace(", rate: 25000/s", ""));
    folder.write("killed.yaml", PIPELINE.replace("OUT", "out.ndjson"));
    folder.run(&["run", "clean.yaml", "--state", "none"]).exits(0).complains("ledger balanced");

    // How many kills came when something had been written, and how many hosts took back what the one before had.
    let (mut written, mut taken_back, mut worst) = (0, 0, Duration::ZERO);
    let length = || if folder.path("out.ndjson").exists() { whole(&folder, "out.ndjson").len() } else { 0 };
    let mut before = 0;
    for kill in 0..kills {
        let started = Instant::now();
        let mut host = folder.start(&["run", "killed.yaml", "--json"]);
        host.until_running();
        worst = worst.max(started.elapsed());
        taken_back += u32::from(length() < before);
        host.kill_after(moment(seed, kill));
        before = length();
        written += u32::from(before > 0);
    }
    let said = folder.run(&["run", "killed.yaml", "--json"]).exits(0);
    let pipeline = &said.json()["result"]["pipelines"][0];
    assert_eq!(pipeline["ledger"]["balanced"], true, "seed {seed}");
    assert_eq!(pipeline["ledger"]["edges"][0]["sent"], records, "seed {seed}");
    println!("{written} of {kills} kills came when something had been written; it was taken back {taken_back} times");
    assert!(written > 0, "no kill came when something had been written: seed {seed} has tested nothing");
    assert!(taken_back > 0 || kills < MANY, "nothing was ever taken back: seed {seed} has tested nothing");
    let (found, expected) = (whole(&folder, "out.ndjson"), whole(&folder, "clean.ndjson"));
    told(seed, kills, records, worst, &found.lines().collect::<Vec<_>>(), &expected.lines().collect::<Vec<_>>());
    assert_eq!(found, expected, "byte by byte: seed {seed}");
}

/// T1, of a sink that can take nothing back: everything is there, some of it twice.
#[test]
fn a_plain_sink_of_a_host_killed_again_and_again_is_given_everything_at_least_once() {
    let (folder, seed, kills) = (Folder::new(), seed(), kills() / 5);
    let records = RECORDS * u64::from(kills);
    // So long that some of an epoch is written before its barrier comes.
    let line = |n: u64| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200));
    folder.write("input.ndjson", (0..records).map(|n| line(n) + "\n").collect::<String>());
    let pipeline = "version: 1\nname: plain\nepoch: 100ms\n\
                    sources:\n  in: { file: { path: input.ndjson }, decode: json, rate: 25000/s }\n\
                    sinks:\n  out: { from: in, stdout: {}, encode: json }\n";
    folder.write("p.yaml", pipeline);
    let mut said = String::new();
    for kill in 0..kills {
        let mut host = folder.start(&["run", "p.yaml"]);
        let out = host.read_out();
        host.until_running();
        host.kill_after(moment(seed, kill));
        let text = out.join().unwrap();
        // The kill may have come in the middle of a line.
        said.push_str(&text[..text.rfind('\n').map_or(0, |end| end + 1)]);
    }
    said.push_str(&folder.run(&["run", "p.yaml"]).exits(0).out);
    let found: Vec<&str> = said.lines().collect();
    let expected: BTreeSet<String> = (0..records).map(line).collect();
    let once: BTreeSet<&str> = found.iter().copied().collect();
    assert!(once.iter().eq(expected.iter()), "seed {seed}: {} lines of {records}", once.len());
    let doubled = found.len() - once.len();
    println!("seed {seed}: {kills} kills, {records} records, {doubled} of them told twice by a plain sink");
    assert!(doubled > 0 || kills < MANY / 5, "nothing was told twice: seed {seed} has tested nothing");
}

/// A host that is posted to, and where.
fn posted(folder: &Folder) -> (Started, SocketAddr) {
    let mut host = folder.start(&["run", "p.yaml"]);
    let address = host.until_listening();
    (host, address)
}

/// Whether a record was answered with 200, posted with these further headers.
fn post(address: SocketAddr, headers: &str, record: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = record.len();
    write!(
        stream,
        "POST / HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {length}\r\n{headers}\r\n{record}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// T1, of a source that cannot be asked again: who was answered 200 finds the record, once.
#[test]
fn a_record_that_was_answered_200_outlives_the_host() {
    a_record_that_was_answered_outlives_the_host("100ms", "");
}

/// The same of a source that answers when a record is in its journal, long before it is committed.
#[test]
fn a_record_that_was_answered_from_the_journal_outlives_the_host() {
    a_record_that_was_answered_outlives_the_host("3s", ", journal: true");
}

#[track_caller]
fn a_record_that_was_answered_outlives_the_host(epoch: &str, more: &str) {
    let (folder, seed) = (Folder::new(), seed());
    let pipeline = format!(
        "version: 1\nname: posted\nepoch: {epoch}\n\
         sources:\n  in: {{ http: {{ listen: \"127.0.0.1:0\"{more} }}, decode: json }}\n\
         sinks:\n  out: {{ from: in, file: {{ path: out.ndjson }}, encode: json }}\n"
    );
    folder.write("p.yaml", pipeline);
    let (mut answered, mut worst) = (Vec::new(), Duration::ZERO);
    let (kills, next) = (kills() * 2 / 5, AtomicU64::new(0));
    for kill in 0..kills {
        let started = Instant::now();
        let (host, address) = posted(&folder);
        worst = worst.max(started.elapsed());
        let client = || {
            let mut answered = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                match post(address, "", &format!("{{\"n\":{number}}}\n")) {
                    Ok(true) => answered.push(number),
                    Ok(false) => {}
                    Err(_) => return answered,
                }
            }
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            host.kill_after(moment(seed, kill));
            answered.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
        });
    }
    let (mut host, _) = posted(&folder);
    host.signal(Signal::TERM);
    assert_eq!(host.status().code(), Some(0), "seed {seed}");
    assert!(!answered.is_empty(), "nobody was answered: seed {seed} has tested nothing");
    let written = folder.read("out.ndjson");
    let mut once: Vec<&str> = written.lines().collect();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), written.lines().count(), "seed {seed}: doubled");
    // What was written and not answered is nobody's claim.
    let answered: BTreeSet<String> = answered.into_iter().map(|n| format!("{{\"n\":{n}}}")).collect();
    let found: Vec<&str> = written.lines().filter(|line| answered.contains(*line)).collect();
    let expected: Vec<&str> = answered.iter().map(String::as_str).collect();
    told(seed, kills, expected.len() as u64, worst, &found, &expected);
}

/// T1, of a client that repeats what was not answered, under the key that it came with: whatever it posted is there once.
#[test]
fn a_request_that_is_repeated_under_its_key_counts_once() {
    a_repeated_request_counts_once("100ms", "");
}

/// The same of a source that answers from its journal, which remembers the keys with the records.
#[test]
fn a_request_that_is_repeated_counts_once_in_a_journal() {
    a_repeated_request_counts_once("1s", ", journal: true");
}

#[track_caller]
fn a_repeated_request_counts_once(epoch: &str, more: &str) {
    let (folder, seed) = (Folder::new(), seed());
    let pipeline = format!(
        "version: 1\nname: keyed\nepoch: {epoch}\n\
         sources:\n  in: {{ http: {{ listen: \"127.0.0.1:0\"{more} }}, decode: json }}\n\
         sinks:\n  out: {{ from: in, file: {{ path: out.ndjson }}, encode: json }}\n"
    );
    folder.write("p.yaml", pipeline);
    let (kills, next, repeated) = (kills() * 2 / 5, AtomicU64::new(0), AtomicU64::new(0));
    let (unanswered, mut worst) = (Mutex::new(Vec::new()), Duration::ZERO);
    for kill in 0..=kills {
        let started = Instant::now();
        let (mut host, address) = posted(&folder);
        worst = worst.max(started.elapsed());
        let client = || {
            loop {
                let left: Option<u64> = unanswered.lock().unwrap().pop();
                if left.is_none() && kill == kills {
                    return;
                }
                repeated.fetch_add(u64::from(left.is_some()), Ordering::Relaxed);
                let number = left.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
                let answer =
                    post(address, &format!("idempotency-key: n{number}\r\n"), &format!("{{\"n\":{number}}}\n"));
                if !matches!(answer, Ok(true)) {
                    unanswered.lock().unwrap().push(number);
                }
                if answer.is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            if kill < kills {
                host.kill_after(moment(seed, kill));
                return;
            }
            clients.into_iter().for_each(|client| client.join().unwrap());
            host.signal(Signal::TERM);
            assert_eq!(host.status().code(), Some(0), "seed {seed}");
        });
    }
    let posted: Vec<String> = (0..next.into_inner()).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert!(repeated.into_inner() > 0, "nothing was repeated: seed {seed} has tested nothing");
    let (written, expected) = (folder.read("out.ndjson"), posted.iter().map(String::as_str).collect::<Vec<_>>());
    told(seed, kills, posted.len() as u64, worst, &written.lines().collect::<Vec<_>>(), &expected);
}

/// Row 7: the second host is told who has the state, also while the first is stopped, which then goes on.
#[test]
fn a_second_host_does_not_touch_the_state_of_the_first() {
    let folder = Folder::new();
    folder.write("p.yaml", crate::folder::endless("first", "discard: {}"));
    folder.write("q.yaml", crate::folder::endless("second", "discard: {}"));
    let mut first = folder.start(&["run", "p.yaml", "--progress"]);
    first.until_running();
    first.signal(Signal::STOP);
    let second = folder.run(&["run", "q.yaml", "--socket", "other.sock"]).exits(3).complains("TG409");
    second.complains("holds it");
    first.signal(Signal::CONT);
    first.until(|line| line.contains("epoch"));
    first.signal(Signal::TERM);
    assert_eq!(first.status().code(), Some(0));
}

/// Row 18: a store that somebody took away is missed by name; whoever says so begins anew.
#[test]
fn a_store_that_is_gone_is_missed_until_somebody_begins_anew() {
    let folder = Folder::new();
    folder.write("input.ndjson", "{\"n\":1}\n");
    folder.write("p.yaml", crate::folder::straight("whole", "file: { path: out.ndjson }, encode: json"));
    folder.run(&["run", "p.yaml"]).exits(0);
    std::fs::remove_file(folder.path(".tidegate/store")).unwrap();
    folder.run(&["run", "p.yaml"]).exits(3).complains("TG409").complains("--reset-state all");
    folder.run(&["run", "p.yaml", "--reset-state", "out"]).exits(3).complains("TG409");
    folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0).complains("begins anew");
    assert_eq!(folder.read("out.ndjson"), "{\"n\":1}\n{\"n\":1}\n", "the output is appended to");
    folder.run(&["run", "p.yaml"]).exits(0);
}

/// Row 63's neighbour: a changed stage is refused with the cure, and the cure works.
#[test]
fn a_stage_that_is_made_otherwise_now_is_refused_until_its_state_is_given_up() {
    let folder = Folder::new();
    folder.write("input.ndjson", "{\"k\":\"a\",\"n\":1}\n");
    let pipeline = |key: &str| {
        format!(
            "version: 1\nname: changed\nsources:\n  in: {{ file: {{ path: input.ndjson }}, decode: json }}\n\
             stages:\n  sums: {{ from: in, aggregate: std/summary, config: {{ field: /n }}, key: {key} }}\n\
             sinks:\n  out: {{ from: sums, stdout: {{}}, encode: json }}\n"
        )
    };
    folder.write("p.yaml", pipeline("/k"));
    folder.run(&["run", "p.yaml"]).exits(0);
    let again = folder.run(&["run", "p.yaml"]).exits(0).complains("an earlier run has completed it");
    assert_eq!(again.out, "");
    folder.write("p.yaml", pipeline("/n"));
    folder.run(&["run", "p.yaml"]).exits(2).complains("TG410").complains("--reset-state sums");
    let anew = folder.run(&["run", "p.yaml", "--reset-state", "all"]).exits(0);
    assert!(anew.out.contains("\"count\":1"), "{}", anew.out);
}

#[test]
fn an_output_that_somebody_took_away_is_missed_by_name_and_can_be_given_up() {
    let folder = Folder::new();
    folder.write("p.yaml", crate::folder::endless("taken", "file: { path: out.ndjson }, encode: json"));
    let written = |line: &str| line.contains("epoch") && !line.contains("out 0/s");
    let mut host = folder.start(&["run", "p.yaml", "--progress"]);
    host.until(written);
    host.kill_after(Duration::ZERO);
    std::fs::rename(folder.path("out.ndjson"), folder.path("mine.ndjson")).unwrap();
    folder.run(&["run", "p.yaml"]).exits(1).complains("out.ndjson").complains("--reset-state out");
    let mut host = folder.start(&["run", "p.yaml", "--progress", "--reset-state", "out"]);
    host.until(written);
    host.signal(Signal::TERM);
    host.end().exits(0).complains("ledger balanced");
}
