//! The watermark behind several inputs: the slowest live one holds it.
//!
//! Owns that rule as a pure function over the inputs' marks. Invariant: what it gives out never falls, whatever
//! idle inputs do when they wake up.

use super::BEGIN;

/// What an input last said about event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No record before this time will come, in milliseconds since the Unix epoch.
    At(i64),
    /// Nothing has come for a while since this time: the input holds nobody until it speaks again.
    Idle(i64),
}

/// Combines the marks of `n` inputs.
#[derive(Clone, Debug)]
pub struct Merge {
    marks: Vec<Mark>,
    given: Mark,
    watermark: i64,
}

impl Merge {
    /// Nothing known of any input, with `watermark` given out before (from a commit, or [`BEGIN`]).
    pub fn new(inputs: usize, watermark: i64) -> Self {
        Self { marks: vec![Mark::At(BEGIN); inputs], given: Mark::At(watermark), watermark }
    }

    /// The watermark given out last.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Notes what `input` said and returns what to pass on, if that is news.
    pub fn update(&mut self, input: usize, mark: Mark) -> Option<Mark> {
        if let Some(slot) = self.marks.get_mut(input) {
            *slot = mark;
        }
        let slowest =
            self.marks.iter().filter_map(|mark| if let Mark::At(time) = mark { Some(*time) } else { None }).min();
        let furthest =
            self.marks.iter().filter_map(|mark| if let Mark::Idle(time) = mark { Some(*time) } else { None }).max();
        // When nobody is live, nobody holds the others: event time has come as far as it has come anywhere.
        let time = slowest.or(furthest).unwrap_or(BEGIN);
        self.watermark = self.watermark.max(time);
        let next = if slowest.is_some() { Mark::At(self.watermark) } else { Mark::Idle(self.watermark) };
        (next != self.given).then(|| {
            self.given = next;
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slowest_live_input_holds_the_watermark_and_an_idle_one_does_not() {
        let mut merge = Merge::new(2, BEGIN);
        assert_eq!(merge.update(0, Mark::At(10)), None);
        assert_eq!(merge.update(1, Mark::At(5)), Some(Mark::At(5)));
        assert_eq!(merge.update(1, Mark::Idle(5)), Some(Mark::At(10)));
        assert_eq!(merge.update(1, Mark::At(6)), None, "a late riser does not pull it back");
        assert_eq!(merge.update(0, Mark::At(20)), None);
        assert_eq!(merge.update(1, Mark::At(12)), Some(Mark::At(12)));
        assert_eq!(merge.update(0, Mark::Idle(20)), None);
        assert_eq!(merge.update(1, Mark::Idle(12)), Some(Mark::Idle(20)), "all idle: as far as the furthest has come");
        assert_eq!(merge.update(1, Mark::At(12)), Some(Mark::At(20)));
    }

    proptest! {
        #[test]
        fn it_never_falls(steps in proptest::collection::vec((0usize..3, prop_oneof![(0i64..50).prop_map(Mark::Idle), (0i64..50).prop_map(Mark::At)]), 0..80)) {
            let (mut merge, mut last) = (Merge::new(3, BEGIN), BEGIN);
            for (input, mark) in steps {
                if let Some(Mark::At(time) | Mark::Idle(time)) = merge.update(input, mark) {
                    prop_assert!(time >= last);
                    last = time;
                }
            }
        }
    }
}
