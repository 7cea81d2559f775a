//! The form in which states are kept.
//!
//! Owns both directions. It must not know groups. Invariant: equal states have equal bytes, so that a replay can be
//! compared with what it replays.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a state, for [`Aggregate::migrate`](crate::Aggregate::migrate).
///
/// ```
/// use tidegate_plugin::state;
///
/// let bytes = state::encode(&(7u64, "x")).unwrap();
/// assert_eq!(bytes, [7, 1, b'x']);
/// ```
///
/// # Errors
/// Where the type is one that postcard's form cannot hold.
pub fn encode<T: Serialize>(state: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_into(state, &mut bytes)?;
    Ok(bytes)
}

/// A state from its bytes, for [`Aggregate::migrate`](crate::Aggregate::migrate).
///
/// ```
/// use tidegate_plugin::state;
///
/// assert_eq!(state::decode::<u64>(&[7]).unwrap(), 7);
/// assert!(state::decode::<u64>(&[7, 7]).is_err());
/// ```
///
/// # Errors
/// Where they are not those of a `T`, to the last one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (state, rest) = postcard::take_from_bytes(bytes).context("the group's state cannot be read")?;
    anyhow::ensure!(rest.is_empty(), "the group's state has {} bytes too many", rest.len());
    Ok(state)
}

pub(crate) fn encode_into<T: Serialize>(state: &T, data: &mut Vec<u8>) -> Result<()> {
    let written = postcard::to_extend(state, std::mem::take(data)).context("the state cannot be written")?;
    *data = written;
    Ok(())
}
