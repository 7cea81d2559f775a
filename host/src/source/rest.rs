//! A source that is left alone while letters of its pipeline are replayed and it does not run.
//!
//! Owns that nothing of it changes: it stands where it was committed, and its facts stay as the store has them.

use futures::{FutureExt as _, future::BoxFuture};

use super::{Kept, Position, Read, Role, Source};
use crate::batch::Limit;

/// A source at rest.
#[derive(Debug, Default)]
pub struct Rest {
    at: Position,
    is_stopped: bool,
}

impl Source for Rest {
    fn read(&mut self, _: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        let is_stopped = self.is_stopped;
        async move { if is_stopped { Ok(Read::End) } else { std::future::pending().await } }.boxed()
    }

    fn position(&self) -> Position {
        self.at.clone()
    }

    fn seek<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        self.at = position.clone();
        std::future::ready(Ok(true)).boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn recall(&mut self, _: Vec<Kept>) -> anyhow::Result<()> {
        Ok(())
    }

    fn role(&self) -> Role {
        Role::Rests
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}
