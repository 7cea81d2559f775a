//! Receivers of an `http` sink, as seen from another process: our own source, and one that will not take what it gets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::Signal;
use serde_json::Value;

use crate::folder::{Folder, Started};

/// A host that writes what is posted to it to `out.ndjson`, and where it listens.
fn listening(folder: &Folder) -> (Started, SocketAddr) {
    let pipeline = "version: 1\nname: posted\nepoch: 100ms\nsources:\n  in: { http: { listen: \"127.0.0.1:0\" } }\n\
                    sinks:\n  out: { from: in, file: { path: out.ndjson }, encode: json }\n";
    folder.write("p.yaml", pipeline);
    let mut host = folder.start(&["run", "p.yaml"]);
    let address = host.until_listening();
    (host, address)
}

#[test]
fn what_one_host_posts_another_one_writes() {
    let near = Folder::new();
    let (host, address) = listening(&near);
    let far = Folder::new();
    let input: String = (0..5000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    // The receiver turns the last line down, for it is no JSON.
    far.write("input.ndjson", format!("{input}nonsense\n"));
    let pipeline = format!(
        "version: 1\nname: posting\nsources:\n  in: {{ file: {{ path: input.ndjson }} }}\n\
         sinks:\n  out: {{ from: in, http: {{ url: \"http://{address}/\", compression: gzip }}, batch: {{ records: 700 }} }}\n"
    );
    far.write("p.yaml", &pipeline);
    let said = far.run(&["run", "p.yaml", "--json"]).exits(0);
    let out = &said.json()["result"]["pipelines"][0]["status"]["sinks"][0];
    assert_eq!(
        (&out["received"], &out["passed"], &out["refused"]),
        (&5001.into(), &5000.into(), &1.into()),
        "{said:?}"
    );
    assert_eq!(near.read("out.ndjson"), input);
    // What it turned down when it answered, long after the record had been taken in, is a dead letter.
    let letters = far.run(&["dlq", "export", "--json"]).exits(0).json()["result"]["letters"].clone();
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!((&letters[0]["name"], &letters[0]["value"]), (&"out".into(), &"nonsense".into()), "{letters}");

    // Made up, and several requests at once: all of them arrive.
    let generated = pipeline.replace("file: { path: input.ndjson }", "generate: { count: 20000, size: 64 }");
    far.write(
        "q.yaml",
        generated.replace("name: posting", "name: generating").replace("batch:", "in_flight: 4, batch:"),
    );
    far.run(&["run", "q.yaml"]).exits(0);
    assert_eq!(near.read("out.ndjson").lines().count(), 25_000);
    host.signal(Signal::TERM);
    host.end().exits(0);
}

/// Serves one connection after the other: reads requests, and answers 401 with the token in it until `is_kind`.
fn serve(listener: &TcpListener, is_kind: &AtomicBool, bodies: &Mutex<String>) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((head, body)) = request(&mut reader) {
            let token = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap().to_owned();
            let is_kind = is_kind.load(Ordering::SeqCst);
            if is_kind {
                bodies.lock().unwrap().push_str(&body);
            }
            let (status, said) = if is_kind { ("200 OK", String::new()) } else { ("401 Unauthorized", token) };
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{said}", said.len()).unwrap();
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

#[test]
fn a_receiver_that_does_not_take_the_token_is_named_without_it_and_nothing_is_lost() {
    const CANARY: &str = "canary-9b17-of-the-receiver";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (is_kind, bodies) = (Arc::<AtomicBool>::default(), Arc::<Mutex<String>>::default());
    let (kind, kept) = (is_kind.clone(), bodies.clone());
    std::thread::spawn(move || serve(&listener, &kind, &kept));

    let folder = Folder::new();
    let input: String = (0..100).map(|n| format!("{n}\n")).collect();
    folder.write("token", CANARY).write("input.ndjson", &input);
    let pipeline = format!(
        "version: 1\nname: guarded\nvars: {{ token: {{ secret: {{ file: token }} }} }}\n\
         sources: {{ in: {{ file: {{ path: input.ndjson }} }} }}\n\
         sinks:\n  out:\n    from: in\n    http: {{ url: \"http://{address}/in\", token: \"${{token}}\" }}\n    \
         batch: {{ records: 10 }}\n    retry: {{ first: 5ms, max: 20ms }}\n"
    );
    folder.write("p.yaml", pipeline);
    for args in [&["check", "p.yaml", "--json"][..], &["graph", "p.yaml"]] {
        let said = folder.run(args).exits(0);
        assert!(!format!("{said:?}").contains("canary"), "{said:?}");
    }
    let mut host = folder.start(&["run", "p.yaml", "--log-level", "trace"]);
    host.until(|line| line.contains("trying again"));
    let status = folder.run(&["status", "--json"]);
    let why = status.json()["result"]["pipelines"][0]["not_ready"].clone();
    assert!(is_told(&why, "401 Unauthorized"), "{status:?}");
    assert!(!format!("{status:?}").contains("canary"), "{status:?}");
    is_kind.store(true, Ordering::SeqCst);
    let said = host.end().exits(0);
    assert!(said.err.contains("writing goes on") && !said.err.contains("canary"), "{}", said.err);
    assert_eq!(*bodies.lock().unwrap(), input);
    let store = std::fs::read(folder.path(".tidegate/store")).unwrap();
    assert!(!String::from_utf8_lossy(&store).contains("canary"));
}

fn is_told(not_ready: &Value, what: &str) -> bool {
    not_ready
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["why"].as_str().is_some_and(|why| why.contains(what))))
}
