//! A host that posts from its outbox, killed and told to fall, and a receiver that knows keys again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tidegate::crash::POINTS;

use crate::folder::{Folder, PATIENCE};

/// Records of the input. Every twentieth is refused by the receiver.
const RECORDS: u64 = 800;

/// A pipeline whose filter refuses every seventh record, so that letters come from two places.
const PIPELINE: &str = "version: 1
name: posting
epoch: 50ms
batch: { records: 100 }
sources:
  in: { file: { path: input.ndjson }, decode: json, rate: 6000/s }
stages:
  served: { from: in, filter: std/where, config: { where: status < 500 } }
sinks:
  out:
    from: served
    http: { url: \"http://ADDRESS/\" }
    batch: { records: 30 }
    in_flight: 3
    retry: { first: 10ms, max: 50ms }
    outbox: true
    guarantee: effectively_once
";

fn status(n: u64) -> &'static str {
    if n % 7 == 3 { "\"none\"" } else { "200" }
}

fn line(n: u64) -> String {
    format!("{{\"n\":{n},\"status\":{}}}", status(n))
}

/// What a receiver has been posted: by key, what was said and what was answered.
#[derive(Default)]
struct Book {
    by_key: BTreeMap<String, (String, u16)>,
    posts: usize,
    repeated: usize,
    changed: Vec<String>,
}

impl Book {
    /// Whether a request is answered, and how. Every fifth answer is lost; a request with a record that is refused is
    /// refused as a whole.
    fn take(&mut self, key: String, body: String) -> Option<u16> {
        self.posts += 1;
        let is_bad = body.lines().any(is_refused);
        let status = if is_bad { 400 } else { 200 };
        match self.by_key.get(&key) {
            Some((before, _)) => {
                self.repeated += 1;
                if *before != body {
                    self.changed.push(key);
                }
            }
            None => drop(self.by_key.insert(key, (body, status))),
        }
        (self.posts % 5 != 2).then_some(status)
    }

    /// All lines that were taken, in order, as often as they were.
    fn taken(&self) -> Vec<&str> {
        let mut taken: Vec<&str> =
            self.by_key.values().filter(|(_, status)| *status == 200).flat_map(|(body, _)| body.lines()).collect();
        taken.sort_unstable();
        taken
    }
}

/// Whether the receiver refuses this line: every twentieth of the input.
fn is_refused(line: &str) -> bool {
    let number = line.strip_prefix("{\"n\":").and_then(|rest| rest.split(',').next());
    number.is_some_and(|n| n.parse::<u64>().unwrap().is_multiple_of(20))
}

/// A receiver, and its book.
fn receiver() -> (SocketAddr, Arc<Mutex<Book>>) {
    let book = Arc::<Mutex<Book>>::default();
    let kept = book.clone();
    (crate::receiver::receiver(move |key, body| kept.lock().unwrap().take(key, body)), book)
}

fn prepared(address: SocketAddr) -> Folder {
    let folder = Folder::new();
    folder.write("input.ndjson", (0..RECORDS).map(|n| line(n) + "\n").collect::<String>());
    folder.write("p.yaml", PIPELINE.replace("ADDRESS", &address.to_string()));
    folder
}

/// Lets a host come to its end, and looks at what the receiver has been posted and which letters there are.
fn settled(folder: &Folder, book: &Mutex<Book>, what: &str) {
    let said = folder.run(&["run", "p.yaml", "--json", "--state", "state"]);
    assert_eq!(said.code, Some(0), "{what}: {}", said.err);
    let ledger = &said.json()["result"]["pipelines"][0]["ledger"];
    assert_eq!(ledger["balanced"], true, "{what}");
    let book = book.lock().unwrap();
    assert!(book.changed.is_empty(), "{what}: equal keys say something else: {:?}", book.changed);
    let filtered = (0..RECORDS).filter(|n| n % 7 != 3);
    let (bad, good): (Vec<u64>, Vec<u64>) = filtered.partition(|n| n % 20 == 0);
    let mut expected: Vec<String> = good.into_iter().map(line).collect();
    expected.sort_unstable();
    assert!(book.taken() == expected, "{what}: lost or doubled: {} of {}", book.taken().len(), expected.len());
    let letters = folder.run(&["dlq", "export", "--json", "--state", "state"]).exits(0).json();
    let letters = letters["result"]["letters"].as_array().unwrap();
    let by = |name: &str| letters.iter().filter(|letter| letter["name"] == name).count();
    assert_eq!((by("out"), by("served")), (bad.len(), (0..RECORDS).filter(|n| n % 7 == 3).count()), "{what}");
}

/// Row 69 and T3 of a sink that sends from the commit.
#[test]
fn a_fall_at_any_named_place_posts_every_record_once() {
    let (address, book) = receiver();
    let folder = prepared(address);
    let mut repeated = 0;
    // What falls before it comes to the outbox, `a_fall_at_any_named_place_leaves_no_trace` sees.
    for place in POINTS.iter().filter(|place| !place.starts_with("stage") && **place != "source.read") {
        *book.lock().unwrap() = Book::default();
        if folder.path("state").exists() {
            std::fs::remove_dir_all(folder.path("state")).unwrap();
        }
        let hit = if place.starts_with("recover") { 1 } else { 3 };
        let what = format!("{place}:{hit}");
        let mut command = folder.command(&["run", "p.yaml", "--state", "state"]);
        let status = command.env("TIDEGATE_CRASH", &what).output().unwrap().status;
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "nobody comes by `{what}`: {status}");
        settled(&folder, &book, &what);
        repeated += book.lock().unwrap().repeated;
    }
    assert!(repeated > 0, "no request came twice: nothing has been tested");
}

/// T1: lost 0, doubled 0 after keys have been compared.
#[test]
fn a_host_killed_again_and_again_posts_every_record_once() {
    let (address, book) = receiver();
    let folder = prepared(address);
    let kills = std::env::var("TIDEGATE_KILLS").map_or(5, |kills| kills.parse::<u32>().unwrap().div_ceil(2));
    for kill in 0..kills {
        let mut host = folder.start(&["run", "p.yaml", "--state", "state"]);
        host.until_running();
        let posts = book.lock().unwrap().posts;
        let deadline = Instant::now() + PATIENCE;
        // At another request of each host, unless it has come to its end.
        let enough = posts + 1 + (kill as usize * 7) % 11;
        while book.lock().unwrap().posts < enough && Instant::now() < deadline && host.is_running() {
            std::thread::yield_now();
        }
        host.kill_after(Duration::from_micros(u64::from(kill) * 700 % 5_000));
    }
    settled(&folder, &book, "kills");
}

/// A drain leaves what is committed to the next host, says so, and exits 0.
#[test]
fn what_waits_when_a_host_is_drained_is_sent_by_the_next() {
    let (address, book) = receiver();
    let folder = prepared("127.0.0.1:9".parse().unwrap());
    let mut host = folder.start(&["run", "p.yaml", "--state", "state", "--progress"]);
    host.until(|line| line.contains("posting failed"));
    host.signal(Signal::TERM);
    let said = host.end().exits(0).complains("committed and to be sent").complains("ledger balanced");
    assert!(said.err.contains("`out`"), "{}", said.err);
    let audited = folder.run(&["audit", "--state", "state"]).exits(0);
    assert!(audited.out.contains("waiting to be sent"), "{}", audited.out);
    folder.write("p.yaml", PIPELINE.replace("ADDRESS", &address.to_string()));
    settled(&folder, &book, "drained");
}
