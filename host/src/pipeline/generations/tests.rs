//! P8: reloads between anything else, against a list of who processed what.

use proptest::prelude::*;

use super::*;

const PERSON: Ask = Ask::Person { other: Other::Stays, watched: Watched::Yes };

fn candidate(number: u64) -> Candidate {
    Candidate { digest: format!("digest {number}"), state_version: 1 }
}

fn stage() -> Generations {
    Generations::new(Terms::default(), 1, candidate(1))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn figures(records: u64, refused: u64, fuel: u64) -> Figures {
    Figures { records, refused, fuel }
}

/// A stage with a candidate on probation since second 0.
fn on_probation() -> Generations {
    let mut stage = stage();
    assert_eq!(stage.step(seconds(0), Input::Asked(PERSON)), [Action::Build]);
    assert_eq!(stage.step(seconds(0), Input::Built(Ok(candidate(2)))), [Action::Swap(2)]);
    assert_eq!(stage.step(seconds(0), Input::Swapped(Ok(()))), [Action::Done(2)]);
    assert!(stage.is_on_probation());
    stage
}

fn fate(stage: &Generations, generation: u64) -> Fate {
    stage.history().find(|past| past.generation == Some(generation)).unwrap().fate
}

#[test]
fn a_candidate_proves_itself_by_time_or_by_records() {
    for (at, records) in [(30, 100), (1, 10_000)] {
        let mut stage = on_probation();
        let just_before = Input::Looked { candidate: figures(records.min(9_999), 0, 0), before: figures(0, 0, 0) };
        assert_eq!(stage.step(seconds(at.min(29)), just_before), []);
        assert!(stage.is_on_probation());
        let look = Input::Looked { candidate: figures(records, 0, 0), before: figures(0, 0, 0) };
        assert_eq!(stage.step(seconds(at), look), []);
        assert_eq!((fate(&stage, 1), fate(&stage, 2)), (Fate::Replaced, Fate::Active));
        assert_eq!(stage.step(seconds(99), Input::Back), [Action::Return(1), Action::Done(1)], "a way back remains");
    }
}

/// What the candidate and the one before did, after how many seconds, and whether the candidate goes.
#[test]
fn a_candidate_goes_for_too_many_refusals_or_too_much_fuel() {
    let cases = [
        (1, figures(1000, 11, 0), figures(1000, 0, 0), true),
        (1, figures(1000, 10, 0), figures(1000, 0, 0), false),
        (1, figures(1000, 40, 0), figures(1000, 20, 0), false),
        (1, figures(1000, 61, 0), figures(1000, 20, 0), true),
        (1, figures(19, 19, 0), figures(1000, 0, 0), false),
        (1, figures(20, 1, 0), figures(1000, 0, 0), true),
        (30, figures(2, 1, 0), figures(1000, 0, 0), true),
        (30, figures(0, 0, 0), figures(1000, 0, 0), false),
        (1, figures(1000, 0, 301_000), figures(1000, 0, 100_000), true),
        (1, figures(1000, 0, 300_000), figures(1000, 0, 100_000), false),
        (1, figures(1000, 0, 300_000), figures(0, 0, 0), false),
    ];
    for (at, is, was, goes) in cases {
        let mut stage = on_probation();
        let actions = stage.step(seconds(at), Input::Looked { candidate: is, before: was });
        assert_eq!(actions, if goes { vec![Action::Return(1)] } else { Vec::new() }, "{is:?} after {was:?}");
        assert_eq!(fate(&stage, 2) == Fate::RolledBack, goes, "{is:?} after {was:?}");
    }
}

#[test]
fn a_candidate_that_opens_the_breaker_goes() {
    let mut stage = on_probation();
    assert_eq!(stage.step(seconds(1), Input::Opened("all calls fault".to_owned())), [Action::Return(1)]);
    assert_eq!(fate(&stage, 2), Fate::RolledBack);
    assert_eq!(stage.step(seconds(2), Input::Opened("again".to_owned())), [], "by then it is nobody's candidate");
}

#[test]
fn a_reload_during_a_probation_is_refused_by_name_unless_it_ends_it() {
    let mut stage = on_probation();
    let refused = stage.step(seconds(1), Input::Asked(PERSON));
    assert!(matches!(&refused[..], [Action::Refuse(why)] if why.contains("generation 2 is on probation")));
    let now = Ask::Person { other: Other::Goes, watched: Watched::Yes };
    assert_eq!(stage.step(seconds(1), Input::Asked(now)), [Action::Return(1), Action::Build]);
    assert_eq!(fate(&stage, 2), Fate::RolledBack);
    assert_eq!(stage.step(seconds(1), Input::Built(Ok(candidate(3)))), [Action::Swap(3)]);
}

#[test]
fn a_file_that_changes_during_a_probation_is_looked_at_after_it() {
    let mut stage = on_probation();
    assert!(matches!(&stage.step(seconds(1), Input::Asked(Ask::File))[..], [Action::Refuse(_)]));
    let look = Input::Looked { candidate: figures(0, 0, 0), before: figures(0, 0, 0) };
    assert_eq!(stage.step(seconds(30), look), [Action::Build]);
}

#[test]
fn after_three_rollbacks_within_an_hour_a_changed_file_waits_for_a_person() {
    let mut stage = stage();
    for round in 0..3 {
        assert_eq!(stage.step(seconds(round), Input::Asked(Ask::File)), [Action::Build]);
        let number = round + 2;
        assert_eq!(stage.step(seconds(round), Input::Built(Ok(candidate(number)))), [Action::Swap(number)]);
        stage.step(seconds(round), Input::Swapped(Ok(())));
        let bad = Input::Looked { candidate: figures(100, 100, 0), before: figures(100, 0, 0) };
        assert_eq!(stage.step(seconds(round), bad), [Action::Return(1)]);
    }
    let refused = stage.step(seconds(3), Input::Asked(Ask::File));
    assert!(matches!(&refused[..], [Action::Refuse(why)] if why.starts_with("3 reloads were rolled back")));
    assert_eq!(stage.clone().step(seconds(4), Input::Asked(PERSON)), [Action::Build], "a person may");
    assert_eq!(stage.step(seconds(3600), Input::Asked(Ask::File)), [Action::Build], "an hour later anybody may");
}

#[test]
fn another_version_of_states_has_to_be_asked_for_and_is_no_probation() {
    let two = Candidate { state_version: 2, ..candidate(2) };
    let mut stage = stage();
    stage.step(seconds(0), Input::Asked(PERSON));
    let refused = stage.step(seconds(0), Input::Built(Ok(two.clone())));
    assert!(matches!(&refused[..], [Action::Refuse(why)] if why.contains("`--no-rollback`")));
    stage.step(seconds(0), Input::Asked(Ask::Person { other: Other::Stays, watched: Watched::No }));
    assert_eq!(stage.step(seconds(0), Input::Built(Ok(two))), [Action::Swap(2)]);
    assert_eq!(stage.step(seconds(0), Input::Swapped(Ok(()))), [Action::Done(2)]);
    assert!(!stage.is_on_probation());
    assert!(
        matches!(&stage.step(seconds(1), Input::Back)[..], [Action::Refuse(_)]),
        "the old one cannot read its states"
    );
}

#[test]
fn what_serves_already_and_what_cannot_be_built_changes_nothing() {
    for built in [Ok(candidate(1)), Err("it is not valid WebAssembly".to_owned())] {
        let mut stage = stage();
        stage.step(seconds(0), Input::Asked(PERSON));
        assert!(matches!(&stage.step(seconds(0), Input::Built(built))[..], [Action::Refuse(_)]));
        assert_eq!((stage.serving(), stage.before()), (1, None));
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Batch(u64),
    Ask(bool),
    Built(bool),
    Taken(bool),
    Look(u64),
    Back,
    Barrier,
    Crash,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1u64..50).prop_map(Happening::Batch),
        2 => any::<bool>().prop_map(Happening::Ask),
        2 => any::<bool>().prop_map(Happening::Built),
        3 => any::<bool>().prop_map(Happening::Taken),
        2 => (0u64..20).prop_map(Happening::Look),
        1 => Just(Happening::Back),
        2 => Just(Happening::Barrier),
        1 => Just(Happening::Crash),
    ]
}

/// A stage as simple as can be: what it is told takes effect when it gets to it.
#[derive(Default)]
struct Model {
    /// Who serves in the stage itself.
    serving: u64,
    /// What it has been told and not yet done.
    told: VecDeque<Action>,
    /// Who processed each record, in order.
    log: Vec<u64>,
    /// How much of it is committed, and who served at that moment.
    committed: (usize, u64),
}

proptest! {
    /// Whatever happens in whatever order: each record is processed by one generation; numbers rise but for rollbacks
    /// that the history tells; what was refused never serves; a commit names who made its last record; every reload ends.
    #[test]
    fn every_record_is_processed_by_one_generation_and_every_reload_ends(
        happenings in proptest::collection::vec(happening(), 1..120),
    ) {
        let (mut stage, mut model, mut digest) = (stage(), Model { serving: 1, ..Model::default() }, 1);
        model.committed = (0, 1);
        let mut now = Duration::ZERO;
        let mut returns = 0;
        for happening in happenings {
            now += Duration::from_millis(700);
            let actions = match happening {
                Happening::Batch(records) => {
                    model.log.extend(std::iter::repeat_n(model.serving, records as usize));
                    Vec::new()
                }
                Happening::Ask(ends) => {
                    let other = if ends { Other::Goes } else { Other::Stays };
                    stage.step(now, Input::Asked(Ask::Person { other, watched: Watched::Yes }))
                }
                Happening::Built(is_good) => {
                    digest += 1;
                    stage.step(now, Input::Built(if is_good { Ok(candidate(digest)) } else { Err("bad".to_owned()) }))
                }
                Happening::Taken(is_well) => match model.told.pop_front() {
                    Some(Action::Swap(number)) if is_well => {
                        model.serving = number;
                        stage.step(now, Input::Swapped(Ok(())))
                    }
                    Some(Action::Swap(_)) => stage.step(now, Input::Swapped(Err("it cannot".to_owned()))),
                    Some(Action::Return(number)) => {
                        model.serving = number;
                        Vec::new()
                    }
                    _ => Vec::new(),
                },
                Happening::Look(refused) => {
                    let look = Input::Looked { candidate: figures(100, refused, 0), before: figures(100, 0, 0) };
                    stage.step(now, look)
                }
                Happening::Back => stage.step(now, Input::Back),
                Happening::Barrier => {
                    model.committed = (model.log.len(), model.serving);
                    Vec::new()
                }
                Happening::Crash => {
                    // What is not committed is given up; the next run begins with whoever is to serve.
                    model.log.truncate(model.committed.0);
                    model.told.clear();
                    let actions = stage.step(now, Input::Restarted("a crash".to_owned()));
                    returns += actions.iter().filter(|action| matches!(action, Action::Return(_))).count();
                    model.serving = stage.serving();
                    Vec::new()
                }
            };
            returns += actions.iter().filter(|action| matches!(action, Action::Return(_))).count();
            model.told.extend(actions.into_iter().filter(|a| matches!(a, Action::Swap(_) | Action::Return(_))));
            if model.told.is_empty() {
                prop_assert_eq!(model.serving, stage.serving(), "a stage that did all it was told serves who is to");
            }
            let refused: Vec<u64> = stage
                .history()
                .filter(|past| past.fate == Fate::Refused)
                .filter_map(|past| past.generation)
                .collect();
            prop_assert!(!refused.contains(&model.serving) && !refused.contains(&stage.serving()));
            prop_assert!(model.log.iter().all(|generation| !refused.contains(generation)));
        }
        let falls = model.log.windows(2).filter(|pair| pair[1] < pair[0]).count();
        prop_assert!(falls <= returns, "numbers fall only where a rollback says so");
        let mut serves = stage.history().filter(|past| matches!(past.fate, Fate::Active | Fate::Probation));
        prop_assert_eq!(serves.next().and_then(|past| past.generation), Some(stage.serving()));
        prop_assert_eq!(serves.next(), None, "one serves");
        let open = stage.history().filter(|past| past.fate == Fate::Coming).count();
        prop_assert!(open <= 1, "only the last reload may still be under way");
    }
}
