//! Filters: which records of a batch to keep.
//!
//! Owns the trait behind `#[filter]`, what a filter answers, and the loop over records. It must not know the contract's
//! exports. Invariant: what is kept and what is refused are disjoint, and ascend.

use crate::batch::Batch;
use crate::configure::Configured;
use crate::contract::types;
use crate::describe::Plugin;
use crate::record::Record;
use crate::refused::Refused;
use crate::{Error, Result, in_hand};

/// A plugin that keeps some records of a batch; written by [`macro@filter`](crate::filter).
///
/// ```
/// use tidegate_plugin::{Filter, prelude::*};
///
/// #[filter]
/// fn not_empty(record: &Record) -> Result<bool> {
///     Ok(!record.value().is_empty())
/// }
///
/// fn is_a_filter<P: Filter>() {}
/// # fn main() {
/// is_a_filter::<not_empty>();
/// # }
/// ```
pub trait Filter: Plugin {
    /// Which records of `input` to keep.
    ///
    /// # Errors
    /// Refuses every record of the batch, for the reason given.
    fn select(config: &Self::Config, input: &Batch) -> Result<Selection>;
}

/// What a filter of whole batches answers: positions to keep, and records to refuse.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(batch)]
/// fn ascii(batch: &Batch) -> Result<Selection> {
///     let mut selection = Selection::default();
///     for (at, value) in batch.values().iter().enumerate() {
///         if value.is_ascii() { selection.keep(at) } else { selection.refuse(at, anyhow!("not ASCII")) }
///     }
///     Ok(selection)
/// }
/// # fn main() {
/// let given = testing::filter::<ascii>("", [testing::text("ä"), testing::text("a")]);
/// assert_eq!(given.kept, [1]);
/// assert_eq!(given.refused[0].reason, "not ASCII");
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Selection {
    pub(crate) keep: Vec<u32>,
    pub(crate) refused: Refused,
}

impl Selection {
    /// Keeps the record at position `at`. Positions have to ascend; the host checks.
    #[inline(always)]
    pub fn keep(&mut self, at: usize) {
        self.keep.push(at as u32);
    }

    /// Refuses the record at position `at`. Positions have to ascend; the host checks.
    pub fn refuse(&mut self, at: usize, reason: impl Into<Error>) {
        self.refused.push(at as u32, &reason.into());
    }
}

/// Asks `keep` about each record of `input`.
#[inline(always)]
pub fn keep_each(input: &Batch, keep: impl Fn(&Record<'_>) -> Result<bool>) -> Selection {
    let mut selection = Selection { keep: Vec::with_capacity(input.len()), refused: Refused::default() };
    for at in 0..input.len() {
        in_hand::take(at as u32);
        match keep(&input.record(at)) {
            Ok(true) => selection.keep.push(at as u32),
            Ok(false) => {}
            Err(error) => selection.refused.push(at as u32, &error),
        }
    }
    in_hand::put_down();
    selection
}

/// Answers `filtering.filter`.
pub(crate) fn run<P: Filter>(configured: &Configured<P>, input: types::Batch) -> Selection {
    let input = Batch::new(input, &P::FACTS);
    P::select(&configured.config, &input).unwrap_or_else(|error| {
        let mut all = Selection::default();
        (0..input.len()).for_each(|at| all.refused.push(at as u32, &error));
        all
    })
}
