//! Which record the plugin has in hand, for the panic hook's last words.
//!
//! Owns one cell and the hook that reads it. It must not know records. Invariant: setting it is one store, since it is
//! done for each record.

use std::cell::Cell;
use std::panic::PanicHookInfo;

/// No record is in hand.
const NONE: u32 = u32::MAX;

thread_local! {
    static AT: Cell<u32> = const { Cell::new(NONE) };
}

/// The record (or group) at position `at` of the call is in hand from now on.
#[inline(always)]
pub(crate) fn take(at: u32) {
    AT.set(at);
}

/// No record is in hand any more.
pub(crate) fn put_down() {
    AT.set(NONE);
}

/// From now on a panic tells the host its message, its place, and the position of the record in hand.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let at = AT.get();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        crate::host::panicked((at != NONE).then_some(at), &message(info), &place);
    }));
}

fn message(info: &PanicHookInfo<'_>) -> String {
    info.payload_as_str().unwrap_or("the panic carries no text").to_owned()
}
