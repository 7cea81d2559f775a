//! The store's thread: writes all commits that wait in one transaction, and lives through a full disk.
//!
//! Owns the order of commits and the room that is kept for the last one. Invariant: after a failure that is not a full
//! disk nothing is written any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{Commit, Committed, Opened, StoreError, WAITING, ballast, engine::Engine, failed};
use crate::crash;

/// What the thread is asked for, and where the answer goes; an answer that nobody waits for any more is dropped.
pub(super) enum Request {
    Commit(Commit, Reply<Committed>),
    Forget(Arc<str>, Reply<()>),
    Room(Reply<bool>),
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) struct Committer {
    opened: Arc<Opened>,
    /// Whether the ballast is full.
    room: bool,
    /// How long each pipeline's last commit took.
    took: HashMap<Arc<str>, Duration>,
    /// Why nothing is written any more.
    ended: Option<StoreError>,
}

impl Committer {
    pub(super) fn new(opened: Arc<Opened>, room: bool) -> Self {
        Self { opened, room, took: HashMap::new(), ended: None }
    }

    /// Answers requests until the store is dropped.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(WAITING);
        let (mut commits, mut replies) = (Vec::new(), Vec::new());
        while requests.blocking_recv_many(&mut waiting, WAITING) > 0 {
            for request in waiting.drain(..) {
                match request {
                    Request::Commit(commit, reply) => {
                        commits.push(commit);
                        replies.push(reply);
                    }
                    Request::Forget(pipeline, reply) => {
                        self.commit(&mut commits, &mut replies);
                        let _ = reply.send(self.write(|engine, _| engine.forget(&pipeline)).map(|_| ()));
                    }
                    Request::Room(reply) => {
                        self.commit(&mut commits, &mut replies);
                        let _ = reply.send(self.make_room());
                    }
                }
            }
            self.commit(&mut commits, &mut replies);
        }
    }

    /// Writes all commits in one transaction and answers each.
    fn commit(&mut self, commits: &mut Vec<Commit>, replies: &mut Vec<Reply<Committed>>) {
        if commits.is_empty() {
            return;
        }
        crash::point("commit.before-transaction");
        let took = self.write(|engine, took| engine.commit(commits, took));
        crash::point("commit.synced");
        for (commit, reply) in commits.drain(..).zip(replies.drain(..)) {
            let answer = took.clone().map(|took| {
                if commit.epoch.is_some() {
                    self.took.insert(commit.pipeline.clone(), took);
                }
                Committed { writes: commit.len(), bytes: commit.bytes(), took, room: self.room }
            });
            let _ = reply.send(answer);
        }
    }

    /// Writes, where need be into the room that was kept for it, and says how long it took.
    fn write(
        &mut self,
        act: impl Fn(&Engine, &HashMap<Arc<str>, Duration>) -> Result<(), StoreError>,
    ) -> Result<Duration, StoreError> {
        self.ended.clone().map_or(Ok(()), Err)?;
        let began = (self.opened.settings.clock)();
        let written = self.attempt(&act).or_else(|error| {
            if !matches!(error, StoreError::Full { .. }) {
                return Err(error);
            }
            self.room = false;
            let Opened { disk, folder, .. } = &*self.opened;
            let released = ballast::release(&**disk, folder)
                .map_err(|error| failed(&self.opened.path())("emptying the ballast", error))?;
            if released { self.attempt(&act) } else { Err(error) }
        });
        self.ended = written.as_ref().err().filter(|error| !matches!(error, StoreError::Full { .. })).cloned();
        written.map(|()| (self.opened.settings.clock)().saturating_sub(began))
    }

    /// Writes once. After a full disk the file is opened again at once, so that reading goes on.
    fn attempt(
        &self,
        act: &impl Fn(&Engine, &HashMap<Arc<str>, Duration>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let engine = self.opened.engine().or_else(|_| self.opened.reopen())?;
        let written = act(&engine, &self.took);
        if let Err(StoreError::Full { .. }) = written {
            drop(engine);
            self.opened.reopen()?;
        }
        written
    }

    fn make_room(&mut self) -> Result<bool, StoreError> {
        self.ended.clone().map_or(Ok(()), Err)?;
        if !self.room {
            let Opened { disk, folder, settings, .. } = &*self.opened;
            self.room = ballast::fill(&**disk, folder, settings.ballast)
                .map_err(|error| failed(&self.opened.path())("keeping room for a last commit", error))?;
        }
        Ok(self.room)
    }
}
