use proptest::prelude::*;

use super::*;
use crate::batch::{Batch, BatchBuilder, Limit};

/// A record with everything that is stamped on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    value: Vec<u8>,
    key: Vec<u8>,
    time: i64,
    fields: Vec<Vec<u8>>,
}

type Decoded = (Vec<Record>, Vec<Undecoded>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Of(Format),
    Document,
}

const KINDS: [Kind; 5] =
    [Kind::Of(Format::Lines), Kind::Of(Format::Json), Kind::Of(Format::Csv), Kind::Of(Format::Raw), Kind::Document];

fn decoder(kind: Kind, stamp: &Stamp, max: usize) -> Decoder {
    match kind {
        Kind::Of(format) => Decoder::new(format, stamp, max),
        Kind::Document => Decoder::of_document(stamp, max),
    }
}

fn take(batch: &Batch, records: &mut Vec<Record>) {
    for i in 0..batch.len() {
        records.push(Record {
            value: batch.values().get(i).unwrap().to_vec(),
            key: batch.keys().map(|keys| keys.get(i).unwrap().to_vec()).unwrap_or_default(),
            time: batch.timestamps().map(|times| times[i]).unwrap_or_default(),
            fields: batch.more().iter().map(|column| column.items.get(i).unwrap().to_vec()).collect(),
        });
    }
}

/// What a source does with a decoder: reads that bring as many bytes as `chunks` say in turn, batches of `most`.
/// Where a read is of an even number of bytes, it goes on with another decoder, as after a restart.
fn decode(kind: Kind, stamp: &Stamp, max: usize, input: &[u8], chunks: &[usize], most: Limit) -> Decoded {
    let mut decoder_now = decoder(kind, stamp, max);
    let mut out: BatchBuilder = decoder_now.builder();
    let (mut records, mut all_undecoded, mut undecoded) = (Vec::new(), Vec::new(), Vec::new());
    let (mut used, mut read) = (0, 0);
    let mut chunks = chunks.iter().cycle();
    loop {
        let at = Origin { name: "input", offset: used as u64 };
        let last = read == input.len();
        used += match last {
            true => decoder_now.end(&input[used..], at, &mut out, &mut undecoded, most),
            false => decoder_now.feed(&input[used..read], at, &mut out, &mut undecoded, most),
        };
        let full = is_full(&out, &undecoded, most);
        let done = last && used == input.len();
        if full || done || !out.is_empty() || !undecoded.is_empty() {
            let batch = out.finish();
            assert!(batch.len() == 1 || batch.bytes() <= most.bytes, "{} bytes in a batch", batch.bytes());
            assert!(batch.len() + undecoded.len() <= most.records + usize::from(done));
            take(&batch, &mut records);
            all_undecoded.append(&mut undecoded);
            if !done {
                continue;
            }
        }
        if done {
            return (records, all_undecoded);
        }
        assert!(!last, "the end uses everything up");
        assert!(
            matches!(kind, Kind::Of(Format::Raw)) || read - used <= max + 2,
            "{} bytes are waited with",
            read - used
        );
        let chunk = *chunks.next().unwrap();
        read = input.len().min(read.saturating_add(chunk));
        if chunk.is_multiple_of(2) {
            let progress = serde_json::to_string(&decoder_now.progress()).unwrap();
            decoder_now = decoder(kind, stamp, max);
            decoder_now.restore(serde_json::from_str(&progress).unwrap());
        }
    }
}

fn whole(kind: Kind, max: usize, input: &[u8]) -> Decoded {
    decode(kind, &Stamp::default(), max, input, &[usize::MAX >> 1], Limit { records: 1 << 20, bytes: 1 << 40 })
}

/// Values and the places and reasons of what is refused, for comparing with what is expected.
fn shown((records, undecoded): Decoded) -> (Vec<String>, Vec<String>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        records.iter().map(|record| text(&record.value)).collect(),
        undecoded
            .iter()
            .map(|undecoded| {
                format!("{} #{} {} <{}>", undecoded.place, undecoded.index, undecoded.reason, text(&undecoded.raw))
            })
            .collect(),
    )
}

#[track_caller]
fn check(kind: Kind, max: usize, input: &[u8], records: &[&str], undecoded: &[&str]) {
    let (found_records, found_undecoded) = shown(whole(kind, max, input));
    let input = String::from_utf8_lossy(input);
    assert_eq!(found_records, records, "records of {input:?}");
    assert_eq!(found_undecoded, undecoded, "undecoded in {input:?}");
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\n", "\r\n", "\r", "{", "}", "[", "]", ",", "\"", "\"\"", "\\", ":", " ", "a", "1", "{\"a\":1}", "{\"k\":\"x\\\"y\",\"t\":5}",
            "{\"t\":\"2026-01-01T00:00:00Z\",\"k\":[1, 2]}", "[1,2]", "a,b\n", "1,\"2\n3\"\n", "\u{feff}", "é", "\0", "a long piece of a line",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    let begin = prop::sample::select(vec!["", "\u{feff}", "[", " [", "k,t\n", "\u{feff}k,t\r\n"]);
    (begin, proptest::collection::vec(piece, 0..24))
        .prop_map(|(begin, pieces)| [begin.as_bytes(), &pieces.concat()].concat())
}

fn stamped() -> impl Strategy<Value = Stamp> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(key, time, fields)| Stamp {
        key: key.then(|| "/k".to_owned()),
        time: time.then(|| "/t".to_owned()),
        fields: if fields { ["/a".into(), "/k/1".into()].into() } else { [].into() },
        ids: Some(7),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // P10, F2
    #[test]
    fn chunks_and_batches_change_neither_records_nor_refusals(
        input in input(), kind in prop::sample::select(KINDS.to_vec()), stamp in stamped(),
        max in prop_oneof![1usize..40, Just(1 << 20)], chunks in proptest::collection::vec(1usize..20, 1..8),
        records in 1usize..6, bytes in 1usize..200,
    ) {
        let all = Limit { records: 1 << 20, bytes: 1 << 40 };
        let once = decode(kind, &stamp, max, &input, &[input.len().max(1)], all);
        let cut = decode(kind, &stamp, max, &input, &chunks, Limit { records, bytes });
        prop_assert_eq!(&once, &cut);
        let bytewise = decode(kind, &stamp, max, &input, &[1], all);
        prop_assert_eq!(once, bytewise);
    }

    #[test]
    fn lines_are_what_stands_between_line_feeds(input in input(), max in 1usize..40) {
        let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&input);
        let mut lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
        lines.iter_mut().for_each(|line| if let Some(whole) = line.strip_suffix(b"\n") { *line = whole.strip_suffix(b"\r").unwrap_or(whole) });
        let (short, long): (Vec<&[u8]>, Vec<&[u8]>) = lines.iter().partition(|line| line.len() <= max);
        let (records, undecoded) = whole(Kind::Of(Format::Lines), max, &input);
        prop_assert_eq!(records.iter().map(|record| &record.value[..]).collect::<Vec<_>>(), short);
        prop_assert_eq!(undecoded.iter().map(|undecoded| &undecoded.raw[..]).collect::<Vec<_>>(), long.iter().map(|line| &line[..max]).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_reads_as_the_same_records(
        values in proptest::collection::vec(("[ -~é\n\r\"]{0,12}", "[ -~é\n\r\",]{0,12}"), 1..8),
        format in prop::sample::select(vec![Format::Lines, Format::Json, Format::Csv, Format::Raw]), pretty: bool,
    ) {
        let json = |(a, b): &(String, String)| {
            let value = serde_json::json!({ "a": a, "b,\"": b });
            if pretty && format == Format::Json { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap()
        };
        let line = |(a, _): &(String, String)| a.replace(['\n', '\r'], "").into_bytes();
        let values: Vec<Vec<u8>> = match format {
            Format::Lines => values.iter().map(line).collect(),
            Format::Raw => values.iter().take(1).map(|value| format!("{}x", value.0).into_bytes()).collect(),
            Format::Json | Format::Csv => values.iter().map(json).collect(),
        };
        let batch = Batch::of_values(values.iter().collect());
        let (mut out, mut refused) = (Vec::new(), Vec::new());
        let mut encoder = Encoder::new(format);
        encoder.encode(&batch, 0..1, &mut out, &mut refused);
        // The rest is written by another encoder, as after a restart.
        let mut encoder = Encoder::resume(format, &out).unwrap();
        encoder.encode(&batch, 1..values.len(), &mut out, &mut refused);
        prop_assert_eq!(refused, vec![]);
        let (records, undecoded) = whole(Kind::Of(format), 1 << 20, &out);
        prop_assert_eq!(undecoded, vec![]);
        let found: Vec<Vec<u8>> = records.into_iter().map(|record| record.value).collect();
        if format == Format::Json && pretty {
            let parse = |values: &[Vec<u8>]| values.iter().map(|value| serde_json::from_slice(value).unwrap()).collect::<Vec<serde_json::Value>>();
            prop_assert_eq!(parse(&found), parse(&values));
        } else {
            prop_assert_eq!(found, values);
        }
    }

    #[test]
    fn a_row_is_the_object_that_its_fields_say(rows in proptest::collection::vec(("[a-z \"]{0,6}", "[\n\r,\"é\\\\\t]{0,6}"), 0..6), crlf: bool) {
        let newline = if crlf { "\r\n" } else { "\n" };
        let quote = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
        let text: String = rows.iter().map(|(a, b)| format!("{},{}{newline}", quote(a), quote(b))).collect();
        let (records, undecoded) = whole(Kind::Of(Format::Csv), 1000, format!("a,b{newline}{text}").as_bytes());
        prop_assert_eq!(undecoded, vec![]);
        let found: Vec<(String, String)> = records.iter().map(|record| {
            let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
            (value["a"].as_str().unwrap().to_owned(), value["b"].as_str().unwrap().to_owned())
        }).collect();
        prop_assert_eq!(found, rows);
    }
}

const LINES: Kind = Kind::Of(Format::Lines);
const JSON: Kind = Kind::Of(Format::Json);
const CSV: Kind = Kind::Of(Format::Csv);
const RAW: Kind = Kind::Of(Format::Raw);

// Rows 31 and 32
#[test]
fn a_line_over_the_limit_is_refused_and_the_next_is_read() {
    check(
        LINES,
        3,
        b"abc\nabcd\nabc\r\nabcd\r\nx",
        &["abc", "abc", "x"],
        &[
            "input:2 (byte 4) #1 over the limit of 3 bytes <abc>",
            "input:4 (byte 14) #3 over the limit of 3 bytes <abc>",
        ],
    );
    check(
        JSON,
        4,
        b"12345678\n1\n123456",
        &["1"],
        &[
            "input:1 (byte 0) #0 over the limit of 4 bytes <1234>",
            "input:3 (byte 11) #2 over the limit of 4 bytes <1234>",
        ],
    );
    check(RAW, 4, b"123456", &[], &["input:1 (byte 0) #0 over the limit of 4 bytes <1234>"]);
    check(
        Kind::Document,
        4,
        b"[1,\"a,b]c\",{\"a\":[1,2]},22]",
        &["1", "22"],
        &[
            "input:1 (byte 3) #1 over the limit of 4 bytes <\"a,b>",
            "input:1 (byte 11) #2 over the limit of 4 bytes <{\"a\">",
        ],
    );
}

#[test]
fn a_last_line_without_its_end_is_a_record() {
    check(LINES, 99, b"a\nb", &["a", "b"], &[]);
    check(JSON, 99, b"1\n2", &["1", "2"], &[]);
    check(CSV, 99, b"n\n1\n2", &["{\"n\":\"1\"}", "{\"n\":\"2\"}"], &[]);
    check(RAW, 99, b"a\nb", &["a\nb"], &[]);
    for kind in KINDS {
        check(kind, 99, b"", &[], &[]);
    }
}

#[test]
fn marks_zeros_and_bytes_that_are_no_text_pass_where_bytes_may_pass() {
    check(LINES, 99, b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n\n\0\n\r\n", &["a", "\u{feff}b", "", "\0", ""], &[]);
    let (records, _) = whole(LINES, 99, b"\xff\xfe\n\xc3");
    assert_eq!(records.iter().map(|record| &record.value[..]).collect::<Vec<_>>(), [&b"\xff\xfe"[..], b"\xc3"]);
    let (records, _) = whole(RAW, 99, b"\xef\xbb\xbf\xff\0\r\n");
    assert_eq!(records[0].value, b"\xef\xbb\xbf\xff\0\r\n");
    check(JSON, 99, b"\xef\xbb\xbf1\n \t\n\r\n2\n", &["1", "2"], &[]);
    check(
        JSON,
        99,
        b"1\n{\"a\":}\n\"\0\"\n\"\xff\"\n2\n",
        &["1", "2"],
        &[
            "input:2 (byte 2) #1 not JSON: expected a JSON value at byte 5 <{\"a\":}>",
            "input:3 (byte 9) #2 not JSON: expected control characters to be escaped at byte 1 <\"\0\">",
            "input:4 (byte 13) #3 not JSON: expected UTF-8 at byte 1 <\"\u{fffd}\">",
        ],
    );
}

#[test]
fn a_broken_row_leaves_its_neighbours_alone() {
    let one = "{\"a\":\"1\",\"b\":\"2\"}";
    check(
        CSV,
        99,
        b"a,b\n1,2\n1,\"2\"x\n1,2\n",
        &[one, one],
        &["input:3 (byte 8) #1 expected `,` or a line break after the quote before byte 5 <1,\"2\"x>"],
    );
    check(CSV, 99, b"a,b\n1,\"2\n1,2\n", &[one], &["input:2 (byte 4) #0 a quote that is never closed <1,\"2>"]);
    check(
        CSV,
        9,
        b"a,b\n1,\"2\n1,2\n1,2\n",
        &[one, one],
        &["input:2 (byte 4) #0 an open quote, and over the limit of 9 bytes <1,\"2\n1,2\n>"],
    );
    check(
        CSV,
        99,
        b"a,b\n1\n1,2,3\n1,\xff\n1,2\n",
        &[one],
        &[
            "input:2 (byte 4) #0 1 fields where the header has 2 <1>",
            "input:3 (byte 6) #1 3 fields where the header has 2 <1,2,3>",
            "input:4 (byte 12) #2 not UTF-8 at byte 2 <1,\u{fffd}>",
        ],
    );
    check(CSV, 99, b"a,b\r\n\"x\r\ny\",\"\"\"\"\r\n\r\n1,2\r\n", &["{\"a\":\"x\\r\\ny\",\"b\":\"\\\"\"}", one], &[]);
    check(CSV, 99, b"a,b\nq\"q,\n1,2\n", &["{\"a\":\"q\\\"q\",\"b\":\"\"}", one], &[]);
    check(
        CSV,
        99,
        b"a,b\n\"1\n2\",\n1",
        &["{\"a\":\"1\\n2\",\"b\":\"\"}"],
        &["input:4 (byte 11) #1 1 fields where the header has 2 <1>"],
    );
}

#[test]
fn a_batch_that_is_full_keeps_the_place_in_an_array() {
    let most = Limit { records: 9, bytes: 20 };
    let found = decode(Kind::Document, &Stamp::default(), 99, b"[\"12345678\",\"12345678\",\"12345678\"]", &[99], most);
    assert_eq!(shown(found), (vec!["\"12345678\"".to_owned(); 3], vec![]));
}

#[test]
fn a_decoder_takes_one_input_after_the_other() {
    for (kind, first, second, records) in [
        (LINES, "aaaa", "b\ncc\n", &["aaaa", "b", "cc"][..]),
        (CSV, "n\n\"\n", "m\n1\n", &["{\"m\":\"1\"}"]),
        (Kind::Document, "[1,[2", "[3,4]", &["1", "3", "4"]),
    ] {
        let mut decoder = decoder(kind, &Stamp::default(), 99);
        let (mut out, mut undecoded, most) = (decoder.builder(), Vec::new(), Limit::default());
        for input in [first, second] {
            let at = |offset: usize| Origin { name: "input", offset: offset as u64 };
            let used = decoder.feed(input.as_bytes(), at(0), &mut out, &mut undecoded, most);
            decoder.end(&input.as_bytes()[used..], at(used), &mut out, &mut undecoded, most);
            assert_eq!(decoder.progress(), Progress::default());
        }
        let mut found = Vec::new();
        take(&out.finish(), &mut found);
        assert_eq!(shown((found, vec![])).0, records);
    }
}

#[test]
fn rows_under_a_header_that_cannot_be_read_are_refused_one_by_one() {
    let rest = "#1 the header of this input could not be read <1,2>";
    check(
        CSV,
        99,
        b"a,a\n1,2\n",
        &[],
        &["input:1 (byte 0) #0 no header: two columns are called `a` <a,a>", &format!("input:2 (byte 4) {rest}")],
    );
    check(
        CSV,
        3,
        b"a,bc\n1,2\n",
        &[],
        &["input:1 (byte 0) #0 over the limit of 3 bytes <a,b>", &format!("input:2 (byte 5) {rest}")],
    );
}

#[test]
fn elements_of_an_array_are_records_and_a_bad_one_is_refused_by_its_index() {
    let document = Kind::Document;
    check(document, 99, b" [ 1 , {\"a\" : [1,\n2]},\"]\\\"\" ]\n", &["1", "{\"a\" : [1,\n2]}", "\"]\\\"\""], &[]);
    check(document, 99, b"[]", &[], &[]);
    check(document, 99, b"{\"a\":\n1}\n", &["{\"a\":\n1}\n"], &[]);
    check(document, 99, b"[1,tru,3]", &["1", "3"], &["input:1 (byte 3) #1 not JSON: expected `true` at byte 0 <tru>"]);
    check(
        document,
        99,
        b"[1,{\"a\":]},3]",
        &["1", "3"],
        &["input:1 (byte 3) #1 not JSON: expected a JSON value at byte 5 <{\"a\":]}>"],
    );
    check(document, 99, b"[1,]", &["1"], &["input:1 (byte 3) #1 not JSON: expected a JSON value at byte 0 <>"]);
    check(document, 99, b"[1,2", &["1"], &["input:1 (byte 3) #1 the document ends inside an array <2>"]);
    check(document, 99, b"[1,", &["1"], &["input:1 (byte 3) #1 the document ends inside an array <>"]);
    check(document, 99, b"[", &[], &["input:1 (byte 1) #0 the document ends inside an array <>"]);
    check(document, 99, b"[1] [2]", &["1"], &["input:1 (byte 4) #1 expected the end of the document <[>"]);
    check(document, 99, b"1 2", &[], &["input:1 (byte 0) #0 not JSON: expected the end of the value at byte 2 <1 2>"]);
}

#[test]
fn key_time_and_fields_are_stamped_while_decoding() {
    let stamp = Stamp {
        key: Some("/user/name".into()),
        time: Some("/ts".into()),
        fields: ["/status".into(), "/tags/1".into(), "/user".into()].into(),
        ids: None,
    };
    let input = concat!(
        "{\"ts\":5,\"user\":{\"name\":\"a\\u0062\"},\"status\":200,\"tags\":[\"x\",{\"y\":1}]}\n",
        "{\"ts\":\"1970-01-01T00:00:01Z\",\"user\":{\"name\":[1, 2]}}\n",
        "{\"status\":1}\n",
        "{\"ts\":\"today\"}\n",
        "{\"ts\":7.9}\n",
    );
    let (records, undecoded) = decode(JSON, &stamp, 999, input.as_bytes(), &[7], Limit::default());
    let record = |key: &str, time, fields: [&str; 3]| (key.to_owned(), time, fields.map(str::to_owned).to_vec());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            (text(&record.key), record.time, record.fields.iter().map(|field| text(field)).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        found,
        [
            record("ab", 5, ["200", "{\"y\":1}", "{\"name\":\"a\\u0062\"}"]),
            record("[1, 2]", 1000, ["", "", "{\"name\":[1, 2]}"]),
            record("", 7, ["", "", ""]),
        ]
    );
    let reasons: Vec<_> = undecoded.iter().map(|undecoded| undecoded.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "no event time at /ts: neither RFC 3339 nor milliseconds, but nothing",
            "no event time at /ts: neither RFC 3339 nor milliseconds, but \"today\"",
        ]
    );
    let names: Vec<_> =
        decoder(JSON, &stamp, 1).builder().finish().more().iter().map(|column| column.name.to_string()).collect();
    assert_eq!(names, ["field:/status", "field:/tags/1", "field:/user"]);
}

#[test]
fn fields_of_a_row_are_stamped_and_those_of_a_line_where_it_is_json() {
    let stamp = Stamp { key: Some("/k".into()), time: None, fields: ["/n".into()].into(), ids: None };
    let stamped = |kind, input: &[u8]| {
        let (records, undecoded) = decode(kind, &stamp, 99, input, &[3], Limit::default());
        assert_eq!(undecoded, []);
        records
            .iter()
            .map(|record| {
                (
                    shown((vec![Record { value: record.key.clone(), ..Record::default() }], vec![])).0.concat(),
                    record.fields[0].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(stamped(CSV, b"k,n\nx,1\n"), [("x".to_owned(), b"\"1\"".to_vec())]);
    assert_eq!(
        stamped(LINES, b"{\"k\":\"x\",\"n\":1}\n{\"k\":\n"),
        [("x".to_owned(), b"1".to_vec()), (String::new(), Vec::new())]
    );
}
