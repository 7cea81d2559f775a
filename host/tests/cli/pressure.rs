//! A host that is given more than it can take, seen from outside: what it holds, what it answers, what it keeps.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    clients::post,
    folder::{Folder, PATIENCE, Started},
};

/// What the configuration of the host lets it use: the limits of the pipeline add up to 81 MiB.
const BUDGET: u64 = 84 << 20;

/// What the program takes before it holds a record: its own pages, wasmtime's, and the threads'; debug builds included.
const PROGRAM: u64 = 64 << 20;

/// A pipeline through a plugin to a receiver.
const PIPELINE: &str = "version: 1
name: pressed
epoch: 100ms
batch: { records: 200, bytes: 1MiB }
uncommitted: 8MiB
sources:
  in: { http: { listen: \"127.0.0.1:0\", bodies: 1MiB, keys: 1MiB }, decode: json }
stages:
  some: { from: in, filter: std/where, config: { where: n >= 0 }, limits: { memory: 16MiB, output: 4MiB } }
sinks:
  out: { from: some, http: { url: \"http://ADDRESS/\" }, batch: { records: 200, bytes: 1MiB } }
";

/// Posts bodies of `records` records one after the other until `over`; the numbers that were answered 200, and how
/// often it was told to come again later.
fn press(address: SocketAddr, next: &AtomicU64, over: &AtomicBool, records: u64) -> (Vec<u64>, u64) {
    let (mut taken, mut later) = (Vec::new(), 0);
    let filling = "x".repeat(1000);
    while !over.load(SeqCst) {
        let first = next.fetch_add(records, SeqCst);
        let body: String =
            (first..first + records).map(|n| format!("{{\"n\":{n},\"filling\":\"{filling}\"}}\n")).collect();
        match post(address, &body).get(9..12) {
            Some("200") => taken.extend(first..first + records),
            Some("503" | "429") => later += 1,
            other => panic!("it was answered {other:?}"),
        }
    }
    (taken, later)
}

/// Row 6: clients bring three times what the receiver behind the host takes, until it has taken enough. Memory stays within
/// the budget and what the program itself needs, who cannot be served is told so, and whoever was answered 200 finds
/// his records with the receiver.
#[test]
fn three_times_the_load_is_answered_503_and_memory_stays_within_the_budget() {
    let seen: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let (posts, book) = (Arc::new(AtomicU64::new(0)), seen.clone());
    let count = posts.clone();
    // A request each 50 ms, of at most 200 records: whatever more comes has to wait.
    let receiver = crate::receiver::receiver(move |_, body| {
        let until = Instant::now() + Duration::from_millis(50);
        let numbers = body.lines().map(|line| {
            let rest = line.split("\"n\":").nth(1).unwrap();
            rest.split([',', '}']).next().unwrap().parse::<u64>().unwrap()
        });
        book.lock().unwrap().extend(numbers);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        count.fetch_add(1, SeqCst);
        Some(200)
    });
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE.replace("ADDRESS", &receiver.to_string()));
    folder.write("host.yaml", format!("pipelines: [p.yaml]\nmemory: {}MiB\n", BUDGET >> 20));
    folder.run(&["check", "p.yaml"]).exits(0);
    let mut host: Started = folder.start(&["run", "--config", "host.yaml"]);
    let address = host.until_listening();
    assert!(post(address, "{\"n\":0}\n").contains("200 OK"));

    let (next, over) = (AtomicU64::new(1), AtomicBool::new(false));
    let pressed: Vec<(Vec<u64>, u64)> = std::thread::scope(|scope| {
        // Each of them waits for the commit of what it brought, so that it takes many of them to bring too much.
        let clients: Vec<_> = (0..96).map(|_| scope.spawn(|| press(address, &next, &over, 100))).collect();
        let began = Instant::now();
        while posts.load(SeqCst) < 40 && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        over.store(true, SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let peak = host.peak_memory();
    host.signal(Signal::TERM);
    host.end().exits(0);

    let later: u64 = pressed.iter().map(|(_, later)| later).sum();
    let taken: Vec<u64> = pressed.into_iter().flat_map(|(taken, _)| taken).collect();
    let seen = seen.lock().unwrap();
    let lost: Vec<&u64> = taken.iter().filter(|n| !seen.contains(n)).collect();
    assert!(lost.is_empty() && !taken.is_empty(), "{} of {} are lost", lost.len(), taken.len());
    let brought = next.load(SeqCst);
    assert!(brought > 3 * taken.len() as u64, "{brought} records were brought, and {} taken", taken.len());
    assert!(later > 0, "nobody was told to come again");
    assert!(peak < BUDGET + PROGRAM, "it held {} MiB", peak >> 20);
}

/// Turns a bit over in the first block of the only segment of a log; its name.
fn flip(folder: &Folder, log: &str) -> String {
    let file = std::fs::read_dir(folder.path(log)).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    // Behind the heads of the segment and of the block, and what the block's payload begins with.
    bytes[150] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Row 17, of what is on its way.
#[test]
fn a_flipped_bit_in_an_outbox_or_a_journal_is_found_and_a_repair_counts_what_it_skips() {
    for log in [".tidegate/logs/journals/kept/in", ".tidegate/logs/outbox/kept/out"] {
        let folder = Folder::new();
        // Nobody listens there, so that what was committed waits.
        let pipeline = "version: 1\nname: kept\nepoch: 50ms\n\
                        sources:\n  in: { http: { listen: \"127.0.0.1:0\", journal: true }, decode: lines }\n\
                        sinks:\n  out: { from: in, http: { url: \"http://127.0.0.1:1/\" }, outbox: true }\n";
        folder.write("p.yaml", pipeline);
        let mut host = folder.start(&["run", "p.yaml"]);
        let address = host.until_listening();
        let line = "a line of some length, so that the bit lies in it\n";
        for _ in 0..3 {
            assert!(post(address, &line.repeat(10)).contains("200 OK"));
        }
        host.signal(Signal::TERM);
        host.end().exits(0);
        let whole = folder.run(&["state", "verify"]).exits(0);
        assert!(whole.out.contains("records of outboxes and journals"), "{}", whole.out);

        let name = flip(&folder, log);
        folder.run(&["state", "verify"]).exits(1).complains("TG423").complains(&name);
        folder.run(&["state", "repair"]).exits(2).complains("TG425");
        let said = folder.run(&["state", "repair", "--yes", "--json"]).exits(0).json();
        let skipped = said["result"]["skipped"].as_array().unwrap();
        assert!(
            skipped.len() == 1 && skipped[0].as_str().unwrap().contains("records of an outbox or a journal"),
            "{skipped:?}"
        );
        folder.run(&["state", "verify"]).exits(0);
    }
}
