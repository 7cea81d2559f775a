use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Whether `serde_json` takes these bytes; a number too large for it is valid all the same.
fn is_json(bytes: &[u8]) -> Option<Value> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("out of range") => {
            let error_free: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(bytes);
            error_free.ok().map(|_| Value::Null)
        }
        Err(_) => None,
    }
}

fn json() -> impl Strategy<Value = Value> {
    let name = || prop_oneof![Just("a".to_owned()), Just("b".into()), Just("0".into()), Just("a/~b".into()), ".{0,10}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What `pointers` find in `text`, `None` if it is not JSON.
fn found(pointers: &[&str], text: &[u8]) -> Option<Vec<Option<Value>>> {
    let mut all = vec![None; pointers.len()];
    Pointers::new(pointers)
        .scan(text, |i, raw| all[i] = Some(serde_json::from_slice(raw).expect("what is found is JSON")))
        .ok()
        .map(|()| all)
}

const POINTERS: [&str; 12] =
    ["", "/a", "/a/b", "/b", "/0", "/a/0", "/1/a", "/a/b/0", "/a~1~0b", "/01", "/a/a", "not a pointer"];

#[track_caller]
fn agrees_with_serde_json(text: &[u8]) {
    let shown = String::from_utf8_lossy(text);
    match is_json(text) {
        // A number out of range has no document to compare with.
        Some(Value::Null) => assert_eq!(check(text), Ok(()), "{shown}"),
        Some(value) => {
            let expected = POINTERS.map(|pointer| value.pointer(pointer).cloned());
            assert_eq!(found(&POINTERS, text).as_deref(), Some(&expected[..]), "{shown}");
            check(text).unwrap();
        }
        None => {
            assert_eq!(found(&POINTERS, text), None, "{shown}");
            let error = check(text).unwrap_err();
            assert!(error.at <= text.len(), "{error}: {shown}");
        }
    }
}

proptest! {
    #[test]
    fn valid_json_reads_as_serde_json_reads_it(value in json(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        agrees_with_serde_json(&text);
    }

    #[test]
    fn damaged_json_is_refused_where_serde_json_refuses_it(
        value in json(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\u0123.-+eE \n\r\ttfn".to_vec())], 0..3u8), 1..4),
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte, how) in changes {
            let at = at.index(text.len() + 1);
            match how {
                0 => text.insert(at, byte),
                1 if at < text.len() => text[at] = byte,
                _ => text.truncate(at.max(1)),
            }
        }
        agrees_with_serde_json(&text);
    }

    #[test]
    fn any_bytes_are_judged_as_serde_json_judges_them(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        agrees_with_serde_json(&bytes);
    }

    #[test]
    fn any_characters_in_quotes_are_judged_as_serde_json_judges_them(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\\ud8c0DdFf9ntbr/\"".to_vec())], 0..24)) {
        agrees_with_serde_json(&[b"\"", &bytes[..], b"\""].concat());
    }

    #[test]
    fn text_is_what_the_string_was(contents in ".{0,30}") {
        let raw = serde_json::to_vec(&contents).unwrap();
        prop_assert_eq!(&*text(&raw), contents.as_bytes());
        let escaped: String = contents.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let escaped = format!("\"{escaped}\"");
        prop_assert_eq!(&*text(escaped.as_bytes()), contents.as_bytes());
        let mut pushed = Vec::new();
        push_text(escaped.as_bytes(), &mut pushed);
        prop_assert_eq!(&*pushed, contents.as_bytes());
        let mut written = vec![b'"'];
        push_escaped(&contents, &mut written);
        written.push(b'"');
        prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), contents);
    }
}

#[test]
fn edges_of_the_grammar_are_where_serde_json_has_them() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let cases = [
        "",
        " ",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "+1",
        "1.",
        ".1",
        "1.0",
        "1e",
        "1e+",
        "1E-7",
        "1e999",
        "-1e999",
        "1 2",
        "tru",
        "true",
        "truex",
        "nul",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        "\"",
        "\"\\",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud83d\\ude00\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\"\u{0}\"",
        "\u{feff}1",
        "\"é€😀\"",
        "[[[[",
        "]",
        "NaN",
        "'a'",
        "// a\n1",
        "{\"a\":{\"b\":1},\"a\":{\"c\":2}}",
        "{\"a\":1,\"a\":2}",
        "{\"\\u0061\":5}",
        "{\"a\\/~b\":5}",
        "[[7],{\"a\":8}]",
    ];
    for text in
        cases.into_iter().map(str::to_owned).chain([126, 127, 128, 129].into_iter().flat_map(|n| [deep(n), objects(n)]))
    {
        agrees_with_serde_json(text.as_bytes());
    }
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc0\x80\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
        b"\"\xe2\x82\"",
        b"\xff",
        b"\"1234567\xc3\xa9\xc3\"",
    ] {
        agrees_with_serde_json(bytes);
    }
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let cases = [
        ("{\"a\":1 \"b\"}", "expected `,` or `}` at byte 7"),
        ("{\"a\" 1}", "expected `:` at byte 5"),
        ("[1,", "expected a JSON value at byte 3"),
        ("\"abc", "expected a closing quote at byte 4"),
        ("1 2", "expected the end of the value at byte 2"),
    ];
    for (text, expected) in cases {
        assert_eq!(check(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn more_pointers_than_fit_inline_are_found_as_well() {
    let names: Vec<String> = (0..INLINE * 2).map(|i| format!("/{i}")).collect();
    let text = serde_json::to_vec(&(0..INLINE * 2).collect::<Vec<_>>()).unwrap();
    let mut all = Vec::new();
    Pointers::new(&names).scan(&text, |i, raw| all.push((i, String::from_utf8_lossy(raw).into_owned()))).unwrap();
    assert_eq!(all, (0..INLINE * 2).map(|i| (i, i.to_string())).collect::<Vec<_>>());
}

#[test]
fn pointers_are_told_from_other_text() {
    for (text, is) in
        [("", true), ("/", true), ("/a/0", true), ("a", false), ("/~0~1", true), ("/~2", false), ("/~", false)]
    {
        assert_eq!(is_pointer(text), is, "{text}");
    }
}
