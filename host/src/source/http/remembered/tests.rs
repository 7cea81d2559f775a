//! Keys against a list of everything that has happened to them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// How long keys are remembered here, in milliseconds.
const KEEP: i64 = 100;

fn marked(key: u8, digest: u128) -> Marked {
    Marked { key: format!("k{key}").into(), digest }
}

fn outcome(accepted: u64) -> Outcome {
    Outcome { accepted, ..Outcome::default() }
}

/// What is known of a key: the body, the records handed out and those committed, and when all were.
#[derive(Clone, Debug, Default)]
struct Model {
    digest: u128,
    handed: u64,
    is_whole: bool,
    is_taken: bool,
    settled: Option<i64>,
    broken: Option<i64>,
    /// When what was handed out last was committed; none until it is.
    written: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Post(u8, u128),
    Withdraw(u8),
    Hand(u8, bool),
    Commit,
    Fall,
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0u8..3;
    let step = prop_oneof![
        4 => (key.clone(), 0u128..2).prop_map(|(key, digest)| Step::Post(key, digest)),
        1 => key.clone().prop_map(Step::Withdraw),
        3 => (key, any::<bool>()).prop_map(|(key, whole)| Step::Hand(key, whole)),
        3 => Just(Step::Commit),
        1 => Just(Step::Fall),
        1 => (1i64..KEEP).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever happens in whatever order, falls of the process included: each record of a request is handed out at most
    /// once behind what was committed, and what was settled is answered alike until its time is over.
    #[test]
    fn a_request_is_taken_once_and_answered_alike_as_long_as_it_is_remembered(steps in steps()) {
        let fresh = || Remembered::new(Duration::from_millis(KEEP as u64), 1 << 20);
        let (mut remembered, mut now) = (fresh(), 0i64);
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let (mut model, mut committed): (BTreeMap<u8, Model>, BTreeMap<u8, Model>) = Default::default();
        for step in steps {
            let is_over = |at: i64| at + KEEP <= now;
            for all in [&mut model, &mut committed] {
                all.retain(|_, one| !(one.settled.is_some_and(is_over) || !one.is_taken && one.broken.is_some_and(is_over)));
            }
            match step {
                Step::Post(key, digest) => {
                    let arrival = remembered.arrive(&marked(key, digest), now);
                    match model.get_mut(&key) {
                        None => {
                            prop_assert!(matches!(&arrival, Arrival::New(before) if before.accepted == 0), "{arrival:?}");
                            model.insert(key, Model { digest, ..Model::default() });
                        }
                        Some(one) if one.digest != digest => prop_assert!(matches!(arrival, Arrival::Other)),
                        Some(one) if one.settled.is_some() => {
                            prop_assert!(matches!(&arrival, Arrival::Known(known) if known.accepted == one.handed));
                        }
                        Some(one) if one.broken.is_some() && !one.is_taken => {
                            prop_assert!(matches!(&arrival, Arrival::New(before) if before.accepted == one.handed));
                            one.is_taken = true;
                        }
                        Some(_) => prop_assert!(matches!(arrival, Arrival::UnderWay(_)), "{arrival:?}"),
                    }
                }
                Step::Withdraw(key) => {
                    let Some(one) = model.get_mut(&key) else { continue };
                    // Once a record has been handed out in this process, nobody withdraws it.
                    let was = committed.get(&key).map_or(0, |one| one.handed);
                    if one.settled.is_some() || one.is_whole || one.handed != was || one.broken.is_some() && !one.is_taken {
                        continue;
                    }
                    remembered.withdrawn(&marked(key, 0).key, &Answer::Draining);
                    if one.broken.is_some() {
                        one.is_taken = false;
                    } else if was == 0 {
                        model.remove(&key);
                    }
                }
                Step::Hand(key, is_whole) => {
                    let Some(one) = model.get_mut(&key) else { continue };
                    if one.is_whole || one.settled.is_some() || one.broken.is_some() && !one.is_taken {
                        continue;
                    }
                    (one.handed, one.is_whole, one.broken, one.is_taken) = (one.handed + 1, is_whole, None, true);
                    one.written = None;
                    remembered.handed(&marked(key, 0).key, &outcome(one.handed), is_whole);
                }
                Step::Commit => {
                    for Kept { key, value } in remembered.changes(now) {
                        match value {
                            Some(value) => drop(store.insert(key, value)),
                            None => drop(store.remove(&key)),
                        }
                    }
                    remembered.committed();
                    for (key, one) in model.iter_mut().filter(|(_, one)| one.is_whole && one.settled.is_none()) {
                        one.settled = Some(now);
                        remembered.settled(&marked(*key, 0).key, now);
                    }
                    for one in model.values_mut() {
                        one.written.get_or_insert(now);
                    }
                    committed = model.clone();
                    for one in committed.values_mut().filter(|one| one.settled.is_none()) {
                        (one.is_taken, one.broken) = (false, one.broken.or(one.written));
                    }
                    committed.retain(|_, one| one.handed > 0);
                }
                Step::Fall => {
                    remembered = fresh();
                    let facts = store.iter().map(|(key, value)| Kept { key: key.clone(), value: Some(value.clone()) });
                    remembered.recall(facts.collect()).unwrap();
                    model = committed.clone();
                }
                Step::Wait(more) => now += more,
            }
            // A withdrawal in between may have left more in the store than the model has; it is never less.
            for (key, one) in &committed {
                let is_there = store.contains_key(marked(*key, 0).key.as_bytes());
                prop_assert!(one.handed == 0 || is_there);
            }
        }
    }
}

#[tokio::test]
async fn who_posts_the_same_meanwhile_gets_the_same_answer() {
    let mut remembered = Remembered::new(Duration::from_millis(KEEP as u64), 1 << 20);
    let same = |remembered: &mut Remembered| match remembered.arrive(&marked(1, 7), 0) {
        Arrival::UnderWay(answer) => answer,
        other => panic!("{other:?}"),
    };
    assert!(matches!(remembered.arrive(&marked(1, 7), 0), Arrival::New(_)));
    let second = same(&mut remembered);
    remembered.withdrawn(&marked(1, 7).key, &Answer::Busy("nobody takes it"));
    assert!(matches!(second.await, Ok(Answer::Busy(_))));

    assert!(matches!(remembered.arrive(&marked(1, 7), 0), Arrival::New(_)), "who was turned away is welcome");
    let third = same(&mut remembered);
    remembered.handed(&marked(1, 7).key, &outcome(3), true);
    remembered.settled(&marked(1, 7).key, 0);
    assert!(matches!(third.await, Ok(Answer::Decided(decided)) if decided.accepted == 3));

    assert!(matches!(remembered.arrive(&marked(2, 7), 0), Arrival::New(_)));
    let fourth = match remembered.arrive(&marked(2, 7), 0) {
        Arrival::UnderWay(answer) => answer,
        other => panic!("{other:?}"),
    };
    remembered.unusable(&marked(2, 7).key, &Answer::Decided(Outcome::unreadable("x".to_owned())));
    assert!(matches!(fourth.await, Ok(Answer::Decided(decided)) if decided.accepted == 0));
    assert!(matches!(remembered.arrive(&marked(2, 8), 0), Arrival::New(_)), "nothing was written under it");
}

#[test]
fn at_its_budget_nothing_is_forgotten_and_a_new_key_turned_away() {
    let most = 3 * (COST + 2 * "k0".len());
    let mut remembered = Remembered::new(Duration::from_millis(KEEP as u64), most);
    for key in 0..3 {
        assert!(matches!(remembered.arrive(&marked(key, 0), 0), Arrival::New(_)));
        remembered.handed(&marked(key, 0).key, &outcome(1), true);
        remembered.settled(&marked(key, 0).key, i64::from(key));
    }
    assert!(matches!(remembered.arrive(&marked(3, 0), KEEP - 1), Arrival::Full));
    assert!(matches!(remembered.arrive(&marked(0, 0), KEEP - 1), Arrival::Known(_)));
    assert!(matches!(remembered.arrive(&marked(3, 0), KEEP), Arrival::New(_)), "the oldest has had its time");
    assert!(matches!(remembered.arrive(&marked(4, 0), KEEP), Arrival::Full));
    assert_eq!(remembered.bytes, most);
}

#[test]
fn a_fact_that_no_source_like_this_has_written_is_refused_by_its_key() {
    let mut remembered = Remembered::new(Duration::from_secs(1), 1 << 20);
    let facts = vec![Kept { key: b"mine".to_vec(), value: Some(b"{}".to_vec()) }];
    let error = format!("{:#}", remembered.recall(facts).unwrap_err());
    assert!(error.contains("`mine`"), "{error}");
}

#[tokio::test]
async fn who_came_before_a_key_was_recalled_hears_what_it_came_to_and_is_not_taken_again() {
    let (marked, keep) = (marked(1, 7), Duration::from_millis(KEEP as u64));
    let mut earlier = Remembered::new(keep, 1 << 20);
    earlier.arrive(&marked, 0);
    earlier.handed(&marked.key, &outcome(3), true);
    let facts = earlier.changes(0);
    let mut later = Remembered::new(keep, 1 << 20);
    assert!(matches!(later.arrive(&marked, 1), Arrival::New(_)));
    let Arrival::UnderWay(waiting) = later.arrive(&marked, 1) else { panic!("it is under way") };
    later.recall(facts.clone()).unwrap();
    let bytes = later.bytes;
    later.recall(facts).unwrap();
    assert_eq!(later.bytes, bytes, "what is told twice counts once");
    assert!(matches!(waiting.await, Ok(Answer::Decided(told)) if told.accepted == 3));
    assert!(matches!(later.recalled(&marked.key), Some(Arrival::Known(told)) if told.accepted == 3));
}
