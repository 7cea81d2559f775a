//! Going back to a position.
//!
//! Owns how a file is found again by its mark, wherever it has been renamed or copied to. Invariant: reading goes on
//! behind the bytes that were read, or not at all.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use super::{
    pattern::{Seen, siblings},
    round::Round,
    tail::{Mark, Tail},
};

impl Round {
    /// Takes the place that `marks` describe; what could not be found again is left in `error`.
    pub(super) fn resume(&mut self, marks: Vec<Mark>, now: Instant) {
        self.error = self.restore(marks, now).err();
    }

    fn restore(&mut self, marks: Vec<Mark>, now: Instant) -> anyhow::Result<()> {
        let mut seen = self.pattern.list()?;
        seen.retain(|seen| self.pattern.allows(&seen.path));
        let mut tails: Vec<Tail> = Vec::new();
        for mark in &marks {
            let others: Vec<_> = marks
                .iter()
                .filter(|it| it.offset > 0 && !std::ptr::eq(*it, mark))
                .map(|it| (it.dev, it.inode))
                .collect();
            let Some(mut tail) = self.find(mark, &others, &seen, now)? else { continue };
            if tail.path != Path::new(&mark.path) {
                // Another file may stand at its path by now, which then comes behind it.
                tail.home = mark.path.clone().into();
                tail.leave(now);
            }
            tail.visible = seen.iter().any(|seen| seen.id() == tail.id());
            tails.push(tail);
        }
        self.begin();
        let lost = marks.iter().filter(|mark| !tails.iter().any(|tail| tail.id() == (mark.dev, mark.inode)));
        self.begun = lost.map(|mark| ((mark.dev, mark.inode), mark.decoder.input())).collect();
        self.tails = tails;
        let new = seen.into_iter().filter(|seen| !self.tails.iter().any(|tail| tail.id() == seen.id())).collect();
        if self.follow {
            self.admit(new, now)?;
        } else {
            for seen in new {
                let tail = self.tail(seen, now);
                self.tails.push(tail);
            }
            // Read once: in the order of the paths, as if it had not been interrupted.
            self.tails.sort_by(|a, b| (a.visible, &a.path).cmp(&(b.visible, &b.path)));
        }
        Ok(())
    }

    /// The file of `mark`, at its offset; `None` where nothing had been read of it or nothing more is expected.
    fn find(&self, mark: &Mark, others: &[(u64, u64)], seen: &[Seen], now: Instant) -> anyhow::Result<Option<Tail>> {
        let path = Path::new(&mark.path);
        let id = (mark.dev, mark.inode);
        let beside = siblings(path).unwrap_or_default();
        let there = fs::metadata(path).ok().filter(|about| about.is_file()).map(|about| Seen::new(path.into(), &about));
        let candidates = there.iter().chain(seen).chain(&beside);
        let same = candidates.clone().find(|seen| seen.id() == id);
        // The copy of a file that was truncated has another number, and the same bytes.
        let copies =
            beside.iter().rev().filter(|seen| mark.offset > 0 && seen.id() != id && !others.contains(&seen.id()));
        for candidate in same.into_iter().chain(copies) {
            let mut tail = self.tail(candidate.clone(), now);
            if tail.resume(mark).with_context(|| format!("read {}", tail.name))? {
                if tail.done {
                    tail.file = None;
                }
                return Ok(Some(tail));
            }
            if mark.done {
                break;
            }
        }
        if mark.offset == 0 || mark.done {
            return Ok(None);
        }
        bail!("find byte {} of {} again: what stood there has gone", mark.offset, mark.path)
    }
}
