//! Facts of the host that no epoch has a part in: they are written when they change, in commits of their own.
//!
//! Owns which they are. It must not know what follows from them.

use super::{BREAKER, Durable, FALLS, now, put};
use crate::{
    pipeline::{breakers::Openings, falls::Falls},
    store::{Commit, Place, StoreError},
};

impl Durable {
    /// Writes which breakers are open, where before `kept` were.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_openings(&self, kept: &Openings, now_open: &Openings) -> Result<(), StoreError> {
        let mut commit = Commit::of_facts(self.name.clone(), now());
        for name in kept.keys().filter(|name| !now_open.contains_key(*name)) {
            commit.delete(&Place::of(BREAKER, name));
        }
        for (name, opened) in now_open.iter().filter(|(name, opened)| kept.get(*name) != Some(*opened)) {
            put(&mut commit, BREAKER, name, opened);
        }
        self.store.commit(commit).await.map(|_| ())
    }

    /// Writes how often the host fell; where the disk is full, once it is not.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_falls(&self, falls: &Falls) -> Result<(), StoreError> {
        let mut commit = Commit::of_facts(self.name.clone(), now());
        put(&mut commit, FALLS, "", falls);
        self.write(commit, |_| ()).await.map(|_| ())
    }

    /// Forgets how often the host fell, for it has not fallen.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_falls(&self) -> Result<(), StoreError> {
        let mut commit = Commit::of_facts(self.name.clone(), now());
        commit.delete(&Place::of(FALLS, ""));
        self.store.commit(commit).await.map(|_| ())
    }
}
