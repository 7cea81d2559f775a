//! Model P5: the breaker against a straight-line one that keeps its whole history, in virtual time.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// Asks, and keeps the ticket.
    Ask,
    /// A call that was let through ends so: records, refused, failed, how long it took.
    Ends(prop::sample::Index, u8, u8, bool, u16),
    Trip,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ends = (any::<prop::sample::Index>(), 0u8..8, 0u8..8, any::<bool>(), prop_oneof![0u16..50, 0u16..3000]);
    let step = prop_oneof![
        6 => prop_oneof![0u64..30, 0u64..400, 0u64..8000].prop_map(Step::Pass),
        8 => Just(Step::Ask),
        14 => ends.prop_map(|(which, records, refused, failed, took)| {
            Step::Ends(which, records, refused.min(records), failed, took)
        }),
        1 => Just(Step::Trip),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 0..200)
}

fn terms() -> impl Strategy<Value = Terms> {
    (0.1f64..=1.0, 1u64..12, 100u64..2000, 10u64..2000, proptest::option::of(5u64..200)).prop_map(
        |(failures, samples, window, open, slow)| Terms {
            failures,
            samples,
            window: Duration::from_millis(window),
            open: Duration::from_millis(open),
            slow: slow.map(Duration::from_millis),
        },
    )
}

/// The model: what it has heard since its last change of state, and nothing that is derived from it.
struct Model {
    terms: Terms,
    state: State,
    turn: u64,
    nth: u32,
    closed: Duration,
    /// With the number of the bucket that each falls into, by the time that counts.
    heard: Vec<(u64, Sample)>,
    spent: Duration,
    newest: u64,
}

impl Model {
    fn change(&mut self, state: State) {
        (self.state, self.turn) = (state, self.turn + 1);
        self.heard.clear();
    }

    /// Whether it has to open, by every sample of the buckets that the window still holds.
    fn has_to_open(&self) -> bool {
        let Terms { failures, samples, slow, .. } = self.terms;
        let newest = self.heard.last().map_or(0, |(number, _)| *number);
        let oldest = (newest + 1).saturating_sub(10);
        let (mut records, mut refused, mut calls, mut failed, mut slow_ones) = (0, 0, 0, 0, 0);
        for (_, sample) in self.heard.iter().filter(|(number, _)| *number >= oldest) {
            records += sample.records;
            refused += sample.refused;
            calls += sample.calls;
            failed += sample.calls * u64::from(sample.is_failed);
            slow_ones += sample.calls * u64::from(slow.is_some_and(|slow| sample.took >= slow));
        }
        let exceeds =
            |part: u64, whole: u64, share: f64| whole >= samples && part > 0 && part as f64 >= share * whole as f64;
        exceeds(refused, records, failures) || exceeds(failed, calls, failures) || exceeds(slow_ones, calls, 0.8)
    }
}

/// How long it may stay open after so many openings in a row.
fn bounds(terms: &Terms, nth: u32) -> (Duration, Duration) {
    let doubled = (1..nth).fold(terms.open, |open, _| open * 2).min(Duration::from_secs(300).max(terms.open));
    (doubled.mul_f64(0.7999), doubled.mul_f64(1.2001))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_does_what_a_breaker_with_a_perfect_memory_does(terms in terms(), steps in steps(), seed in any::<u64>()) {
        let mut real = Breaker::new(terms, seed);
        let mut model = Model { terms, state: State::Closed, turn: 0, nth: 0, closed: Duration::ZERO, heard: Vec::new(), spent: Duration::ZERO, newest: 0 };
        let mut now = Duration::ZERO;
        // Calls under way: the turn that they began in, their ticket, and whether they are a probe.
        let mut under_way: Vec<(u64, Ticket, bool)> = Vec::new();
        for step in steps {
            let opened_by_itself = match step {
                Step::Pass(millis) => { now += Duration::from_millis(millis); false }
                Step::Ask => {
                    let answer = real.ask(now);
                    let mut opened = false;
                    if let State::HalfOpen(until) = model.state && until <= now {
                        // A probe that hangs is over, and does not wedge it.
                        opened = true;
                    }
                    match (model.state, opened) {
                        (_, true) => {}
                        (State::Closed, _) => {
                            prop_assert!(matches!(answer, Answer::Call(_)));
                        }
                        (State::Open(Some(until)), _) if until <= now => {
                            prop_assert!(matches!(answer, Answer::Probe(_)), "{:?}", answer);
                            model.change(State::HalfOpen(now + PATIENCE));
                        }
                        (State::Open(until), _) => prop_assert_eq!(answer, Answer::Wait(until)),
                        (State::HalfOpen(until), _) => prop_assert_eq!(answer, Answer::Wait(Some(until))),
                    }
                    match answer {
                        Answer::Call(ticket) => under_way.push((model.turn, ticket, false)),
                        Answer::Probe(ticket) => under_way.push((model.turn, ticket, true)),
                        Answer::Wait(_) => {}
                    }
                    opened
                }
                Step::Ends(which, records, refused, is_failed, took) => {
                    if under_way.is_empty() { continue; }
                    let (turn, ticket, is_probe) = under_way.swap_remove(which.index(under_way.len()));
                    let took = Duration::from_millis(took.into());
                    let sample = Sample { records: records.into(), refused: refused.into(), calls: 1, is_failed, took };
                    let cause = if is_probe { real.probed(now, ticket, &sample) } else { real.ended(now, ticket, &sample) };
                    let mut opened = false;
                    if turn == model.turn {
                        if is_probe {
                            if is_failed || (refused > 0 && f64::from(refused) >= terms.failures * f64::from(records)) {
                                opened = true;
                            } else {
                                model.closed = now;
                                model.change(State::Closed);
                            }
                        } else {
                            model.spent += took.saturating_sub(terms.window / (2 * terms.samples as u32));
                            let at = number(terms.window, now.saturating_sub(model.spent)).max(model.newest);
                            model.newest = at;
                            model.heard.push((at, sample));
                            opened = model.has_to_open();
                            if opened && now - model.closed >= terms.window { model.nth = 0; }
                        }
                    }
                    prop_assert_eq!(cause.is_some(), opened, "{:?}", cause);
                    opened
                }
                Step::Trip => { real.trip(); model.change(State::Open(None)); false }
                Step::Reset => {
                    real.reset(now);
                    (model.nth, model.closed) = (0, now);
                    model.change(State::Closed);
                    false
                }
            };
            if opened_by_itself {
                model.nth += 1;
                let State::Open(Some(until)) = real.state() else { panic!("{:?}", real.state()) };
                let (least, most) = bounds(&terms, model.nth);
                prop_assert!((least..=most).contains(&(until - now)), "{:?} not within {least:?}..{most:?}", until - now);
                model.change(State::Open(Some(until)));
            }
            prop_assert_eq!(real.state(), model.state);
            prop_assert_eq!(real.nth(), model.nth);
        }
        // Whatever happened, a breaker that nobody tripped lets a probe through in the end.
        if !matches!(real.state(), State::Open(None) | State::Closed) {
            let later = now + Duration::from_secs(1000);
            let first = real.ask(later);
            let then = real.ask(later + Duration::from_secs(1000));
            prop_assert!(matches!(first, Answer::Probe(_)) || matches!(then, Answer::Probe(_)));
        }
    }
}

fn bad(records: u64) -> Sample {
    Sample { records, refused: records, ..Sample::default() }
}

/// Row 48: it takes the fewest samples that say anything, whatever time that is.
#[test]
fn a_plugin_that_always_fails_opens_it_as_soon_as_there_are_samples_enough() {
    for each in [1, 7, 1024] {
        let (mut breaker, mut records) = (Breaker::new(Terms::default(), 1), 0);
        let now = Duration::from_millis(1900);
        while let Answer::Call(ticket) = breaker.ask(now) {
            breaker.ended(now, ticket, &bad(each));
            records += each;
        }
        assert!((20..20 + each).contains(&records), "{records} in calls of {each}");
    }
}

#[test]
fn failures_are_seen_together_however_long_each_of_them_takes() {
    for took in [Duration::from_millis(10), Duration::from_secs(1), Duration::from_secs(10)] {
        let mut breaker = Breaker::new(Terms::default(), 1);
        let sample = Sample { calls: 1, is_failed: true, took, ..Sample::default() };
        let ticket = breaker.ticket();
        let opened = (1u32..100).find(|nth| breaker.ended(took * *nth, ticket, &sample).is_some());
        assert_eq!(opened, Some(20), "{took:?}");
    }
}

#[test]
fn what_lies_further_back_than_the_window_is_forgotten() {
    let mut breaker = Breaker::new(Terms::default(), 1);
    let ticket = breaker.ticket();
    for second in 0..1000 {
        assert_eq!(breaker.ended(Duration::from_secs(second), ticket, &bad(1)), None, "ten within ten seconds");
    }
}

#[test]
fn the_result_of_a_call_that_began_before_it_opened_neither_closes_it_nor_counts() {
    let mut breaker = Breaker::new(Terms::default(), 1);
    let straggler = breaker.ticket();
    breaker.ended(Duration::ZERO, straggler, &bad(20));
    let well = Sample { records: 1000, ..Sample::default() };
    assert!(matches!(breaker.state(), State::Open(Some(_))));
    breaker.ended(Duration::ZERO, straggler, &well);
    breaker.probed(Duration::ZERO, straggler, &well);
    assert!(matches!(breaker.state(), State::Open(Some(_))));
    let later = Duration::from_secs(10);
    assert!(matches!(breaker.ask(later), Answer::Probe(_)));
    breaker.probed(later, straggler, &well);
    assert!(matches!(breaker.state(), State::HalfOpen(_)), "only the probe itself closes it");
}
