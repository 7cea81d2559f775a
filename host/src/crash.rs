//! Named places at which a process can be told to fall, for tests of what it leaves.
//!
//! Owns the names and who is told. `TIDEGATE_CRASH=commit.synced:2` aborts the process when it comes to that place for the
//! second time. Invariant: a build without debug assertions, as every release is, has no such places.

/// All places, in the order in which an epoch comes by them.
pub const POINTS: [&str; 22] = [
    "recover.opened",
    "recover.restored",
    "recover.taken-back",
    "source.read",
    "stage.before-call",
    "stage.after-call",
    "stage.before-handover",
    "stage.after-handover",
    "letters.before-append",
    "letters.appended",
    "letters.synced",
    "sink.before-write",
    "sink.written",
    "sink.flushed",
    "sink.before-post",
    "sink.answered",
    "commit.before-transaction",
    "commit.in-transaction",
    "commit.synced",
    "outbox.committed",
    "source.before-acknowledging",
    "source.acknowledged",
];

/// The places by which a reload comes, in this order.
pub const RELOAD_POINTS: [&str; 4] = ["reload.kept", "reload.compiled", "reload.before-swap", "reload.swapped"];

/// Falls where one of `values`, with which a plugin is about to be called, holds what `TIDEGATE_CRASH_ON` says.
#[inline]
pub(crate) fn on<'v>(values: impl Iterator<Item = &'v [u8]>) {
    #[cfg(debug_assertions)]
    armed::look(values);
    #[cfg(not(debug_assertions))]
    let _ = values;
}

/// Passes the place called `name`, or falls there.
#[inline]
pub(crate) fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    /// Where to fall, and how often to pass there until then.
    static ARMED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let told = std::env::var("TIDEGATE_CRASH").ok()?;
        let (name, times) = told.rsplit_once(':')?;
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });

    /// What a record holds that the process falls with.
    static MARK: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
        std::env::var("TIDEGATE_CRASH_ON").ok().map(String::into_bytes).filter(|mark| !mark.is_empty())
    });

    pub(super) fn look<'v>(mut values: impl Iterator<Item = &'v [u8]>) {
        if let Some(mark) = &*MARK
            && values.any(|value| value.windows(mark.len()).any(|part| part == mark))
        {
            std::process::abort();
        }
    }

    pub(super) fn pass(name: &str) {
        let is_known = super::POINTS.contains(&name) || super::RELOAD_POINTS.contains(&name);
        debug_assert!(is_known, "`{name}` is not in the list");
        if let Some((armed, left)) = &*ARMED
            && armed == name
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }
}
