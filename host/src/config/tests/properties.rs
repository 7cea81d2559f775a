//! Property P7: variables never change a tree's shape, secrets are never shown, what is printed reads the same, and
//! every fault has a place.

use proptest::prelude::*;

use super::{
    super::{Tree, Value, codes, print, schema},
    checked, loaded, shown,
};

const GOOD: &str = include_str!("../../../tests/config/good.yaml");
const ENV: &[(&str, &str)] = &[("PORT", "8080"), ("TOKEN", "hunter2")];

fn hostile() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "\n", ": ", "- ", "${a}", "${", "}", "\"", "'", "#", "&x", "*x", "|", ">", "{", "]", ",", "\t", "é", "$$",
        "!!int", "---\n",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat()),
        any::<String>(),
        Just("\n- evil: true".to_owned()),
        Just("x".repeat(1 << 20)),
    ]
}

/// Kinds of values and keys, without the texts that a variable may change.
fn outline(tree: &Tree) -> String {
    match &tree.value {
        Value::List(items) => format!("[{}]", items.iter().map(outline).collect::<String>()),
        Value::Map(entries) => {
            format!(
                "{{{}}}",
                entries.iter().map(|(key, below)| format!("{key:?}{}", outline(below))).collect::<String>()
            )
        }
        _ => ".".to_owned(),
    }
}

fn with_config(config: &str) -> String {
    format!(
        "version: 1\nname: p\nvars: {{ a: {{ env: A }} }}\nsources: {{ in: {{ stdin: {{}} }} }}\nstages:\n  \
         s:\n    from: in\n    map: m\n    config: {config}\nsinks: {{ out: {{ from: s, discard: {{}} }} }}\n"
    )
}

fn config_of(yaml: &str, env: &[(&str, &str)]) -> Tree {
    loaded(yaml, env).unwrap().pipeline.stages.get("s").unwrap().config.clone()
}

const CONFIG: &str = "{ x: \"${a}\", y: [\"${a}${a}\", \"b ${a}\"], z: { w: \"$${a}\" } }";

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_variable_never_changes_the_shape_of_the_tree(value in hostile()) {
        let tree = config_of(&with_config(CONFIG), &[("A", &value)]);
        let plain = config_of(&with_config(CONFIG), &[("A", "x")]);
        prop_assert_eq!(outline(&tree), outline(&plain));
        let text = |tree: &Tree| if let Value::Text(text) = &tree.value { text.clone() } else { String::new() };
        prop_assert_eq!(text(tree.get("x").unwrap()), value);
        prop_assert_eq!(text(tree.get("z").unwrap().get("w").unwrap()), "${a}");
    }

    #[test]
    fn what_is_printed_reads_the_same(value in hostile()) {
        let pipeline = loaded(&with_config(CONFIG), &[("A", &value)]).unwrap().pipeline;
        // What holds a mebibyte in three places is larger than a file may be.
        let Ok(printed) = print(&pipeline) else { return Err(TestCaseError::reject("too large")) };
        let again = loaded(&printed, &[("A", &value)]).unwrap();
        prop_assert_eq!(&again.faults, &[]);
        prop_assert_eq!(again.pipeline, pipeline);
    }

    #[test]
    fn a_secret_is_never_shown(secret in "[a-z0-9\"\\\\\n]{0,6}CANARY[a-z0-9]{0,6}", port in hostile()) {
        let env: &[(&str, &str)] = &[("PORT", &port), ("TOKEN", &secret)];
        let loaded = loaded(GOOD, env).unwrap();
        let facts = super::facts(&loaded);
        let graph = super::check(&loaded, &facts, None);
        let mut all = format!("{loaded:?} {} {graph:?}", print(&loaded.pipeline).unwrap_or_default());
        all += &serde_json::to_string(&loaded.pipeline).unwrap();
        // The same secret where a number, a name or another shape belongs.
        for bad in ["min: \"${token}\"", "min: 1, deep: { list: { x: \"${token}\" } }", "min: 1, other: \"${token}\""] {
            all += &shown(&GOOD.replace("min: 500", bad), env);
        }
        for (field, bad) in [("ms > 1000", "${token}"), ("logs/access.ndjson", "${token}"), ("5s", "${token}"), ("2 #", "\"${token}\" #")] {
            all += &shown(&GOOD.replace(field, bad), env);
        }
        let tail = secret.split("CANARY").nth(1).unwrap_or_default();
        let seen = all.find(&format!("CANARY{tail}")).map(|at| all[..at].chars().rev().take(80).collect::<String>());
        prop_assert_eq!(seen, None);
    }
}

#[test]
fn a_secret_in_sight_is_refused_and_a_variable_takes_the_type_of_its_field() {
    let yaml = GOOD.replace("logs/access.ndjson", "\"${token}\"");
    let faults = checked(&yaml, ENV).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [codes::SECRET_IN_SIGHT]);
    let workers = GOOD.replace("workers: 2", "workers: \"${two}\"").replace("vars:", "vars:\n  two: 2");
    assert_eq!(loaded(&workers, ENV).unwrap().pipeline, {
        let mut good = loaded(GOOD, ENV).unwrap().pipeline;
        good.vars = loaded(&workers, ENV).unwrap().pipeline.vars;
        good
    });
}

#[test]
fn every_fault_is_reported_in_one_run_and_each_has_a_place() {
    let yaml = "
version: 1
name: Bad Name
epoch: soon
sources:
  in: { stdin: {}, rat: 5/s, key: client }
  two: { stdin: {}, generate: {} }
stages:
  s: { from: inn, filter: f, workers: 0, limits: { memory: 64 } }
sinks:
  out: { from: [s.rest], stdout: {} }
  none: { from: [], discard: {} }
";
    let faults = checked(yaml, &[]).unwrap_err();
    let codes: Vec<_> = faults.iter().map(|fault| fault.code).collect();
    let expected = [
        codes::BAD_NAME,
        codes::WRONG_VALUE,
        codes::UNKNOWN_FIELD,
        codes::BAD_POINTER,
        codes::UNREAD,
        codes::NOT_ONE_KIND,
        codes::UNREAD,
        codes::NO_SUCH_OUTPUT,
        codes::OUT_OF_RANGE,
        codes::WRONG_VALUE,
        codes::NO_INPUT,
    ];
    for code in expected {
        assert!(codes.contains(&code), "{code} is missing among {codes:?}");
    }
    assert!(faults.iter().all(|fault| fault.labels.first().is_some_and(|label| !label.span.is_empty())), "{faults:?}");
    let json = faults[0].to_json();
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(3), Some(7)));
}

#[test]
fn the_schema_takes_the_good_file_and_refuses_an_unknown_field() {
    let schema = schema::pipeline();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good: serde_json::Value = serde_saphyr::from_str(GOOD).unwrap();
    let errors: Vec<_> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let bad: serde_json::Value = serde_saphyr::from_str(&GOOD.replace("epoch:", "epoche:")).unwrap();
    assert!(!validator.is_valid(&bad));
    assert!(jsonschema::validator_for(&schema::host()).is_ok());
}
