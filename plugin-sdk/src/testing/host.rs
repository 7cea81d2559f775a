//! What the host lends, as a test lends it.
//!
//! Owns what a plugin logged and counted, and the tables and the time that a test set. Invariant: each is the calling
//! thread's own, since tests run beside each other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::contract::host::Level;
use crate::contract::types::Column;

thread_local! {
    static LENT: RefCell<Lent> = RefCell::default();
}

#[derive(Default)]
struct Lent {
    logged: Vec<(Level, String)>,
    counted: BTreeMap<String, u64>,
    tables: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    now: i64,
}

/// Lines that plugins have logged on this thread, in order.
///
/// ```
/// use tidegate_plugin::{Level, log, testing};
///
/// log(Level::Info, "hello");
/// assert!(matches!(&testing::logged()[..], [(Level::Info, line)] if line == "hello"));
/// ```
pub fn logged() -> Vec<(Level, String)> {
    LENT.with_borrow(|lent| lent.logged.clone())
}

/// What the counter `name` has come to on this thread.
///
/// ```
/// use tidegate_plugin::{count, testing};
///
/// count("seen", 2);
/// count("seen", 1);
/// assert_eq!(testing::counted("seen"), 3);
/// ```
pub fn counted(name: &str) -> u64 {
    LENT.with_borrow(|lent| lent.counted.get(name).copied().unwrap_or_default())
}

/// Lets plugins on this thread look up `rows` in `table`.
///
/// ```
/// use tidegate_plugin::{lookup, testing};
///
/// testing::grant("owners", [("web-1", "alice")]);
/// assert_eq!(lookup("owners", ["web-1"]).get(0), Some(&b"alice"[..]));
/// ```
pub fn grant<K: AsRef<[u8]>, V: AsRef<[u8]>>(table: &str, rows: impl IntoIterator<Item = (K, V)>) {
    let rows = rows.into_iter().map(|(key, value)| (key.as_ref().to_vec(), value.as_ref().to_vec())).collect();
    LENT.with_borrow_mut(|lent| lent.tables.insert(table.to_owned(), rows));
}

/// Sets the logical time that plugins on this thread see, in milliseconds since the Unix epoch.
///
/// ```
/// tidegate_plugin::testing::set_now(5);
/// assert_eq!(tidegate_plugin::now(), 5);
/// ```
pub fn set_now(now: i64) {
    LENT.with_borrow_mut(|lent| lent.now = now);
}

pub(crate) fn log(level: Level, message: &str) {
    LENT.with_borrow_mut(|lent| lent.logged.push((level, message.to_owned())));
}

pub(crate) fn count(name: &str, by: u64) {
    LENT.with_borrow_mut(|lent| *lent.counted.entry(name.to_owned()).or_default() += by);
}

pub(crate) fn lookup(table: &str, keys: &Column) -> Column {
    LENT.with_borrow(|lent| {
        let rows = lent.tables.get(table);
        let found = |at: usize| rows.and_then(|rows| rows.get(crate::batch::item(keys, at)));
        super::input::column((0..keys.ends.len()).map(|at| found(at).map(Vec::as_slice).unwrap_or_default()))
    })
}

pub(crate) fn now() -> i64 {
    LENT.with_borrow(|lent| lent.now)
}

/// Where no host listens, standard error does, as it would without the hook.
pub(crate) fn panicked(at: Option<u32>, message: &str, place: &str) {
    eprintln!("panicked at {place}, record {at:?} in hand: {message}");
}
