//! Bugs that the tests of this crate are seeded with, to show that they would be found.
//!
//! Owns the names. `TIDEGATE_BUG=acknowledge-early` lets a test process commit that one, and no other process of any
//! build: outside the library's own tests there is no code for it. Invariant: every bug of the list is killed by a test
//! that is named here, as [`every_seeded_bug_is_killed`](tests) checks.

/// Whether the bug called `name` is to be committed here.
#[inline]
pub(crate) fn is_seeded(name: &'static str) -> bool {
    #[cfg(test)]
    return tests::is_seeded(name);
    #[cfg(not(test))]
    {
        let _ = name;
        false
    }
}

#[cfg(test)]
mod tests;
