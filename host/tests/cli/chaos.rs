//! Everything at once: hosts killed while plugins are replaced by good and bad ones, records make them trap, letters fill up, and
//! a receiver fails, hangs and loses answers. Then all is healed, and every record has to be in one place, once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    folder::{Folder, Said, guest_with},
    kills::{kills, moment, seed, told},
    receiver::receiver,
    reloads::{DROP, KEEP, TRAP, filter, replace},
};

/// Records of the input for each kill.
const RECORDS: u64 = 3_000;

/// So many kills that what may happen has happened.
const MANY: u32 = 100;

/// From a file through a filter that is replaced again and again, into two files and to a receiver.
const PIPELINE: &str = "version: 1
name: p
epoch: 100ms
batch: { records: 100 }
sources:
  in: { file: { path: input.txt, follow: FOLLOW }, rate: 6000/s }
stages:
  work:
    from: in
    filter: work.wasm
    reload: { watch: true, probation: 300ms, rollbacks: 1000/h }
    breaker: { open: 50ms }
sinks:
  out: { from: work, file: { path: out.txt } }
  rest: { from: work.rest, file: { path: rest.txt } }
  posted:
    from: work
    http: { url: \"http://ADDRESS/\" }
    batch: { records: 50 }
    in_flight: 2
    retry: { first: 10ms, max: 50ms }
    breaker: { open: 50ms }
    outbox: true
dead_letters: { max: 1MiB }
";

/// How a receiver feels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Fine,
    /// Takes nothing.
    Down,
    /// Takes what comes, and its answers are lost.
    Mute,
    /// Does not answer until it feels otherwise.
    Stuck,
}

/// What a receiver has taken, by key, and how it feels.
#[derive(Default)]
struct Book {
    mood: Mood,
    by_key: BTreeMap<String, String>,
    repeated: usize,
    changed: Vec<String>,
}

type Shared = Arc<(Mutex<Book>, Condvar)>;

/// Takes a request, or does not, as the receiver feels.
fn take((book, felt): &(Mutex<Book>, Condvar), key: String, body: String) -> Option<u16> {
    let mut book = felt.wait_while(book.lock().unwrap(), |book| book.mood == Mood::Stuck).unwrap();
    if book.mood == Mood::Down {
        return Some(503);
    }
    match book.by_key.get(&key) {
        Some(before) => {
            let is_changed = *before != body;
            book.repeated += 1;
            book.changed.extend(is_changed.then_some(key));
        }
        None => drop(book.by_key.insert(key, body)),
    }
    (book.mood != Mood::Mute).then_some(200)
}

fn feel((book, felt): &(Mutex<Book>, Condvar), mood: Mood) {
    book.lock().unwrap().mood = mood;
    felt.notify_all();
}

/// The record with this number: one in a hundred makes a plugin trap that looks at it, and in some stretches one in four.
fn record(n: u64) -> String {
    let is_burst = n % 5_000 < 400 && n.is_multiple_of(4);
    if is_burst || n % 100 == 50 { format!("n{n}") } else { n.to_string() }
}

/// The plugin that is put in the place of the others before the `kill`-th kill.
fn plugin(kill: u32, chance: u64) -> Vec<u8> {
    let name = format!("of kill {kill}");
    let careful = guest_with("filter", "poison", &format!("(data (i32.const 900) {name:?})"));
    match chance % 6 {
        0 => filter(&name, KEEP),
        1 => filter(&name, DROP),
        2 => filter(&name, TRAP),
        3 => careful[..careful.len() / 2].to_vec(),
        _ => careful,
    }
}

/// Takes the letters out of a folder whose host has gone.
fn letters(folder: &Folder, found: &mut Vec<String>) {
    let exported = folder.run(&["dlq", "export", "p", "--json"]).exits(0).json();
    let values = exported["result"]["letters"].as_array().unwrap();
    found.extend(values.iter().map(|letter| letter["value"].as_str().unwrap().to_owned()));
    if !values.is_empty() {
        folder.run(&["dlq", "purge", "p", "--yes"]).exits(0);
    }
}

/// How many generations of a running host came to this.
fn fates(history: &Said, fate: &str) -> usize {
    let all = history.json()["result"][0]["generations"].as_array().cloned().unwrap_or_default();
    all.iter().filter(|one: &&Value| one["fate"] == fate).count()
}

/// T1 and T13 together.
#[test]
fn a_host_killed_again_and_again_while_everything_around_it_fails_loses_and_doubles_nothing() {
    let (seed, kills) = (seed(), kills());
    let shared = Shared::default();
    let kept = shared.clone();
    let address = receiver(move |key, body| take(&kept, key, body)).to_string();
    let folder = Folder::new();
    let records: Vec<String> = (0..RECORDS * u64::from(kills)).map(record).collect();
    folder.write("input.txt", records.join("\n") + "\n");
    let pipeline = PIPELINE.replace("ADDRESS", &address);
    folder.write("p.yaml", pipeline.replace("FOLLOW", "true")).write("end.yaml", pipeline.replace("FOLLOW", "false"));
    folder.write("work.wasm", plugin(0, 4));

    let (mut refused, mut worst, mut seen) = (Vec::new(), Duration::ZERO, BTreeMap::<&str, usize>::new());
    for kill in 0..kills {
        let started = Instant::now();
        let mut host = folder.start(&["run", "p.yaml"]);
        host.until_running();
        worst = worst.max(started.elapsed());
        let wait = moment(seed, kill);
        let chance = wait.as_millis() as u64;
        feel(&shared, [Mood::Fine, Mood::Down, Mood::Mute, Mood::Stuck][chance as usize / 6 % 4]);
        replace(&folder, "work.wasm", &plugin(kill, chance));
        let until = Instant::now() + wait * 3;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        let history = folder.run(&["plugin", "history", "p", "work", "--json"]);
        for fate in ["active", "replaced", "rolled_back", "refused"] {
            *seen.entry(fate).or_default() += fates(&history, fate);
        }
        host.kill_after(Duration::from_micros(chance * 7));
        letters(&folder, &mut refused);
        // A host does not start with a file that is no plugin.
        replace(&folder, "work.wasm", &plugin(kill, 4));
    }
    feel(&shared, Mood::Fine);
    let said = folder.run(&["run", "end.yaml", "--json"]).exits(0);
    assert_eq!(said.json()["result"]["pipelines"][0]["ledger"]["balanced"], true, "seed {seed}");
    letters(&folder, &mut refused);

    let book = shared.0.lock().unwrap();
    println!(
        "generations that came to this, looked at before each kill: {seen:?}; {} letters, {} requests came again",
        refused.len(),
        book.repeated
    );
    assert!(book.changed.is_empty(), "equal keys say something else: {:?}: seed {seed}", book.changed);
    let (out, rest) = (folder.read("out.txt"), folder.read("rest.txt"));
    let mut posted: Vec<&str> = book.by_key.values().flat_map(|body| body.lines()).collect();
    let mut kept: Vec<&str> = out.lines().collect();
    posted.sort_unstable();
    kept.sort_unstable();
    assert!(posted == kept, "{} were posted, {} written: seed {seed}", posted.len(), kept.len());
    let found: Vec<&str> = kept.into_iter().chain(rest.lines()).chain(refused.iter().map(String::as_str)).collect();
    let expected: Vec<&str> = records.iter().map(String::as_str).collect();
    told(seed, kills, records.len() as u64, worst, &found, &expected);
    assert!(!refused.is_empty(), "no record was refused: seed {seed} has tested nothing");
    let has_seen = |fate| seen.get(fate).is_some_and(|count| *count > 0);
    let is_tested = has_seen("rolled_back") && has_seen("refused") && has_seen("replaced") && book.repeated > 0;
    assert!(is_tested || kills < MANY, "{seen:?}: seed {seed} has tested nothing");
}
