//! The one place that starts tasks which touch batches: it names, counts and joins them.
//!
//! Owns their handles. Invariant 6: nobody else spawns one; when a crew is joined, none of its tasks is left.

use std::future::Future;

use tokio::{runtime::Handle, task::JoinSet};

use super::coordinator::Participant;

/// How a task ended: what it returned, or the message of its panic.
pub type Outcome<T> = Result<T, String>;

/// The tasks of one run of a pipeline.
pub struct Crew<T> {
    tasks: JoinSet<(Participant, Outcome<T>)>,
    runtime: Handle,
}

impl<T: Send + 'static> Crew<T> {
    /// An empty crew on this runtime.
    pub fn on(runtime: Handle) -> Self {
        Self { tasks: JoinSet::new(), runtime }
    }

    /// Number of tasks that have not been joined.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether all tasks have been joined.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts a task that waits more than it works.
    pub fn spawn(&mut self, who: Participant, task: impl Future<Output = T> + Send + 'static) {
        let inner = self.runtime.spawn(task);
        self.watch(who, inner);
    }

    /// Starts a worker on a thread of its own.
    pub fn spawn_blocking(&mut self, who: Participant, work: impl FnOnce() -> T + Send + 'static) {
        let inner = self.runtime.spawn_blocking(work);
        self.watch(who, inner);
    }

    fn watch(&mut self, who: Participant, inner: tokio::task::JoinHandle<T>) {
        self.tasks.spawn(async move { (who, inner.await.map_err(panic_message)) });
    }

    /// Waits for the next task to end; `None` when there is none left.
    pub async fn join(&mut self) -> Option<(Participant, Outcome<T>)> {
        // The watching tasks only await another; they end by no panic of their own.
        self.tasks.join_next().await.and_then(Result::ok)
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned()),
        Err(error) => error.to_string(),
    }
}
