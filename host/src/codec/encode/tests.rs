use super::*;

#[test]
fn what_a_format_cannot_write_is_refused_and_the_rest_is_written() {
    #[track_caller]
    fn check(format: Format, values: &[&str], written: &str, refused: &[(usize, &str)]) {
        let (mut out, mut found) = (Vec::new(), Vec::new());
        Encoder::new(format).encode(&Batch::of_values(values.iter().collect()), 0..values.len(), &mut out, &mut found);
        assert_eq!(String::from_utf8(out).unwrap(), written);
        let found: Vec<_> = found.iter().map(|refusal| (refusal.at, refusal.reason.as_str())).collect();
        assert_eq!(found, refused);
    }
    check(Format::Lines, &["a", "b\nc", ""], "a\n\n", &[(1, "a line break at byte 1, which a line cannot hold")]);
    check(
        Format::Json,
        &["[1,\r\n2]", "\"\n\"", " ", "3"],
        "[1,  2]\n3\n",
        &[(1, "not JSON: expected control characters to be escaped at byte 1"), (2, "not JSON: nothing in it")],
    );
    check(Format::Raw, &["a", "\nb"], "a\nb", &[]);
    check(
        Format::Csv,
        &[
            "7",
            "{}",
            "{\"a\":1,\"b\":\"x\\\"y\"}",
            "{\"b\":null}",
            "{\"b\":[1,2],\"a\":true}",
            "{\"a\":1,\"c\":2}",
            "{\"a\":1",
            "{\"\\u0061\":2}",
        ],
        "a,b\n1,\"x\"\"y\"\n,\ntrue,\"[1,2]\"\n2,\n",
        &[
            (0, "expected a JSON object at byte 0"),
            (1, "no member that could name a column"),
            (5, "the header has no column `c`"),
            (6, "expected `,` or `}` at byte 6"),
        ],
    );
    check(Format::Csv, &["{\"a\":\"\"}", "{\"a\":\"\\r\"}"], "a\n\"\"\n\"\r\"\n", &[]);
}

#[test]
fn an_encoder_goes_on_under_the_header_that_is_there() {
    let mut out = b"\n\"b\",a\r\n1,2\r\n".to_vec();
    let mut encoder = Encoder::resume(Format::Csv, &out).unwrap();
    encoder.encode(&Batch::of_values(["{\"a\":1,\"b\":2}"].iter().collect()), 0..1, &mut out, &mut Vec::new());
    assert!(out.ends_with(b"1,2\r\n2,1\n"));
    for (head, expected) in
        [("a,b", "find the end of the header line in the first 3 bytes"), ("a,a\n", "two columns are called `a`")]
    {
        assert_eq!(Encoder::resume(Format::Csv, head.as_bytes()).unwrap_err().root_cause().to_string(), expected);
    }
}
