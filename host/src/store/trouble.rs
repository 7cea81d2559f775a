//! What the embedded store's errors mean.
//!
//! Owns the line between damage, a full disk and a failing one. It must not know what was being done.

use std::{
    io::ErrorKind,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{StoreError, backing::Backing};

/// Why the embedded store did not do as asked.
pub(super) enum Trouble {
    Embedded(Box<redb::Error>),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Embedded(Box::new(error.into()))
    }
}

/// What is done about damage: an error refuses, else what is damaged is left out.
pub(super) type OnDamage<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

/// Damage is never left out where it is read for use.
pub(super) fn refuse(_: &str) -> ControlFlow<()> {
    ControlFlow::Break(())
}

/// Nothing in the stead of what is damaged, where that may be left out.
pub(super) fn spared<T: Default>(trouble: Trouble, on_damage: OnDamage<'_>) -> Result<T, Trouble> {
    match &trouble {
        Trouble::Damaged(what) if on_damage(what).is_continue() => Ok(T::default()),
        _ => Err(trouble),
    }
}

/// Runs `act` and says what its trouble means. The embedded store trusts its pages; what panics on a damaged one is
/// damage, not the end of the process.
pub(super) fn guarded<T>(backing: &Backing, act: impl FnOnce() -> Result<T, Trouble>) -> Result<T, StoreError> {
    let file = backing.path.clone();
    let trouble = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(trouble)) => trouble,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            Trouble::Damaged(format!("a page is damaged ({said})"))
        }
    };
    Err(match trouble {
        Trouble::Damaged(what) => StoreError::Damaged { file, what },
        Trouble::Embedded(error) => match *error {
            // What the embedded store finds in a header, it reports as the file's error.
            redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                StoreError::Damaged { file, what: error.to_string() }
            }
            error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => {
                backing.trouble().unwrap_or_else(|| StoreError::Failed { file, why: error.to_string() })
            }
            redb::Error::ValueTooLarge(bytes) => {
                StoreError::Failed { file, why: format!("a value of {bytes} bytes is too large") }
            }
            error => StoreError::Damaged { file, what: error.to_string() },
        },
    })
}
