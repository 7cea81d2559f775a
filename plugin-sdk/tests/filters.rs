//! What a filter may rely on.

use tidegate_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Limit {
    max: f64,
}

#[filter(fields = ["/a/b", "/c"])]
fn by_fields(config: &Limit, record: &Record) -> Result<bool> {
    ensure!(record.value().is_empty(), "the value has crossed");
    Ok(record.field_as::<Option<f64>>(0)?.is_some_and(|b| b <= config.max) && record.field(1)? != b"null")
}

#[test]
fn fields_come_as_columns_and_the_value_stays_outside() {
    let records =
        [r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 9}}"#, "{}", r#"{"a": {"b": 1}, "c": null}"#].map(testing::json);
    let given = testing::filter::<by_fields>(json!({ "max": 5 }), records);
    assert_eq!((given.kept, given.refused), (vec![0], vec![]));
    let described = testing::describe::<by_fields>();
    assert_eq!((&described["values"], &described["needs"]), (&json!(false), &json!(["field:/a/b", "field:/c"])));
}

#[test]
fn a_field_of_another_form_is_refused_by_its_name() {
    let given = testing::filter::<by_fields>(json!({ "max": 5 }), [testing::json(r#"{"a": {"b": "x"}}"#)]);
    assert!(given.refused[0].reason.starts_with("field /a/b: invalid type: string"), "{}", given.refused[0].reason);
}

#[filter(values = false)]
fn everything(_record: &Record) -> Result<bool> {
    Ok(true)
}

#[test]
fn a_filter_that_wants_nothing_still_sees_every_record() {
    assert_eq!(testing::filter::<everything>("", [testing::text("a"), testing::text("b")]).kept, [0, 1]);
}

#[filter(name = "other-name", values = false)]
fn parses_all_the_same(record: &Record) -> Result<bool> {
    record.json()
}

#[test]
fn parsing_a_value_that_was_not_asked_for_says_how_to_ask() {
    let given = testing::filter::<parses_all_the_same>("", [testing::json("true")]);
    assert!(given.refused[0].reason.contains("add `values = true`"), "{}", given.refused[0].reason);
    assert_eq!(testing::describe::<parses_all_the_same>()["name"], "other-name");
}

#[filter]
fn forgetful(record: &Record) -> Result<bool> {
    let asked = [
        record.key().map(drop),
        record.time().map(drop),
        record.headers().map(drop),
        record.id().map(drop),
        record.random().map(drop),
        record.input().map(drop),
        record.is_null().map(drop),
        record.field(0).map(drop),
    ];
    let cures: Vec<String> = asked.into_iter().filter_map(|read| Some(read.err()?.to_string())).collect();
    bail!(cures.join("\n"))
}

#[test]
fn reading_a_column_that_was_not_asked_for_says_how_to_ask() {
    let reason = testing::filter::<forgetful>("", [testing::text("x")]).refused.remove(0).reason;
    for word in ["keys", "timestamps", "headers", "id", "input", "null"] {
        assert!(reason.contains(&format!("needs = [\"{word}\"]")), "{word}: {reason}");
    }
    assert!(reason.contains("add it to `fields = [..]`"), "{reason}");
    assert_eq!(reason.lines().count(), 8);
}

#[filter(needs = ["null", "input", "id"])]
fn curious(record: &Record) -> Result<bool> {
    ensure!(record.id()?[0] == 7, "another id");
    Ok(record.is_null()? && record.input()? == 2)
}

#[test]
fn what_was_asked_for_is_there() {
    let records = [testing::tombstone().input(2).id(7), testing::text("").input(2).id(7), testing::tombstone().id(7)];
    assert_eq!(testing::filter::<curious>("", records).kept, [0]);
}

#[filter]
fn fails_on_the_whole(_record: &Record) -> Result<bool> {
    Err(anyhow!("inner").context("outer"))
}

#[test]
fn a_reason_names_the_whole_chain_of_causes() {
    assert_eq!(testing::filter::<fails_on_the_whole>("", [testing::text("x")]).refused[0].reason, "outer: inner");
}

#[filter(batch)]
fn refuses_the_batch(_batch: &Batch) -> Result<Selection> {
    bail!("not today")
}

#[test]
fn an_error_about_the_batch_refuses_every_record_of_it() {
    let given = testing::filter::<refuses_the_batch>("", [testing::text("x"), testing::text("y")]);
    assert_eq!(given.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_configuration_that_does_not_fit_is_told_in_a_line() {
    let error = testing::configure::<by_fields>(json!({ "max": 1, "min": 2 })).unwrap_err();
    assert!(error.starts_with("configuration does not fit: unknown field `min`"), "{error}");
    assert!(testing::configure::<everything>("null").is_ok());
    assert!(testing::configure::<everything>(json!({ "x": 1 })).is_err());
}

#[filter(needs = ["id"])]
fn dice(record: &Record) -> Result<bool> {
    let mut random = record.random()?;
    bail!("{} {}", random.next_u64(), random.below(6))
}

#[test]
fn random_numbers_belong_to_the_id_and_never_change() {
    let throw = |id| testing::filter::<dice>("", [testing::text("x").id(id)]).refused.remove(0).reason;
    assert_eq!(throw(1), throw(1));
    assert_ne!(throw(1), throw(2));
    assert_ne!(throw(1), throw(1 << 64));
    assert_eq!(throw(0), RANDOM_OF_ZERO);
}

/// Outputs that were sent already may depend on it.
const RANDOM_OF_ZERO: &str = "12035550249420947055 4";
