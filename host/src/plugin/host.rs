//! The functions that the host lends every plugin.
//!
//! Owns the contract's `host` interface. It must not know what becomes of logs and counters. Invariant: no function
//! here panics, waits, or keeps more than the limits allow, whatever it is called with.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::abi::{ColumnOut, LentColumn, LogLevel};
use super::contract::HOST;
use super::guest::{Guest, Panicked};

/// Bytes kept of a panic's message, and of its place.
const LAST_WORDS: usize = 8 << 10;

/// Links the contract's `host` interface.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut host = linker.instance(HOST)?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, Guest>, (level, message): (LogLevel, WasmStr)| {
        let length = length(&store, &message)?;
        store.data_mut().may_log(length)?;
        let message = message.to_str(&store)?.into_owned();
        store.data_mut().log(level.into(), message);
        Ok(())
    })?;
    host.func_wrap("count", |mut store: StoreContextMut<'_, Guest>, (name, by): (WasmStr, u64)| {
        let length = length(&store, &name)?;
        store.data().may_name(length)?;
        let name = name.to_str(&store)?.into_owned();
        #[cfg(test)]
        assert_ne!(name, "panic", "a host function panics");
        store.data_mut().count(&name, by)?;
        Ok(())
    })?;
    host.func_wrap(
        "panicked",
        |mut store: StoreContextMut<'_, Guest>, (at, message, place): (Option<u32>, WasmStr, WasmStr)| {
            let message = last_words(&store, &message)?;
            let place = last_words(&store, &place)?;
            store.data_mut().panicked = Some(Panicked { at, message, place });
            Ok(())
        },
    )?;
    // No pipeline can grant a table yet, so every key is absent from every one of them.
    host.func_wrap("lookup", |store: StoreContextMut<'_, Guest>, (_, keys): (WasmStr, LentColumn)| {
        store.data().may_hand(keys.len().saturating_mul(4))?;
        Ok((ColumnOut { data: Vec::new(), ends: vec![0; keys.len()] },))
    })
}

/// Length in bytes of a string that stays in the plugin's memory; reading it takes time that fuel does not see.
fn length(store: &StoreContextMut<'_, Guest>, said: &WasmStr) -> wasmtime::Result<usize> {
    store.data().in_time()?;
    Ok(said.to_str(store)?.len())
}

fn last_words(store: &StoreContextMut<'_, Guest>, said: &WasmStr) -> wasmtime::Result<String> {
    store.data().in_time()?;
    let said = said.to_str(store)?;
    let end = said.floor_char_boundary(LAST_WORDS);
    Ok(said.get(..end).unwrap_or_default().to_owned())
}
