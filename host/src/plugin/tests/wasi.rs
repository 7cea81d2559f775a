//! What a plugin sees of the world: the call's time, the same randomness each time, and nothing else. Guest S14.

use super::*;

/// What the guest logs: clocks, randomness, surroundings.
fn witnessed(instance: &mut WasmInstance, now: i64) -> [String; 3] {
    instance.filter(now, &three()).unwrap();
    let logs: Vec<String> = instance.take_effects().logs.into_iter().map(|(_, text)| text).collect();
    logs.try_into().unwrap()
}

/// Bytes as the guest spells them.
fn spelt(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(b'A' + digit)).collect()
}

#[test]
fn clocks_stand_where_the_call_put_them() {
    let mut instance = filter("witness", &Limits::default());
    for (now, millis) in [(1_700_000_000_123, 1_700_000_000_123_u64), (0, 0), (-5, 0), (i64::MIN, 0)] {
        let [clocks, ..] = witnessed(&mut instance, now);
        let nanos = (millis * 1_000_000).to_le_bytes();
        assert_eq!(clocks, spelt(&[nanos, nanos].concat()), "{now}");
    }
}

#[test]
fn a_replay_draws_the_same_randomness() {
    let mut aged = filter("witness", &Limits::default());
    let [_, first, _] = witnessed(&mut aged, 0);
    let [_, again, _] = witnessed(&mut aged, 7);
    let [_, fresh, _] = witnessed(&mut filter("witness", &Limits::default()), 9);
    assert_eq!(first, again);
    assert_eq!(first, fresh);
    assert_ne!(first, spelt(&[0; 16]));
}

#[test]
fn there_is_no_environment_no_argument_no_folder_and_no_input() {
    let [_, _, surroundings] = witnessed(&mut filter("witness", &Limits::default()), 0);
    let mut expected = [0_u8; 24];
    // `fd_prestat_get` of the first folder answers EBADF, which is 8 in WASI 0.1.
    expected[16] = 8;
    assert_eq!(surroundings, spelt(&expected));
}
