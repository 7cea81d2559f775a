//! Model P4: the search against running each row alone.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What makes a call of the model fault.
#[derive(Clone, Debug)]
enum Poison {
    /// One of these rows.
    Rows(BTreeSet<usize>),
    /// The n-th call of all, and no other.
    Once(usize),
    /// The n-th call of every instance, and those after it.
    Aged(usize),
    /// Sizes of one call that add up to more.
    Sum(u64),
    /// Sizes of all calls of one instance that add up to more.
    Leak(u64),
    /// These two together.
    Pair(usize, usize),
    /// Three calls of ten, by this seed.
    Chance(u64),
}

/// What faults say of the row in hand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hint {
    None,
    Truth,
    Lie(u64),
}

/// A plugin, and everything that could go wrong with it.
struct Model<'a> {
    poison: &'a Poison,
    hint: Hint,
    is_time: bool,
    calls: usize,
    /// Calls and sizes of the instance.
    age: usize,
    taken: u64,
}

/// What a search came to.
#[derive(Debug, Default, PartialEq)]
struct Came {
    done: Vec<usize>,
    blamed: BTreeSet<usize>,
    calls: usize,
    cause: Option<Cause>,
}

/// Any number, by a seed (SplitMix64).
fn random(seed: u64) -> u64 {
    let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x2545_f491_4f6c_dd1d);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn size(row: usize) -> u64 {
    1 + random(row as u64) % 9
}

impl Model<'_> {
    fn call(&mut self, rows: Range<usize>) -> Ended {
        self.calls += 1;
        self.age += 1;
        let sum: u64 = rows.clone().map(size).sum();
        self.taken += sum;
        let in_hand = match self.poison {
            Poison::Rows(bad) => rows.clone().find(|row| bad.contains(row)),
            Poison::Once(nth) => (self.calls == *nth).then_some(rows.start),
            Poison::Aged(nth) => (self.age >= *nth).then_some(rows.end - 1),
            Poison::Sum(most) => (sum > *most).then_some(rows.end - 1),
            Poison::Leak(most) => (self.taken > *most).then_some(rows.end - 1),
            Poison::Pair(a, b) => (rows.contains(a) && rows.contains(b)).then_some(*a.max(b)),
            Poison::Chance(seed) => (random(seed + self.calls as u64) % 10 < 3).then_some(rows.start),
        };
        let Some(in_hand) = in_hand else { return Ended::Well };
        self.renew();
        let named = match self.hint {
            Hint::None => None,
            Hint::Truth => Some(in_hand - rows.start),
            Hint::Lie(seed) => Some(random(seed + self.calls as u64) as usize % (rows.len() + 1)),
        };
        Ended::Faulted { named, is_time: self.is_time }
    }

    fn renew(&mut self) {
        (self.age, self.taken) = (0, 0);
    }
}

/// Searches `len` rows on an instance that has been called `age` times before.
#[track_caller]
fn search(len: usize, poison: &Poison, hint: Hint, is_time: bool, age: usize) -> Came {
    let mut model = Model { poison, hint, is_time, calls: 0, age, taken: age as u64 };
    let (mut isolation, mut came) = (Isolation::new(len, age == 0), Came::default());
    let mut next = 0;
    while let Some(call) = isolation.next_call() {
        assert_eq!(isolation.next_call().as_ref(), Some(&call), "asking changes nothing");
        assert_eq!(call.rows.start, next, "rows come in order, each once");
        if call.is_fresh {
            model.renew();
        }
        let ended = model.call(call.rows.clone());
        let verdict = isolation.step(ended);
        assert_eq!(verdict == Verdict::Done, ended == Ended::Well);
        match verdict {
            Verdict::Done => came.done.extend(call.rows.clone()),
            Verdict::Blamed => assert!(call.rows.len() == 1 && came.blamed.insert(call.rows.start)),
            Verdict::Again => continue,
        }
        next = call.rows.end;
    }
    assert_eq!(next, len, "every row has one outcome");
    (came.calls, came.cause) = (model.calls, isolation.cause());
    came
}

/// Each row alone, on an instance of its own.
fn alone(len: usize, poison: &Poison) -> BTreeSet<usize> {
    let faults = |row: &usize| {
        let mut model = Model { poison, hint: Hint::None, is_time: false, calls: 0, age: 0, taken: 0 };
        model.call(*row..row + 1) != Ended::Well
    };
    (0..len).filter(faults).collect()
}

/// Most calls for `k` culprits among `n`.
fn bound(n: usize, k: usize) -> usize {
    if k == 0 {
        return 1;
    }
    let levels = (n.next_power_of_two().div_ceil(k)).next_power_of_two().trailing_zeros() as usize;
    let calls = 1 + 2 * k * levels + 3 * k - 2;
    if calls < SEARCH { calls } else { SEARCH + n }
}

fn hints() -> impl Strategy<Value = Hint> {
    prop_oneof![Just(Hint::None), Just(Hint::Truth), any::<u32>().prop_map(|seed| Hint::Lie(seed.into()))]
}

/// Rows that are poison: few, some, many, all; by a seed and a share of a thousand.
fn rows(n: usize, seed: u64, share: u64) -> Poison {
    Poison::Rows((0..n).filter(|row| random(seed ^ ((*row as u64) << 20)) % 1000 < share).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// P4: exactly those rows are blamed that fault alone, in no more calls than it takes.
    #[test]
    fn exactly_the_rows_that_fault_alone_are_blamed(
        n in 1usize..=512,
        seed in any::<u32>(),
        share in prop_oneof![Just(0u64), 1u64..10, 10u64..100, 100u64..=1000],
        hint in hints(),
        is_time in any::<bool>(),
        age in 0usize..3,
    ) {
        let poison = rows(n, seed.into(), share);
        let expected = alone(n, &poison);
        let came = search(n, &poison, hint, is_time, age);
        prop_assert_eq!(&came.blamed, &expected);
        prop_assert_eq!(came.done.len(), n - expected.len());
        let most = if matches!(hint, Hint::Lie(_)) { SEARCH + n } else { bound(n, expected.len()) };
        let retry = usize::from(is_time && !expected.is_empty() && most < SEARCH + n);
        prop_assert!(came.calls <= most + retry, "{} calls, {} are enough", came.calls, most);
        prop_assert!(came.cause.is_none(), "{:?}", came.cause);
    }

    /// P4: what only many rows, two rows, or an old instance bring about blames none, whatever it says of itself.
    #[test]
    fn what_no_row_brings_about_alone_blames_none(
        n in 1usize..=512,
        poison in prop_oneof![
            (1usize..600).prop_map(Poison::Once),
            (2usize..5).prop_map(Poison::Aged),
            (9u64..2000).prop_map(Poison::Sum),
            (9u64..2000).prop_map(Poison::Leak),
            (0usize..512, 1usize..512).prop_map(|(a, b)| Poison::Pair(a, a + b)),
        ],
        hint in hints(),
        is_time in any::<bool>(),
        age in 0usize..3,
    ) {
        let came = search(n, &poison, hint, is_time, age);
        prop_assert_eq!(came.blamed, BTreeSet::new());
        prop_assert_eq!(came.done, (0..n).collect::<Vec<_>>());
        prop_assert!(came.calls <= SEARCH + n + usize::from(is_time));
    }

    /// P4: a plugin that faults as it likes loses nothing.
    #[test]
    fn a_plugin_that_faults_by_chance_loses_nothing(
        n in 1usize..=512,
        seed in any::<u32>(),
        hint in hints(),
        is_time in any::<bool>(),
    ) {
        let came = search(n, &Poison::Chance(seed.into()), hint, is_time, 0);
        prop_assert_eq!(came.done.len() + came.blamed.len(), n);
        prop_assert!(came.calls <= SEARCH + n);
    }
}

/// Every set of culprits in every small batch.
#[test]
fn every_set_of_culprits_in_a_small_batch_is_found() {
    for n in 1..=9usize {
        for set in 0..1u32 << n {
            let expected: BTreeSet<usize> = (0..n).filter(|row| set & (1 << row) != 0).collect();
            let poison = Poison::Rows(expected.clone());
            for hint in [Hint::None, Hint::Truth] {
                for age in [0, 1] {
                    let came = search(n, &poison, hint, false, age);
                    assert_eq!(came.blamed, expected, "{n} rows, {hint:?}");
                    assert!(came.calls <= bound(n, expected.len()), "{n} rows, {expected:?}, {hint:?}: {}", came.calls);
                    let three_each = 1 + 3 * expected.len();
                    assert!(hint == Hint::None || came.calls <= three_each, "{n} rows, {expected:?}: {}", came.calls);
                }
            }
        }
    }
}

fn faulted(named: Option<usize>) -> Ended {
    Ended::Faulted { named, is_time: false }
}

#[test]
fn a_row_that_a_fault_named_needs_one_call_alone_and_any_other_two() {
    for (named, verdicts) in [(Some(0), vec![Verdict::Blamed]), (None, vec![Verdict::Again, Verdict::Blamed])] {
        let mut isolation = Isolation::new(2, true);
        isolation.next_call();
        isolation.step(faulted(named));
        for verdict in verdicts {
            assert_eq!(isolation.next_call().unwrap().rows, 0..1);
            assert_eq!(isolation.step(faulted(None)), verdict);
        }
        assert_eq!(isolation.next_call().unwrap().rows, 1..2);
    }
}

#[test]
fn a_row_that_was_named_is_judged_on_a_fresh_instance() {
    let mut isolation = Isolation::new(9, false);
    isolation.next_call();
    isolation.step(faulted(Some(4)));
    assert_eq!(isolation.next_call(), Some(Call { rows: 0..4, is_fresh: false }));
    isolation.step(Ended::Well);
    assert_eq!(isolation.next_call(), Some(Call { rows: 4..5, is_fresh: true }));
}

#[test]
fn a_fault_that_names_a_wrong_row_is_the_last_that_is_believed() {
    let mut isolation = Isolation::new(8, true);
    let mut calls = Vec::new();
    for ended in [faulted(Some(6)), faulted(Some(5)), Ended::Well, faulted(Some(1))] {
        calls.push(isolation.next_call().unwrap().rows);
        isolation.step(ended);
    }
    assert_eq!(calls, [0..8, 0..6, 0..3, 3..6]);
    assert_eq!(isolation.next_call().unwrap().rows, 3..4, "by halves from now on");

    let mut isolation = Isolation::new(12, true);
    let mut calls = Vec::new();
    for ended in [faulted(Some(3)), Ended::Well, Ended::Well, faulted(Some(1))] {
        calls.push(isolation.next_call().unwrap().rows);
        isolation.step(ended);
    }
    assert_eq!(calls, [0..12, 0..3, 3..4, 4..12], "the row that was named is done");
    assert_eq!(isolation.next_call().unwrap().rows, 4..8, "by halves from now on");
}

#[test]
fn the_clock_is_given_a_second_chance_with_the_whole_batch() {
    let slow = Ended::Faulted { named: None, is_time: true };
    let mut isolation = Isolation::new(8, true);
    isolation.next_call();
    assert_eq!(isolation.step(slow), Verdict::Again);
    assert_eq!(isolation.next_call().unwrap().rows, 0..8);
    assert_eq!(isolation.step(Ended::Well), Verdict::Done);
    assert_eq!((isolation.next_call(), isolation.cause()), (None, None));
}

#[test]
fn after_sixty_four_calls_the_rest_goes_one_by_one() {
    let mut isolation = Isolation::new(512, true);
    let mut lens = Vec::new();
    while let Some(call) = isolation.next_call() {
        lens.push(call.rows.len());
        isolation.step(faulted(None));
    }
    assert!(lens[..SEARCH].iter().any(|len| *len > 1) && lens[SEARCH..].iter().all(|len| *len == 1), "{lens:?}");
    assert_eq!(isolation.blamed.len(), 512);
}

#[test]
fn what_was_too_much_at_once_is_told_apart_from_an_instance_that_has_aged() {
    let cause = |age| search(100, &Poison::Sum(300), Hint::None, false, age).cause;
    assert_eq!(cause(0), Some(Cause::Size(100)));
    assert_eq!(cause(1), Some(Cause::Age), "it may have been the instance: the next batch will show");
    assert_eq!(search(100, &Poison::Pair(3, 90), Hint::Truth, false, 0).cause, Some(Cause::Size(100)));
}

#[test]
fn calls_carry_half_of_what_was_too_much_for_a_minute() {
    let begun = Instant::now();
    let at = |seconds| move || begun + Duration::from_secs(seconds);
    let mut portion = Portion::default();
    assert_eq!(portion.most(at(0)), None);
    portion.halve(100, at(0)());
    assert_eq!((portion.most(at(1)), portion.most(at(59))), (Some(50), Some(50)));
    portion.halve(50, at(59)());
    assert_eq!((portion.most(at(60)), portion.most(at(118))), (Some(25), Some(25)));
    assert_eq!((portion.most(at(119)), portion.most(at(1))), (None, None), "what is over stays over");
    portion.halve(1, at(200)());
    assert_eq!(portion.most(at(201)), Some(1));
}
