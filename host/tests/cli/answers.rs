//! Exit codes, and the one JSON object that every verb answers with.

use crate::folder::{Folder, Said, guest, straight, through};

const GOOD: &str = "stdout: {}, encode: json";

fn with_input() -> Folder {
    let folder = Folder::new();
    folder.write("input.ndjson", "{\"status\":503}\n{\"status\":200}\n");
    folder.write("good.yaml", straight("good", GOOD));
    folder
}

#[test]
fn exit_codes_say_who_has_to_act() {
    let folder = with_input();
    folder.write("broken.yaml", "version: 1\nname: broken\nsources:\n  in: { nothing: {} }\n");
    folder.write("late.yaml", straight("late", "file: { path: /proc/nowhere/out }"));
    folder.write("panics.yaml", through("filter", "panics.wasm", "{}")).write("panics.wasm", guest("filter", "panics"));
    folder.write("refuses.yaml", through("filter", "std/where", "{ where: 'status > 1' }").replace("input", "other"));
    folder.write("other.ndjson", "no json\n");
    for (args, code, said) in [
        (&["run", "good.yaml"][..], 0, "ledger balanced"),
        (&["check", "good.yaml"], 0, ""),
        (&["--help"], 0, ""),
        (&["--version"], 0, ""),
        (&["plugin", "inspect", "good.yaml"], 1, "TG302"),
        (&[], 2, "Usage"),
        (&["juggle"], 2, "unrecognized subcommand"),
        (&["check", "absent.yaml"], 2, "TG403"),
        (&["run", "broken.yaml"], 2, "broken.yaml:4"),
        (&["run", "good.yaml", "good.yaml"], 2, "TG407"),
        (&["run", "good.yaml", "--memory", "1MiB"], 2, "TG401"),
        (&["explain", "TG999"], 2, "no such code"),
        (&["run", "late.yaml"], 3, "/proc/nowhere"),
        (&["status"], 3, "reach a host"),
        (&["run", "panics.yaml", "--state", "none"], 4, "no status in record"),
        (&["run", "refuses.yaml", "--state", "none"], 4, "`on_error` is `stop`"),
    ] {
        let _: Said = folder.run(args).exits(code).complains(said);
    }
}

#[test]
fn a_fault_is_reported_in_full() {
    let folder = with_input();
    folder.write("p.yaml", through("filter", "panics.wasm", "{}")).write("panics.wasm", guest("filter", "panics"));
    let said = folder.run(&["run", "p.yaml", "--state", "none"]).exits(4);
    for part in [
        "stage `work`",
        "panics.wasm",
        "src/lib.rs:12",
        "sha256:",
        "record 0 of",
        ": {\"status\":503}",
        "on the way down",
        "faulted",
    ] {
        assert!(said.err.contains(part), "{part} in {}", said.err);
    }
    let said = folder.run(&["run", "p.yaml", "--json", "--state", "none"]).exits(4);
    assert_eq!(said.json()["error"]["code"], "TG501");
}

#[test]
fn all_faults_of_all_files_are_told_at_once_and_nothing_is_started() {
    let folder = with_input();
    folder.write("a.yaml", straight("a", "file: { path: a.out }").replace("from: in", "from: inn"));
    folder.write("b.yaml", straight("b", "file: { path: b.out }, encod: json"));
    folder.write("c.yaml", through("filter", "absent.wasm", "{}"));
    let said = folder.run(&["run", "a.yaml", "b.yaml", "c.yaml", "good.yaml", "--json"]).exits(2);
    let codes: Vec<String> = said.json()["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| format!("{} {}", fault["file"].as_str().unwrap(), fault["code"].as_str().unwrap()))
        .collect();
    for expected in ["a.yaml TG203", "b.yaml TG104", "c.yaml TG301"] {
        assert!(codes.iter().any(|code| code == expected), "{expected} in {codes:?}");
    }
    assert!(!folder.path("a.out").exists() && !folder.path("b.out").exists());
}

#[test]
fn a_warning_is_shown_and_refuses_nothing() {
    let folder = with_input();
    folder.write("itself.yaml", straight("itself", "file: { path: input.ndjson }, encode: json"));
    folder.run(&["check", "itself.yaml"]).exits(0).complains("warning[TG608]").complains("itself.yaml:4");
    let said = folder.run(&["check", "good.yaml", "itself.yaml", "--json"]).exits(0).json();
    assert_eq!(said["summary"], "2 pipelines fine, 1 warning");
    let warning = &said["diagnostics"][0];
    assert_eq!((&warning["code"], &warning["severity"]), (&"TG608".into(), &"warning".into()));
}

/// Row 20.
#[test]
fn a_folder_that_cannot_be_written_is_a_fault_of_the_environment() {
    let folder = with_input();
    for args in [
        &["run", "good.yaml", "--cache", "/proc/nowhere"][..],
        &["run", "good.yaml", "--socket", "/proc/nowhere/tidegate.sock"],
    ] {
        let said = folder.run(args).exits(3).complains("/proc/nowhere");
        assert!(said.err.contains("= help: "), "{}", said.err);
    }
    // Somebody else's folder, as far as a cache of code that will be run is concerned: others can write it.
    std::fs::create_dir(folder.path("open")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder.run(&["run", "good.yaml", "--cache", "open"]).exits(3).complains("TG406");
}

/// Row 20, as somebody who owns nothing here: root becomes nobody, anybody else takes their own right away.
#[test]
fn a_user_who_may_not_write_is_told_where_before_anything_starts() {
    use std::os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    };
    const NOBODY: u32 = 65534;
    let folder = with_input();
    folder.write("file.yaml", straight("file", "file: { path: out.ndjson }"));
    let mode = |name: &str, mode| {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(folder.path("own")).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    // Where the binary lies, others may not be let in.
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), folder.path("tidegate")).unwrap();
    if is_root {
        chown(folder.path("own"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    mode("own", 0o700);
    mode("", 0o555);
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(folder.path("tidegate"));
        command.arg("run").args(args).current_dir(folder.path("")).env("HOME", folder.path("own"));
        command.env_remove("XDG_CACHE_HOME").stdin(std::process::Stdio::null());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let [cache, socket, state] = ["--cache=own/cache", "--socket=own/tidegate.sock", "--state=own/state"];
    for (args, named) in [
        (["good.yaml", cache, state].as_slice(), ".tidegate"),
        (&["good.yaml", socket, state], "cache"),
        (&["good.yaml", cache, socket], "lock"),
        (&["file.yaml", cache, socket, state], "out.ndjson"),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, Some(3), "{args:?}: {said}");
        assert!(said.contains(named) && said.contains("Permission denied"), "{args:?}: {said}");
    }
    // With places of their own they get on.
    let (code, said) = run(&["good.yaml", cache, socket, state]);
    assert_eq!(code, Some(0), "{said}");
    mode("", 0o755);
}

#[test]
fn a_port_that_somebody_has_is_named_with_a_cure() {
    let folder = with_input();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    folder.run(&["run", "good.yaml", "--listen", &listen]).exits(3).complains("TG404").complains(&listen);
    let source = format!("http: {{ listen: \"{listen}\", path: /in }}");
    folder.write("http.yaml", straight("http", GOOD).replace("file: { path: input.ndjson }", &source));
    folder.run(&["run", "http.yaml"]).exits(3).complains("TG404").complains(&listen);
}

/// Every leaf of the command tree, and arguments that make it answer without anything else.
const LEAVES: &[(&str, &[&str], i32)] = &[
    ("run", &["good.yaml"], 0),
    ("check", &["good.yaml"], 0),
    ("graph", &["good.yaml"], 0),
    ("schema", &[], 0),
    ("status", &[], 3),
    ("drain", &[], 3),
    ("plugin new", &["fresh"], 0),
    ("plugin build", &["empty"], 2),
    ("plugin inspect", &["std/where"], 0),
    ("plugin call", &["std/where", "--config", "{\"where\":\"status > 300\"}"], 0),
    ("plugin bench", &["std/where", "--config", "{\"where\":\"status > 300\"}", "--for", "1ms"], 0),
    ("plugin verify", &["std/where", "--config", "{\"where\":\"status > 300\"}"], 0),
    ("plugin reload", &["good", "work"], 3),
    ("plugin rollback", &["good", "work"], 3),
    ("plugin history", &[], 3),
    ("dlq ls", &[], 0),
    ("dlq show", &["good", "0"], 1),
    ("dlq stats", &[], 0),
    ("dlq export", &[], 0),
    ("dlq purge", &["good", "--yes"], 0),
    ("dlq replay", &["good.yaml"], 0),
    ("topic ls", &[], 0),
    ("topic forget", &["orders", "nobody", "--yes"], 2),
    ("breaker ls", &[], 3),
    ("breaker trip", &["good", "s"], 3),
    ("breaker reset", &["good", "s"], 3),
    ("doctor", &[], 0),
    ("explain", &["tg203"], 0),
    ("completions", &["bash"], 0),
    ("audit", &[], 0),
    ("epoch ls", &[], 0),
    ("epoch now", &[], 3),
    ("state get", &["none", "--key", "k"], 2),
    ("state scan", &[], 0),
    ("state export", &["groups.ndjson"], 0),
    ("state import", &["groups.ndjson"], 0),
    ("state backup", &["copy"], 0),
    ("state restore", &["copy", "--yes"], 0),
    ("state verify", &[], 0),
    ("state repair", &["--yes"], 0),
    ("state reset", &["good", "--yes"], 0),
];

#[test]
fn every_verb_answers_with_one_object() {
    let folder = with_input();
    folder.write("empty/note", "");
    for (verb, args, code) in LEAVES {
        let all: Vec<&str> = verb.split(' ').chain(args.iter().copied()).chain(["--json"]).collect();
        let said = folder.run(&all);
        // Whether the toolchain for plugins is there is this machine's affair.
        if *verb != "doctor" {
            assert_eq!(said.code, Some(*code), "{said:#?}");
        }
        let answer = said.json();
        let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
        let expected = ["command", "diagnostics", "error", "ok", "result", "summary"];
        let mut sorted: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{verb}");
        assert_eq!(answer["command"], *verb);
        assert_eq!(answer["ok"], said.code == Some(0), "{verb}");
        assert_eq!(
            answer["error"].is_null() && answer["diagnostics"].as_array().unwrap().is_empty(),
            said.code == Some(0)
        );
        let records = if *verb == "run" { 2 } else { 0 };
        assert_eq!(said.out.lines().count(), records + 1, "{verb}: {}", said.out);
    }
}

#[test]
fn no_verb_is_missing_from_the_walk() {
    let folder = Folder::new();
    let verbs = |args: &[&str]| -> Vec<String> {
        let said = folder.run(args).exits(0);
        let list = said.out.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
        // A line that goes on is indented further.
        let first = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = first.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        names.filter(|name| name != "help").collect()
    };
    let above = ["breaker", "dlq", "epoch", "plugin", "state", "topic"];
    let mut all: Vec<String> = verbs(&["--help"]).into_iter().filter(|verb| !above.contains(&verb.as_str())).collect();
    for above in above {
        all.extend(verbs(&[above, "--help"]).into_iter().map(|verb| format!("{above} {verb}")));
    }
    let mut walked: Vec<&str> = LEAVES.iter().map(|(verb, _, _)| *verb).collect();
    all.sort_unstable();
    walked.sort_unstable();
    assert_eq!(all, walked);
}

#[test]
fn arguments_that_make_no_sense_are_an_object_too_where_one_is_asked_for() {
    let answer = Folder::new().run(&["check", "--json"]).exits(2).json();
    assert_eq!(answer["ok"], false);
    assert!(answer["error"]["message"].as_str().unwrap().contains("<FILE>"), "{answer}");
}

#[test]
fn graphs_are_drawn_in_three_ways() {
    let folder = with_input();
    for (format, part) in
        [("ascii", "in            file input.ndjson"), ("dot", "digraph \"good\""), ("mermaid", "flowchart LR")]
    {
        let said = folder.run(&["graph", "good.yaml", "--format", format]).exits(0);
        assert!(said.out.contains(part), "{}", said.out);
    }
}

#[test]
fn fences_of_a_markdown_file_are_checked_at_their_places() {
    let folder = with_input();
    let fence = |yaml: &str| format!("# Title\n\n```yaml\n{yaml}```\n");
    folder.write("good.md", fence(&straight("good", GOOD)));
    folder.run(&["check", "good.md"]).exits(0);
    folder.write("bad.md", fence(&straight("bad", GOOD).replace("from: in", "from: inn")));
    folder.run(&["check", "bad.md"]).exits(2).complains("bad.md:9");
    folder.write("none.md", "nothing here\n");
    folder.run(&["check", "none.md"]).exits(2).complains("there is no pipeline");
}

#[test]
fn every_code_that_is_listed_is_explained() {
    let folder = Folder::new();
    let pages = folder.run(&["explain", "--json"]).exits(0).json()["result"].as_array().unwrap().clone();
    assert!(pages.len() > 40);
    let said = folder.run(&["explain", pages[0]["code"].as_str().unwrap()]).exits(0);
    assert!(said.out.contains("Cure: "), "{}", said.out);
}

#[test]
fn settings_come_from_the_hosts_file_and_flags_win() {
    let folder = with_input();
    folder.write("host.yaml", "pipelines: [go*.yaml]\nmemory: 1MiB\nlog: { level: error }\n");
    folder.run(&["run", "--config", "host.yaml"]).exits(2).complains("TG401").complains("host.yaml:2");
    let said = folder.run(&["run", "--config", "host.yaml", "--memory", "1GiB"]).exits(0);
    assert!(!said.err.contains("running"), "{}", said.err);
    folder.write("none.yaml", "pipelines: [absent/*.yaml]\n");
    folder.run(&["run", "--config", "none.yaml"]).exits(2).complains("fits none");
}

#[test]
fn check_leaves_no_trace() {
    let folder = with_input();
    folder.write("p.yaml", through("filter", "std/where", "{ where: 'status > 1' }"));
    folder.run(&["check", "p.yaml", "good.yaml"]).exits(0);
    assert!(!folder.path(".tidegate").exists());
}
