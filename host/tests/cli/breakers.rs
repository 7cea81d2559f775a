//! Breakers, pulled from outside.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    clients::{listening, post},
    folder::Folder,
};

/// Row 81.
#[test]
fn a_breaker_that_was_tripped_answers_clients_503_and_is_found_open_after_a_kill_until_it_is_reset() {
    let folder = Folder::new();
    let (mut host, address) = listening(&folder);
    assert!(post(address, "before\n").contains("200 OK"));
    folder.run(&["breaker", "trip", "posted", "out"]).exits(0);
    let paused = post(address, "lost\n");
    assert!(paused.contains("503") && paused.to_lowercase().contains("retry-after"), "{paused}");
    folder.run(&["breaker", "trip", "posted", "nobody"]).exits(2).complains("none of that name");
    let told = folder.run(&["status"]).exits(0);
    assert!(told.out.contains("not ready: out: its breaker is open: somebody tripped it"), "{}", told.out);
    host.until(|line| line.contains("the state of breakers is kept"));
    host.kill_after(Duration::ZERO);

    let (host, address) = listening(&folder);
    let listed = folder.run(&["breaker", "ls", "--json"]).exits(0).json();
    assert_eq!(listed["result"][0]["state"], "open", "{listed}");
    assert!(post(address, "lost\n").contains("503"));
    folder.run(&["breaker", "reset", "posted", "out"]).exits(0);
    let shown = folder.run(&["breaker", "ls"]).exits(0);
    assert!(shown.out.contains("closed"), "{}", shown.out);
    while !post(address, "after\n").contains("200 OK") {}
    host.signal(Signal::TERM);
    host.end().exits(0);
    assert_eq!(folder.read("out.log"), "before\nafter\n");
}
