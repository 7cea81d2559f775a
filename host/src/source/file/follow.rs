//! What rotation, truncation and new files mean to a source that follows.
//!
//! Owns the comparison of what the folders show with what is being read. It must not decode. Invariant: the lines of
//! one path are read in the order in which they were written, each once, whatever its file was renamed or copied to.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rustix::io::Errno;
use tokio::time::Instant;

use super::{
    pattern::{Born, Seen, siblings},
    round::{Round, Visit},
    tail::{KNOWN, Tail, begins_with, is_rotated},
};

/// How long a file that has been moved away has to be still before its unfinished line is a record, and how long one
/// that begins like another is taken for its copy.
pub(super) const STILL: Duration = Duration::from_secs(5);
/// How many files that have been moved out of sight and read to their end are remembered.
const REMEMBERED: usize = 16;

impl Round {
    /// Comes to a file that is followed: what there is to do with it in this round.
    pub(super) fn arrive_following(&mut self, now: Instant) -> anyhow::Result<Visit> {
        let still = self.still;
        let Some(tail) = self.tails.get_mut(self.at).filter(|tail| !tail.done) else { return Ok(Visit::Dry) };
        let about = match tail.open().and_then(|file| file.metadata()) {
            Ok(about) => about,
            Err(error) => return self.unopened(error),
        };
        let looked = (about.len(), about.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        if tail.looked == Some(looked) {
            return Ok(if tail.moved && now >= tail.stirred + still { Visit::Rest } else { Visit::Dry });
        }
        if about.len() < tail.offset || !tail.is_intact().with_context(|| format!("read {}", tail.name))? {
            self.restart(now)?;
            return Ok(Visit::Due);
        }
        if about.len() <= tail.tried {
            tail.looked = Some(looked);
            return Ok(Visit::Dry);
        }
        if let Some(since) = tail.doubtful {
            if now < since + still && self.looks_like_a_copy()? {
                return Ok(Visit::Dry);
            }
            if let Some(tail) = self.tails.get_mut(self.at) {
                tail.doubtful = None;
            }
        }
        if let Some(first) = self.unread_predecessor()? {
            self.at = first;
            return Ok(Visit::Due);
        }
        if let Some(tail) = self.tails.get_mut(self.at) {
            tail.looked = Some(looked);
        }
        Ok(Visit::Until(about.len()))
    }

    /// A file that was seen could not be opened: it has been renamed since, it has gone, or descriptors are short.
    fn unopened(&mut self, error: io::Error) -> anyhow::Result<Visit> {
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(Visit::Dry) };
        if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
            if !std::mem::replace(&mut tail.starved, true) {
                tracing::warn!(path = tail.name, error = %error, "a file waits for a descriptor");
            }
            return Ok(Visit::Dry);
        }
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error).with_context(|| format!("open {}", tail.name));
        }
        match siblings(&tail.path).unwrap_or_default().into_iter().find(|seen| seen.id() == tail.id()) {
            Some(seen) => {
                tail.path = seen.path;
                Ok(Visit::Due)
            }
            None => {
                tracing::warn!(path = tail.name, "a file has gone before it could be read");
                tail.done = true;
                self.changed = true;
                Ok(Visit::Dry)
            }
        }
    }

    /// Whether the file in hand, of which nothing has been read, begins like one that is being read.
    fn looks_like_a_copy(&mut self) -> anyhow::Result<bool> {
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(false) };
        let (id, name, mut head) = (tail.id(), tail.name.clone(), Vec::new());
        tail.read(0, KNOWN, &mut head).with_context(|| format!("read {name}"))?;
        Ok(self.tails.iter().any(|other| {
            let known = other.head.len().min(head.len());
            other.id() != id && known > 0 && other.head[..known] == head[..known]
        }))
    }

    /// Position of the file that has to be read to its end before the one in hand, where there is more in it.
    fn unread_predecessor(&mut self) -> anyhow::Result<Option<usize>> {
        let Some(id) = self.tails.get(self.at).and_then(|tail| tail.after) else { return Ok(None) };
        let Some(at) = self.tails.iter().position(|tail| tail.id() == id) else { return Ok(None) };
        let Some(tail) = self.tails.get_mut(at).filter(|tail| !tail.done) else { return Ok(None) };
        let Ok(about) = tail.open().and_then(|file| file.metadata()) else { return Ok(None) };
        Ok((about.len() > tail.offset.max(tail.tried)).then_some(at))
    }

    /// Looks at the folders again.
    pub(super) fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        let stood: Vec<_> =
            self.tails.iter().filter(|tail| !tail.moved).map(|tail| (tail.path.clone(), tail.id())).collect();
        let seen = self.pattern.list()?;
        let mut new = Vec::new();
        for tail in &mut self.tails {
            tail.visible = false;
        }
        for seen in seen {
            let Some(tail) = self.tails.iter_mut().find(|tail| tail.id() == seen.id()) else {
                if self.pattern.allows(&seen.path) {
                    new.push(seen);
                }
                continue;
            };
            tail.visible = true;
            if tail.path != seen.path {
                tail.name = seen.path.to_string_lossy().into_owned();
                tail.path = seen.path;
                tail.leave(now);
                self.changed = true;
            }
            if tail.done && tail.looked.is_some_and(|(_, changed)| changed != seen.born.1) {
                // It has been written to after all, or its number has been given to another file.
                (tail.done, tail.moved) = (false, false);
            }
        }
        for tail in self.tails.iter_mut().filter(|tail| !tail.visible) {
            tail.leave(now);
        }
        self.admit(new, &stood, now)?;
        self.forget();
        Ok(())
    }

    /// Adds files that were not there before. Where one stands at the path of another, those that have stood there in
    /// between are added too, in order.
    pub(super) fn admit(
        &mut self,
        new: Vec<Seen>,
        stood: &[(PathBuf, (u64, u64))],
        now: Instant,
    ) -> anyhow::Result<()> {
        self.changed |= !new.is_empty();
        let (heirs, others): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|seen| stood.iter().any(|(path, _)| *path == seen.path));
        for heir in heirs {
            let before = stood.iter().find(|(path, _)| *path == heir.path).map(|(_, id)| *id);
            let Some(at) = self.tails.iter().position(|tail| Some(tail.id()) == before) else { continue };
            let born = self.born(at);
            self.chain(at, born, heir, now)?;
        }
        for seen in others {
            if !self.tails.iter().any(|tail| tail.id() == seen.id()) {
                let mut tail = self.tail(seen, now);
                tail.doubtful = Some(now);
                self.tails.push(tail);
            }
        }
        Ok(())
    }

    /// When the file at position `at` was made and last written.
    fn born(&mut self, at: usize) -> Option<Born> {
        let tail = self.tails.get_mut(at)?;
        let about = tail.open().and_then(|file| file.metadata()).ok()?;
        Some(Seen::new(tail.path.clone(), &about).born)
    }

    /// Puts `heir` behind the file at position `at`, and between them what was made after `born` and rotated away from
    /// the path of `heir` since.
    fn chain(&mut self, at: usize, born: Option<Born>, heir: Seen, now: Instant) -> anyhow::Result<()> {
        let all = siblings(&heir.path).with_context(|| format!("look beside {}", heir.path.display()))?;
        let between = all.into_iter().filter(|seen| {
            born.is_some_and(|born| seen.born > born)
                && seen.id() != heir.id()
                && is_rotated(&seen.path, &heir.path)
                && !self.tails.iter().any(|tail| tail.id() == seen.id())
        });
        let mut after = self.tails.get(at).map(Tail::id);
        let mut to = at + 1;
        for seen in between.collect::<Vec<_>>() {
            let mut tail = self.tail(seen, now);
            tail.leave(now);
            tail.after = after;
            after = Some(tail.id());
            self.tails.insert(to, tail);
            to += 1;
        }
        let known = self.tails.iter().position(|tail| tail.id() == heir.id());
        match known {
            Some(known) => {
                if let Some(tail) = self.tails.get_mut(known) {
                    tail.after = after;
                }
            }
            None => {
                let mut tail = self.tail(heir, now);
                tail.after = after;
                self.tails.insert(to, tail);
            }
        }
        self.changed = true;
        Ok(())
    }

    /// The file in hand has been truncated: goes on in the copy that was made of it, if there is one, and begins it
    /// again.
    fn restart(&mut self, now: Instant) -> anyhow::Result<()> {
        let fresh = self.recipe.decoder();
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(()) };
        self.changed = true;
        if tail.offset == 0 {
            tail.rewind(fresh);
            return Ok(());
        }
        let heir = Seen {
            path: tail.path.clone(),
            dev: tail.dev,
            inode: tail.inode,
            born: (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH),
        };
        let (offset, head, last, after) = (tail.offset, tail.head.clone(), tail.last.clone(), tail.after.take());
        let decoder = std::mem::replace(&mut tail.decoder, self.recipe.decoder());
        tail.rewind(fresh);
        let Some(copy) = copy_of(&heir, offset, &head, &last, &self.tails)? else {
            tracing::warn!(path = %heir.path.display(), offset, "a file was truncated, and no copy stands beside it");
            return Ok(());
        };
        self.tails.retain(|tail| tail.id() != copy.id());
        let Some(at) = self.tails.iter().position(|tail| tail.id() == heir.id()) else { return Ok(()) };
        let born = copy.born;
        let mut copy = self.tail(copy, now);
        copy.leave(now);
        (copy.offset, copy.head, copy.last, copy.after, copy.decoder) = (offset, head, last, after, decoder);
        self.tails.insert(at, copy);
        self.at = at;
        self.chain(at, Some(born), heir, now)
    }

    /// Lets go of files that are over and out of sight, but for the last few.
    fn forget(&mut self) {
        let over = |tail: &Tail| tail.done && !tail.visible;
        let mut excess = self.tails.iter().filter(|tail| over(tail)).count().saturating_sub(REMEMBERED);
        self.tails.retain(|tail| {
            let go = excess > 0 && over(tail);
            excess -= usize::from(go);
            !go
        });
    }
}

/// The youngest file beside `of` in which the bytes stand that were read of it up to `offset`, and that has not been
/// read itself.
fn copy_of(of: &Seen, offset: u64, head: &[u8], last: &[u8], tails: &[Tail]) -> anyhow::Result<Option<Seen>> {
    let beside = siblings(&of.path).with_context(|| format!("look beside {}", of.path.display()))?;
    for seen in beside.into_iter().rev() {
        let read = tails.iter().any(|tail| tail.id() == seen.id() && tail.offset > 0);
        if seen.id() == of.id() || read {
            continue;
        }
        // A file that may not be read, or is gone again, is not the copy that we can go on in.
        let Ok(file) = std::fs::File::open(&seen.path) else { continue };
        let same = |at, bytes| begins_with(&file, at, bytes).unwrap_or(false);
        if same(0, head) && same(offset - last.len() as u64, last) {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}
