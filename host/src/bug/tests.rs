//! Every bug, and the tests that find it, run in processes of their own.

use std::{
    process::{Command, Stdio},
    sync::{LazyLock, Mutex},
};

static SEEDED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TIDEGATE_BUG").ok());

/// What goes wrong, and the tests that have to fail then, each of them.
const BUGS: [(&str, &[&str]); 16] = [
    // Sources are told of a commit that is still being written.
    (
        "acknowledge-before-the-commit",
        &["pipeline::coordinator::tests::an_epoch_commits_exactly_when_the_last_participant_reports", MODEL],
    ),
    // An epoch is written although a sink has not reported it.
    (
        "commit-without-the-sinks",
        &["pipeline::coordinator::tests::an_epoch_commits_exactly_when_the_last_participant_reports", MODEL],
    ),
    // A sink reports what it still has in hand.
    ("commit-before-the-flush", &[MODEL]),
    // What was read and not sent yet is part of the position.
    ("position-ahead-of-the-barrier", &[MODEL]),
    // A barrier leaves before what workers still have in hand, and before they have handed over their state.
    ("barrier-before-the-handover", &[MODEL]),
    // An input that has delivered its barrier is read on.
    (
        "barrier-overtaken-at-alignment",
        &["stage::intake::tests::a_barrier_never_overtakes_a_record_and_no_record_overtakes_a_barrier", MODEL],
    ),
    ("unchecked-reply", &["plugin::tests::reply::a_reply_is_used_exactly_if_it_keeps_every_promise"]),
    (
        "instance-reused-after-a-fault",
        &["stage::worker::tests::an_instance_that_has_aged_costs_no_record_and_makes_way_for_a_fresh_one"],
    ),
    // What began before a breaker opened counts afterwards.
    (
        "breaker-closed-by-a-straggler",
        &[
            "stage::breaker::tests::it_does_what_a_breaker_with_a_perfect_memory_does",
            "stage::breaker::tests::the_result_of_a_call_that_began_before_it_opened_neither_closes_it_nor_counts",
        ],
    ),
    // A log keeps what was appended behind the commit.
    (
        "log-cut-beyond-the-commit",
        &[
            "log::tests::what_is_beyond_the_commit_is_cut",
            "log::tests::damage::what_is_damaged_beyond_the_commit_is_cut_and_nothing_is_lost",
        ],
    ),
    // A file keeps what was written behind the commit.
    ("file-cut-beyond-the-commit", &["sink::file::settled::tests::what_was_appended_since_is_cut_off"]),
    // The time of day is the machine's, whatever is done to that.
    ("wall-clock-that-jumps", &["time::wall::tests::it_never_goes_back_and_a_second_stays_about_a_second", MODEL]),
    // A commit counts although it has not reached the disk.
    (
        "commit-without-a-sync",
        &[
            "store::tests::crash::a_store_equals_what_was_acknowledged_after_any_crash",
            "store::tests::crash::a_crash_after_any_operation_loses_nothing_that_was_acknowledged",
        ],
    ),
    // A group leaves memory before the commit that holds it has been made.
    ("group-gone-before-its-commit", &["stage::aggregate::cold::tests::nothing_leaves_before_it_is_committed", COLD]),
    // A group that is not in memory begins anew when a record comes to it.
    ("group-that-is-not-fetched", &["stage::aggregate::cold::tests::what_is_new_or_in_memory_costs_no_read", COLD]),
    // A window ends without the groups that are not in memory.
    (
        "window-that-ends-without-its-groups",
        &[
            "stage::aggregate::cold::tests::memory_stays_under_its_limit_and_a_batch_also_where_all_groups_end_at_once",
            COLD,
        ],
    ),
];

/// Groups that leave memory against those that do not.
const COLD: &str = "stage::aggregate::cold::tests::what_leaves_memory_comes_back_as_if_it_had_never_left";

/// P1 and P2.
const MODEL: &str =
    "pipeline::tests::model::whatever_the_order_and_wherever_it_falls_the_outcome_is_the_fold_of_the_input";

/// Children at once: most of them are through in a second, and the machine has other tests to run.
const SIDE_BY_SIDE: usize = 2;

pub(super) fn is_seeded(name: &str) -> bool {
    debug_assert!(BUGS.iter().any(|(bug, _)| *bug == name), "`{name}` is not in the list");
    SEEDED.as_deref() == Some(name)
}

/// The tests of `killers` that do not fail in a process with this bug.
fn survived(bug: &str, killers: &[&str]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(killers).args(["--exact", "--test-threads", "1"]);
    command
        .env("TIDEGATE_BUG", bug)
        .env("TIDEGATE_SEEDS", "100")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_killed = |killer: &str| {
        said.lines().any(|line| line.starts_with(&format!("test {killer} ")) && line.ends_with("FAILED"))
    };
    killers
        .iter()
        .filter(|killer| !is_killed(killer))
        .map(|killer| format!("`{bug}` survives {killer}:\n{said}"))
        .collect()
}

#[test]
fn every_seeded_bug_is_killed() {
    assert_eq!(*SEEDED, None, "this process has a bug itself");
    let (left, survivors) = (Mutex::new(BUGS.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((bug, killers)) = { left.lock().unwrap().next() } {
                    survivors.lock().unwrap().extend(survived(bug, killers));
                }
            });
        }
    });
    assert_eq!(survivors.into_inner().unwrap(), Vec::<String>::new());
}
