//! Who waits for whom, in small scenes and in any.

use proptest::prelude::*;

use super::*;
use crate::stage::lane::Fill;

/// How a lane stands: `full`, `held`, `empty`, or with something in it.
fn link(from: Participant, to: Participant, how: &str) -> Link {
    let fill = Fill { records: usize::from(how != "empty" && how != "held"), bytes: 0 };
    Link { from, to, view: View { fill, is_full: how == "full", is_held: how == "held" } }
}

const ACCESS: Participant = Participant::Source(0);
const OTHER: Participant = Participant::Source(1);
const ERRORS: Participant = Participant::Stage(0);
const COUNTS: Participant = Participant::Stage(1);
const ALARMS: Participant = Participant::Sink(0);
const FILE: Participant = Participant::Sink(1);

#[track_caller]
fn check(
    links: &[(Participant, Participant, &str)],
    reasons: &[Participant],
    late: &[Participant],
    expected: &[Participant],
) {
    let scene = Scene {
        links: links.iter().map(|(from, to, how)| link(*from, *to, how)).collect(),
        reasons: reasons.iter().map(|who| (*who, "why".to_owned())).collect(),
        late: late.iter().copied().collect(),
    };
    assert_eq!(scene.chain(ACCESS), expected, "{links:?}");
}

#[test]
fn a_sender_waits_for_the_receiver_of_a_full_lane_and_so_on_to_the_end() {
    check(&[(ACCESS, ERRORS, "full"), (ERRORS, ALARMS, "full")], &[ALARMS], &[], &[ERRORS, ALARMS]);
    check(&[(ACCESS, ERRORS, "full"), (ERRORS, ALARMS, "some")], &[], &[], &[ERRORS]);
    check(&[(ACCESS, ERRORS, "some"), (ERRORS, ALARMS, "full")], &[ALARMS], &[], &[]);
}

#[test]
fn of_several_the_one_with_a_reason_is_told() {
    let links = [(ACCESS, ERRORS, "full"), (ACCESS, COUNTS, "full"), (COUNTS, FILE, "full"), (ERRORS, ALARMS, "some")];
    check(&links, &[FILE], &[], &[COUNTS, FILE]);
    check(&links, &[ERRORS], &[], &[ERRORS]);
}

#[test]
fn what_is_behind_a_barrier_waits_for_the_inputs_that_have_none_yet() {
    let links = [(ACCESS, COUNTS, "full"), (ACCESS, COUNTS, "held"), (OTHER, COUNTS, "empty")];
    check(&links, &[OTHER], &[], &[COUNTS, OTHER]);
    // There is something to take in first.
    check(&[(ACCESS, COUNTS, "full"), (ACCESS, COUNTS, "held"), (OTHER, COUNTS, "some")], &[], &[], &[COUNTS]);
}

#[test]
fn who_is_late_with_nothing_to_do_waits_for_who_is_late_above() {
    let links = [(ERRORS, ACCESS, "empty"), (OTHER, ERRORS, "some")];
    check(&links, &[ERRORS], &[ACCESS, ERRORS], &[ERRORS]);
    check(&links, &[ERRORS], &[ACCESS], &[]);
    // Whoever has a reason of their own waits for nobody.
    check(&[(ERRORS, ACCESS, "empty")], &[ACCESS], &[ACCESS, ERRORS], &[]);
}

fn participant() -> impl Strategy<Value = Participant> {
    prop_oneof![
        (0usize..3).prop_map(Participant::Source),
        (0usize..4).prop_map(Participant::Stage),
        (0usize..3).prop_map(Participant::Sink),
    ]
}

proptest! {
    /// However a snapshot looks, even one that no moment ever was: nobody stands in a chain twice, each waits for the next,
    /// and the last waits for nobody who is not in it.
    #[test]
    fn every_chain_comes_to_an_end(
        links in proptest::collection::vec((participant(), participant(), 0usize..4), 0..20),
        reasons in proptest::collection::vec(participant(), 0..4),
        late in proptest::collection::vec(participant(), 0..6),
        who in participant(),
    ) {
        let how = ["full", "held", "empty", "some"];
        let scene = Scene {
            links: links.iter().map(|(from, to, at)| link(*from, *to, how[*at])).collect(),
            reasons: reasons.iter().map(|who| (*who, String::new())).collect(),
            late: late.into_iter().collect(),
        };
        let chain = scene.chain(who);
        let all: BTreeSet<Participant> = chain.iter().copied().chain([who]).collect();
        prop_assert_eq!(all.len(), chain.len() + 1);
        let mut before = who;
        for next in &chain {
            prop_assert!(scene.next(before).contains(next));
            before = *next;
        }
        prop_assert_eq!(chain.is_empty(), scene.next(who).iter().all(|next| *next == who));
        let is_end = |end: &Participant| scene.reasons.contains_key(end) && !scene.blocked().contains(end);
        // What somebody has a reason for ends the search for one.
        prop_assert!(chain.iter().rev().skip(1).all(|between| !is_end(between)));
    }
}
