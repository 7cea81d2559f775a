//! Every limit fires, and says which it was. Guests S1 to S4, S6, S12 and S13.

use std::time::Duration;

use super::super::fault::{Failure, report};
use super::super::guest::Guest;
use super::*;

/// Fuel enough that something else has to end the call.
fn much_fuel() -> Limits {
    Limits { fuel_per_record: 1 << 50, ..Limits::default() }
}

#[test]
fn each_misdeed_is_one_kind_of_fault_and_is_named() {
    let cases: &[(&str, FaultKind, &str)] = &[
        ("spin", FaultKind::OutOfFuel, "the fuel for the call ran out"),
        ("fill", FaultKind::OutOfFuel, "the fuel for the call ran out"),
        ("recurse", FaultKind::Trap, "call stack exhausted"),
        ("hoard", FaultKind::MemoryLimit, "its limit is 67108864"),
        ("tables", FaultKind::MemoryLimit, "table elements, the limit is 200000"),
        ("exit", FaultKind::Exit, "exit with status 1"),
        ("unreachable", FaultKind::Trap, "`unreachable` instruction executed"),
        ("divide", FaultKind::Trap, "integer divide by zero"),
        ("outside", FaultKind::Trap, "out of bounds memory access"),
        ("mistaken", FaultKind::Trap, "indirect call type mismatch"),
        ("beyond", FaultKind::BadReply, "keep: position 3 of 3 inputs"),
        ("stray", FaultKind::BadReply, "out of bounds"),
        ("flood", FaultKind::OutputLimit, "gave back more bytes than its limit"),
        ("chatter", FaultKind::OutputLimit, "logged more than 65536 bytes in one call"),
        ("counters", FaultKind::OutputLimit, "counts under more than 64 names"),
        ("print", FaultKind::OutOfFuel, "the fuel for the call ran out"),
        ("sleep", FaultKind::Trap, "asked to sleep"),
    ];
    let mut neighbour = filter("keep", &Limits::default());
    for (name, kind, message) in cases {
        let fault = fault(name, &Limits::default());
        assert_eq!(fault.kind, *kind, "{name}: {}", fault.message);
        assert!(fault.message.contains(message), "{name}: {}", fault.message);
        assert_eq!(neighbour.filter(0, &three()).unwrap().keep.len(), 3, "beside {name}");
    }
}

#[test]
fn a_loop_burns_the_same_fuel_each_time() {
    let burnt: Vec<u64> = (0..100).map(|_| fault("spin", &Limits::default()).fuel).collect();
    assert!(burnt[0] >= Limits::default().fuel(3, 3 + 3 + 5 + 3 * 4));
    assert!(burnt.iter().all(|fuel| *fuel == burnt[0]));
}

#[test]
fn fuel_follows_records_and_bytes() {
    let limits = Limits { fuel_per_record: 7, fuel_per_byte: 3, ..Limits::default() };
    let base = limits.fuel(0, 0);
    assert_eq!(limits.fuel(10, 100), base + 70 + 300);
    assert_eq!(Limits { fuel_per_record: u64::MAX, ..limits }.fuel(10, 100), u64::MAX);
}

#[test]
fn the_wall_clock_ends_what_fuel_does_not() {
    for name in ["spin", "fill", "print"] {
        let fault = fault(name, &Limits { time: Duration::from_millis(50), ..much_fuel() });
        assert_eq!(fault.kind, FaultKind::Deadline, "{name}: {}", fault.message);
    }
}

#[test]
fn an_interrupt_ends_calls_under_way_and_later_ones_and_is_nobodys_fault() {
    let limits = Limits { time: Duration::from_secs(3600), ..much_fuel() };
    for name in ["spin", "fill", "print"] {
        let interrupt = Interrupt::default();
        let mut instance = filter(name, &limits).under(&interrupt);
        let call = std::thread::spawn(move || instance.filter(0, &three()).unwrap_err());
        interrupt.raise();
        assert_eq!(call.join().unwrap().kind, FaultKind::Interrupted, "{name}");
    }
}

#[test]
fn more_handles_than_are_lent_is_a_fault_of_memory() {
    let mut guest = Guest::new(&Limits::default(), true, &Arc::default());
    let full = (0..1000).find_map(|_| guest.handles.push(()).err()).expect("handles run out");
    let fault = report(Failure::Ended(full.into()), &guest, 0);
    assert_eq!((fault.kind, fault.message.contains("handles")), (FaultKind::MemoryLimit, true));
}

#[test]
fn deep_recursion_leaves_the_process_alive() {
    for _ in 0..100 {
        assert_eq!(fault("recurse", &much_fuel()).message, "call stack exhausted");
    }
}

#[test]
fn memory_up_to_the_limit_is_no_fault() {
    let mut instance = filter("content", &Limits::default());
    assert_eq!(instance.filter(0, &three()).unwrap().keep, [0, 1, 2]);
    let held = instance.usage().memory;
    assert!(held <= 64 << 20 && held > 62 << 20, "{held}");
}

#[test]
fn a_module_that_begins_above_its_memory_limit_is_not_instantiated() {
    let limits = Limits { memory: 64 << 10, ..Limits::default() };
    let fault = plugin("keep").instantiate(&limits, &json!({})).map(|_| ()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::InstantiateFailed);
    assert!(fault.message.contains("memory"), "{}", fault.message);
}

#[test]
fn a_state_over_its_limit_is_thrown_away() {
    let plugin = Plugin::load(&ENGINE, &guest(Kind::Aggregate, "states")).unwrap();
    let groups = Groups { states: Column::blank(2), keys: ["a", "b"].iter().collect(), windows: None };
    let accumulate = |limits: &Limits| {
        let mut instance = plugin.instantiate(limits, &json!({})).unwrap();
        instance.accumulate(0, &groups, &[0, 1, 0], &three())
    };
    let fault = accumulate(&Limits::default()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutputLimit);
    assert_eq!(fault.message, "state 0 has 100000 bytes, the limit is 65536");
    assert_eq!(accumulate(&Limits { state: 100_000, ..Limits::default() }).unwrap().states.len(), 2);
}

#[test]
fn what_is_printed_is_kept_in_little() {
    let fault = fault("print", &Limits::default());
    assert!(fault.stderr.len() <= 8 << 10, "{}", fault.stderr.len());
}

/// Guest S5.
#[test]
fn sixty_four_instances_that_take_all_they_can_hold_no_more_than_their_limits_together() {
    let limits = Limits { memory: 2 << 20, ..much_fuel() };
    let (greedy, modest) = (plugin("hoard"), plugin("keep"));
    let mut all: Vec<WasmInstance> = (0..64).map(|_| greedy.instantiate(&limits, &json!({})).unwrap()).collect();
    let mut neighbour = modest.instantiate(&limits, &json!({})).unwrap();
    for instance in &mut all {
        assert_eq!(instance.filter(0, &three()).unwrap_err().kind, FaultKind::MemoryLimit);
        assert_eq!(neighbour.filter(0, &three()).unwrap().keep.len(), 3);
    }
    let held: u64 = all.iter().map(|instance| instance.usage().memory).sum();
    assert!((64 << 20..=64 * limits.memory).contains(&held), "{held}");
}
