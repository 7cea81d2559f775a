//! A value that is lent to one blocking call at a time.
//!
//! Owns the way off the runtime's threads and back for work on files and pipes. It must not know what the work is.
//! Invariant: a future dropped while a call runs loses nothing; the value comes back when the call has ended.

use anyhow::{Context as _, anyhow};
use tokio::task::{JoinHandle, spawn_blocking};

/// A value, here or on its way back from a blocking call.
#[derive(Debug)]
pub(crate) struct Lent<T>(Place<T>);

#[derive(Debug)]
enum Place<T> {
    Here(T),
    Away(JoinHandle<T>),
    Lost,
}

impl<T: Send + 'static> Lent<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Place::Here(value))
    }

    /// The value, if no call has it.
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        match &mut self.0 {
            Place::Here(value) => Some(value),
            _ => None,
        }
    }

    /// The value, once the call that has it has ended.
    ///
    /// # Errors
    /// When a call has panicked or the runtime is shutting down: the value has gone.
    pub(crate) async fn back(&mut self) -> anyhow::Result<&mut T> {
        if let Place::Away(call) = &mut self.0 {
            match call.await {
                Ok(value) => self.0 = Place::Here(value),
                Err(error) => {
                    self.0 = Place::Lost;
                    return Err(anyhow!(error).context("finish a blocking call"));
                }
            }
        }
        self.get().context("use what was lost in a blocking call")
    }

    /// Lends the value to `call` on a blocking thread and waits for it. What the call finds out has to be left in the
    /// value, where it also outlives a dropped future.
    ///
    /// # Errors
    /// As [`back`](Self::back).
    pub(crate) async fn lend(&mut self, call: impl FnOnce(&mut T) + Send + 'static) -> anyhow::Result<&mut T> {
        self.back().await?;
        if let Place::Here(mut value) = std::mem::replace(&mut self.0, Place::Lost) {
            self.0 = Place::Away(spawn_blocking(move || {
                call(&mut value);
                value
            }));
        }
        self.back().await
    }
}
