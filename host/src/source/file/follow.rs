//! What rotation, truncation and new files mean to a source that follows.
//!
//! Owns the comparison of what the folders show with what is being read. It must not decode. Invariant: the lines of
//! one path are read in the order in which they were written, each once, whatever its file was renamed or copied to.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rustix::io::Errno;
use tokio::time::Instant;

use super::{
    pattern::{Born, Seen, siblings},
    round::{Round, Visit},
    tail::{Tail, begins_with, is_rotated},
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
        tail.born = Seen::new(PathBuf::new(), &about).born;
        if tail.looked == Some(looked) {
            return Ok(if tail.moved && now >= tail.stirred + still { Visit::Rest } else { Visit::Dry });
        }
        if about.len() < tail.offset || !tail.is_intact().with_context(|| format!("read {}", tail.name))? {
            self.restart(now)?;
            return Ok(Visit::Due);
        }
        if self.missed()? {
            return Ok(Visit::Due);
        }
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(Visit::Dry) };
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

    /// Whether the file in hand, of which nothing has been read, begins like one that stands where it stood: that one
    /// may be about to be truncated, and this its copy.
    fn looks_like_a_copy(&mut self) -> anyhow::Result<bool> {
        let Some(tail) = self.tails.get_mut(self.at) else { return Ok(false) };
        let (id, name) = (tail.id(), tail.name.clone());
        let head = tail.start().with_context(|| format!("read {name}"))?;
        Ok(self.tails.iter_mut().filter(|other| other.id() != id && !other.moved && !other.done).any(|other| {
            let start = if other.head.is_empty() { other.start().unwrap_or_default() } else { other.head.clone() };
            let known = start.len().min(head.len());
            known > 0 && start[..known] == head[..known]
        }))
    }

    /// Whether the file in hand, of which nothing has been read, has been truncated meanwhile: then copies stand
    /// beside it that hold something else, and they are put before it.
    pub(super) fn missed(&mut self) -> anyhow::Result<bool> {
        let now = self.looked.unwrap_or_else(Instant::now);
        let Some(tail) = self.tails.get_mut(self.at).filter(|tail| tail.offset == 0 && !tail.moved) else {
            return Ok(false);
        };
        let (id, home, since, after) = (tail.id(), tail.home.clone(), tail.since, tail.after);
        let stands = std::fs::metadata(&home).is_ok_and(|about| Seen::new(PathBuf::new(), &about).id() == id);
        let name = tail.name.clone();
        let head = tail.start().with_context(|| format!("read {name}"))?;
        if !stands {
            return Ok(false);
        }
        let mut copies = self.generations(&home, id, since)?;
        copies.retain(|seen| {
            let mut copy = self.tail(seen.clone(), now);
            let start = copy.start().unwrap_or_default();
            let known = start.len().min(head.len());
            !start.is_empty() && (known == 0 || start[..known] != head[..known])
        });
        let Some(first) = copies.first().map(Seen::id) else { return Ok(false) };
        self.precede(id, copies, after, now);
        self.at = self.tails.iter().position(|tail| tail.id() == first).unwrap_or(self.at);
        Ok(true)
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
        self.admit(new, now)?;
        self.forget();
        Ok(())
    }

    /// Adds files that were not there before. Where one stands at the path of another, those that have stood there in
    /// between are added too, in order.
    pub(super) fn admit(&mut self, new: Vec<Seen>, now: Instant) -> anyhow::Result<()> {
        let stood = |tails: &[Tail], seen: &Seen| tails.iter().rposition(|tail| tail.home == seen.path);
        let (heirs, others): (Vec<_>, Vec<_>) = new.into_iter().partition(|seen| stood(&self.tails, seen).is_some());
        for heir in heirs {
            let Some(at) = stood(&self.tails, &heir) else { continue };
            let Some((before, born)) = self.tails.get(at).map(|tail| (tail.id(), tail.born)) else { continue };
            let between = self.generations(&heir.path, heir.id(), born)?;
            let id = heir.id();
            let mut tail = self.tail(heir, now);
            tail.doubtful = Some(now);
            self.tails.insert(at + 1, tail);
            self.precede(id, between, Some(before), now);
        }
        for seen in others {
            if !self.tails.iter().any(|tail| tail.id() == seen.id()) {
                let mut tail = self.tail(seen, now);
                tail.doubtful = Some(now);
                self.tails.push(tail);
                self.changed = true;
            }
        }
        Ok(())
    }

    /// Files of which nothing has been read, that were made no earlier than `since` and have been rotated away from
    /// `home`, the oldest first.
    fn generations(&self, home: &Path, heir: (u64, u64), since: Born) -> anyhow::Result<Vec<Seen>> {
        let mut all = siblings(home).with_context(|| format!("look beside {}", home.display()))?;
        all.retain(|seen| {
            let read = |tail: &Tail| tail.id() == seen.id() && (tail.offset > 0 || tail.doubtful.is_none());
            let known = seen.id() == heir || self.tails.iter().any(read);
            seen.born >= since && !known && is_rotated(&seen.path, home)
        });
        Ok(all)
    }

    /// Puts `generations` in front of the file `heir`, the first of them behind the file `after`.
    fn precede(&mut self, heir: (u64, u64), generations: Vec<Seen>, mut after: Option<(u64, u64)>, now: Instant) {
        self.tails.retain(|tail| !generations.iter().any(|seen| seen.id() == tail.id()));
        let Some(mut at) = self.tails.iter().position(|tail| tail.id() == heir) else { return };
        let Some(home) = self.tails.get(at).map(|tail| tail.home.clone()) else { return };
        let last = generations.last().map(|seen| seen.born);
        for seen in generations {
            let mut tail = self.tail(seen, now);
            tail.home.clone_from(&home);
            tail.leave(now);
            tail.after = after;
            after = Some(tail.id());
            self.tails.insert(at, tail);
            at += 1;
        }
        if let Some(tail) = self.tails.get_mut(at) {
            tail.after = after;
            tail.since = last.unwrap_or(tail.since);
        }
        self.changed = true;
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
        let (id, home) = (tail.id(), tail.home.clone());
        let (offset, head, last, after) = (tail.offset, tail.head.clone(), tail.last.clone(), tail.after.take());
        let decoder = tail.rewind(fresh);
        let Some((copy, file)) = copy_of(&home, id, offset, (&head, &last), &self.tails)? else {
            tracing::warn!(path = %home.display(), offset, "a file was truncated, and no copy stands beside it");
            return Ok(());
        };
        let (copy_id, born) = (copy.id(), copy.born);
        self.tails.retain(|tail| tail.id() != copy_id);
        let Some(at) = self.tails.iter().position(|tail| tail.id() == id) else { return Ok(()) };
        let mut copy = self.tail(copy, now);
        copy.leave(now);
        copy.file = Some(file);
        copy.home.clone_from(&home);
        (copy.offset, copy.head, copy.last, copy.after, copy.decoder) = (offset, head, last, after, decoder);
        self.tails.insert(at, copy);
        if let Some(tail) = self.tails.get_mut(at + 1) {
            tail.since = born;
        }
        let between = self.generations(&home, id, born)?;
        self.precede(id, between, Some(copy_id), now);
        self.at = at;
        Ok(())
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

/// The youngest file beside `home` in which those bytes stand that were read of the file `id` up to `offset`, its first
/// and its last ones, and that has not been read itself.
fn copy_of(
    home: &Path,
    id: (u64, u64),
    offset: u64,
    (head, last): (&[u8], &[u8]),
    tails: &[Tail],
) -> anyhow::Result<Option<(Seen, File)>> {
    let beside = siblings(home).with_context(|| format!("look beside {}", home.display()))?;
    for seen in beside.into_iter().rev() {
        let read = tails.iter().any(|tail| tail.id() == seen.id() && tail.offset > 0);
        if seen.id() == id || read {
            continue;
        }
        // A file that may not be read is not the copy that we can go on in.
        let Ok(file) = File::open(&seen.path) else { continue };
        let same = |at, bytes| begins_with(&file, at, bytes).unwrap_or(false);
        if same(0, head) && same(offset - last.len() as u64, last) {
            return Ok(Some((seen, file)));
        }
    }
    Ok(None)
}
