//! The breakers of a pipeline, all together: who hears when one opens, and how another process finds it open.
//!
//! Owns what is written of them, in commits of their own, for a paused stage commits no epoch; and the flags of sources that
//! turn others away meanwhile. It must not decide when one opens. Invariant: what is kept is written again until it is in
//! the store, and a full disk keeps nobody from anything but that.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{board::Board, durable::Durable};
use crate::{stage::gate::Opened, store::StoreError};

/// Openings that are kept, by the name of the stage or sink.
pub type Openings = BTreeMap<String, Opened>;

/// How long to wait before the store is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who listens to the breakers of a pipeline.
pub(super) struct Keeper {
    board: Arc<Board>,
    durable: Option<Durable>,
    /// Raised while the pipeline is paused.
    flags: Vec<Arc<AtomicBool>>,
    rung: watch::Receiver<u64>,
    /// What the store holds.
    kept: Openings,
}

/// Opens the breakers that `kept` says were open, before anybody looks at them.
pub(super) fn restore(board: &Board, kept: &Openings) {
    for (name, gate) in board.gates() {
        if let Some(opened) = kept.get(name) {
            gate.restore(opened.clone());
        }
    }
}

impl Keeper {
    /// Listens from now on, where the store holds what `kept` says; whoever is to turn others away does so at once.
    pub(super) fn new(
        board: Arc<Board>,
        durable: Option<Durable>,
        flags: Vec<Arc<AtomicBool>>,
        kept: Openings,
    ) -> Self {
        let rung = board.bell.subscribe();
        let keeper = Self { board, durable, flags, rung, kept };
        keeper.raise();
        keeper
    }

    fn raise(&self) {
        let is_paused = self.board.is_paused();
        self.flags.iter().for_each(|flag| flag.store(is_paused, Ordering::Release));
    }

    /// Listens while `run` goes on, and once more at its end.
    pub(super) async fn around<T>(mut self, run: impl Future<Output = T>) -> T {
        let came = tokio::select! {
            came = run => came,
            never = self.listen() => match never {},
        };
        if let Err(error) = self.settle().await {
            let pipeline = &self.board.graph().name;
            tracing::warn!(pipeline, %error, "the state of a breaker is not kept");
        }
        came
    }

    /// Listens for ever.
    async fn listen(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.settle().await {
                let pipeline = &self.board.graph().name;
                tracing::warn!(pipeline, %error, "the state of a breaker is not kept yet");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if self.rung.changed().await.is_err() {
                // The board itself holds the other end.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Does what follows from how the breakers stand now.
    ///
    /// # Errors
    /// The store's.
    async fn settle(&mut self) -> Result<(), StoreError> {
        self.rung.mark_unchanged();
        let openings: Openings =
            self.board.gates().filter_map(|(name, gate)| Some((name.to_owned(), gate.opened()?))).collect();
        self.raise();
        if openings != self.kept
            && let Some(durable) = &self.durable
        {
            durable.keep_openings(&self.kept, &openings).await?;
            let pipeline = &self.board.graph().name;
            tracing::info!(pipeline, open = openings.len(), "the state of breakers is kept");
        }
        self.kept = openings;
        Ok(())
    }
}
