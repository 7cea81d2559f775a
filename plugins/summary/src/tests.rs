//! What a summary comes to.

use super::*;

fn latency(ms: f64) -> testing::Input {
    testing::json(json!({ "path": "/x", "ms": ms })).key("/x")
}

fn config() -> Value {
    json!({ "field": "/ms", "quantiles": [0.5, 0.95, 0.999], "echo": ["/path"] })
}

#[test]
fn a_window_is_summed_up_under_the_fields_that_name_it() {
    let mut groups = testing::Groups::<Summary>::new(json!({ "field": "/ms", "echo": ["/path"] })).window(0, 10_000);
    groups.add([7.0, 9.0, 2.0].map(latency));
    let expected = json!({ "path": "/x", "start": 0, "end": 10_000, "count": 3, "min": 2.0, "mean": 6.0, "max": 9.0 });
    let out = groups.finish(Occasion::Closed).outputs.remove(0);
    assert_eq!((out.json(), out.key.as_slice()), (expected, &b"/x"[..]));
}

#[test]
fn without_fields_to_name_it_a_group_comes_out_under_its_key() {
    let mut groups = testing::Groups::<Summary>::new(json!({ "field": "/ms" }));
    groups.add([latency(1.0)]);
    assert_eq!(groups.finish(Occasion::Asked).outputs[0].json()["key"], "/x");
}

#[test]
fn quantiles_are_within_a_hundredth_of_the_true_ones() {
    let mut groups = testing::Groups::<Summary>::new(config());
    groups.add((1..=1000).map(|ms| latency(f64::from(ms))));
    let result = groups.finish(Occasion::Closed).outputs[0].json();
    for (name, expected) in [("p50", 500.0), ("p95", 950.0), ("p99.9", 999.0)] {
        let value = result[name].as_f64().unwrap();
        assert!((value - expected).abs() <= expected * 0.01, "{name}: {value}");
    }
}

#[test]
fn no_quantile_lies_beyond_the_smallest_or_the_largest_number() {
    let all = json!({ "field": "/ms", "quantiles": [0, 0.01, 0.5, 0.99, 1] });
    for numbers in [&[7.0][..], &[0.0; 3], &[-5.0, -5.0], &[1.0, 1.01, 1.02], &[-3.0, 0.0, 1e9]] {
        let mut groups = testing::Groups::<Summary>::new(all.clone());
        groups.add(numbers.iter().map(|number| latency(*number)));
        let result = groups.finish(Occasion::Closed).outputs[0].json();
        for name in ["p0", "p1", "p50", "p99", "p100"] {
            let (value, min, max) = (&result[name], &result["min"], &result["max"]);
            assert!(value.as_f64() >= min.as_f64() && value.as_f64() <= max.as_f64(), "{name} of {numbers:?}: {value}");
        }
    }
}

#[test]
fn other_batches_and_a_merge_come_to_the_same() {
    let all: Vec<_> = (1..=100).map(|ms| latency(f64::from(ms * ms % 37))).collect();
    let mut whole = testing::Groups::<Summary>::new(config());
    whole.add(all.clone());
    let mut cut = testing::Groups::<Summary>::new(config());
    all.chunks(7).for_each(|some| drop(cut.add(some.to_vec())));
    assert_eq!(whole.state("/x"), cut.state("/x"));
    let (mut first, mut second) =
        (testing::Groups::<Summary>::new(config()), testing::Groups::<Summary>::new(config()));
    first.add(all[..40].to_vec());
    second.add(all[40..].to_vec());
    first.merge(&second);
    assert_eq!(first.finish(Occasion::Closed), whole.finish(Occasion::Closed));
}

#[test]
fn a_record_without_the_number_is_refused_and_leaves_no_trace() {
    let mut groups = testing::Groups::<Summary>::new(config());
    let given = groups.add([latency(1.0), testing::json(r#"{ "path": "/x" }"#).key("/x"), latency(3.0)]);
    assert_eq!(given.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [1]);
    assert!(given.refused[0].reason.contains("field /ms"), "{}", given.refused[0].reason);
    assert_eq!(groups.finish(Occasion::Closed).outputs[0].json()["count"], 2);
}

#[test]
fn a_quantile_over_one_is_an_error_of_the_configuration() {
    let error = testing::configure::<Summary>(json!({ "field": "/ms", "quantiles": [95] })).unwrap_err();
    assert!(error.contains("95 is not from 0 to 1"), "{error}");
}

#[test]
fn the_state_of_widely_spread_numbers_stays_small() {
    let mut groups = testing::Groups::<Summary>::new(config());
    groups.add((-300..300).map(|exponent| latency(10f64.powi(exponent))));
    let size = groups.state("/x").unwrap().len();
    assert!(size < 16 << 10, "{size} bytes");
}
