//! What a map may rely on.

use tidegate_plugin::prelude::*;

/// Does what the record says, in one letter each.
#[map(outputs = ["left", "right"])]
fn obedient(record: &Record, out: &mut Outputs) -> Result<()> {
    for letter in record.text()?.chars() {
        let _put = match letter {
            's' => out.same(),
            'v' => out.value("new"),
            'k' => out.same().key("new"),
            't' => out.same().time(99),
            'h' => out.same().header("new", "1").header("newer", "2"),
            'a' => out.value("all").key("all").time(100).header("all", "3"),
            '0' => out.tombstone(),
            'l' => out.same().to("left")?,
            'r' => out.value("r").to("right")?,
            'u' => out.same().to(&letter.to_string())?,
            _ => bail!("told to"),
        };
    }
    Ok(())
}

fn record(letters: &str) -> testing::Input {
    testing::text(letters).key("key").time(7).header("old", "0")
}

#[test]
fn what_an_output_does_not_set_is_its_origins_whatever_others_of_the_batch_set() {
    let letters = ["s", "v", "k", "t", "h", "a", "0", "l", "r", "", "vkth", "aas", "x", "vx", "u"];
    let together = testing::map::<obedient>("", letters.map(record));
    let mut alone = Vec::new();
    for (origin, letters) in letters.iter().enumerate() {
        let outputs = testing::map::<obedient>("", [record(letters)]).outputs;
        alone.extend(outputs.into_iter().map(|out| testing::Out { origin, ..out }));
    }
    assert_eq!(together.outputs, alone);
    assert_eq!(together.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [12, 13, 14]);
}

#[test]
fn each_part_of_an_output_can_be_set() {
    let out = testing::map::<obedient>("", [record("akh0r")]).outputs;
    let old = vec![("old".to_owned(), b"0".to_vec())];
    let new = vec![("new".to_owned(), b"1".to_vec()), ("newer".to_owned(), b"2".to_vec())];
    assert_eq!((out[0].value.as_slice(), out[0].key.as_slice(), out[0].time), (&b"all"[..], &b"all"[..], 100));
    assert_eq!((out[1].value.as_slice(), out[1].key.as_slice(), &out[1].headers), (&b"akh0r"[..], &b"new"[..], &old));
    assert_eq!((out[2].key.as_slice(), &out[2].headers), (&b"key"[..], &new));
    assert_eq!((out[3].null, out[3].value.as_slice(), out[2].null), (true, &b""[..], false));
    assert_eq!(out[4].to.as_deref(), Some("right"));
}

#[test]
fn an_output_that_the_plugin_has_not_refuses_the_record() {
    let given = testing::map::<obedient>("", [record("su")]);
    assert_eq!(given.outputs, []);
    assert!(given.refused[0].reason.contains("no output `u`, only [\"left\", \"right\"]"), "{:?}", given.refused);
}

#[test]
fn a_tombstone_passed_on_stays_one() {
    assert!(testing::map::<pass>("", [testing::tombstone().key("gone")]).outputs[0].null);
}

#[map(values = false)]
fn pass(_record: &Record) -> Result<Output> {
    Ok(Output::same())
}

#[map]
fn returns(record: &Record) -> Result<Option<Output>> {
    Ok(match record.text()? {
        "none" => None,
        "all" => Some(Output::value("v").key("k").time(1).header("h", "1")),
        "null" => Some(Output::tombstone()),
        other => Some(Output::json(other)?.to("nowhere".to_owned())),
    })
}

#[test]
fn a_map_may_return_what_it_puts_out() {
    let given = testing::map::<returns>("", ["none", "all", "null", "else"].map(record));
    assert_eq!(given.outputs.iter().map(|out| out.origin).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(given.outputs[0].headers, [("h".to_owned(), b"1".to_vec())]);
    assert_eq!(given.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [3]);
}

#[map(batch)]
fn pairs(batch: &Batch, out: &mut Outputs) -> Result<()> {
    for at in (1..batch.len()).step_by(2) {
        let pair = [batch.values().get(at - 1), batch.values().get(at)].concat();
        out.from(at)?.value(pair);
        if batch.values().get(at) == b"!" {
            out.refuse(at, anyhow!("an exclamation"));
        }
    }
    ensure!(out.from(batch.len()).is_err(), "there is no such record");
    Ok(())
}

#[test]
fn a_map_of_whole_batches_says_where_outputs_come_from() {
    let given = testing::map::<pairs>("", ["a", "b", "c", "!", "e"].map(testing::text));
    assert_eq!(
        given.outputs.iter().map(|out| (out.origin, out.value.as_slice())).collect::<Vec<_>>(),
        [(1, &b"ab"[..])]
    );
    assert_eq!(given.refused, [testing::Refused { at: 3, reason: "an exclamation".into() }]);
}

#[map]
fn unwritable(record: &Record, out: &mut Outputs) -> Result<()> {
    out.value("first");
    let broken = std::collections::BTreeMap::from([((1, 2), record.text()?)]);
    out.json(&broken)?;
    Ok(())
}

#[test]
fn what_does_not_serialise_refuses_the_record_and_leaves_nothing_behind() {
    let given = testing::map::<unwritable>("", [testing::text("x")]);
    assert_eq!(given.outputs, []);
    assert!(given.refused[0].reason.starts_with("output does not serialise"), "{:?}", given.refused);
}
