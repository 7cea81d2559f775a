//! Records that a sink has taken in and may still refuse.
//!
//! Owns which of them are held, so that a refusal that is told later finds its record. Invariant: no more is held than the
//! sink has in hand, but for the rest of a batch.

use std::collections::VecDeque;

use crate::{batch::Batch, sink::Refused};

/// The batches that a sink took in last.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: VecDeque<Batch>,
    records: usize,
    /// Records of the batch that was taken in last.
    last: usize,
}

impl Held {
    /// Holds a batch that the sink takes in.
    pub(super) fn push(&mut self, batch: &Batch) {
        self.last = batch.len();
        self.records += self.last;
        if self.last > 0 {
            self.batches.push_back(batch.clone());
        }
    }

    /// The refused records with their reasons, in the order in which they came; one batch for each that they came with.
    pub(super) fn find<'r>(&self, refused: &'r [Refused]) -> Vec<(Batch, Vec<&'r str>)> {
        let begin = self.records as i64 - self.last as i64;
        let mut all: Vec<(i64, &str)> =
            refused.iter().map(|refused| (begin + refused.at, refused.reason.as_str())).collect();
        all.sort_by_key(|(at, _)| *at);
        let (mut found, mut start) = (Vec::new(), 0);
        for batch in &self.batches {
            let end = start + batch.len() as i64;
            let mine = all.iter().filter(|(at, _)| (start..end).contains(at));
            let (at, reasons): (Vec<u32>, Vec<&str>) = mine.map(|(at, reason)| ((at - start) as u32, *reason)).unzip();
            if !at.is_empty() {
                found.push((batch.gather(&at), reasons));
            }
            start = end;
        }
        found
    }

    /// Lets go of all batches but those that hold the last `records`.
    pub(super) fn keep(&mut self, records: u64) {
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        while let Some(first) = self.batches.pop_front_if(|first| self.records - first.len() >= records) {
            self.records -= first.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(range: std::ops::Range<usize>) -> Batch {
        Batch::of_values(range.map(|at| at.to_string()).collect())
    }

    proptest! {
        /// Against a list of all records: every refusal finds its record, in order, as long as it may still come.
        #[test]
        fn every_refusal_finds_its_record(
            steps in proptest::collection::vec((0usize..6, proptest::collection::btree_set(0usize..20, 0..5), 0usize..20), 0..20),
        ) {
            let (mut held, mut taken, mut kept) = (Held::default(), 0, 0);
            for (len, refused, keep) in steps {
                held.push(&numbers(taken..taken + len));
                let base = taken;
                taken += len;
                let open = kept.min(taken - len) + len;
                let numbers: Vec<usize> = refused.into_iter().filter(|back| *back < open).map(|back| taken - 1 - back).collect();
                let told: Vec<Refused> = numbers
                    .iter()
                    .map(|number| Refused { at: *number as i64 - base as i64, reason: number.to_string() })
                    .collect();
                let found = held.find(&told);
                let values: Vec<String> = found
                    .iter()
                    .flat_map(|(batch, _)| batch.values().iter().map(|value| String::from_utf8(value.to_vec()).unwrap()))
                    .collect();
                let reasons: Vec<String> = found.iter().flat_map(|(_, reasons)| reasons.iter().map(ToString::to_string)).collect();
                let mut expected: Vec<usize> = numbers;
                expected.sort_unstable();
                prop_assert_eq!(&values, &expected.iter().map(ToString::to_string).collect::<Vec<_>>());
                prop_assert_eq!(values, reasons);
                kept = keep.min(open);
                held.keep(kept as u64);
                prop_assert!(held.records >= kept && held.records < kept + 6);
            }
        }
    }
}
