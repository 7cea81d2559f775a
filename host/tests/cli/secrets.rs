//! Row 86: a secret is looked for in everything that the program says about a pipeline that has one.

use std::{
    io::Read,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::folder::{Folder, Said, guest};

const CANARY: &str = "canary-7f3a\"91";

/// A pipeline whose plugin is told the secret, and which works, refuses its configuration, or faults.
fn pipeline(plugin: &str, expression: &str, source: &str) -> String {
    format!(
        "version: 1\nname: guarded\nvars:\n  token: {{ secret: {{ file: token }} }}\nsources:\n  in: {{ {source} }}\n\
         stages:\n  work: {{ from: in, filter: {plugin}, config: {expression} }}\n\
         sinks:\n  out: {{ from: work, discard: {{}} }}\n"
    )
}

fn assert_unseen(what: &str, text: &str) {
    for form in ["canary-7f3a", "7f3a\\\"91"] {
        assert!(!text.contains(form), "{what} shows the secret: {text}");
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| self::files(folder));
    files.into_iter().filter(|path| path.is_file()).chain(below).collect()
}

fn checked(folder: &Folder, args: &[&str]) -> Said {
    let said = folder.run(args);
    assert_unseen(&format!("{args:?}"), &format!("{}{}", said.out, said.err));
    said
}

#[test]
fn a_secret_is_found_nowhere() {
    let folder = Folder::new();
    folder.write("token", format!("{CANARY}\n")).write("panics.wasm", guest("filter", "panics"));
    let file = "file: { path: input.ndjson }, decode: json";
    folder.write("input.ndjson", "{\"user\":\"a\"}\n");
    folder.write("good.yaml", pipeline("std/where", "{ where: \"user != '${token}'\" }", file));
    folder.write("refused.yaml", pipeline("std/where", "{ where: \"user ++ '${token}'\" }", file));
    folder.write("misfit.yaml", pipeline("std/where", "{ where: \"x\", also: \"${token}\" }", file));
    folder.write("seen.yaml", pipeline("std/where", "{ where: \"x\" }", "file: { path: \"${token}\" }"));
    folder.write("faults.yaml", pipeline("panics.wasm", "{ told: \"${token}\" }", file));
    for (name, code) in [("good", 0), ("refused", 2), ("misfit", 2), ("seen", 2), ("faults", 0)] {
        let file = format!("{name}.yaml");
        for json in [&[][..], &["--json"]] {
            let run: Vec<&str> = ["run", &file, "--reset-state", "all", "--log-level", "trace", "--log-format", "json"]
                .into_iter()
                .chain(json.iter().copied())
                .collect();
            checked(&folder, &run).exits(code);
            let check: Vec<&str> = ["check", &file].into_iter().chain(json.iter().copied()).collect();
            checked(&folder, &check);
            let graph: Vec<&str> = ["graph", &file].into_iter().chain(json.iter().copied()).collect();
            checked(&folder, &graph);
        }
    }
    checked(&folder, &["dlq", "show", "guarded", "0"]).exits(0);
    let kept = files(&folder.path(".tidegate"));
    assert!(
        kept.iter().any(|path| path.ends_with("store"))
            && kept.iter().any(|path| path.to_string_lossy().contains("letters"))
    );
    for path in kept {
        assert_unseen(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
    }
}

#[test]
fn the_interface_shows_no_secret() {
    use std::io::Write;
    let folder = Folder::new();
    folder.write("token", CANARY);
    folder.write("p.yaml", pipeline("std/where", "{ where: \"key != '${token}'\" }", "generate: {}, rate: 1000/s"));
    let mut host = folder.start(&["run", "p.yaml", "--log-level", "trace", "--progress"]);
    // Only then is it ready.
    host.until(|line| line.contains("epoch"));
    for path in ["/metrics", "/api/v1/status", "/readyz", "/version"] {
        let mut stream = UnixStream::connect(folder.path(".tidegate/tidegate.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
        assert_unseen(path, &answer);
    }
    checked(&folder, &["status"]).exits(0);
    checked(&folder, &["status", "--json"]).exits(0);
    host.signal(Signal::TERM);
    let said = host.end().exits(0);
    assert_unseen("the log", &said.err);
}
