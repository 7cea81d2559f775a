//! Fuzz target F1: no text makes the configuration panic, or cost more than its size allows.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{checked, loaded, shown};

/// Pieces that a mutated file is made of: fields, YAML's own signs, and what variables look like.
const PIECES: &[&str] = &[
    "version: 1\n",
    "name: a\n",
    "vars: { a: b, s: { secret: { env: S } } }\n",
    "sources:\n",
    "stages:\n",
    "sinks:\n",
    "edges:\n",
    "  in: { stdin: {} }\n",
    "  s: { from: in, filter: f }\n",
    "  out: { from: s, stdout: {} }\n",
    "${a}",
    "${",
    "}",
    "$${",
    "&x ",
    "*x ",
    "<<: *x\n",
    "- ",
    "? ",
    ": ",
    "| \n",
    "> \n",
    "'",
    "\"",
    "!!int ",
    "!t ",
    "[",
    "]",
    "{",
    ",",
    "#",
    "\t",
    "\n",
    "  ",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{2028}",
    "1e999",
    ".nan",
    "-0",
    "0x10",
    "18446744073709551616",
    "~",
    "null",
    "true",
    "window: { tumbling: 1s }\n",
    "config: ",
];

/// One input of the target.
fn target(text: &str) {
    let start = Instant::now();
    let _ = shown(text, &[("S", "secret")]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?} for {text:?}");
}

#[test]
fn no_text_makes_the_configuration_panic() {
    let mut random = SmallRng::seed_from_u64(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let text: String =
            (0..random.random_range(1..40)).map(|_| PIECES[random.random_range(0..PIECES.len())]).collect();
        target(&text);
    }
}

#[test]
fn a_good_file_with_a_bad_byte_never_panics() {
    let good = include_str!("../../../tests/config/good.yaml");
    assert!(checked(good, &[("PORT", "8080"), ("TOKEN", "hunter2")]).is_ok());
    let mut random = SmallRng::seed_from_u64(2);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b" {}[]:-&*$'\"\n"[random.random_range(0..13)]),
            }
        }
        target(&String::from_utf8_lossy(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = loaded(&text, &[]);
    }
}
