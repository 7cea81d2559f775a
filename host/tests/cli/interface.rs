//! The control socket and the port for metrics and health.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use rustix::process::Signal;

use crate::folder::{Folder, PATIENCE, Started, endless, straight};

/// Says `request` and returns the whole answer.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(folder: &Folder, path: &str) -> String {
    let stream = UnixStream::connect(folder.path(".tidegate/tidegate.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

fn running(folder: &Folder, args: &[&str]) -> Started {
    folder.write("p.yaml", endless("steady", "file: { path: out.ndjson }, encode: json"));
    let mut all = vec!["run", "p.yaml", "--progress"];
    all.extend(args);
    let mut host = folder.start(&all);
    host.until(|line| line.contains("epoch") && !line.contains("in 0/s"));
    host
}

#[test]
fn the_control_socket_is_its_owners_alone_and_answers_everything() {
    let folder = Folder::new();
    let host = running(&folder, &[]);
    let mode = std::fs::metadata(folder.path(".tidegate/tidegate.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (path, part) in [
        ("/livez", "{\"live\":true}"),
        ("/version", "\"name\":\"tidegate\""),
        ("/metrics", "tidegate_source_records_total{pipeline=\"steady\",source=\"in\",result=\"received\"}"),
        ("/metrics", "tidegate_ledger_imbalance_records{pipeline=\"steady\"} 0.0\n"),
        ("/metrics", "# EOF"),
        ("/api/v1/status", "\"pipeline\":\"steady\""),
        ("/readyz", "{\"ready\":true,\"pipelines\":[{\"pipeline\":\"steady\",\"ready\":true,\"not_ready\":[]}]}"),
    ] {
        let answer = get(&folder, path);
        assert!(answer.contains("200 OK") && answer.contains(part), "{path}: {answer}");
    }
    assert!(get(&folder, "/nothing").contains("404"));
    host.signal(Signal::TERM);
    host.end().exits(0);
}

#[test]
fn who_is_not_ready_is_named_with_the_reason() {
    let folder = Folder::new();
    folder.write("p.yaml", endless("full", "file: { path: /dev/full }, encode: json"));
    let mut host = folder.start(&["run", "p.yaml", "--drain-deadline", "10ms"]);
    host.until(|line| line.contains("writing failed, trying again"));
    let answer = get(&folder, "/readyz");
    assert!(answer.contains("503") && answer.contains("\"who\":\"out\",\"why\":\"it tries again: "), "{answer}");
    let status = folder.run(&["status"]).exits(0);
    assert!(status.out.contains("not ready: out: it tries again"), "{}", status.out);
    host.signal(Signal::TERM);
    host.end().exits(5);
}

#[test]
fn a_second_host_on_the_same_socket_is_refused_and_told_who_has_it() {
    let folder = Folder::new();
    let host = running(&folder, &[]);
    folder.write("input.ndjson", "").write("q.yaml", straight("other", "file: { path: q.out }"));
    let said = folder.run(&["run", "q.yaml"]).exits(3).complains("TG408").complains("another host has it (process");
    assert!(said.err.contains("tidegate drain"), "{}", said.err);
    assert!(!folder.path("q.out").exists(), "the second host has opened a sink");
    folder.run(&["run", "q.yaml", "--socket", "other.sock", "--state", "other"]).exits(0);
    host.signal(Signal::TERM);
    host.end().exits(0);
}

#[test]
fn a_host_that_died_is_no_obstacle() {
    let folder = Folder::new();
    let mut host = running(&folder, &[]);
    host.signal(Signal::KILL);
    host.status();
    assert!(folder.path(".tidegate/tidegate.sock").exists());
    folder.write("input.ndjson", "").write("q.yaml", straight("other", "discard: {}"));
    folder.run(&["run", "q.yaml"]).exits(0);
}

#[test]
fn drain_waits_for_the_end_and_answers_with_it() {
    let folder = Folder::new();
    let host = running(&folder, &[]);
    let said = folder.run(&["drain", "--json"]).exits(0);
    let ended = &said.json()["result"]["ended"][0];
    assert_eq!((ended["pipeline"].as_str(), ended["ending"].as_str()), (Some("steady"), Some("drained")));
    host.end().exits(0).complains("steady: drained");
    folder.run(&["status"]).exits(3);
}

#[test]
fn a_watched_status_is_shown_again_until_the_host_has_ended() {
    let folder = Folder::new();
    let host = running(&folder, &[]);
    let mut watching = folder.command(&["status", "--watch", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let status = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let seconds: Vec<f64> =
        lines.by_ref().take(2).map(|line| status(line)["result"]["seconds"].as_f64().unwrap()).collect();
    assert!(seconds[1] >= seconds[0] + 1.0, "{seconds:?}");
    folder.run(&["drain"]).exits(0);
    let last = status(lines.last().unwrap());
    assert_eq!((&last["ok"], &last["summary"]), (&true.into(), &"the host has ended".into()));
    assert!(watching.wait().unwrap().success());
    host.end().exits(0);
}

#[test]
fn a_drain_that_does_not_end_in_time_is_5_on_both_sides() {
    let folder = Folder::new();
    folder.write("p.yaml", endless("full", "file: { path: /dev/full }, encode: json"));
    let mut host = folder.start(&["run", "p.yaml"]);
    host.until(|line| line.contains("writing failed, trying again"));
    folder.run(&["drain", "--deadline", "100ms"]).exits(5).complains("deadline_passed");
    host.end().exits(5);
}

#[test]
fn tcp_answers_what_changes_nothing_and_only_to_names_that_are_ours() {
    let folder = Folder::new();
    folder.write("p.yaml", endless("steady", "discard: {}"));
    let mut host = folder.start(&["run", "p.yaml", "--listen", "127.0.0.1:0"]);
    let line = host.until(|line| line.contains("metrics and health are served"));
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    host.until_running();
    let say = |method: &str, path: &str, name: &str| {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(
            stream,
            &format!("{method} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        )
    };
    for name in ["localhost:1", "127.0.0.1", "[::1]:9600", address.as_str()] {
        let answer = say("GET", "/metrics", name);
        assert!(answer.contains("200 OK") && answer.contains("openmetrics-text"), "{name}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    for name in ["evil.example", "localhost.evil.example", ""] {
        assert!(say("GET", "/api/v1/status", name).contains("403"), "{name}");
    }
    assert!(say("POST", "/api/v1/drain", "localhost").contains("404"));
    assert!(say("POST", "/api/v1/letters/steady/replay", "localhost").contains("404"));
    assert!(say("POST", "/livez", "localhost").contains("405"));
    host.signal(Signal::TERM);
    host.end().exits(0);
}
