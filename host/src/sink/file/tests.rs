//! Files as a sink writes them, and paths as data would like them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::{
    outlet::Outlet,
    template::{Filling, is_plain},
    *,
};
use crate::{
    batch::Column,
    disk::{
        Below, RealDisk,
        confined::{Confined, Resolve},
    },
    sink::tests::write,
};

fn sink(folder: &TempDir, path: &str, rotate: Option<Rotate>) -> FileSink {
    open(&Config { path: path.to_owned(), rotate }, Arc::new(RealDisk), folder.path(), "out", Format::Lines).unwrap()
}

fn lines(items: &[&str]) -> Batch {
    Batch::of_values(items.iter().collect())
}

fn keyed(items: &[(&str, &str)]) -> Batch {
    lines(&items.iter().map(|(_, value)| *value).collect::<Vec<_>>())
        .with_keys(items.iter().map(|(key, _)| *key).collect())
        .unwrap()
}

fn text(folder: &TempDir, path: &str) -> String {
    fs::read_to_string(folder.path().join(path)).unwrap()
}

#[tokio::test]
async fn records_are_appended_to_what_is_there_once_flushed() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/out.log"), "old\n").unwrap();
    let mut sink = sink(&folder, "a/out.log", None);
    assert_eq!(write(&mut sink, &lines(&["one", "two"])).await.unwrap(), []);
    assert_eq!(text(&folder, "a/out.log"), "old\n");
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(text(&folder, "a/out.log"), "old\none\ntwo\n");
}

#[tokio::test]
async fn more_than_a_spill_is_written_without_a_flush() {
    let folder = tempdir().unwrap();
    let mut sink = sink(&folder, "new/folder/out.log", None);
    write(&mut sink, &Batch::of_values(Column::repeat(&[b'x'; 1023], SPILL / 1024 - 1))).await.unwrap();
    assert_eq!(text(&folder, "new/folder/out.log").len(), 0);
    write(&mut sink, &Batch::of_values(Column::repeat(&[b'x'; 1023], 1))).await.unwrap();
    assert_eq!(text(&folder, "new/folder/out.log").len(), SPILL);
}

#[tokio::test]
async fn a_full_disk_is_waited_out_and_what_was_taken_in_is_kept() {
    let mut sink = open(
        &Config { path: "/dev/full".into(), rotate: None },
        Arc::new(RealDisk),
        Path::new("/"),
        "out",
        Format::Lines,
    )
    .unwrap();
    write(&mut sink, &lines(&["one"])).await.unwrap();
    for _ in 0..3 {
        let error = sink.flush(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(&error, SinkError::Later(_)), "{error}");
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
    assert!(matches!(
        write(&mut sink, &Batch::of_values(Column::repeat(&[b'x'; 1023], 256))).await,
        Err(SinkError::Later(_))
    ));
    let waiting = sink.files.back().await.unwrap().waiting();
    assert_eq!(waiting, 4 + 256 * 1024);
}

#[tokio::test]
async fn what_is_refused_is_told_although_the_disk_is_full() {
    let config = Config { path: "/dev/full".into(), rotate: None };
    let mut sink = open(&config, Arc::new(RealDisk), Path::new("/"), "out", Format::Json).unwrap();
    let mut values = vec![format!("\"{}\"", "x".repeat(1021)); SPILL / 1024];
    values.insert(7, "no\njson".to_owned());
    let (batch, mut refused) = (Batch::of_values(values.iter().collect()), Vec::new());
    assert!(matches!(sink.write(&batch, &mut refused).await, Err(SinkError::Later(_))));
    assert_eq!(refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [7]);
    assert_eq!(sink.files.back().await.unwrap().waiting(), SPILL);
}

#[test]
fn what_cannot_be_written_to_is_said_at_the_start() {
    let folder = tempdir().unwrap();
    let refuse = |path: &str, rotate: Option<Rotate>| {
        let config = Config { path: path.to_owned(), rotate };
        format!("{:#}", open(&config, Arc::new(RealDisk), folder.path(), "out", Format::Lines).unwrap_err())
    };
    let by_size = Some(Rotate { bytes: Some(Size(10)), every: None });
    fs::write(folder.path().join("file"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for (path, rotate, reason) in [
        ("/proc/no/such/out.log", None, "open `/proc/no/such/out.log` for sink `out`"),
        ("file/{key}", None, "open `file/{key}` for sink `out`"),
        ("pipe", None, "a pipe or socket stands there"),
        (".", None, "directory"),
        ("", None, "names no file"),
        ("a/", None, "names no file"),
        ("{key}/..", None, "cannot follow a placeholder"),
        ("{key}//a", None, "cannot follow a placeholder"),
        ("{key}/", None, "cannot follow a placeholder"),
        ("{kei}", None, "`{kei}` is none of"),
        ("{key", None, "is not closed"),
        ("a}", None, "has no `{`"),
        ("{time:%Y/%m}", None, "for folders"),
        ("{time:%H%.3f}", None, "finer than a second"),
        ("{time:%!}", None, "is no time format"),
        ("{key}", by_size.clone(), "has to end with literal text"),
        ("{key}.1", by_size.clone(), "has to end with literal text"),
        ("/dev/null", by_size, "cannot be rotated"),
    ] {
        let error = refuse(path, rotate);
        assert!(error.contains(reason), "{path}: {error}");
    }
}

#[tokio::test]
async fn templates_take_key_pointer_and_time_and_keep_the_order_within_a_file() {
    let folder = tempdir().unwrap();
    let mut sink = sink(&folder, "by/{key}/{/at/host}-{time:%Y-%m-%d}.log", None);
    let values = [r#"{"at":{"host":"a"},"n":1}"#, r#"{"at":{"host":"b"},"n":2}"#, r#"{"at":{"host":"a"},"n":3}"#];
    let batch =
        lines(&values).with_keys(Column::repeat(b"k", 3)).unwrap().with_timestamps(vec![0, 86_400_000, 5]).unwrap();
    assert_eq!(write(&mut sink, &batch).await.unwrap(), []);
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(text(&folder, "by/k/a-1970-01-01.log"), format!("{}\n{}\n", values[0], values[2]));
    assert_eq!(text(&folder, "by/k/b-1970-01-02.log"), format!("{}\n", values[1]));
}

#[tokio::test]
async fn fields_that_a_plugin_gave_as_columns_are_taken_before_the_value() {
    let folder = tempdir().unwrap();
    let mut sink = sink(&folder, "{/id}.log", None);
    let batch = lines(&["opaque", "bytes"]).with_named("field:/id".into(), ["7", "\"x\""].iter().collect()).unwrap();
    assert_eq!(write(&mut sink, &batch).await.unwrap(), []);
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!((text(&folder, "7.log"), text(&folder, "x.log")), ("opaque\n".into(), "bytes\n".into()));
}

#[tokio::test]
async fn a_record_whose_path_is_refused_leaves_its_neighbours_alone() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    symlink(folder.path().join("outside"), folder.path().join("out/link")).unwrap();
    symlink(folder.path().join("outside/f"), folder.path().join("out/f.log")).unwrap();
    fs::create_dir(folder.path().join("out/dir.log")).unwrap();
    let mut sink = sink(&folder, "out/{key}.log", None);
    let batch =
        keyed(&[("a", "1"), ("../outside/x", "2"), ("f", "3"), ("a", "4"), ("", "5"), ("dir", "6"), (".a", "7")]);
    let refused = write(&mut sink, &batch).await.unwrap();
    assert_eq!(refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
    assert!(refused.iter().all(|refused| refused.reason.starts_with("confinement: ")), "{refused:?}");
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(text(&folder, "out/a.log"), "1\n4\n");
    assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_record_lacks_is_named() {
    let folder = tempdir().unwrap();
    for (path, reason) in [
        ("{/x}.log", "confinement: the record has nothing at `/x`"),
        ("{/y}.log", "confinement: `/y` is neither text nor a number"),
        ("{time:%Y}.log", "confinement: the record has no event time"),
        ("{key}", "confinement: `` is no name"),
    ] {
        let refused = write(&mut sink(&folder, path, None), &lines(&[r#"{"y":[1]}"#])).await.unwrap();
        assert!(refused[0].reason.starts_with(reason), "{refused:?}");
    }
}

#[tokio::test]
async fn no_more_than_256_files_are_open_and_no_line_is_lost_by_closing_one() {
    let folder = tempdir().unwrap();
    let mut sink = sink(&folder, "{key}.log", None);
    for round in 0..3 {
        let items: Vec<_> = (0..600).map(|i| (format!("k{i}"), format!("{round}"))).collect();
        let items: Vec<_> = items.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(write(&mut sink, &keyed(&items)).await.unwrap(), []);
        assert!(sink.files.back().await.unwrap().outlets.len() <= MOST_OPEN);
    }
    sink.flush(&mut Vec::new()).await.unwrap();
    for i in 0..600 {
        assert_eq!(text(&folder, &format!("k{i}.log")), "0\n1\n2\n", "k{i}");
    }
}

#[tokio::test]
async fn ten_thousand_paths_an_hour_are_enough() {
    let folder = tempdir().unwrap();
    let Parsed::Chosen(_, template) = template::parse("{key}.log").unwrap() else { panic!("there is a placeholder") };
    let mut choice = choice::Choice::new(template);
    let keys: Column = (0..10_002).map(|i| format!("k{i}")).collect();
    let batch = Batch::of_values(Column::blank(10_002)).with_keys(keys).unwrap();
    let mut refused = Vec::new();
    let groups = choice.groups(&batch, &mut refused);
    assert_eq!((groups.len(), refused.len()), (10_000, 2));
    assert!(refused[0].reason.starts_with("confinement: more than 10000 different paths"), "{refused:?}");
    // The paths of this hour are still open to further records.
    refused.clear();
    choice.groups(&batch.slice(0, 10), &mut refused);
    assert_eq!(refused, []);
    drop(folder);
}

#[tokio::test]
async fn a_full_file_is_put_aside_between_two_records() {
    let folder = tempdir().unwrap();
    let rotate = Some(Rotate { bytes: Some(Size(10)), every: None });
    fs::write(folder.path().join("out.log.7"), "older\n").unwrap();
    let mut sink = sink(&folder, "out.log", rotate);
    write(&mut sink, &lines(&["1234", "5678", "abcd", "longer than a file", "e"])).await.unwrap();
    write(&mut sink, &lines(&["f", "g"])).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(text(&folder, "out.log.8"), "1234\n5678\n");
    assert_eq!(text(&folder, "out.log.9"), "abcd\n");
    assert_eq!(text(&folder, "out.log.10"), "longer than a file\n");
    assert_eq!(text(&folder, "out.log"), "e\nf\ng\n");
    assert_eq!(text(&folder, "out.log.7"), "older\n");
}

#[tokio::test]
async fn rotation_by_size_holds_for_each_file_of_a_template_and_after_a_restart() {
    let folder = tempdir().unwrap();
    let rotate = Some(Rotate { bytes: Some(Size(4)), every: None });
    for round in ["1", "2", "3"] {
        let mut sink = sink(&folder, "d/{key}.log", rotate.clone());
        write(&mut sink, &keyed(&[("a", round), ("b", round), ("a", round)])).await.unwrap();
        sink.flush(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(text(&folder, "d/a.log.1"), "1\n1\n");
    assert_eq!(text(&folder, "d/a.log.2"), "2\n2\n");
    assert_eq!(text(&folder, "d/a.log"), "3\n3\n");
    assert_eq!((text(&folder, "d/b.log.1"), text(&folder, "d/b.log")), ("1\n2\n".into(), "3\n".into()));
}

#[tokio::test]
async fn an_old_file_is_put_aside_when_the_next_record_comes() {
    let folder = tempdir().unwrap();
    let rotate = Some(Rotate { bytes: None, every: Some(Span(std::time::Duration::ZERO)) });
    let mut sink = sink(&folder, "out.log", rotate);
    for record in ["1", "2"] {
        write(&mut sink, &lines(&[record])).await.unwrap();
        sink.flush(&mut Vec::new()).await.unwrap();
    }
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!((text(&folder, "out.log.1"), text(&folder, "out.log")), ("1\n".into(), "2\n".into()));
    assert!(!folder.path().join("out.log.2").exists());
}

#[tokio::test]
async fn every_csv_file_begins_with_its_header_and_has_it_once() {
    let folder = tempdir().unwrap();
    let rotate = Some(Rotate { bytes: Some(Size(12)), every: None });
    for _ in 0..2 {
        let config = Config { path: "out.csv".into(), rotate: rotate.clone() };
        let mut sink = open(&config, Arc::new(RealDisk), folder.path(), "out", Format::Csv).unwrap();
        assert_eq!(write(&mut sink, &lines(&[r#"{"a":1,"b":2}"#, r#"{"a":3,"b":4}"#])).await.unwrap(), []);
        sink.flush(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(text(&folder, "out.csv.1"), "a,b\n1,2\n3,4\n");
    assert_eq!(text(&folder, "out.csv"), "a,b\n1,2\n3,4\n");
}

#[tokio::test]
async fn what_the_format_cannot_write_is_refused_in_whichever_file() {
    let folder = tempdir().unwrap();
    for path in ["out.json", "{key}.json"] {
        let config = Config { path: path.to_owned(), rotate: None };
        let mut sink = open(&config, Arc::new(RealDisk), folder.path(), "out", Format::Json).unwrap();
        let batch = keyed(&[("k", "1"), ("k", "{oops\n"), ("k", "2")]);
        let refused = write(&mut sink, &batch).await.unwrap();
        assert_eq!(refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [1], "{path}");
        sink.flush(&mut Vec::new()).await.unwrap();
    }
    assert_eq!((text(&folder, "out.json"), text(&folder, "k.json")), ("1\n2\n".into(), "1\n2\n".into()));
}

#[tokio::test]
async fn a_dropped_flush_is_finished_by_the_next() {
    let folder = tempdir().unwrap();
    let mut sink = sink(&folder, "out.log", None);
    for i in 0..100 {
        write(&mut sink, &lines(&[&i.to_string()])).await.unwrap();
        let _ = futures::poll!(sink.flush(&mut Vec::new()));
    }
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(text(&folder, "out.log"), (0..100).map(|i| format!("{i}\n")).collect::<String>());
}

#[test]
fn a_file_that_could_not_be_renamed_yet_goes_on_where_it_stopped() {
    let folder = tempdir().unwrap();
    let place = Place::Below(RealDisk.below(folder.path()).unwrap());
    let rotate = Rotate { bytes: Some(Size(2)), every: None };
    let mut outlet = Outlet::closed("out.log", Format::Lines);
    outlet.take(&lines(&["1", "2", "3"]), 0..3, &rotate, &mut Vec::new());
    // Nobody may write to the folder for a while; root may, so a folder in the way stands in for that.
    let away = folder.path().with_extension("away");
    fs::rename(folder.path(), &away).unwrap();
    fs::set_permissions(&away, fs::Permissions::from_mode(0o755)).unwrap();
    let gone = Place::Fixed(Arc::new(RealDisk), folder.path().join("out.log"));
    assert!(outlet.write_out(&gone).is_err());
    fs::rename(&away, folder.path()).unwrap();
    outlet.write_out(&place).unwrap();
    assert_eq!(text(&folder, "out.log.1") + &text(&folder, "out.log.2") + &text(&folder, "out.log"), "1\n2\n3\n");
}

/// What the data of an attacker is made of.
const HOSTILE: [&str; 30] = [
    ".", "..", "/", "\\", "%", "~", "$", ":", "\0", "\u{2024}", "\u{FF0F}", "\u{0301}", "\u{0338}", "CON", "aux", "a",
    "Z", "0", "-", "_", "=", "\u{212A}", "\u{1FEF}", "\u{037E}", "\n", " ", "é", "link", "%2e%2e", "\u{202E}",
];

/// Some text of that alphabet, for each seed another; every fourth is made of harmless parts only.
fn hostile(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let pool: &[&str] =
        if seed.is_multiple_of(4) { &["a", "link", "Z", "0", "-", "=", ".", "\u{212A}"] } else { &HOSTILE };
    let length = [1, 2, 3, 5, 9, 140][draw(6)];
    (0..length).map(|_| pool[draw(pool.len())]).collect()
}

struct Key(String);

impl Filling for Key {
    fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
    fn time(&self) -> Option<i64> {
        None
    }
    fn field(&self, _: &str) -> Option<std::borrow::Cow<'_, [u8]>> {
        None
    }
}

fn render(path: &str, key: &str) -> Result<String, String> {
    let Parsed::Chosen(_, mut template) = template::parse(path).unwrap() else { panic!("there is a placeholder") };
    let mut out = String::new();
    template.render(&Key(key.to_owned()), &mut out).map(|()| out)
}

#[test]
fn a_hostile_path_stays_in_its_folder_and_is_judged_alike_in_every_normal_form() {
    use unicode_normalization::UnicodeNormalization as _;
    let mut accepted = 0;
    for seed in 0..150_000 {
        let key = hostile(seed);
        for path in ["{key}", "out/pre-{key}.log"] {
            let rendered = render(path, &key);
            let normal = render(path, &key.nfc().collect::<String>());
            assert_eq!(rendered.is_ok(), normal.is_ok(), "{key:?}");
            let Ok(rendered) = rendered else { continue };
            accepted += 1;
            assert_eq!(rendered, normal.unwrap(), "{key:?}");
            // The slow check: one component, made of what is allowed, that a path parser sees as a plain name.
            let mut components = Path::new(&rendered).components();
            assert!(matches!(components.next(), Some(std::path::Component::Normal(_))), "{rendered:?}");
            assert!(components.next().is_none() && rendered.len() <= 128 && !rendered.starts_with('.'), "{rendered:?}");
            assert!(rendered.chars().all(|c| c.is_ascii_alphanumeric() || "._=-".contains(c)), "{rendered:?}");
        }
    }
    assert!(accepted > 10_000, "only {accepted} were harmless");
}

#[test]
fn nothing_is_opened_outside_the_folder_whatever_links_stand_in_it() {
    for resolve in [Resolve::Kernel, Resolve::Walk] {
        let root = tempdir().unwrap();
        let inside = root.path().join("in");
        let outside = root.path().join("out");
        for folder in [&inside, &outside, &inside.join("a")] {
            fs::create_dir(folder).unwrap();
        }
        symlink(&outside, inside.join("link")).unwrap();
        symlink("../out/x", inside.join("Z")).unwrap();
        symlink("..", inside.join("a/link")).unwrap();
        symlink("a", inside.join("0")).unwrap();
        symlink("/proc/self/root", inside.join("K")).unwrap();
        let folder = Confined::open(&inside).unwrap().resolving(resolve);
        let mut opened = 0;
        for seed in 0..4_000 {
            let path = [hostile(seed), hostile(seed + 7), hostile(seed + 13)][..1 + seed as usize % 3].join("/");
            let confined = path.split('/').all(is_plain);
            // Even what the template would never let through must not get out of the folder.
            if path.contains('\0') || (resolve == Resolve::Walk && !confined) {
                continue;
            }
            if let Ok(file) = folder.file(&path) {
                use std::os::fd::AsRawFd as _;
                let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
                assert!(real.starts_with(fs::canonicalize(&inside).unwrap()), "{path:?} led to {real:?}");
                opened += 1;
            }
        }
        assert!(opened > 100, "{resolve:?} opened only {opened}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{resolve:?}");
        for link in ["link/f", "Z", "a/link/f", "0/f", "K/tmp/f", "link"] {
            let error = folder.append(link).unwrap_err();
            assert!(is_confinement(&error), "{resolve:?} {link}: {error}");
        }
        folder.append("new/folders/f").unwrap();
    }
}

proptest! {
    /// Any text at all is a template or is not; no record brings either to panic.
    #[test]
    fn templates_and_records_of_any_text_come_to_a_path_or_a_reason(
        path in "[a-z/.{}:%Y*key\u{212A}é]{0,24}", key in any::<String>(), value in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        if let Ok(Parsed::Chosen(_, template)) = template::parse(&path) {
            let batch = Batch::of_values([&value].into_iter().collect()).with_keys([&key].into_iter().collect()).unwrap();
            let mut refused = Vec::new();
            let groups = choice::Choice::new(template).groups(&batch, &mut refused);
            prop_assert_eq!(groups.len() + refused.len(), 1);
        }
    }
}
