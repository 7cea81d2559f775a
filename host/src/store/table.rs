//! A table of the embedded store: sealed values by their keys.
//!
//! Owns how tables are opened and how damage in one is named. It must not know which table holds what.

use redb::{ReadOnlyTable, ReadTransaction, Table, TableDefinition, TableError};

use super::{Place, record, trouble::Trouble};

pub(super) type Bytes = &'static [u8];
/// A table that is being written.
pub(super) type Open<'t> = Table<'t, Bytes, Bytes>;

/// The definition of the table of a name.
pub(super) fn table(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// A table to read; nothing where there is none.
pub(super) fn read_table(from: &ReadTransaction, name: &str) -> Result<Option<ReadOnlyTable<Bytes, Bytes>>, Trouble> {
    match from.open_table(table(name)) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The checksum of a value that is replaced or deleted.
pub(super) fn old_sum(name: &str, key: &[u8], sealed: &[u8]) -> Result<u64, Trouble> {
    record::sum_of(sealed).ok_or_else(|| damaged(name, key))
}

/// The value behind its checksum, and the checksum.
pub(super) fn unsealed<'a>(name: &str, key: &[u8], sealed: &'a [u8]) -> Result<(&'a [u8], u64), Trouble> {
    record::unseal(name, key, sealed).ok_or_else(|| damaged(name, key))
}

fn damaged(name: &str, key: &[u8]) -> Trouble {
    let place = Place::decode(key).map_or_else(|| format!("key `{}`", key.escape_ascii()), |place| place.to_string());
    Trouble::Damaged(format!("a value of `{name}` is damaged: {place}"))
}
