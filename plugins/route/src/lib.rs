//! `std/route`: sends each record to the outputs whose predicates hold.
//!
//! Owns what becomes of a record for which several hold, or none. Its outputs are the fields of its configuration.
//! Invariant: it looks at one record at a time, and none is lost.

#[path = "../../predicate.rs"]
mod predicate;

use std::collections::BTreeMap;

use predicate::Predicate;
use tidegate_plugin::prelude::*;

/// A CEL expression over the record's fields for each output, such as `slow: "ms > 1000"`.
///
/// A record goes to every output whose expression holds, and to the main output where none does.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Config {
    outputs: BTreeMap<String, Predicate>,
}

#[map(outputs_from_config)]
fn route(config: &Config, record: &Record, out: &mut Outputs) -> Result<()> {
    let mut held = false;
    for (output, predicate) in &config.outputs {
        if predicate.holds(record)? {
            out.same().to(output)?;
            held = true;
        }
    }
    if !held {
        out.same();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(record: Value, expected: &[Option<&str>]) {
        let config = json!({ "slow": "ms > 1000", "robots": "ua.contains('bot')" });
        let given = testing::map::<route>(config, [testing::json(&record).key("k")]);
        let outputs: Vec<_> = given.outputs.iter().map(|out| out.to.as_deref()).collect();
        assert_eq!(outputs, expected, "{record}");
        assert!(given.outputs.iter().all(|out| out.json() == record && out.key == b"k"));
    }

    #[test]
    fn a_record_goes_to_every_output_whose_predicate_holds_and_else_to_the_main_one() {
        check(json!({ "ms": 2000, "ua": "firefox" }), &[Some("slow")]);
        check(json!({ "ms": 2000, "ua": "a bot" }), &[Some("robots"), Some("slow")]);
        check(json!({ "ms": 2, "ua": "firefox" }), &[None]);
        check(json!({ "path": "/" }), &[None]);
    }

    #[test]
    fn a_record_whose_types_do_not_fit_is_refused_and_goes_nowhere() {
        let given = testing::map::<route>(json!({ "a": "x == 1", "b": "x > 1" }), [testing::json(r#"{ "x": "1" }"#)]);
        assert_eq!((given.outputs.len(), given.refused.len()), (0, 1));
    }

    #[test]
    fn its_outputs_are_the_fields_of_its_configuration() {
        assert_eq!(testing::describe::<route>()["outputs-from-config"], true);
    }
}
