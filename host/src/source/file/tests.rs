//! Files as they are written, rotated, truncated and lost under a source that reads them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    time::Duration,
};

use tempfile::{TempDir, tempdir};
use tokio::time::timeout;

use super::*;

mod ids;

/// Far longer than anything here takes; a test that waits for it has failed.
const NEVER: Duration = Duration::from_secs(60);

fn config(path: &str, follow: bool) -> Config {
    Config { path: path.to_owned(), follow }
}

fn source(folder: &TempDir, path: &str) -> FileSource {
    open(&config(path, false), folder.path(), "in", Format::Lines, &Stamp::default(), 1 << 20).unwrap()
}

/// A source that follows and looks every two milliseconds; `still` is how long what was moved stays open.
fn follower(folder: &TempDir, path: &str, still: Duration) -> FileSource {
    let mut source = open(&config(path, true), folder.path(), "in", Format::Lines, &Stamp::default(), 1 << 20).unwrap();
    let round = source.round.get().unwrap();
    (round.poll, round.still) = (Duration::from_millis(2), still);
    source
}

fn write(folder: &TempDir, path: &str, text: &str) -> PathBuf {
    let path = folder.path().join(path);
    fs::write(&path, text).unwrap();
    path
}

fn append(folder: &TempDir, path: &str, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(folder.path().join(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn some(source: &mut FileSource, most: Limit) -> Option<Vec<String>> {
    match timeout(NEVER, source.read(most)).await.expect("no records came").unwrap() {
        Read::End | Read::Again(_) => None,
        Read::Chunk(chunk) => {
            assert_eq!(chunk.undecoded, []);
            Some(chunk.batch.values().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect())
        }
    }
}

async fn rest(source: &mut FileSource) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(lines) = some(source, Limit::default()).await {
        all.extend(lines);
    }
    all
}

/// Reads until there are `count` lines.
async fn lines(source: &mut FileSource, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(some(source, Limit::default()).await.expect("the file is followed"));
    }
    all
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|i| format!("line {i}")).collect()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn files_are_read_in_the_order_of_their_paths_and_a_last_line_needs_no_end() {
    let folder = tempdir().unwrap();
    for (name, text) in [("b.log", "3\n4"), ("a.log", "1\n2"), ("c.log", ""), ("d.txt", "no\n"), ("e.log", "5\n")] {
        write(&folder, name, text);
    }
    fs::create_dir(folder.path().join("f.log")).unwrap();
    assert_eq!(rest(&mut source(&folder, "*.log")).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(rest(&mut source(&folder, "d.txt")).await, ["no"]);
}

#[tokio::test]
async fn a_file_larger_than_many_blocks_comes_out_whole_in_full_batches() {
    let folder = tempdir().unwrap();
    let all = numbered(0, 200_000);
    write(&folder, "a.log", &joined(&all));
    let mut source = source(&folder, "a.log");
    let (mut read, mut batches) = (Vec::new(), Vec::new());
    while let Some(lines) = some(&mut source, Limit::default()).await {
        batches.push(lines.len());
        read.extend(lines);
    }
    assert_eq!(read, all);
    assert!(batches[..batches.len() - 1].iter().all(|&len| len == 1024), "{batches:?}");
}

#[tokio::test]
async fn a_line_as_long_as_the_limit_is_read_and_a_longer_one_is_refused_with_its_place() {
    let folder = tempdir().unwrap();
    let (fits, exceeds) = ("x".repeat(1 << 20), "y".repeat((1 << 20) + 1));
    write(&folder, "a.log", &format!("first\n{fits}\n{exceeds}\nlast\n"));
    let mut source = source(&folder, "a.log");
    let (mut lines, mut undecoded) = (Vec::new(), Vec::new());
    while let Read::Chunk(chunk) = source.read(Limit::default()).await.unwrap() {
        lines.extend(chunk.batch.values().iter().map(<[u8]>::len));
        undecoded.extend(chunk.undecoded);
    }
    assert_eq!(lines, [5, 1 << 20, 4]);
    let place = format!("{}:3 (byte {})", folder.path().join("a.log").display(), 6 + (1 << 20) + 1);
    assert_eq!(undecoded.iter().map(|it| it.place.clone()).collect::<Vec<_>>(), [place]);
}

#[test]
fn what_cannot_be_read_is_said_at_the_start() {
    let folder = tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, rustix::fs::Mode::RWXU, 0).unwrap();
    let refuse = |path: &str, follow, format| {
        let opened = open(&config(path, follow), folder.path(), "in", format, &Stamp::default(), 10);
        format!("{:#}", opened.unwrap_err())
    };
    let nothing = refuse("logs/*.log", false, Format::Lines);
    assert!(nothing.contains("`logs/*.log`") && nothing.contains(&*folder.path().to_string_lossy()), "{nothing}");
    assert!(refuse("none.log", false, Format::Lines).contains("finds no file `none.log`"));
    assert!(refuse("pipe", true, Format::Lines).contains("is no regular file"));
    assert!(refuse("/dev/zero", false, Format::Lines).contains("is no regular file"));
    assert!(refuse("a**b", false, Format::Lines).contains("is no pattern"));
    assert!(refuse("a.log", true, Format::Raw).contains("never whole"));
}

#[tokio::test]
async fn links_lead_where_the_user_points_and_a_pattern_does_not_lead_out_of_its_folder() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("logs")).unwrap();
    write(&folder, "secret", "secret\n");
    write(&folder, "logs/a.log", "a\n");
    symlink("../secret", folder.path().join("logs/b.log")).unwrap();
    symlink("a.log", folder.path().join("logs/c.log")).unwrap();
    symlink("nowhere", folder.path().join("logs/d.log")).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("logs/e.log"), kind, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(rest(&mut source(&folder, "logs/*.log")).await, ["a", "a"]);
    assert_eq!(rest(&mut source(&folder, "logs/b.log")).await, ["secret"]);
}

#[tokio::test]
async fn a_position_goes_back_to_the_record_from_anywhere() {
    let folder = tempdir().unwrap();
    let all = numbered(0, 60);
    write(&folder, "a.log", &joined(&all[..20]));
    write(&folder, "b.log", &joined(&all[20..59]));
    write(&folder, "c.log", &all[59]);
    let mut first = source(&folder, "*.log");
    let few = Limit { records: 7, bytes: 1 << 20 };
    let (mut read, mut positions) = (Vec::new(), vec![(0, first.position())]);
    while let Some(lines) = some(&mut first, few).await {
        read.extend(lines);
        positions.push((read.len(), first.position()));
    }
    positions.push((60, first.position()));
    assert_eq!(read, all);
    for (count, position) in positions {
        let text = serde_json::to_string(&position).unwrap();
        let position: Position = serde_json::from_str(&text).unwrap();
        let mut fresh = source(&folder, "*.log");
        assert!(fresh.seek(&position).await.unwrap());
        assert_eq!(fresh.position(), position);
        assert_eq!(rest(&mut fresh).await, all[count..], "from {text}");
        assert!(first.seek(&position).await.unwrap());
        assert_eq!(rest(&mut first).await, all[count..]);
    }
}

#[tokio::test]
async fn what_a_position_is_told_in_bytes_and_lines() {
    let folder = tempdir().unwrap();
    write(&folder, "a.log", "one\ntwo\nthree\n");
    let mut source = source(&folder, "a.log");
    assert_eq!(some(&mut source, Limit { records: 2, bytes: 1 << 20 }).await.unwrap(), ["one", "two"]);
    let position = source.position().0;
    assert_eq!(position["files"][0]["offset"], 8);
    assert_eq!(position["files"][0]["decoder"]["lines"], 2);
    assert_eq!(position["files"][0]["path"], folder.path().join("a.log").to_string_lossy().into_owned());
}

#[tokio::test]
async fn a_csv_file_goes_on_with_its_header() {
    let folder = tempdir().unwrap();
    write(&folder, "a.csv", "n\n1\n2\n3\n");
    let fresh = || open(&config("a.csv", false), folder.path(), "in", Format::Csv, &Stamp::default(), 100).unwrap();
    let mut source = fresh();
    assert_eq!(some(&mut source, Limit { records: 1, bytes: 1 << 20 }).await.unwrap().len(), 1);
    let position = source.position();
    let mut again = fresh();
    again.seek(&position).await.unwrap();
    assert_eq!(rest(&mut again).await, rest(&mut source).await);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_not_taken_for_the_one_that_was_read() {
    for replace in [
        (|path: &PathBuf| fs::write(path, "other\nlines\nthan\n").unwrap()) as fn(&PathBuf),
        |path| fs::write(path, "one\n").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::rename(path, path.with_extension("gone")).unwrap();
            fs::remove_file(path.with_extension("gone")).unwrap();
            fs::write(path, "another\nfile\naltogether\n").unwrap();
        },
    ] {
        let folder = tempdir().unwrap();
        let path = write(&folder, "a.log", "one\ntwo\nthree\n");
        let mut source = follower(&folder, "a.log", NEVER);
        assert_eq!(some(&mut source, Limit { records: 2, bytes: 1 << 20 }).await.unwrap(), ["one", "two"]);
        let position = source.position();
        replace(&path);
        let mut again = follower(&folder, "a.log", NEVER);
        let error = again.seek(&position).await.unwrap_err().to_string();
        assert!(error.contains("what stood there has gone") && error.contains("byte 8"), "{error}");
    }
}

#[tokio::test]
async fn a_file_rotated_while_nobody_looked_is_found_again_with_those_between() {
    let folder = tempdir().unwrap();
    write(&folder, "a.log.0", "older\n");
    // The clock of the file system has to move on, or the generations cannot be told apart.
    let tick = || {
        let stamp = folder.path().join("tick");
        let made = |path: &PathBuf| fs::metadata(path).unwrap().created().unwrap();
        let before = {
            fs::write(&stamp, "").unwrap();
            made(&stamp)
        };
        loop {
            fs::remove_file(&stamp).unwrap();
            fs::write(&stamp, "").unwrap();
            if made(&stamp) > before {
                break;
            }
        }
    };
    tick();
    let path = write(&folder, "a.log", "1\n2\n3\n");
    let mut source = follower(&folder, "a.log", NEVER);
    assert_eq!(some(&mut source, Limit { records: 1, bytes: 1 << 20 }).await.unwrap(), ["1"]);
    let position = source.position();
    drop(source);
    tick();
    fs::rename(&path, folder.path().join("a.log.2")).unwrap();
    write(&folder, "a.log", "4\n");
    tick();
    fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    write(&folder, "a.log", "5\n");
    let mut again = follower(&folder, "a.log", NEVER);
    assert!(again.seek(&position).await.unwrap());
    assert_eq!(lines(&mut again, 4).await, ["2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_file_truncated_after_a_copy_while_nobody_looked_goes_on_in_the_copy() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "a.log", "1\n2\n3\n");
    let mut source = follower(&folder, "a.log*", NEVER);
    assert_eq!(some(&mut source, Limit { records: 1, bytes: 1 << 20 }).await.unwrap(), ["1"]);
    let position = source.position();
    fs::copy(&path, folder.path().join("a.log.1")).unwrap();
    write(&folder, "a.log", "4\n");
    let mut again = follower(&folder, "a.log*", NEVER);
    assert!(again.seek(&position).await.unwrap());
    assert_eq!(lines(&mut again, 3).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn what_is_appended_arrives_and_an_unfinished_line_waits() {
    let folder = tempdir().unwrap();
    let mut source = follower(&folder, "*.log", NEVER);
    assert!(futures::poll!(source.read(Limit::default())).is_pending());
    append(&folder, "a.log", "one\ntw");
    assert_eq!(lines(&mut source, 1).await, ["one"]);
    append(&folder, "b.log", "new file\n");
    assert_eq!(lines(&mut source, 1).await, ["new file"]);
    append(&folder, "a.log", "o\n");
    assert_eq!(lines(&mut source, 1).await, ["two"]);
    source.stop();
    assert_eq!(some(&mut source, Limit::default()).await, None);
}

#[tokio::test]
async fn a_dropped_read_takes_nothing_along() {
    let folder = tempdir().unwrap();
    let all = numbered(0, 5_000);
    write(&folder, "a.log", &joined(&all));
    for mut source in [source(&folder, "a.log"), follower(&folder, "a.log", NEVER)] {
        let mut read = Vec::new();
        while read.len() < all.len() {
            let before = source.position();
            let polled = futures::poll!(source.read(Limit { records: 50, bytes: 1 << 20 }));
            if let std::task::Poll::Ready(chunk) = polled {
                let Read::Chunk(chunk) = chunk.unwrap() else { panic!("there is more") };
                read.extend(chunk.batch.values().iter().map(|it| String::from_utf8_lossy(it).into_owned()));
                assert_ne!(source.position(), before);
            } else {
                assert_eq!(source.position(), before);
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(read, all);
    }
}

#[tokio::test]
async fn an_unfinished_line_of_a_file_that_was_moved_away_is_a_record_once_it_is_still() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "a.log", "one\ntw");
    let mut source = follower(&folder, "a.log", Duration::from_millis(20));
    assert_eq!(lines(&mut source, 1).await, ["one"]);
    fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    assert_eq!(lines(&mut source, 1).await, ["tw"]);
    write(&folder, "a.log", "three\n");
    assert_eq!(lines(&mut source, 1).await, ["three"]);
    let position = source.position();
    let mut again = follower(&folder, "a.log", NEVER);
    again.seek(&position).await.unwrap();
    append(&folder, "a.log", "four\n");
    assert_eq!(lines(&mut again, 1).await, ["four"]);
}

#[tokio::test]
async fn the_old_file_is_finished_before_the_new_one_is_begun() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "a.log", "1\n");
    let mut source = follower(&folder, "a.log*", NEVER);
    assert_eq!(lines(&mut source, 1).await, ["1"]);
    fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    // The writer has not noticed yet, then it has.
    append(&folder, "a.log.1", &joined(&numbered(0, 3_000)));
    append(&folder, "a.log", "new\n");
    let read = lines(&mut source, 3_001).await;
    assert_eq!(read[..3_000], numbered(0, 3_000));
    assert_eq!(read[3_000], "new");
    // A straggler with the old file open still gets its line through.
    append(&folder, "a.log.1", "late\n");
    assert_eq!(lines(&mut source, 1).await, ["late"]);
}

#[tokio::test]
async fn a_file_that_was_removed_is_read_to_its_end() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "a.log", "1\n");
    let mut source = follower(&folder, "a.log", NEVER);
    assert_eq!(lines(&mut source, 1).await, ["1"]);
    append(&folder, "a.log", "2\n3\n");
    fs::remove_file(&path).unwrap();
    write(&folder, "a.log", "4\n");
    assert_eq!(lines(&mut source, 3).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn a_file_truncated_before_it_was_read_at_all_is_read_in_its_copy() {
    for pattern in ["a.log", "a.log*"] {
        let folder = tempdir().unwrap();
        let path = write(&folder, "a.log", "");
        let mut source = follower(&folder, pattern, NEVER);
        append(&folder, "a.log", "1\n2\n");
        fs::copy(&path, folder.path().join("a.log.1")).unwrap();
        write(&folder, "a.log", "");
        assert_eq!(lines(&mut source, 2).await, ["1", "2"], "{pattern}");
        append(&folder, "a.log", "3\n");
        assert_eq!(lines(&mut source, 1).await, ["3"], "{pattern}");
    }
}

#[tokio::test]
async fn a_truncated_file_begins_again_even_if_it_has_grown_beyond_where_it_was() {
    let folder = tempdir().unwrap();
    write(&folder, "a.log", "old 1\nold 2\n");
    let mut source = follower(&folder, "a.log", NEVER);
    assert_eq!(lines(&mut source, 2).await, ["old 1", "old 2"]);
    let new: Vec<String> = (0..50).map(|i| format!("new {i}")).collect();
    write(&folder, "a.log", &joined(&new));
    assert_eq!(lines(&mut source, 50).await, new);
    write(&folder, "a.log", "x\n");
    assert_eq!(lines(&mut source, 1).await, ["x"]);
}

#[tokio::test]
async fn a_file_that_only_begins_like_another_is_read_after_a_while() {
    let folder = tempdir().unwrap();
    write(&folder, "a.log", "same\n");
    let mut source = follower(&folder, "*.log", Duration::from_millis(30));
    assert_eq!(lines(&mut source, 1).await, ["same"]);
    write(&folder, "b.log", "same\n");
    assert_eq!(lines(&mut source, 1).await, ["same"]);
}

#[derive(Clone, Copy, Debug)]
enum Style {
    /// `a.log` becomes `a.log.1`, and a new one is made.
    Rename,
    /// `a.log` is copied to `a.log.1`, then truncated.
    CopyTruncate,
}

/// Writes `count` numbered lines and rotates five times in between, as fast as it can.
fn generate(folder: PathBuf, style: Style, count: usize) {
    let path = folder.join("a.log");
    let append = || OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let mut file = append();
    let every = count / 6;
    for i in 0..count {
        // Some lines in two writes, as a buffer that is full would cut them.
        let line = format!("line {i}\n");
        let (a, b) = line.split_at(if i % 7 == 0 { 3 } else { 0 });
        file.write_all(a.as_bytes()).unwrap();
        file.write_all(b.as_bytes()).unwrap();
        if i % every == every - 1 && i / every < 5 {
            for older in (1..5).rev() {
                let from = folder.join(format!("a.log.{older}"));
                if from.exists() {
                    fs::rename(from, folder.join(format!("a.log.{}", older + 1))).unwrap();
                }
            }
            let aside = folder.join("a.log.1");
            match style {
                Style::Rename => {
                    fs::rename(&path, &aside).unwrap();
                    file = append();
                }
                Style::CopyTruncate => {
                    fs::copy(&path, &aside).unwrap();
                    file.set_len(0).unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_rotations_under_load_lose_and_double_nothing() {
    let count = 60_000;
    for style in [Style::Rename, Style::CopyTruncate] {
        for pattern in ["a.log", "a.log*"] {
            let folder = tempdir().unwrap();
            write(&folder, "a.log", "");
            let mut source = follower(&folder, pattern, NEVER);
            let at = folder.path().to_owned();
            let writer = tokio::task::spawn_blocking(move || generate(at, style, count));
            let mut read = Vec::new();
            while read.len() < count {
                let next = timeout(NEVER, source.read(Limit::default())).await;
                let Ok(Ok(Read::Chunk(chunk))) = next else {
                    panic!("{style:?} {pattern}: {} lines, then {next:?}", read.len())
                };
                read.extend(chunk.batch.values().iter().map(|it| String::from_utf8_lossy(it).into_owned()));
            }
            writer.await.unwrap();
            let wrong = read.iter().zip(numbered(0, count)).position(|(a, b)| *a != b);
            assert_eq!(
                wrong,
                None,
                "{style:?} {pattern}: {:?}",
                wrong.map(|at| &read[at.saturating_sub(2)..(at + 3).min(read.len())])
            );
            assert_eq!(read.len(), count, "{style:?} {pattern}");
        }
    }
}
