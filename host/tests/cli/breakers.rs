//! Breakers, pulled from outside.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

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

/// A port that nobody listens on.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn what_a_receiver_that_is_down_does_not_take_goes_to_the_sink_that_stands_in_for_it() {
    let folder = Folder::new();
    folder.write("in.log", (0..500).map(|n| format!("{n}\n")).collect::<String>());
    let pipeline = format!(
        "version: 1
name: spared
epoch: 50ms
sources: {{ in: {{ file: {{ path: in.log }} }} }}
sinks:
  out:
    from: in
    http: {{ url: \"http://{}/\" }}
    retry: {{ first: 1ms, max: 2ms }}
    breaker: {{ samples: 3, open: 1h, then: fallback, fallback: spare }}
  spare: {{ from: [], file: {{ path: spare.log }} }}
",
        closed()
    );
    folder.write("p.yaml", pipeline);
    let checked = folder.run(&["check", "p.yaml", "--json"]).exits(0).json();
    assert!(checked.to_string().contains("spare"), "{checked}");
    let ended = folder.run(&["run", "p.yaml", "--json", "--state", "state"]).exits(0).json();
    let ledger = &ended["result"]["pipelines"][0]["ledger"];
    assert_eq!(ledger["balanced"], true, "{ended}");
    let part =
        |name: &str| ledger["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap().clone();
    assert_eq!((&part("out")["diverted"], &part("spare")["passed"]), (&500.into(), &500.into()), "{ledger}");
    assert_eq!(folder.read("spare.log"), folder.read("in.log"));
    let letters = folder.run(&["dlq", "export", "--json", "--state", "state"]).exits(0).json();
    assert_eq!(letters["result"]["letters"].as_array().unwrap().len(), 0, "{letters}");
}

#[test]
fn a_plugin_that_is_left_alone_has_another_stand_in_for_it_whose_breaker_is_pulled_by_its_own_name() {
    let folder = Folder::new();
    let pipeline = "version: 1
name: standing
sources: { in: { http: { listen: \"127.0.0.1:0\" }, decode: json } }
stages:
  served: { from: in, filter: std/where, config: { where: n > 2 }, breaker: { then: fallback, fallback: std/where } }
sinks: { out: { from: served, file: { path: out.log } } }
";
    folder.write("p.yaml", pipeline);
    let mut host = folder.start(&["run", "p.yaml"]);
    let address = host.until_listening();
    folder.run(&["breaker", "trip", "standing", "served"]).exits(0);
    assert!(post(address, "{\"n\":1}\n{\"n\":3}\n").contains("200 OK"));
    let status = folder.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["result"]["pipelines"][0]["stages"][0]["stood_in"], 2, "{status}");
    let listed = folder.run(&["breaker", "ls", "--json"]).exits(0).json();
    let of = |at: usize| {
        let breaker = &listed["result"][at];
        ["name", "state", "then"].map(|field| breaker[field].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        (of(0), of(1)),
        (["served", "open", "fallback"].map(Into::into), ["served.fallback", "closed", "pause"].map(Into::into))
    );
    folder.run(&["breaker", "trip", "standing", "served.fallback"]).exits(0);
    while !post(address, "{\"n\":0}\n").contains("503") {}
    folder.run(&["breaker", "reset", "standing", "served.fallback"]).exits(0);
    while !post(address, "{\"n\":4}\n").contains("200 OK") {}
    host.signal(Signal::TERM);
    host.end().exits(0);
    assert!(folder.read("out.log").starts_with("{\"n\":3}\n"));
    assert!(folder.read("out.log").ends_with("{\"n\":4}\n"));
}
