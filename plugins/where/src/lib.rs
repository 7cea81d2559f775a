//! `std/where`: keeps the records for which a predicate holds.
//!
//! Owns nothing but the question; [`predicate`] answers it. Invariant: it looks at one record at a time.

#[path = "../../predicate.rs"]
mod predicate;

use predicate::Predicate;
use tidegate_plugin::prelude::*;

/// What to keep.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A CEL expression over the record's fields, such as `status >= 500 && path.startsWith('/api')`. A record without a
    /// field that decides is not kept.
    #[serde(rename = "where")]
    predicate: Predicate,
}

#[filter(name = "where")]
fn keep(config: &Config, record: &Record) -> Result<bool> {
    config.predicate.holds(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(predicate: &str, record: Value, expected: Result<bool, &str>) {
        let given = testing::filter::<keep>(json!({ "where": predicate }), [testing::json(&record)]);
        match expected {
            Ok(kept) => {
                assert_eq!((given.kept.len(), given.refused), (usize::from(kept), vec![]), "{predicate} {record}")
            }
            Err(part) => assert!(given.refused[0].reason.contains(part), "{}", given.refused[0].reason),
        }
    }

    #[test]
    fn a_predicate_compares_numbers_whatever_their_form() {
        check("status >= 500", json!({ "status": 503 }), Ok(true));
        check("status >= 500", json!({ "status": 499 }), Ok(false));
        check("ms > 1000", json!({ "ms": 1000.5 }), Ok(true));
        check("ms > 1.5", json!({ "ms": 2 }), Ok(true));
        check("n == 18446744073709551615u", json!({ "n": u64::MAX }), Ok(true));
    }

    #[test]
    fn a_predicate_sees_text_lists_and_nested_fields() {
        check("ua.contains('bot')", json!({ "ua": "a bot" }), Ok(true));
        check("path.startsWith('/api') && !secure", json!({ "path": "/api/x", "secure": false }), Ok(true));
        check("labels.env == 'prod'", json!({ "labels": { "env": "prod" } }), Ok(true));
        check("'a' in tags", json!({ "tags": ["b", "a"] }), Ok(true));
        check("tags.exists(tag, tag.size() > 2)", json!({ "tags": ["b", "abc"] }), Ok(true));
        check("user == null", json!({ "user": null }), Ok(true));
    }

    #[test]
    fn where_a_field_is_missing_neither_a_predicate_nor_its_negation_holds() {
        check("ms > 1000", json!({}), Ok(false));
        check("!(ms > 1000)", json!({}), Ok(false));
        check("labels.env == 'prod'", json!({ "labels": {} }), Ok(false));
        check("ms > 1000 || status >= 500", json!({ "status": 503 }), Ok(true));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        check("status >= 500", json!({ "status": "503" }), Err("the predicate cannot be computed"));
        check("status", json!({ "status": 503 }), Err("comes to int"));
        check("shout(status)", json!({ "status": 503 }), Err("shout"));
        check("status >= 500", json!("text"), Ok(false));
    }

    #[test]
    fn a_broken_expression_is_an_error_of_the_configuration() {
        let error = testing::configure::<keep>(json!({ "where": "status >=" })).unwrap_err();
        assert!(error.contains("`status >=`"), "{error}");
    }
}
