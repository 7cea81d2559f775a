//! Watching the files of plugins.
//!
//! Owns what of a file is looked at, and how often. Files are looked at by name instead of being subscribed to: that works
//! on every file system, also where it is somebody else's or is mounted, and sees a file that was replaced as well as one
//! that was written over. Invariant: a change is told once, when the file has stayed as it is for one more look.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    generations::Ask,
    reload::{Order, What},
    run::Command,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What tells one content of a file from another: device, inode, length, and when it was written and changed, in
/// nanoseconds. Nothing where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(Option<(u64, u64, u64, i128, i128)>);

impl Seen {
    /// What there is at `path` now.
    pub(super) fn of(path: &Path) -> Self {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self(std::fs::metadata(path).ok().map(|file| {
            let written = nanos(file.mtime(), file.mtime_nsec());
            (file.dev(), file.ino(), file.size(), written, nanos(file.ctime(), file.ctime_nsec()))
        }))
    }
}

/// One file, as it was seen.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// What was told, or was there from the beginning.
    known: Seen,
    last: Seen,
}

impl Watched {
    fn new(seen: Seen) -> Self {
        Self { known: seen, last: seen }
    }

    /// Whether a new content is worth telling, now that this is there.
    fn look(&mut self, now: Seen) -> bool {
        let is_still = std::mem::replace(&mut self.last, now) == now;
        // A file that is gone is about to be replaced, or never will be read again.
        let is_news = is_still && now.0.is_some() && now != self.known;
        if is_news {
            self.known = now;
        }
        is_news
    }
}

/// Asks for a reload of the stages at positions `changed`, and of every stage whose file changes, until nobody listens any
/// more.
pub(super) async fn watch(changed: Vec<usize>, files: Vec<(usize, PathBuf)>, commands: mpsc::WeakSender<Command>) {
    let mut watched: Vec<_> = files.into_iter().map(|(at, path)| (at, Watched::new(Seen::of(&path)), path)).collect();
    for stage in changed {
        if !tell(stage, &commands).await {
            return;
        }
    }
    if watched.is_empty() {
        return;
    }
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        looks.tick().await;
        for (stage, watched, path) in &mut watched {
            if watched.look(Seen::of(path)) && !tell(*stage, &commands).await {
                return;
            }
        }
        if commands.upgrade().is_none_or(|commands| commands.is_closed()) {
            return;
        }
    }
}

/// Asks for a reload, and says whether anybody listens. What comes of it stands in the log and in the history.
async fn tell(stage: usize, commands: &mpsc::WeakSender<Command>) -> bool {
    let (answer, _) = oneshot::channel();
    let order = Order { stage, what: What::Reload(Ask::File, None), answer };
    match commands.upgrade() {
        Some(commands) => commands.send(Command::Reload(order)).await.is_ok(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 58.
    #[test]
    fn a_file_is_told_once_when_it_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.wasm");
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(Seen::of(&path));
        assert!(!watched.look(Seen::of(&path)), "it was there");
        for length in 4..20 {
            std::fs::write(&path, "x".repeat(length)).unwrap();
            assert!(!watched.look(Seen::of(&path)), "it is being written");
        }
        assert!(watched.look(Seen::of(&path)));
        assert!(!watched.look(Seen::of(&path)), "it has been told");
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.look(Seen::of(&path)) && !watched.look(Seen::of(&path)), "there is nothing to read");
        std::fs::write(folder.path().join("new"), "x".repeat(19)).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(
            !watched.look(Seen::of(&path)) && watched.look(Seen::of(&path)),
            "it was replaced by one of the same length"
        );
    }
}
