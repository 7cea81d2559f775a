//! A call succeeds as a whole, or has had no effect. Guests S15 and S16.

use super::*;

#[test]
fn what_a_plugin_keeps_comes_back_checked() {
    let mut instance = filter("keep", &Limits::default());
    for batch in [values(&[]), three(), three()] {
        let selection = instance.filter(0, &batch).unwrap();
        assert_eq!(selection.keep.len(), batch.len());
        assert_eq!(selection.refused, Refusals::default());
    }
    let usage = instance.usage();
    assert!(usage.fuel > 0 && usage.fuel < usage.fuel_budget && usage.nanos > 0, "{usage:?}");
}

#[test]
fn a_refused_config_is_told_in_the_plugins_words() {
    let refused = plugin("keep").instantiate(&Limits::default(), &json!("too high")).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, FaultKind::InstantiateFailed);
    assert_eq!(refused.message, "the plugin could not be configured: \"too high\"");
}

#[test]
fn a_panic_is_reported_with_record_place_and_standard_error() {
    let fault = fault("panics", &Limits::default());
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(fault.message, "no status in record");
    assert_eq!(fault.at, Some(3));
    assert_eq!(fault.place.as_deref(), Some("src/lib.rs:12"));
    assert_eq!(fault.stderr, "on the way down");
    assert!(!fault.backtrace.is_empty());
}

#[test]
fn logs_and_counts_of_a_failed_call_never_happened() {
    let mut instance = filter("report", &Limits::default());
    instance.filter(0, &three()).unwrap();
    instance.filter(0, &three()).unwrap();
    let seen = (Level::Warn, "seen".to_owned());
    let done = Effects { logs: vec![seen.clone(), seen.clone()], counts: vec![("seen".into(), 4)] };
    assert_eq!(instance.take_effects(), done);
    assert!(instance.take_effects().is_empty());

    instance.filter(0, &three()).unwrap();
    instance.filter(0, &values(&["!"])).unwrap_err();
    assert_eq!(instance.take_effects(), Effects { logs: vec![seen], counts: vec![("seen".into(), 2)] });
}

#[test]
fn nothing_is_called_after_a_fault_and_nothing_is_left_of_it() {
    let plugin = plugin("remember");
    let fresh = || plugin.instantiate(&Limits::default(), &json!({})).unwrap();
    let logged = |instance: &mut WasmInstance| instance.take_effects().logs.pop().unwrap().1;

    let mut first = fresh();
    first.filter(0, &values(&["aged"])).unwrap();
    assert_eq!(logged(&mut first), "\0\0\0\0");
    first.filter(0, &values(&["next"])).unwrap();
    assert_eq!(logged(&mut first), "aged", "the guest does remember between calls");
    first.filter(0, &values(&["!sec"])).unwrap_err();
    let after = first.filter(0, &three()).unwrap_err();
    assert_eq!(after.message, "an instance is called after a fault");

    let mut second = fresh();
    second.filter(0, &three()).unwrap();
    assert_eq!(logged(&mut second), "\0\0\0\0");
}

#[test]
fn host_functions_survive_whatever_they_are_called_with() {
    let cases: &[(&str, Option<FaultKind>)] = &[
        ("a: a level that is none", Some(FaultKind::BadReply)),
        ("b: a message that is not UTF-8", Some(FaultKind::BadReply)),
        ("c: a message outside the memory", Some(FaultKind::BadReply)),
        ("d: a count beyond u64", None),
        ("e: a column whose ends do not fit", None),
        ("f: a column of eight million keys", Some(FaultKind::OutputLimit)),
        ("g: last words of 32 KiB", None),
        ("h: a counter with a name of 300 bytes", Some(FaultKind::OutputLimit)),
        ("i: 16 MiB of randomness", Some(FaultKind::Trap)),
    ];
    for (case, expected) in cases {
        let mut instance = filter("abuse", &Limits::default());
        let found = instance.filter(0, &values(&[case])).err();
        assert_eq!(found.as_ref().map(|fault| fault.kind), *expected, "{case}: {found:?}");
    }
}

#[test]
fn a_panic_in_a_host_function_unwinds_to_the_caller_and_spoils_no_other_instance() {
    let plugin = plugin("abuse");
    let fresh = || plugin.instantiate(&Limits::default(), &json!({})).unwrap();
    let mut neighbour = fresh();
    for _ in 0..10 {
        let call = std::panic::AssertUnwindSafe(|| fresh().filter(0, &values(&["j: a counter called panic"])));
        let panic = std::panic::catch_unwind(call).expect_err("the host panics");
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains("a host function panics"), "{message}");
        assert_eq!(neighbour.filter(0, &three()).unwrap().keep.len(), 3);
        assert_eq!(fresh().filter(0, &three()).unwrap().keep.len(), 3);
    }
}

#[test]
fn a_plugin_is_asked_only_for_what_it_is() {
    let fault = filter("keep", &Limits::default()).map(0, &three()).unwrap_err();
    assert_eq!(fault.message, "the plugin is no map");
}
